//! An identity server that hangs, resets, fails or is unreachable: every operation is answered by
//! its deadline, and nothing else is affected.

use foregate::denial::Reason;
use foregate::policy::outage::{AccessClass, State};

use super::*;
use crate::support::{Gateway, in_time};

/// One call of every kind: method, path, body, and whether a user makes it.
const ALL: &[(&str, &str, &str, bool)] = &[
    (
        "POST",
        "token?grant_type=password",
        r#"{"email":"a@b.test","password":"p"}"#,
        false,
    ),
    (
        "POST",
        "token?grant_type=refresh_token",
        r#"{"refresh_token":"r"}"#,
        false,
    ),
    (
        "POST",
        "token?grant_type=pkce",
        r#"{"auth_code":"a","code_verifier":"v"}"#,
        false,
    ),
    (
        "POST",
        "signup",
        r#"{"email":"a@b.test","password":"p"}"#,
        false,
    ),
    ("POST", "otp", r#"{"email":"a@b.test"}"#, false),
    ("POST", "recover", r#"{"email":"a@b.test"}"#, false),
    (
        "POST",
        "verify",
        r#"{"type":"signup","token":"t","email":"a@b.test"}"#,
        false,
    ),
    ("GET", "verify?token=t&type=signup", "", false),
    ("GET", "user", "", true),
    ("PUT", "user", r#"{"data":{}}"#, true),
    ("GET", "authorize?provider=github", "", false),
    ("GET", "settings", "", false),
];

async fn ask_all(desk: &Desk, token: &str) -> Vec<(&'static str, Answer)> {
    let calls = ALL
        .iter()
        .enumerate()
        .map(|(number, (method, path, body, is_user))| {
            let http = Http::BOTH[number % 2];
            let mut call = ask(desk, http, method, path);
            if !body.is_empty() {
                call = call.header("content-type", "application/json").body(*body);
            }
            if *is_user {
                call = call.bearer(token);
            }
            async move { (*path, call.send().await) }
        });
    futures_util::future::join_all(calls).await
}

#[tokio::test]
async fn every_operation_is_answered_during_any_failure_and_none_as_a_refusal() {
    let desk = open(Options::default()).await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let token = desk.double.sign_in(&id).0;
    for how in [
        Behave::Hang,
        Behave::Reset,
        Behave::LoseAnswer,
        Behave::Fail(500),
        Behave::Fail(502),
    ] {
        desk.double.behave_always(how.clone());
        desk.double.behave("health", Behave::Well);
        for (path, answer) in in_time("every answer", ask_all(&desk, &token)).await {
            let status = answer.status.as_u16();
            assert!(
                (500..=504).contains(&status),
                "{how:?} {path}: {} {}",
                status,
                answer.text()
            );
            if path.ends_with("refresh_token") {
                assert_eq!(status, 503, "{how:?}");
            }
        }
        // Nothing else is affected.
        desk.gateway
            .get(Http::Two, "/me")
            .bearer(&token)
            .send()
            .await
            .is_ok();
    }
    desk.gateway.origin.has_seen(5).await;
}

#[tokio::test]
async fn a_hung_identity_server_is_a_504_at_the_deadline_and_an_unreachable_one_a_503() {
    let desk = open(Options::default()).await;
    for http in Http::BOTH {
        desk.double.behave("password", Behave::Hang);
        let late = post(
            &desk,
            http,
            "token?grant_type=password",
            &password(PASSWORD),
        );
        let late = in_time("the deadline", late.send()).await;
        denied(&late, Reason::IdentityTimeout);
        desk.double.behave("password", Behave::Well);
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let gateway = Gateway::with(|config| {
        let issuer = crate::support::tokens::ISSUER;
        config
            .set("identity", &format!("{{ supabase: {{ url: \"{url}\", issuer: \"{issuer}\", publishable_keys: [{PUBLISHABLE}] }} }}"))
            .routes(ROUTES);
    })
    .await;
    for http in Http::BOTH {
        for path in [
            "token?grant_type=password",
            "token?grant_type=refresh_token",
        ] {
            let call = gateway
                .post(http, &format!("/auth/v1/{path}"))
                .header("apikey", PUBLISHABLE)
                .header("content-type", "application/json")
                .body(r#"{"email":"a@b.test","password":"p","refresh_token":"r"}"#);
            denied(&call.send().await, Reason::IdentityUnavailable);
        }
        gateway
            .get(http, "/me")
            .bearer(&gateway.issuer.token())
            .send()
            .await
            .is_ok();
    }
}

#[test]
fn the_failure_matrix_covers_an_unreachable_identity_server() {
    for class in AccessClass::ALL {
        let answer = State::IdentityAway.effect(class).as_text();
        let expected = match class {
            AccessClass::SignIn => "503 identity_unavailable",
            _ => "allow",
        };
        assert_eq!(answer, expected, "{class:?}");
    }
}
