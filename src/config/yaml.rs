//! YAML text, read into a tree whose every node knows its line and column.
//!
//! Decides: what is YAML at all, and what of YAML is refused: merge keys, tags, several documents, alias bombs, `yes` for true.
//! Trusts: `serde-saphyr` for the grammar and its budget. Not here: which keys there are (`file`).
//!
//! The tree exists because a derived `Deserialize` stops at its first error. Repeated keys stay in it, for `wire` to tell.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Spanned};

use super::interpolate::{self, Variables};
use super::node::{Entry, Kind, Node, Text};
use super::place::{Place, joined};
use super::problem::Report;

/// Collections and scalars of one file, aliases counted as often as they are used. A route map of 2000 routes has about 60 000.
const MAX_NODES: usize = 200_000;

/// What aliases may add to that. Far more than an honest file needs, far less than a "billion laughs" file wants.
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

/// The parser's sentences that would not help an operator, and ours.
const WORDING: [(&str, &str); 6] = [
    (
        "merge keys",
        "merge keys (`<<`) are not read: what a route says must stand in the route; write the keys out",
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
    let told =
        interpolate::unmasked(&error.render_with_formatter(&serde_saphyr::DefaultMessageFormatter));
    let told = told.lines().next().unwrap_or_default();
    if let Some((_, ours)) = WORDING.iter().find(|(theirs, _)| told.contains(theirs)) {
        return report.problem(&place, *ours);
    }
    // Positions are told by us, in one form; a second one in the sentence would be noise.
    let told = told.split(" at line ").next().unwrap_or(told);
    report.problem(&place, format!("this is not YAML: {told}"));
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
            Raw::Float => Kind::Float,
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
                .problem(&place, "a variable cannot stand in a key, only in a value");
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
                    let (message, instead) = fault.told();
                    self.report.problem_instead(place, message, instead);
                }
                Kind::Broken
            }
        }
    }
}

/// What the parser hands over: the types that plain YAML scalars have, and nothing decided.
enum Raw {
    Null,
    Bool(bool),
    Integer(i128),
    Float,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Float)
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    reason = "a failed expectation is how a test fails"
)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the tests look at text and nothing else"
)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, String> {
        let lookup = |name: &str| (name == "A").then(|| "x: [y".to_owned());
        let mut report = Report::default();
        let node = parse(text, &mut Variables::new(&lookup), &mut report);
        match report.finish("f", text) {
            Ok(_) => node.ok_or_else(|| "no node".to_owned()),
            Err(problems) => Err(problems
                .iter()
                .map(|p| format!("{}:{} {} {}", p.line, p.column, p.key, p.message))
                .collect::<Vec<_>>()
                .join("\n")),
        }
    }

    fn collect(node: &Node, out: &mut Vec<(String, String, String)>) {
        match &node.kind {
            Kind::List(items) => items.iter().for_each(|item| collect(item, out)),
            Kind::Map(entries) => entries.iter().for_each(|entry| collect(&entry.value, out)),
            kind => {
                let kind = match kind {
                    Kind::Text(text) => format!("text {}", text.value),
                    other => other.name().to_owned(),
                };
                out.push((
                    node.place.key.clone(),
                    format!("{}:{}", node.place.line, node.place.column),
                    kind,
                ));
            }
        }
    }

    fn leaves(text: &str) -> Vec<(String, String, String)> {
        let mut out = Vec::new();
        collect(&read(text).unwrap(), &mut out);
        out
    }

    #[test]
    fn every_value_knows_its_place_however_deep() {
        let text = "a: 1\nb:\n  - x: yes\n    y: [1, two, {z: off}]\n  - true\n";
        let expected = [
            "a=1:4",
            "b[0].x=3:8",
            "b[0].y[0]=4:9",
            "b[0].y[1]=4:12",
            "b[0].y[2].z=4:21",
            "b[1]=5:5",
        ];
        let found: Vec<_> = leaves(text)
            .into_iter()
            .map(|(key, place, _)| format!("{key}={place}"))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn yes_and_off_are_text() {
        let text = "a: yes\nb: off\nc: true\n";
        let kinds: Vec<_> = leaves(text).into_iter().map(|(_, _, kind)| kind).collect();
        assert_eq!(kinds, ["text yes", "text off", "true or false"]);
    }

    #[test]
    fn a_variable_may_stand_anywhere_and_cannot_change_the_structure() {
        let text = "p: ${A}\nq: [${A}, \"${A}\"]\nr: {s: '${A}', t: ${B:-c, d}, u: $${A}}\n";
        let found: Vec<_> = leaves(text)
            .into_iter()
            .map(|(key, _, kind)| format!("{key} {kind}"))
            .collect();
        let expected = [
            "p text x: [y",
            "q[0] text x: [y",
            "q[1] text x: [y",
            "r.s text x: [y",
            "r.t text c, d",
            "r.u text ${A}",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn every_missing_variable_is_told_with_its_place() {
        let told = read("a: ${X}\nb: ${Y}${Z}\n").unwrap_err();
        let names: Vec<_> = told
            .lines()
            .map(|line| line.split_once(' ').unwrap().0)
            .collect();
        assert_eq!(names, ["1:4", "2:4", "2:4"]);
        assert!(
            told.contains("`X`") && told.contains("`Y`") && told.contains("`Z`"),
            "{told}"
        );
    }

    #[test]
    fn what_is_not_plain_yaml_is_refused_with_its_place() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
        for (text, place, word) in [
            ("b: &b {x: 1}\na:\n  <<: *b\n", "3:3", "merge keys"),
            ("a: 1\n---\nb: 2\n", "2:1", "more than one YAML document"),
            ("a:\n\tb: 1\n", "2:2", "tabs"),
            ("a: [1, 2\nb: 3\n", "2:2", "not YAML"),
            ("a: \"abc\n", "1:4", "unclosed quote"),
            ("a: !foo b\n", "1:9", "tag"),
            ("? [a]\n: b\n", "1:3", "a key must be text"),
            ("${A}: x\n", "1:1", "cannot stand in a key"),
            ("a: *nope\n", "1:4", "anchor"),
            ("a: \u{e041}\n", "1:4", "private block"),
            (bomb, "5:", "aliases"),
        ] {
            let told = read(text).unwrap_err();
            assert!(
                told.starts_with(place) && told.contains(word),
                "{text}\n{told}"
            );
        }
    }

    #[test]
    fn deep_nesting_is_refused_at_once() {
        let told = read(&"[".repeat(20_000)).unwrap_err();
        assert!(told.starts_with("1:"), "{told}");
    }
}
