//! The tree, its places, and what is not plain YAML.

#![expect(
    clippy::unwrap_used,
    reason = "a failed expectation is how a test fails"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the tests look at text and nothing else"
)]

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
fn every_missing_variable_is_reported_with_its_place() {
    let reported = read("a: ${X}\nb: ${Y}${Z}\n").unwrap_err();
    let names: Vec<_> = reported
        .lines()
        .map(|line| line.split_once(' ').unwrap().0)
        .collect();
    assert_eq!(names, ["1:4", "2:4", "2:4"]);
    assert!(
        reported.contains("`X`") && reported.contains("`Y`") && reported.contains("`Z`"),
        "{reported}"
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
        ("${A}: x\n", "1:1", "cannot hold a variable"),
        ("a: *nope\n", "1:4", "anchor"),
        ("a: \u{e041}\n", "1:4", "private block"),
        (bomb, "5:", "aliases"),
    ] {
        let reported = read(text).unwrap_err();
        assert!(
            reported.starts_with(place) && reported.contains(word),
            "{text}\n{reported}"
        );
    }
}

#[test]
fn deep_nesting_is_refused_at_once() {
    let reported = read(&"[".repeat(20_000)).unwrap_err();
    assert!(reported.starts_with("1:"), "{reported}");
}
