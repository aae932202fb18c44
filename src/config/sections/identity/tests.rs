//! The identity server.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use crate::config::tests::*;

const TOKENS: &str = "listen: [{ address: 127.0.0.1:8080, tls: off }]\nroutes: [{ path: /health, access: public, serve: health }]\n\
tokens: [{ issuer: https://p.test/auth/v1, audience: a, algorithms: HS256, secret: 0123456789abcdef0123456789abcdef }]\n";

fn with(keys: &str) -> String {
    format!("{TOKENS}identity: {{ supabase: {{ {keys} }} }}\n")
}

#[test]
fn the_identity_server_is_below_the_project_and_its_tokens_are_accepted() {
    let loaded = good(&with("url: https://p.test/, publishable_keys: [pk]"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let supabase = loaded.config.identity.unwrap();
    assert_eq!(supabase.url.to_string(), "https://p.test/auth/v1");
    assert_eq!(supabase.issuer, "https://p.test/auth/v1");
    assert_eq!(supabase.publishable_key().expose(), b"pk");
    assert_eq!((supabase.concurrency.get(), supabase.queue), (64, 256));
    assert!(!format!("{supabase:?}").contains("pk\""));

    let own = "url: http://gotrue.internal:9999, clear_text: true, issuer: https://p.test/auth/v1, publishable_keys: [pk], secret_key: sb_secret_x";
    let loaded = good(&with(own));
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings[0].contains("in clear text"),
        "{:?}",
        loaded.warnings
    );
    assert!(loaded.config.identity.unwrap().secret_key.is_some());
}

#[test]
fn invalid_values_are_reported_with_what_to_write() {
    let good = "url: https://p.test, publishable_keys: [pk]";
    let at = |key: &str| format!("identity.supabase{key}");
    for (keys, key, word) in [
        ("publishable_keys: [pk]", ".url", "missing"),
        ("url: https://p.test", ".publishable_keys", "missing"),
        (
            "url: https://p.test, publishable_keys: []",
            ".publishable_keys",
            "empty",
        ),
        (
            "url: https://p.test, publishable_keys: [sb_secret_x]",
            ".publishable_keys[0]",
            "secret key",
        ),
        (
            "url: https://p.test, publishable_keys: ['a b']",
            ".publishable_keys[0]",
            "not a key",
        ),
        (
            "url: http://p.test, publishable_keys: [pk]",
            ".url",
            "clear text",
        ),
        (
            "url: https://p.test/auth/v1, publishable_keys: [pk]",
            ".url",
            "`/auth/v1` is added",
        ),
        (
            "url: https://other.test, publishable_keys: [pk]",
            ".issuer",
            "no entry of `tokens`",
        ),
        ("url: nowhere, publishable_keys: [pk]", ".url", ""),
        (
            &format!("{good}, issuer: https://i"),
            ".issuer",
            "no entry of `tokens`",
        ),
        (&format!("{good}, concurrency: 0"), ".concurrency", "range"),
        (
            &format!("{good}, address_header: Cookie"),
            ".address_header",
            "cannot carry",
        ),
        (
            &format!("{good}, address_header: 'a b'"),
            ".address_header",
            "cannot carry",
        ),
        (
            &format!("{good}, secret_key: a, secret_key_file: b"),
            ".secret_key_file",
            "combined with",
        ),
    ] {
        each_refused("", &[(&with(keys), &at(key), word)]);
    }
}

#[test]
fn the_identity_servers_own_paths_are_below_one_place_for_strangers_and_users() {
    let server = "identity: { supabase: { url: https://p.test, publishable_keys: [pk] } }\n\
tokens: [{ issuer: https://p.test/auth/v1, audience: a, algorithms: HS256, secret: 0123456789abcdef0123456789abcdef }]\n\
listen: [{ address: 127.0.0.1:8080, tls: off }]\n";
    let route = |route: &str| format!("{server}routes: [{{ {route} }}]\n");
    let own = "path: '/auth/v1/{*rest}', access: optional, serve: identity_server";
    let loaded = good(&route(own));
    let made = &loaded.config.routes[0];
    assert_eq!(made.target, Some(Target::Serve(Serve::IdentityServer)));
    // Deleting a factor is no matter of roles.
    assert_eq!(
        made.action,
        Some(crate::policy::roles::Action::parse("read").unwrap())
    );
    for (text, key, word) in [
        (
            "path: '/auth/v1/{*rest}', access: public, serve: identity_server",
            "routes[0].serve",
            "access: optional",
        ),
        (
            "path: '/auth/v1/{*rest}', access: user, serve: identity_server",
            "routes[0].serve",
            "access: optional",
        ),
        (
            "path: /auth/v1, access: optional, serve: identity_server",
            "routes[0].path",
            "everything below a path",
        ),
    ] {
        each_refused("", &[(&route(text), key, word)]);
    }
    let none = format!("{BASE}routes: [{{ {own} }}]\n");
    each_refused("", &[(&none, "routes[0].serve", "no identity server")]);
}
