//! `keys` and `store`.

use super::*;
use crate::policy::storage::StoreChoice;

const KEY: &str = "keys: [{ id: k1, secret: q8Vb0kXo2m3WZ1nJ5cPzq4rT7yUu9aLsDfGhK6eHvMw= }]\n";

fn with_base(text: &str) -> String {
    format!("{BASE}{text}routes: [{{ path: /a, access: public }}]\n")
}

#[test]
fn without_a_word_the_store_is_this_process() {
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
fn redis_without_keys_is_told_how_to_make_one() {
    let told = told(&with_base("store: { redis: 'redis://h' }\n"));
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].starts_with("store.redis: needs `keys`")
            && told[0].contains("openssl rand -base64 32"),
        "{told:#?}"
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
fn a_store_that_makes_no_sense_is_refused_with_its_key() {
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
                "cannot begin",
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
fn a_key_that_is_weak_or_unclear_is_refused_and_never_shown() {
    let rest = "routes: [{ path: /a, access: public }]\nstore: { redis: 'redis://h' }\n";
    let strong = "q8Vb0kXo2m3WZ1nJ5cPzq4rT7yUu9aLsDfGhK6eHvMw=";
    let same = format!("keys: [{{ id: a, secret: {strong} }}, {{ id: b, secret: {strong} }}]");
    let twice = format!("keys: [{{ id: a, secret: {strong} }}, {{ id: a, secret: x{strong} }}]");
    let both = format!("keys: [{{ id: a, secret: {strong}, secret_file: x }}]");
    let cases = [
        ("keys: []", "keys", "empty list"),
        ("keys: [{ id: a }]", "keys[0]", "has no `secret_file`"),
        (
            "keys: [{ id: a, secret: short }]",
            "keys[0].secret",
            "at least 32 bytes",
        ),
        (
            "keys: [{ id: a, secret: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa }]",
            "keys[0].secret",
            "easy to guess",
        ),
        (
            "keys: [{ id: a, secret: correcthorsecorrecthorsecorrecthorse }]",
            "keys[0].secret",
            "easy to guess",
        ),
        (
            "keys: [{ id: a, secret_file: missing }]",
            "keys[0].secret_file",
            "no such file",
        ),
        (same.as_str(), "keys[1]", "has the secret of another"),
        (twice.as_str(), "keys[1]", "has the `id` of another"),
        (both.as_str(), "keys[0].secret_file", "cannot stand beside"),
    ];
    each_refused(&format!("{BASE}{rest}"), &cases);
    let no_id = format!("keys: [{{ secret: {strong} }}]");
    let bad_id = format!("keys: [{{ id: 'a b', secret: {strong} }}]");
    each_refused(
        &format!("{BASE}{rest}"),
        &[
            (no_id.as_str(), "keys[0].id", "is missing"),
            (bad_id.as_str(), "keys[0].id", "not the name of a key"),
        ],
    );
    for (text, ..) in cases {
        let problems = load_in(Path::new("."), &format!("{BASE}{rest}{text}")).unwrap_err();
        let shown = format!("{problems:?}");
        for secret in [strong, "correcthorse"] {
            // The excerpt shows the file's own text only where it holds no secret.
            assert!(
                !shown.contains(secret) && !problems.to_json().to_string().contains(secret),
                "{text}"
            );
        }
    }
}

#[test]
fn a_secret_file_may_end_with_a_newline() {
    let dir = certificates();
    let text = with_base("keys: [{ id: k1, secret_file: key }]\nstore: { redis: 'redis://h' }\n");
    let loaded = load_in(dir.path(), &text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.config.keys[0].secret.expose().len(), 44);
    assert!(!format!("{:?}", loaded.config).contains("q8Vb"));
}
