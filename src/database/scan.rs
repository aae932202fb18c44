//! Which columns of a table are what a statement is given, wherever it is read.
//!
//! Decides:  that a column of the rows that are read is `$1`, or is another column that is.
//! Trusts:   the conditions of a plan, as `explain (verbose)` writes them. Not here: plans (`reading`).
//!
//! Only what stands alone or is joined by AND counts, and only on the table itself: what is not understood is not given.

use std::collections::BTreeSet;

/// What a statement is given, in conditions.
pub(super) const GIVEN: &str = "$1";

/// Types that a value may be cast to and still be the same id.
const SAME: [&str; 6] = [
    "uuid",
    "text",
    "integer",
    "bigint",
    "character varying",
    "bpchar",
];

/// One place in a plan where a table is read.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// With its schema.
    pub(super) table: String,
    alias: String,
    /// Each of its columns that is equal to something.
    equal: Vec<(String, Equal)>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Equal {
    Given,
    /// Of another table, by its alias, which no other place in the plan has.
    Column(String, String),
}

impl Scan {
    pub(super) fn new<'a>(
        table: &str,
        alias: &str,
        conditions: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mut equal = Vec::new();
        for condition in conditions.flat_map(|text| parts(bare(text), " AND ")) {
            let [left, right] = parts(bare(condition), " = ")[..] else {
                continue;
            };
            for (own, other) in [(left, right), (right, left)] {
                let Some((_, column)) = column(own).filter(|(of, _)| of == alias) else {
                    continue;
                };
                if bare(other) == GIVEN {
                    equal.push((column, Equal::Given));
                } else if let Some((of, other)) = self::column(other) {
                    equal.push((column, Equal::Column(of, other)));
                }
            }
        }
        Self {
            table: table.to_owned(),
            alias: alias.to_owned(),
            equal,
        }
    }
}

/// For each of them the columns that are `$1`.
pub(super) fn given(scans: &[Scan]) -> Vec<BTreeSet<String>> {
    let mut given: Vec<BTreeSet<String>> = vec![BTreeSet::new(); scans.len()];
    loop {
        let known: BTreeSet<(String, String)> = scans
            .iter()
            .zip(&given)
            .flat_map(|(scan, given)| {
                let column = |column: &String| (scan.alias.clone(), column.clone());
                given.iter().map(column)
            })
            .collect();
        let mut is_more = false;
        for (scan, given) in scans.iter().zip(&mut given) {
            for (column, equal) in &scan.equal {
                let is_given = match equal {
                    Equal::Given => true,
                    Equal::Column(of, other) => known.contains(&(of.clone(), other.clone())),
                };
                is_more |= is_given && given.insert(column.clone());
            }
        }
        if !is_more {
            return given;
        }
    }
}

/// Without parentheses and casts around all of it.
fn bare(text: &str) -> &str {
    let text = text.trim();
    let inner = text
        .strip_prefix('(')
        .and_then(|text| text.strip_suffix(')'))
        .filter(|inner| is_balanced(inner));
    match (inner, &parts(text, "::")[..]) {
        (Some(inner), _) => bare(inner),
        (None, [value, kind]) if SAME.contains(kind) => bare(value),
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

/// What stands between separators that are in no parentheses.
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

/// A text without what is in quotes.
pub(super) fn unquoted(text: &str) -> String {
    marks(text).map(|(_, mark)| mark).collect()
}

/// The characters that are in no quotes.
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

/// The table and the name of a column.
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

    fn found(conditions: &[&str]) -> Vec<String> {
        let scan = Scan::new("public.t", "t", conditions.iter().copied());
        let all = given(&[scan]);
        all.into_iter().flatten().collect()
    }

    #[test]
    fn only_what_every_row_must_equal_is_given() {
        for text in [
            "(t.id = $1)",
            "($1 = t.id)",
            "((t.id)::text = $1)",
            "(t.id = ($1)::uuid)",
            "(t.shown AND (t.id = $1) AND ((t.a = 1) OR (t.b = 2)))",
            "((t.name = ' OR (') AND (t.id = $1))",
        ] {
            assert_eq!(found(&[text]), ["id"], "{text}");
        }
        assert_eq!(found(&["(t.\"Team Id\" = $1)"]), ["Team Id"]);
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
            assert!(found(&[text]).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_column_that_equals_a_given_one_is_given() {
        let scan = |alias, text| Scan::new("public.t", alias, [text].into_iter());
        let scans = [
            scan("a", "(a.id = u.id)"),
            scan("u", "(u.id = $1)"),
            scan("t", "(t.id = m.team_id)"),
            scan("m", "((m.user_id = $1) AND m.is_active)"),
        ];
        let given = given(&scans).into_iter().map(Vec::from_iter);
        let expected: [&[&str]; 4] = [&["id"], &["id"], &[], &["user_id"]];
        assert_eq!(Vec::from_iter(given), expected);
    }
}
