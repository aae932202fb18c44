//! The admin listener and its operators.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use crate::config::tests::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const DIGEST: &str = "3eb1b4d3a6ed4bfa26dd1ea1a5e0b4bb3f9f0a9f4b3ea7b9c64bd7d4c2c1b0a9";

fn base(text: &str) -> String {
    format!("{BASE}routes: [{{ path: /a, access: public }}]\n{text}")
}

#[test]
fn a_token_is_known_by_its_digest_however_it_is_written() {
    let dir = certificates();
    let digest = |operator: &str| {
        let text = base(&format!(
            "admin: {{ operators: [{{ name: a, {operator} }}] }}"
        ));
        let loaded = load_in(dir.path(), &text).unwrap_or_else(|problems| panic!("{problems}"));
        loaded.config.admin.operators[0].token_sha256
    };
    let expected = crate::secrets::digest::of(TOKEN.as_bytes());
    assert_eq!(digest(&format!("token: {TOKEN}")), expected);
    assert_eq!(digest("token_file: secret"), expected, "one newline is cut");
    let hex = crate::secrets::hex::encode(&expected);
    assert_eq!(digest(&format!("token_sha256: {hex}")), expected);
}

#[test]
fn operators_need_distinct_names_and_strong_tokens() {
    let operator = |text: &str| base(&format!("admin: {{ operators: [{text}] }}"));
    for (text, key, word) in [
        ("", "admin.operators", "at least one"),
        ("{ name: a }", "admin.operators[0]", "no token"),
        (
            "{ token: 0123456789abcdef0123456789abcdef }",
            "admin.operators[0].name",
            "missing",
        ),
        (
            "{ name: a, token: short }",
            "admin.operators[0].token",
            "too short",
        ),
        (
            "{ name: a, token: '0123456789abcdef 0123456789abcdef' }",
            "admin.operators[0].token",
            "Authorization",
        ),
        (
            "{ name: a, token_sha256: abc }",
            "admin.operators[0].token_sha256",
            "64",
        ),
    ] {
        each_refused("", &[(&operator(text), key, word)]);
    }
    for text in [
        format!("{{ name: a, token: {TOKEN} }}, {{ name: b, token: {TOKEN} }}"),
        format!("{{ name: a, token: {TOKEN} }}, {{ name: a, token_sha256: {DIGEST} }}"),
        format!("{{ name: a, token: {TOKEN}, token_sha256: {DIGEST} }}"),
    ] {
        let reported = reported(&operator(&text));
        assert_eq!(reported.len(), 1, "{text}\n{reported:#?}");
        assert!(!reported[0].contains(TOKEN));
    }
}

#[test]
fn an_admin_address_that_others_reach_is_warned_about_twice_if_tokens_come_there() {
    let text = |more: &str| base(&format!("admin: {{ address: '0.0.0.0:9901'{more} }}"));
    assert_eq!(good(&text("")).warnings.len(), 1);
    let operators = format!(", operators: [{{ name: a, token: {TOKEN} }}]");
    let warnings = good(&text(&operators)).warnings;
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(warnings[1].contains("clear text"));
}
