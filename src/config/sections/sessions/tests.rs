//! `sessions`, and cookies as credentials.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use crate::config::tests::*;
use crate::policy::route::CredentialSource;
use crate::policy::sessions::SameSite;

fn with_base(text: &str) -> String {
    format!("{BASE}{text}routes: [{{ path: /a, access: public }}]\n")
}

#[test]
fn sessions_have_defaults() {
    let sessions = good(&with_base("")).config.sessions;
    assert_eq!(sessions.cookie, "__Host-foregate");
    assert_eq!(sessions.same_site, SameSite::Lax);
    assert_eq!(sessions.idle, Duration::from_secs(30 * 60));
    assert_eq!(sessions.lifetime, Duration::from_secs(12 * 60 * 60));
    assert_eq!((sessions.max_per_user, sessions.cache.get()), (10, 100_000));
}

#[test]
fn a_route_may_take_a_cookie_before_or_behind_a_token() {
    let text = with_route("path: /a, access: user, credentials: [cookie, bearer]");
    let routes = good(&text).config.routes;
    let expected = [CredentialSource::Cookie, CredentialSource::Bearer];
    assert_eq!(routes[0].credentials, expected);
}

#[test]
fn invalid_sessions_are_refused_with_their_key() {
    let rest = with_base("");
    each_refused(
        &rest,
        &[
            (
                "sessions: { cookie: sid }\n",
                "sessions.cookie",
                "does not begin with `__Host-`",
            ),
            (
                "sessions: { cookie: __Secure-sid }\n",
                "sessions.cookie",
                "does not begin with `__Host-`",
            ),
            (
                "sessions: { cookie: __Host- }\n",
                "sessions.cookie",
                "cannot be the name of a cookie",
            ),
            (
                "sessions: { cookie: '__Host-a b' }\n",
                "sessions.cookie",
                "cannot be the name of a cookie",
            ),
            (
                "sessions: { cookie: '__Host-a=b' }\n",
                "sessions.cookie",
                "cannot be the name of a cookie",
            ),
            (
                "sessions: { same_site: no }\n",
                "sessions.same_site",
                "`lax`, `strict`, `none`",
            ),
            (
                "sessions: { idle: 13h }\n",
                "sessions.idle",
                "`idle` is longer than `lifetime`",
            ),
            (
                "sessions: { lifetime: 10m }\n",
                "sessions.lifetime",
                "`idle` is longer than `lifetime`",
            ),
            (
                "sessions: { lifetime: 31d }\n",
                "sessions.lifetime",
                "revocations.session_lifetime",
            ),
            (
                "sessions: { max_per_user: 0 }\n",
                "sessions.max_per_user",
                "out of range",
            ),
            ("sessions: { cache: 0 }\n", "sessions.cache", "out of range"),
        ],
    );
}

#[test]
fn in_development_a_cookie_may_have_any_name_but_not_same_site_none() {
    let development = |text: &str| format!("environment: development\n{}", with_base(text));
    let loaded = good(&development("sessions: { cookie: sid }\n"));
    assert_eq!(loaded.config.sessions.cookie, "sid");
    let reported = reported(&development("sessions: { cookie: sid, same_site: none }\n"));
    assert_eq!(reported.len(), 1, "{reported:#?}");
    assert!(
        reported[0].contains("refuse a cookie that is not `Secure`"),
        "{reported:#?}"
    );
}
