//! Where replicas share what they know.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use super::server;
use crate::config::tests::*;
use crate::policy::storage::StoreChoice;

const KEY: &str = "keys: [{ id: k1, secret: q8Vb0kXo2m3WZ1nJ5cPzq4rT7yUu9aLsDfGhK6eHvMw= }]\n";

fn with_base(text: &str) -> String {
    format!("{BASE}{text}routes: [{{ path: /a, access: public }}]\n")
}

#[test]
fn the_default_store_is_process_memory() {
    let loaded = good(&with_base(""));
    assert!(matches!(loaded.config.store, StoreChoice::Memory));
    assert!(loaded.config.keys.is_empty());
}

#[test]
fn redis_has_defaults_for_everything_but_its_url() {
    let loaded = good(&with_base(&format!(
        "{KEY}store: {{ redis: 'redis://:pw@h' }}\n"
    )));
    let StoreChoice::Redis(redis) = &loaded.config.store else {
        panic!("not Redis")
    };
    assert_eq!(redis.shown(), "redis://h:6379/0");
    assert_eq!(redis.timeout, Duration::from_millis(100));
    assert_eq!(redis.connect_timeout, Duration::from_secs(1));
    assert_eq!(redis.prefix, "foregate");
    assert!(redis.tls.is_none() && redis.user.is_none());
    assert_eq!(redis.password.as_ref().unwrap().expose(), b"pw");
    assert_eq!(loaded.config.keys[0].id, "k1");
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn redis_without_keys_is_refused_with_how_to_make_one() {
    let reported = reported(&with_base("store: { redis: 'redis://h' }\n"));
    assert_eq!(reported.len(), 1, "{reported:#?}");
    assert!(
        reported[0].starts_with("store.redis: needs `keys`")
            && reported[0].contains("openssl rand -base64 32"),
        "{reported:#?}"
    );
}

#[test]
fn keys_that_seal_nothing_are_a_warning() {
    let loaded = good(&with_base(KEY));
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings[0].contains("seals nothing"),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn an_invalid_store_is_refused_with_its_key() {
    let rest = "routes: [{ path: /a, access: public }]\n";
    each_refused(
        &format!("{BASE}{rest}{KEY}"),
        &[
            ("store: {}", "store.redis", "is missing"),
            ("store: { redis: 'http://h' }", "store.redis", "redis://"),
            ("store: { redis: 'redis://h/x' }", "store.redis", "database"),
            (
                "store: { redis: 'redis-sentinel://h' }",
                "store.redis",
                "do not work yet",
            ),
            (
                "store: { redis: 'redis://u@h' }",
                "store.redis",
                "without a password",
            ),
            (
                "store: { redis: 'redis://h', ca: x }",
                "store.ca",
                "rediss://",
            ),
            (
                "store: { redis: 'rediss://h', ca: missing.pem }",
                "store.ca",
                "no such file",
            ),
            (
                "store: { redis: 'redis://h', timeout: 1ms }",
                "store.timeout",
                "from 5ms to 5s",
            ),
            (
                "store: { redis: 'redis://h', connect_timeout: 1h }",
                "store.connect_timeout",
                "from 10ms to 30s",
            ),
            (
                "store: { redis: 'redis://h', prefix: 'a{b}' }",
                "store.prefix",
                "cannot be the prefix",
            ),
            (
                "store: { redis: 'redis://h', sentinel: x }",
                "store.sentinel",
                "is not a key",
            ),
        ],
    );
}

#[test]
fn a_url_is_parsed_or_refused() {
    let whole = server("rediss://gate:p%40ss@Redis.Example:7000/3")
        .unwrap_or_else(|why| unreachable!("{why}"));
    assert!(whole.tls);
    assert_eq!(whole.host, "redis.example");
    assert_eq!((whole.port, whole.database), (7000, 3));
    assert_eq!(whole.user.as_deref(), Some("gate"));
    assert_eq!(
        whole.password.map(|text| text.expose().to_vec()),
        Some(b"p@ss".to_vec())
    );
    let short = server("redis://[::1]").unwrap_or_else(|why| unreachable!("{why}"));
    assert_eq!(
        (short.tls, short.host.as_str(), short.port),
        (false, "::1", 6379)
    );
    assert!(short.user.is_none() && short.password.is_none());
    let only = server("redis://:secret@h").unwrap_or_else(|why| unreachable!("{why}"));
    assert!(only.user.is_none() && only.password.is_some());
    for bad in [
        "http://h",
        "redis://",
        "h:6379",
        "redis://h/x",
        "redis://h/256",
        "redis://h/0?a=b",
        "redis://h#x",
        "redis://user@h",
        "redis-sentinel://h",
        "redis://h:99999",
        "",
    ] {
        assert!(server(bad).is_err(), "{bad}");
    }
}
