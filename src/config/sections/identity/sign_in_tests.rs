//! The sign-in routes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use crate::config::tests::*;
use crate::policy::Config;
use crate::policy::endpoint::Endpoint;
use crate::policy::sign_in::{ConfirmEmail, MeSource, Registration};

fn bad(text: &str) -> Problems {
    load_in(Path::new("."), text).expect_err(text)
}

fn with(keys: &str, routes: &str) -> String {
    format!(
        "listen: [{{ address: 127.0.0.1:8080, tls: off }}]\n\
tokens: [{{ issuer: https://p.test/auth/v1, audience: a, algorithms: HS256, secret: 0123456789abcdef0123456789abcdef }}]\n\
identity:\n  supabase:\n    url: https://p.test\n    publishable_keys: [pk]\n    secret_key: sb_secret_x\n{keys}\n\
upstreams: {{ u: {{ servers: [\"http://127.0.0.1:1\"] }} }}\n\
routes:\n  - {{ path: /health, access: public, serve: health }}\n{routes}"
    )
}

fn made(config: &Config) -> Vec<String> {
    let is_made = |target: &Option<Target>| matches!(target, Some(Target::Serve(Serve::SignIn(_))));
    let made = config.routes.iter().filter(|route| is_made(&route.target));
    made.map(|route| format!("{} {:?}", route.name, route.access))
        .collect()
}

#[test]
fn the_routes_come_with_the_identity_server() {
    let config = good(&with("", "")).config;
    assert_eq!(
        made(&config),
        [
            "POST /api/v1/auth/login Public",
            "POST /api/v1/auth/register Public",
            "POST /api/v1/auth/refresh Public",
            "POST /api/v1/auth/password-reset Public",
            "POST /api/v1/auth/logout User",
            "GET /api/v1/auth/me User",
            "GET /api/v1/auth/whoami User",
            "GET /api/v1/auth/sessions User",
            "DELETE /api/v1/auth/sessions/{session_id} User",
            "PUT /api/v1/auth/password User",
            "POST /api/v1/auth/reauthenticate User",
            "GET /api/v1/auth/factors User",
            "POST /api/v1/auth/factors/enroll User",
            "POST /api/v1/auth/factors/{factor_id}/challenge User",
            "POST /api/v1/auth/factors/{factor_id}/verify User",
            "DELETE /api/v1/auth/factors/{factor_id} User",
        ]
    );
    let last = config.routes.last().unwrap();
    assert_eq!(
        (last.name.as_str(), last.access),
        ("ANY /api/v1/auth", Access::Deny)
    );
    assert_eq!(config.routes[0].name, "ANY /health");
    let sign_in = config.sign_in.unwrap();
    assert_eq!(sign_in.register, Registration::SignUp);
    assert!(sign_in.redirect_to.is_empty() && sign_in.me.members.is_empty());
    assert_eq!(sign_in.deadlines.register, Duration::from_secs(15));

    let moved = "    prefix: /signin\n    register: admin\n    confirm_email: required\n  deadlines: { login: 3s }\n  throttle: { login: { address: 7/s }, everywhere: 2/d, waiting: 5 }";
    let loaded = good(&with(moved, ""));
    assert!(
        loaded.warnings[0].contains("captcha"),
        "{:?}",
        loaded.warnings
    );
    let config = loaded.config;
    assert!(made(&config).contains(&"POST /signin/login Public".to_owned()));
    let sign_in = config.sign_in.unwrap();
    let required = Registration::Admin(ConfirmEmail::Required);
    assert_eq!(sign_in.register, required);
    assert_eq!(sign_in.deadlines.login, Duration::from_secs(3));
    let throttle = sign_in.throttle;
    assert_eq!(throttle.login.address.burst.get(), 7);
    assert_eq!(throttle.login.account.unwrap().burst.get(), 5);
    assert_eq!(throttle.everywhere.per, Duration::from_secs(12 * 60 * 60));
    assert_eq!(throttle.waiting, 5);

    let config = good(&with("    prefix: none", "")).config;
    assert_eq!((made(&config), config.routes.len()), (Vec::new(), 1));
}

#[test]
fn sign_up_needs_no_secret_key_and_the_administrators_api_does() {
    let without = |text: String| text.replace("    secret_key: sb_secret_x\n", "");
    let config = good(&without(with("", ""))).config;
    assert_eq!(made(&config).len(), Endpoint::ALL.len());
    let problems = bad(&without(with("    register: admin", "")));
    let found = problems.iter().next().unwrap();
    assert_eq!(found.key, "identity.supabase.register");
    assert!(found.message.contains("secret key"), "{found:?}");
}

#[test]
fn a_publishable_key_is_no_secret_one() {
    for key in ["sb_publishable_x", "sb_publishable_0123456789abcdef"] {
        let problems = bad(&with("", "").replace("sb_secret_x", key));
        let found = problems.iter().next().unwrap();
        assert_eq!(found.key, "identity.supabase.secret_key");
        assert!(found.message.contains("publishable"), "{found:?}");
    }
}

#[test]
fn members_of_me_have_a_source_each() {
    let database = "\ndatabase: { url: \"postgres://u@127.0.0.1/d?sslmode=disable\" }";
    let with_me = |me: &str, profile: &str| {
        let keys = format!("    me: {me}\n{profile}{database}");
        with(&keys, "")
    };
    let select = "  profile: { select: \"select a, b from users where id = $1\" }";
    let map = "{ one: a, two: app_metadata.b, three: user_metadata.b }";
    let sign_in = good(&with_me(map, select)).config.sign_in.unwrap();
    let (a, b) = ("a".to_owned(), "b".to_owned());
    let expected = [
        ("one".to_owned(), MeSource::Column(a)),
        ("two".to_owned(), MeSource::AppMetadata(b.clone())),
        ("three".to_owned(), MeSource::UserMetadata(b)),
    ];
    assert_eq!(sign_in.me.members, expected);
    assert!(sign_in.me.row.is_some() && sign_in.profile.is_none());
    for (me, profile, key) in [
        ("{ one: a }", "", "identity.supabase.me.one"),
        ("{ email: a }", select, "identity.supabase.me.email"),
        ("{ \"a b\": a }", select, "identity.supabase.me.a b"),
        (
            "{ one: raw_metadata.a }",
            select,
            "identity.supabase.me.one",
        ),
        (
            "{ one: user_metadata.a.b }",
            select,
            "identity.supabase.me.one",
        ),
        ("{ one: \"a; drop\" }", select, "identity.supabase.me.one"),
        (
            "{}",
            "  profile: { select: \"delete from users\" }",
            "identity.profile.select",
        ),
        ("{}", "  profile: {}", "identity.profile"),
        (
            "{ one: user_metadata.a }",
            select,
            "identity.profile.select",
        ),
    ] {
        let problems = bad(&with_me(me, profile));
        let found = problems.iter().next().unwrap();
        assert_eq!(found.key, key, "{me} {profile}: {found:?}");
    }
}

#[test]
fn a_route_that_overlaps_a_sign_in_route_is_reported_with_both_lines() {
    for route in [
        "  - { path: /api/v1/auth/login, methods: [POST], access: public, upstream: u }",
        "  - { path: /api/v1/auth/me, access: public, upstream: u }",
        "  - { path: \"/api/v1/auth/{*rest}\", access: public, upstream: u }",
    ] {
        let problems = bad(&with("", route));
        let found = problems.iter().next().unwrap();
        assert_eq!(found.line, 12, "{found:?}");
        let message = &found.message;
        assert!(
            message.contains("sign-in routes of `identity` (line 5)"),
            "{message}"
        );
        assert!(message.contains("route at line 12"), "{message}");
    }
    // Beside them, what they do not take.
    let beside = "  - { path: /api/v1/auth/health, access: public, upstream: u }\n  - { path: /api/v1/auth/login, methods: [GET], access: public, upstream: u }";
    assert_eq!(good(&with("", beside)).config.routes.len(), 20);
}

#[test]
fn invalid_values_are_reported_with_what_to_write() {
    for (keys, key, word) in [
        (
            "    prefix: auth",
            "identity.supabase.prefix",
            "/api/v1/auth",
        ),
        (
            "    prefix: /auth/",
            "identity.supabase.prefix",
            "/api/v1/auth",
        ),
        ("    prefix: /", "identity.supabase.prefix", "/api/v1/auth"),
        (
            "    prefix: \"/a/{b}\"",
            "identity.supabase.prefix",
            "/api/v1/auth",
        ),
        (
            "    prefix: /a/../b",
            "identity.supabase.prefix",
            "/api/v1/auth",
        ),
        (
            "    register: admin\n    confirm_email: yes",
            "identity.supabase.confirm_email",
            "required",
        ),
        (
            "    confirm_email: auto",
            "identity.supabase.confirm_email",
            "add `register: admin`",
        ),
        (
            "    register: closed",
            "identity.supabase.register",
            "signup",
        ),
        (
            "    redirect_to: [/new-password]",
            "identity.supabase.redirect_to[0]",
            "write it in full",
        ),
        (
            "    redirect_to: [\"https://*.test/\"]",
            "identity.supabase.redirect_to[0]",
            "write it in full",
        ),
        (
            "  deadlines: { login: 1ms }",
            "identity.deadlines.login",
            "1s",
        ),
        (
            "  throttle: { login: { address: 5 } }",
            "identity.throttle.login.address",
            "5/m",
        ),
        (
            "  throttle: { login: { address: 0/m } }",
            "identity.throttle.login.address",
            "5/m",
        ),
        (
            "  throttle: { login: { address: +5/m } }",
            "identity.throttle.login.address",
            "5/m",
        ),
        (
            "  throttle: { login: { address: 5/w } }",
            "identity.throttle.login.address",
            "5/m",
        ),
        (
            "  throttle: { redirect: { account: 5/m } }",
            "identity.throttle.redirect.account",
            "login",
        ),
        (
            "  profile: { insert: \"insert into t values ($1) on conflict do nothing\" }",
            "identity.profile.insert",
            "no `database`",
        ),
        (
            "  throttle: { longest_delay: 1m }",
            "identity.throttle.longest_delay",
            "5s",
        ),
        (
            "  throttle: { refusal_floor: 6s }",
            "identity.throttle.refusal_floor",
            "5s",
        ),
        (
            "  deadlines: { login: 2s }\n  throttle: { refusal_floor: 2s }",
            "identity.throttle.refusal_floor",
            "identity.deadlines.login",
        ),
    ] {
        let problems = bad(&with(keys, ""));
        let found = problems.iter().next().unwrap();
        let reported = format!(
            "{} {}",
            found.message,
            found.instead.as_deref().unwrap_or("")
        );
        assert_eq!(found.key, key, "{reported}");
        assert!(reported.contains(word), "{keys}: {reported}");
    }
}

#[test]
fn a_users_row_is_made_by_a_statement_that_may_be_carried_out_twice() {
    let database = "\ndatabase: { url: \"postgres://u@127.0.0.1/d?sslmode=disable\" }";
    let with_row = |insert: &str| {
        with(
            &format!("  profile: {{ insert: \"{insert}\" }}{database}"),
            "",
        )
    };
    let insert = "insert into users (id, email) values ($1, $2) ON CONFLICT do nothing";
    let sign_in = good(&with_row(insert)).config.sign_in.unwrap();
    assert_eq!(&*sign_in.profile.unwrap().sql, insert);
    for bad_one in [
        "insert into users (id) values ($1)",
        "insert into users default values on conflict do nothing",
    ] {
        let problems = bad(&with_row(bad_one));
        let found = problems.iter().next().unwrap();
        assert_eq!(found.key, "identity.profile.insert");
        assert!(found.instead.as_deref().unwrap().contains("on conflict"));
    }
}
