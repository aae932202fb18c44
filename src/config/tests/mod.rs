//! Tests of the whole, and what the tests of the sections share. Every test loads text as an
//! operator would.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

mod examples;
mod problems;

pub(crate) use std::path::Path;
pub(crate) use std::time::Duration;

use tempfile::TempDir;

pub(crate) use super::problem::Problems;
pub(crate) use super::{Loaded, load, load_at};
pub(crate) use crate::denial::format::ErrorsSetting;
pub(crate) use crate::policy::listen::ListenKind;
pub(crate) use crate::policy::methods::Methods;
pub(crate) use crate::policy::roles::Grants;
pub(crate) use crate::policy::route::{Access, CredentialSource, Serve, Target};
pub(crate) use crate::policy::tokens::KeySource;
pub(crate) use crate::policy::upstream::{Authorization, UpstreamHost};

/// 2026-12-01T00:00:00Z.
pub(crate) const NOW: i64 = 1_796_083_200;

/// A small good file; tests add to it.
pub(crate) const BASE: &str = "\
listen: [{ address: 127.0.0.1:8080, tls: off }]
tokens: [{ issuer: https://i, audience: a, algorithms: HS256, secret: 0123456789abcdef0123456789abcdef }]
upstreams: { kong: { servers: [http://127.0.0.1:8000] } }
defaults: { upstream: kong }
";

pub(crate) fn load_in(dir: &Path, text: &str) -> Result<Loaded, Problems> {
    let vars = |name: &str| match name {
        "SUPABASE_JWT_SECRET" => Some("hunter2-hunter2-hunter2-hunter2-hunter2".to_owned()),
        "FOREGATE_KEY" => Some("q8Vb0kXo2m3WZ1nJ5cPzq4rT7yUu9aLsDfGhK6eHvMw=".to_owned()),
        "DATABASE_URL" => Some("postgres://foregate:hunter2@db.example.com/postgres".to_owned()),
        "DATABASE_DIRECT_URL" => {
            Some("postgres://foregate:hunter2@direct.example.com/postgres".to_owned())
        }
        "FOREGATE_REDIS_URL" => Some("rediss://gate:hunter2@redis.example.com".to_owned()),
        "PORT" => Some("8088".to_owned()),
        "LIMIT" => Some("7".to_owned()),
        "OFF" => Some("false".to_owned()),
        "BAD" => Some("hunter2: {".to_owned()),
        "DEMO_DIR" => Some(dir.display().to_string()),
        "DEMO_PORT" | "DEMO_ADMIN_PORT" | "DEMO_UPSTREAM_PORT" => {
            Some((9000 + name.len()).to_string())
        }
        _ => None,
    };
    load_at("foregate.yaml", text, dir, &vars, NOW)
}

pub(crate) fn good(text: &str) -> Loaded {
    load_in(Path::new("."), text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// `key: message (instead)` of every problem.
pub(crate) fn reported(text: &str) -> Vec<String> {
    reported_in(Path::new("."), text)
}

pub(crate) fn reported_in(dir: &Path, text: &str) -> Vec<String> {
    let problems = load_in(dir, text).expect_err(text);
    problems
        .iter()
        .map(|p| {
            format!(
                "{}: {} ({})",
                p.key,
                p.message,
                p.instead.as_deref().unwrap_or("")
            )
        })
        .collect()
}

/// Asserts that each text gives exactly one problem, under this key, with this word in it.
pub(crate) fn each_refused(prefix: &str, cases: &[(&str, &str, &str)]) {
    for (text, key, word) in cases {
        let reported = reported(&format!("{prefix}{text}"));
        assert_eq!(reported.len(), 1, "{text}\n{reported:#?}");
        assert!(
            reported[0].starts_with(&format!("{key}: ")) && reported[0].contains(word),
            "{text}\n{reported:#?}"
        );
    }
}

pub(crate) fn with_route(route: &str) -> String {
    format!("{BASE}routes:\n  - {{ {route} }}\n")
}

/// A folder with `tls/tls.crt`, `tls/tls.key`, a second key, and the same as `cert.pem` and
/// `key.pem`; and a secret.
pub(crate) fn certificates() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["API.example.com".to_owned()]).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    std::fs::create_dir(dir.path().join("tls")).unwrap();
    for (name, contents) in [
        ("tls/tls.crt", made.cert.pem()),
        ("tls/tls.key", made.signing_key.serialize_pem()),
        ("tls/other.key", other.serialize_pem()),
        ("cert.pem", made.cert.pem()),
        ("key.pem", made.signing_key.serialize_pem()),
        ("secret", "0123456789abcdef0123456789abcdef\n".to_owned()),
        (
            "key",
            "q8Vb0kXo2m3WZ1nJ5cPzq4rT7yUu9aLsDfGhK6eHvMw=\n".to_owned(),
        ),
        (
            "other-key",
            "YxN3bq0w7Kp1sTgR5uVd8fJh2mLc6oZa9eWiXyBk4Qs=".to_owned(),
        ),
        ("short", "0123456789abcdef0123456789abcde\n".to_owned()),
        ("jwks.json", r#"{"keys": []}"#.to_owned()),
        ("not-jwks.json", r#"{"key": []}"#.to_owned()),
    ] {
        std::fs::write(dir.path().join(name), contents).unwrap();
    }
    dir
}

/// A file of `config/`.
pub(crate) fn example(name: &str) -> String {
    std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("config")
            .join(name),
    )
    .unwrap()
}
