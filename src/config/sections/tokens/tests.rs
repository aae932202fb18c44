//! Issuers of tokens.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use crate::config::tests::*;
use crate::policy::resources::ParamType;

#[test]
fn an_issuer_has_one_source_of_keys_that_goes_with_its_algorithms() {
    let dir = certificates();
    let issuer = |rest: &str| {
        with_route("path: /a, access: user").replace(
            "algorithms: HS256, secret: 0123456789abcdef0123456789abcdef",
            rest,
        )
    };
    for (rest, key, word) in [
        ("algorithms: HS256", "", "has no keys"),
        (
            "algorithms: HS256, secret_file: secret, jwks_file: jwks.json",
            ".jwks_file",
            "combined with `secret_file`",
        ),
        (
            "algorithms: [HS256, ES256], secret_file: secret",
            ".algorithms",
            "two entries",
        ),
        (
            "algorithms: ES256, secret_file: secret",
            ".secret_file",
            "jwks_url",
        ),
        (
            "algorithms: HS256, jwks_file: jwks.json",
            ".jwks_file",
            "public-key algorithms only",
        ),
        (
            "algorithms: none, secret_file: secret",
            ".algorithms",
            "never accepted",
        ),
        (
            "algorithms: hs256, secret_file: secret",
            ".algorithms",
            "HS256",
        ),
        (
            "algorithms: ES512, jwks_file: jwks.json",
            ".algorithms",
            "ES256",
        ),
        (
            "algorithms: HS256, secret_file: short",
            ".secret_file",
            "at least 32 bytes",
        ),
        (
            "algorithms: HS512, secret_file: secret",
            ".secret_file",
            "at least 64 bytes",
        ),
        (
            "algorithms: HS256, secret: short",
            ".secret",
            "openssl rand -base64 48",
        ),
        (
            "algorithms: ES256, jwks_file: not-jwks.json",
            ".jwks_file",
            "not a JWK set",
        ),
        (
            "algorithms: ES256, jwks_url: http://a/",
            ".jwks_url",
            "clear text",
        ),
        (
            "algorithms: ES256, jwks_url: http://localhost/",
            ".jwks_url",
            "clear text",
        ),
        (
            "algorithms: ES256, jwks_url: https://u@a/",
            ".jwks_url",
            "name or password",
        ),
        (
            "algorithms: ES256, discovery_url: http://a/",
            ".discovery_url",
            "clear text",
        ),
        (
            "algorithms: ES256, discovery_url: auth.example.com",
            ".discovery_url",
            ".well-known/openid-configuration",
        ),
        (
            "algorithms: ES256, jwks_url: https://a/, discovery_url: https://a/",
            ".discovery_url",
            "combined with `jwks_url`",
        ),
        (
            "algorithms: HS256, discovery_url: https://a/",
            ".discovery_url",
            "public-key algorithms only",
        ),
        (
            "algorithms: ES256, jwks_url: 'https://a/#b'",
            ".jwks_url",
            "fragment",
        ),
        (
            "algorithms: HS256, secret_file: secret, leeway: 61s",
            ".leeway",
            "from 0s to 1m",
        ),
        (
            "algorithms: HS256, secret_file: secret, until: soon",
            ".until",
            "is not a date",
        ),
        (
            "algorithms: HS256, secret_file: secret, require: { user_metadata.role: a }",
            ".require.user_metadata.role",
            "app_metadata",
        ),
        (
            "algorithms: HS256, secret_file: secret, require: { role: 1 }",
            ".require.role",
            "quotes",
        ),
    ] {
        let reported = reported_in(dir.path(), &issuer(rest));
        assert_eq!(reported.len(), 1, "{rest} {reported:#?}");
        assert!(
            reported[0].starts_with(&format!("tokens[0]{key}: ")) && reported[0].contains(word),
            "{rest} {reported:#?}"
        );
    }
    for rest in [
        "algorithms: [ES256, RS256, EdDSA], jwks_file: jwks.json",
        "algorithms: ES256, jwks_url: http://127.0.0.1:1/x",
        "algorithms: ES256, discovery_url: 'http://[::1]:1/x'",
        "algorithms: HS256, secret_file: secret, leeway: 0s, until: 2027-01-01T00:00:00Z",
    ] {
        let loaded =
            load_in(dir.path(), &issuer(rest)).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }
    let loaded = load_in(
        dir.path(),
        &issuer("algorithms: HS256, secret_file: secret, until: 2026-11-30"),
    )
    .unwrap();
    assert!(
        loaded.warnings[0].contains("in the past"),
        "{:?}",
        loaded.warnings
    );
}

/// `facts`, `identity` and `subject` of an entry for `https://i`.
fn with_subjects(facts: &str, identity: &str, subject: &str) -> String {
    let text = format!("{facts}{identity}{}", with_route("path: /a, access: user"));
    text.replace("algorithms: HS256", &format!("{subject}algorithms: HS256"))
}

const SUPABASE: &str = "identity: { supabase: { url: https://p.test, issuer: https://i, publishable_keys: [sb_publishable_0] } }\n";

#[test]
fn subjects_are_uuids_unless_the_entry_or_the_facts_say_otherwise() {
    let text = "facts: { subject: text }\n";
    for (facts, identity, subject, kind) in [
        ("", "", "", ParamType::Uuid),
        ("", SUPABASE, "", ParamType::Uuid),
        ("facts: { subject: uuid }\n", SUPABASE, "", ParamType::Uuid),
        (text, "", "", ParamType::Text),
        ("facts: { subject: integer }\n", "", "", ParamType::Integer),
        ("", "", "subject: text, ", ParamType::Text),
        ("", SUPABASE, "subject: integer, ", ParamType::Integer),
        (text, SUPABASE, "subject: text, ", ParamType::Text),
    ] {
        let config = good(&with_subjects(facts, identity, subject)).config;
        assert_eq!(config.tokens[0].subject, kind, "{facts}{identity}{subject}");
        assert_eq!(config.facts.subject, kind, "{facts}{identity}{subject}");
    }
}

#[test]
fn subjects_that_differ_from_those_of_the_facts_are_refused() {
    let text = "facts: { subject: text }\n";
    let rows = "static_facts: { inactive: [a] }\n";
    for (facts, identity, subject, words) in [
        (text, SUPABASE, "", ["default for Supabase Auth", "line 1"]),
        (
            text,
            "",
            "subject: uuid, ",
            ["is `uuid`", "`facts.subject` is `text`"],
        ),
        (rows, "", "subject: text, ", ["is `text`", "its default"]),
        (
            rows,
            SUPABASE,
            "subject: integer, ",
            ["is `integer`", "`uuid`"],
        ),
    ] {
        let reported = reported(&with_subjects(facts, identity, subject));
        assert_eq!(reported.len(), 1, "{reported:#?}");
        let problem = &reported[0];
        assert!(problem.starts_with("tokens[0].subject: "), "{problem}");
        assert!(words.iter().all(|word| problem.contains(word)), "{problem}");
    }
    let two = with_subjects("", "", "").replace(
        " }]\nupstreams",
        " }, { issuer: https://i, subject: text, audience: a, algorithms: HS256, secret: fedcba9876543210fedcba9876543210 }]\nupstreams",
    );
    let reported = reported(&two);
    assert_eq!(reported.len(), 1, "{reported:#?}");
    assert!(reported[0].starts_with("tokens: ") && reported[0].contains("differs"));
    let word = reported_of("subject: string, ");
    assert!(word[0].starts_with("tokens[0].subject: "), "{word:#?}");
}

fn reported_of(subject: &str) -> Vec<String> {
    reported(&with_subjects("", "", subject))
}

#[test]
fn lists_of_subjects_have_the_spelling_that_callers_have() {
    let upper = "018F5B5E-0000-7000-8000-00000000000A";
    let roles = format!("roles: {{ list: {{ admin: ['{upper}', alice] }} }}\n");
    let rows = format!(
        "static_facts: {{ inactive: ['{upper}'], memberships: {{ '{upper}': {{ t: viewer }} }} }}\n"
    );
    let loaded = good(&format!("{rows}{roles}{}", with_subjects("", "", "")));
    let lower = upper.to_lowercase();
    let config = &loaded.config;
    assert_eq!(config.roles.list[0].1, [lower.as_str(), "alice"]);
    assert!(config.static_facts.inactive.contains(&lower));
    assert!(config.static_facts.memberships.contains_key(&lower));
    let [warning] = &loaded.warnings[..] else {
        panic!("{:?}", loaded.warnings)
    };
    assert!(warning.contains("`uuid`"), "{warning}");
}

#[test]
fn a_key_set_with_a_byte_order_mark_is_refused_with_its_cause() {
    let dir = certificates();
    std::fs::write(dir.path().join("bom.json"), "\u{feff}{\"keys\":[]}").unwrap();
    let text = with_route("path: /a, access: user").replace(
        "algorithms: HS256, secret: 0123456789abcdef0123456789abcdef",
        "algorithms: ES256, jwks_file: bom.json",
    );
    let reported = reported_in(dir.path(), &text);
    assert_eq!(reported.len(), 1, "{reported:#?}");
    assert!(reported[0].contains("byte order mark"), "{reported:#?}");
}
