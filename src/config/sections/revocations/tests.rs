//! `revocations`, and who may make them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use crate::config::tests::*;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn base(text: &str) -> String {
    format!("{BASE}routes: [{{ path: /a, access: public }}]\n{text}")
}

#[test]
fn there_are_no_operators_by_default() {
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
fn a_revocation_is_kept_until_the_last_token_it_refuses_has_expired() {
    let text = "revocations: { token_lifetime: 1h, session_lifetime: 2d }";
    let revocations = good(&base(text)).config.revocations;
    let (hour, day, leeway) = (3600, 24 * 3600, 60);
    assert_eq!(revocations.remembers_tokens(), hour + leeway);
    // Refreshed in the last moment of its session.
    assert_eq!(revocations.remembers_sessions(), 2 * day + hour + leeway);
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
        let reported = reported(&webhook(&text));
        assert_eq!(reported.len(), 1, "{text}\n{reported:#?}");
        assert!(reported[0].contains(word), "{text}\n{reported:#?}");
        assert!(!reported[0].contains("c2hvcnQ") && !reported[0].contains(SECRET));
    }
}

#[test]
fn lifetimes_and_capacity_have_ranges() {
    for (text, word) in [
        ("capacity: 99", "100 to 1000000"),
        ("token_lifetime: 1m", "5m"),
        ("session_lifetime: 367d", "366d"),
        ("token_lifetime: 10d, session_lifetime: 5d", "longer than"),
    ] {
        let reported = reported(&base(&format!("revocations: {{ {text} }}")));
        assert_eq!(reported.len(), 1, "{text}\n{reported:#?}");
        assert!(reported[0].contains(word), "{text}\n{reported:#?}");
    }
}
