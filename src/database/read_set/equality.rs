//! Equality conditions of a plan: which columns of the rows that a scan returns equal the
//! statement's parameter.
//!
//! Only conditions that stand alone or are joined by AND count, and only on the scanned table
//! itself. A condition that is not understood binds no column.

use std::collections::BTreeSet;

/// The parameter of a statement, as conditions write it.
pub(super) const PARAMETER: &str = "$1";

/// Types to which an id may be cast and stay the same id.
const ID_TYPES: [&str; 6] = [
    "uuid",
    "text",
    "integer",
    "bigint",
    "character varying",
    "bpchar",
];

/// One scan of a table in a plan.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// Name with its schema.
    pub(super) table: String,
    alias: String,
    /// Columns that equal something.
    equalities: Vec<(String, Operand)>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Operand {
    Parameter,
    /// A column of another scan, by its alias, which is unique in the plan.
    Column(String, String),
}

impl Scan {
    pub(super) fn new<'a>(
        table: &str,
        alias: &str,
        conditions: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mut equalities = Vec::new();
        for condition in conditions.flat_map(|text| parts(bare(text), " AND ")) {
            let [left, right] = parts(bare(condition), " = ")[..] else {
                continue;
            };
            for (own, other) in [(left, right), (right, left)] {
                let Some((_, column)) = column(own).filter(|(of, _)| of == alias) else {
                    continue;
                };
                if bare(other) == PARAMETER {
                    equalities.push((column, Operand::Parameter));
                } else if let Some((of, other)) = self::column(other) {
                    equalities.push((column, Operand::Column(of, other)));
                }
            }
        }
        Self {
            table: table.to_owned(),
            alias: alias.to_owned(),
            equalities,
        }
    }
}

/// For each scan, the columns that equal the parameter, directly or through other columns.
pub(super) fn bound_columns(scans: &[Scan]) -> Vec<BTreeSet<String>> {
    let mut bound: Vec<BTreeSet<String>> = vec![BTreeSet::new(); scans.len()];
    loop {
        let known: BTreeSet<(String, String)> = scans
            .iter()
            .zip(&bound)
            .flat_map(|(scan, bound)| {
                let column = |column: &String| (scan.alias.clone(), column.clone());
                bound.iter().map(column)
            })
            .collect();
        let mut is_more = false;
        for (scan, bound) in scans.iter().zip(&mut bound) {
            for (column, operand) in &scan.equalities {
                let is_bound = match operand {
                    Operand::Parameter => true,
                    Operand::Column(of, other) => known.contains(&(of.clone(), other.clone())),
                };
                is_more |= is_bound && bound.insert(column.clone());
            }
        }
        if !is_more {
            return bound;
        }
    }
}

/// The text without enclosing parentheses and casts.
fn bare(text: &str) -> &str {
    let text = text.trim();
    let inner = text
        .strip_prefix('(')
        .and_then(|text| text.strip_suffix(')'))
        .filter(|inner| is_balanced(inner));
    match (inner, &parts(text, "::")[..]) {
        (Some(inner), _) => bare(inner),
        (None, [value, kind]) if ID_TYPES.contains(kind) => bare(value),
        (None, _) => text,
    }
}

fn is_balanced(text: &str) -> bool {
    let mut level = 0_usize;
    marks(text).all(|(_, mark)| match mark {
        '(' => {
            level += 1;
            true
        }
        ')' => level.checked_sub(1).map(|left| level = left).is_some(),
        _ => true,
    })
}

/// Splits a text at the separators that are outside parentheses.
fn parts<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut level, mut from, mut all) = (0_usize, 0, Vec::new());
    for (at, mark) in marks(text) {
        match mark {
            '(' => level += 1,
            ')' => level = level.saturating_sub(1),
            _ if level == 0
                && at >= from
                && text
                    .get(at..)
                    .is_some_and(|rest| rest.starts_with(separator)) =>
            {
                all.extend(text.get(from..at));
                from = at + separator.len();
            }
            _ => {}
        }
    }
    all.extend(text.get(from..));
    all
}

/// The text without its quoted parts.
pub(super) fn unquoted(text: &str) -> String {
    marks(text).map(|(_, mark)| mark).collect()
}

/// The characters outside quotes.
fn marks(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quote = None;
    text.char_indices().filter(move |(_, mark)| {
        let is_quoted = quote.is_some();
        match quote {
            Some(open) if open == *mark => quote = None,
            None if matches!(mark, '\'' | '"') => quote = Some(*mark),
            Some(_) | None => {}
        }
        !is_quoted && quote.is_none()
    })
}

/// The table alias and the name of a column.
fn column(text: &str) -> Option<(String, String)> {
    let name = |text: &str| match text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    {
        Some(quoted) => Some(quoted.replace("\"\"", "\"")),
        None => text
            .chars()
            .all(|c| c.is_alphanumeric() || c == '_')
            .then(|| text.to_owned()),
    };
    match parts(bare(text), ".")[..] {
        [of, column] => Some((name(of)?, name(column)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(conditions: &[&str]) -> Vec<String> {
        let scan = Scan::new("public.t", "t", conditions.iter().copied());
        let all = bound_columns(&[scan]);
        all.into_iter().flatten().collect()
    }

    #[test]
    fn only_a_condition_that_every_row_must_meet_binds_a_column() {
        for text in [
            "(t.id = $1)",
            "($1 = t.id)",
            "((t.id)::text = $1)",
            "(t.id = ($1)::uuid)",
            "(t.shown AND (t.id = $1) AND ((t.a = 1) OR (t.b = 2)))",
            "((t.name = ' OR (') AND (t.id = $1))",
        ] {
            assert_eq!(bound(&[text]), ["id"], "{text}");
        }
        assert_eq!(bound(&["(t.\"Team Id\" = $1)"]), ["Team Id"]);
        for text in [
            "(t.id = $10)",
            "(t.id <> $1)",
            "((t.id = $1) OR t.is_open)",
            "(NOT (t.id = $1))",
            "(t.id = ANY ($1))",
            "(u.id = $1)",
            "(t.id = 'x.y = $1')",
            "((t.at)::date = $1)",
            "(t.id = lower($1))",
            "((t.a = $1) = t.b)",
        ] {
            assert!(bound(&[text]).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_column_that_equals_a_bound_column_is_bound() {
        let scan = |alias, text| Scan::new("public.t", alias, [text].into_iter());
        let scans = [
            scan("a", "(a.id = u.id)"),
            scan("u", "(u.id = $1)"),
            scan("t", "(t.id = m.team_id)"),
            scan("m", "((m.user_id = $1) AND m.is_active)"),
        ];
        let bound = bound_columns(&scans).into_iter().map(Vec::from_iter);
        let expected: [&[&str]; 4] = [&["id"], &["id"], &[], &["user_id"]];
        assert_eq!(Vec::from_iter(bound), expected);
    }
}
