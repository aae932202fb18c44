//! YAML text, read into a tree whose every node knows its line and column.
//!
//! Decides: what is YAML at all, and what of YAML is refused: merge keys, tags, several documents,
//! alias bombs, `yes` for true. Trusts: `serde-saphyr` for the grammar and its budget. Not here:
//! which keys there are (`sections`).
//!
//! The tree exists because a derived `Deserialize` stops at its first error. Repeated keys stay in
//! it, for `wire` to report.

mod raw;
#[cfg(test)]
mod tests;

use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Spanned};

use self::raw::Raw;
use super::interpolate::{self, Variables};
use super::node::{Entry, Kind, Node, Text};
use super::place::{Place, joined};
use super::problem::Report;

/// Collections and scalars of one file, aliases counted as often as they are used. A route map of
/// 2000 routes has about 60 000.
const MAX_NODES: usize = 200_000;

/// What aliases may add to that. Far more than an honest file needs, far less than a "billion
/// laughs" file wants.
const MAX_ALIASED: usize = 20_000;

/// Reads `text`. Problems of grammar and of variables are noted in `report`.
pub(crate) fn parse(
    text: &str,
    variables: &mut Variables<'_>,
    report: &mut Report,
) -> Option<Node> {
    if let Some(place) = masked_character(text) {
        report.problem(
            &place,
            "this character is from a private block of Unicode; remove it",
        );
        return None;
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: MAX_NODES, max_documents: 1, max_depth: 32 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_ALIASED },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(&interpolate::masked(text), options) {
        Ok(raw) => Some(Reader { variables, report }.node(raw, String::new())),
        Err(error) => {
            note_syntax(&error, report);
            None
        }
    }
}

fn masked_character(text: &str) -> Option<Place> {
    text.lines().zip(1..).find_map(|(line, number)| {
        let column = line.chars().position(interpolate::is_masked)?;
        let column = u32::try_from(column).ok()?.saturating_add(1);
        Some(Place {
            key: String::new(),
            line: number,
            column,
            width: 1,
        })
    })
}

/// Messages of the parser that would not help an operator, and their replacements.
const WORDING: [(&str, &str); 6] = [
    (
        "merge keys",
        "merge keys (`<<`) are not read: what a route says must be written in the route; write the keys out",
    ),
    (
        "Documents",
        "there is more than one YAML document; write one, without a second `---`",
    ),
    (
        "budget breached",
        "the file is too large or too deeply nested",
    ),
    (
        "alias replay",
        "the aliases (`*name`) expand to too much; write the values out",
    ),
    ("expected string scalar", "a key must be text"),
    ("cannot deserialize null into string", "a key must be text"),
];

fn note_syntax(error: &serde_saphyr::Error, report: &mut Report) {
    let place = error
        .location()
        .map(|location| place(&location, String::new()))
        .unwrap_or_default();
    let message =
        interpolate::unmasked(&error.render_with_formatter(&serde_saphyr::DefaultMessageFormatter));
    let message = message.lines().next().unwrap_or_default();
    if let Some((_, ours)) = WORDING.iter().find(|(theirs, _)| message.contains(theirs)) {
        return report.problem(&place, *ours);
    }
    // The problem has its place already; a second one in the sentence would be noise.
    let message = message.split(" at line ").next().unwrap_or(message);
    report.problem(&place, format!("this is not YAML: {message}"));
}

fn place(location: &Location, key: String) -> Place {
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    Place {
        key,
        line: number(location.line()),
        column: number(location.column()),
        width: number(location.span().len()).max(1),
    }
}

/// Gives the raw tree its key paths and puts the variables in.
struct Reader<'a, 'v> {
    variables: &'a mut Variables<'v>,
    report: &'a mut Report,
}

impl Reader<'_, '_> {
    fn node(&mut self, raw: Spanned<Raw>, key: String) -> Node {
        let place = place(&raw.referenced, key);
        let kind = match raw.value {
            Raw::Null => Kind::Null,
            Raw::Bool(value) => Kind::Bool(value),
            Raw::Integer(value) => Kind::Integer(value),
            Raw::Float(value) => Kind::Float(value),
            Raw::Text(text) => self.text(&text, &place),
            Raw::List(items) => {
                let items = items.into_iter().enumerate();
                Kind::List(
                    items
                        .map(|(index, item)| self.node(item, format!("{}[{index}]", place.key)))
                        .collect(),
                )
            }
            Raw::Map(entries) => Kind::Map(
                entries
                    .into_iter()
                    .map(|(name, value)| self.entry(name, value, &place.key))
                    .collect(),
            ),
        };
        Node { place, kind }
    }

    fn entry(&mut self, name: Spanned<String>, value: Spanned<Raw>, parent: &str) -> Entry {
        let text = interpolate::unmasked(&name.value);
        let key = joined(parent, &text);
        let place = place(&name.referenced, key.clone());
        if text.contains("${") {
            self.report
                .problem(&place, "a key cannot hold a variable; only a value can");
        }
        Entry {
            name: text,
            place,
            value: self.node(value, key),
        }
    }

    fn text(&mut self, raw: &str, place: &Place) -> Kind {
        let written = interpolate::unmasked(raw);
        match self.variables.expand(&written) {
            None => Kind::Text(Text {
                value: written,
                written: None,
            }),
            Some(Ok(value)) => Kind::Text(Text {
                value,
                written: Some(written),
            }),
            Some(Err(faults)) => {
                for fault in faults {
                    let (message, instead) = fault.message();
                    self.report.problem_instead(place, message, instead);
                }
                Kind::Broken
            }
        }
    }
}
