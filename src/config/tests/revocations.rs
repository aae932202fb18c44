//! `revocations`, and who may make them.

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const DIGEST: &str = "3eb1b4d3a6ed4bfa26dd1ea1a5e0b4bb3f9f0a9f4b3ea7b9c64bd7d4c2c1b0a9";
const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn base(text: &str) -> String {
    format!("{BASE}routes: [{{ path: /a, access: public }}]\n{text}")
}

#[test]
fn nobody_may_revoke_unless_they_are_named() {
    let config = good(&base("")).config;
    assert!(config.admin.operators.is_empty() && config.admin.hosts.is_empty());
    assert_eq!(config.revocations.capacity.get(), 100_000);
    assert_eq!(config.revocations.token_lifetime.as_secs(), 24 * 3600);
    assert_eq!(
        config.revocations.session_lifetime.as_secs(),
        30 * 24 * 3600
    );
    assert!(config.revocations.webhook.is_none());
}

#[test]
fn what_is_revoked_is_remembered_until_the_last_token_it_must_refuse_has_ended() {
    let text = "revocations: { token_lifetime: 1h, session_lifetime: 2d }";
    let revocations = good(&base(text)).config.revocations;
    let (hour, day, leeway) = (3600, 24 * 3600, 60);
    assert_eq!(revocations.remembers_tokens(), hour + leeway);
    // Refreshed in the last moment of its session.
    assert_eq!(revocations.remembers_sessions(), 2 * day + hour + leeway);
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
fn operators_that_cannot_be_told_apart_or_guarded_are_refused() {
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
        let told = told(&operator(&text));
        assert_eq!(told.len(), 1, "{text}\n{told:#?}");
        assert!(!told[0].contains(TOKEN));
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

#[test]
fn a_webhook_names_an_issuer_and_has_secrets_of_the_standard() {
    let webhook = |text: &str| base(&format!("revocations: {{ webhook: {{ {text} }} }}"));
    let config = good(&webhook(&format!(
        "issuer: https://i, secret: [{SECRET}, \"v1,{SECRET}\"]"
    )))
    .config;
    let webhook_in_force = config.revocations.webhook.unwrap();
    assert_eq!(webhook_in_force.issuer, "https://i");
    assert_eq!(webhook_in_force.secrets.len(), 2);
    for (text, word) in [
        ("issuer: https://i".to_owned(), "no secret"),
        (format!("secret: {SECRET}"), "issuer"),
        (
            format!("issuer: https://j, secret: {SECRET}"),
            "not an issuer",
        ),
        ("issuer: https://i, secret: []".to_owned(), "at least one"),
        ("issuer: https://i, secret: plain".to_owned(), "whsec_"),
        (
            "issuer: https://i, secret: whsec_c2hvcnQ=".to_owned(),
            "24 to 64",
        ),
        ("issuer: https://i, secret: whsec_%%%".to_owned(), "base64"),
        (
            format!("issuer: https://i, secret: {SECRET}, secret_file: x"),
            "secret_file",
        ),
    ] {
        let told = told(&webhook(&text));
        assert_eq!(told.len(), 1, "{text}\n{told:#?}");
        assert!(told[0].contains(word), "{text}\n{told:#?}");
        assert!(!told[0].contains("c2hvcnQ") && !told[0].contains(SECRET));
    }
}

#[test]
fn lifetimes_and_capacity_have_ranges_that_make_sense() {
    for (text, word) in [
        ("capacity: 99", "100 to 1000000"),
        ("token_lifetime: 1m", "5m"),
        ("session_lifetime: 367d", "366d"),
        ("token_lifetime: 10d, session_lifetime: 5d", "longer than"),
    ] {
        let told = told(&base(&format!("revocations: {{ {text} }}")));
        assert_eq!(told.len(), 1, "{text}\n{told:#?}");
        assert!(told[0].contains(word), "{text}\n{told:#?}");
    }
}
