//! Error formats: refusals as of Supabase Auth, in both of its versions, as of PostgREST, and as of
//! gRPC.

use foregate::denial::Reason;
use serde_json::json;

use crate::support::tokens::ISSUER;
use crate::support::{Gateway, Http, Origin};

const ROUTES: &str = r#"
  - { path: "/auth/v1/{*rest}", access: user, errors: gotrue }
  - { path: "/rest/v1/{*rest}", access: user, errors: postgrest }
  - { path: /auth/v1/admin, access: user, action: admin, errors: gotrue }
  - { path: /rest/v1/admin, access: user, action: admin, errors: postgrest }
"#;

async fn gateway() -> Gateway {
    Gateway::with(|config| {
        config.more_routes(ROUTES);
    })
    .await
}

#[tokio::test]
async fn a_revoked_session_gets_the_code_that_ends_it_and_a_bad_token_does_not() {
    let gateway = gateway().await;
    gateway.revoke(&json!({ "kind": "session", "session": "lost", "issuer": ISSUER }));
    let issuer = &gateway.issuer;
    let revoked = issuer.token();
    gateway.revoke(&json!({ "kind": "token", "token": revoked }));
    let cases = [
        (
            issuer.sign(&issuer.claims().session("lost")),
            Reason::SessionRevoked,
            "session_not_found",
            "PGRST303",
        ),
        (revoked, Reason::TokenRevoked, "bad_jwt", "PGRST303"),
        (
            issuer.expired(),
            Reason::TokenExpired,
            "bad_jwt",
            "PGRST303",
        ),
        (
            "not.a.token".to_owned(),
            Reason::TokenMalformed,
            "bad_jwt",
            "PGRST301",
        ),
        (
            issuer.sign(&issuer.claims().anonymous()),
            Reason::AnonymousRefused,
            "anonymous_refused",
            "42501",
        ),
        (
            issuer.sign(&issuer.claims().roles(["banned"])),
            Reason::CallerBanned,
            "user_banned",
            "42501",
        ),
        (
            "sb_secret_abcdefgh".to_owned(),
            Reason::ServiceKeyRefused,
            "not_admin",
            "42501",
        ),
    ];
    for http in Http::BOTH {
        for (token, reason, gotrue, postgrest) in &cases {
            let auth = || gateway.get(http, "/auth/v1/user").bearer(token);
            let answer = auth().send().await;
            answer.is_denied_in_gotrue(*reason, gotrue);
            assert_eq!(answer.header("x-supabase-api-version"), "");
            let answer = auth()
                .header("x-supabase-api-version", "2024-01-01")
                .send()
                .await;
            answer.is_denied_in_gotrue(*reason, gotrue);
            assert_eq!(answer.header("x-supabase-api-version"), "2024-01-01");
            for method in ["GET", "POST", "HEAD"] {
                let rest = gateway.call(http, method, "/rest/v1/projects?select=*");
                let answer = rest.bearer(token).send().await;
                answer.is_denied_in_postgrest(*reason, postgrest);
            }
        }
        let nobody = gateway.get(http, "/auth/v1/user").send().await;
        nobody.is_denied_in_gotrue(Reason::TokenMissing, "no_authorization");
        let nobody = gateway.get(http, "/rest/v1/projects").send().await;
        nobody.is_denied_in_postgrest(Reason::TokenMissing, "PGRST302");
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn what_is_down_is_a_503_without_a_word_about_the_session() {
    let closed = Origin::start().url();
    let gateway = Gateway::with(|config| {
        config
            .upstream("closed", &closed, ", connect_timeout: 200ms")
            .store("redis://127.0.0.1:1")
            .more_routes(ROUTES)
            .more_routes(
                "- { path: \"/open/{*rest}\", access: public, errors: gotrue, upstream: closed }",
            );
    })
    .await;
    for http in Http::BOTH {
        let auth = gateway.get(http, "/auth/v1/user");
        let answer = auth.bearer(&gateway.issuer.token()).send().await;
        answer.is_denied_in_gotrue(Reason::StoreUnavailable, "unexpected_failure");
        let rest = gateway.get(http, "/rest/v1/projects");
        let answer = rest.bearer(&gateway.issuer.token()).send().await;
        answer.is_denied_in_postgrest(Reason::StoreUnavailable, "PGRST001");
        let answer = gateway.post(http, "/open/token").send().await;
        answer.is_denied_in_gotrue(Reason::UpstreamConnect, "unexpected_failure");
    }
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_grpc_request_is_refused_as_grpc_on_every_route() {
    let gateway = gateway().await;
    let call = gateway.post(Http::Two, "/auth/v1/user");
    let answer = call.header("content-type", "application/grpc").send().await;
    assert_eq!(answer.header("grpc-status"), "16");
    gateway.origin.saw_nothing();
}
