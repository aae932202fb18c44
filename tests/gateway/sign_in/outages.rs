//! Outages: every route answers by its deadline, reports what became of what it started, and never
//! blames the client for an outage.

use std::time::{Duration, Instant};

use foregate::denial::Reason;
use serde_json::json;

use super::*;
use crate::support::auth_server::{Behave, Hold};
use crate::support::{RedisServer, eventually, in_time};

/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(15);

/// Every route that calls the identity server before it answers.
async fn ask_all(desk: &Desk, http: Http, token: &str) -> Vec<(&'static str, Answer)> {
    let refresh = json!({ "refresh_token": "r" });
    let newcomer = login("new@example.test", PASSWORD);
    let credentials = login(EMAIL, PASSWORD);
    let (login, register, refresh, me, whoami) = tokio::join!(
        desk.post(http, "login", &credentials).send(),
        desk.post(http, "register", &newcomer).send(),
        desk.post(http, "refresh", &refresh).send(),
        desk.get(http, "me", token).send(),
        desk.get(http, "whoami", token).send(),
    );
    vec![
        ("login", login),
        ("register", register),
        ("refresh", refresh),
        ("me", me),
        ("whoami", whoami),
    ]
}

#[tokio::test]
async fn every_route_answers_by_its_deadline_while_the_identity_server_hangs() {
    let options = Options::default();
    let double_deadlines = "login: 1s, register: 1s, other: 1s";
    let desk = Desk::with(options, "", UNLIMITED, |config| {
        let identity = config.get("identity").to_owned();
        let identity = identity.trim_end().strip_suffix('}').unwrap().to_owned();
        config.set(
            "identity",
            &format!("{identity}, deadlines: {{ {double_deadlines} }} }}"),
        );
    })
    .await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let (token, _) = desk.double.sign_in(&id);
    for kind in [
        "password",
        "signup",
        "refresh_token",
        "read-user",
        "recover",
        "logout",
    ] {
        desk.double.behave(kind, Behave::Hang);
    }
    for http in Http::BOTH {
        let started = Instant::now();
        for (route, answer) in ask_all(&desk, http, &token).await {
            let reason = match route {
                "register" => Reason::RegistrationUnknown,
                // As in the failure matrix.
                "refresh" => Reason::IdentityUnavailable,
                _ => Reason::IdentityTimeout,
            };
            answer.is_denied(reason);
        }
        assert!(started.elapsed() < Duration::from_secs(1) + SLACK);
        // These do not wait for it.
        let call = desk.post(http, "password-reset", &json!({ "email": EMAIL }));
        call.send().await.is_ok();
        // Neither does anything else.
        desk.gateway
            .get(http, "/me")
            .bearer(&token)
            .send()
            .await
            .is_ok();
    }
    let call = desk.post(Http::One, "logout", &json!({})).bearer(&token);
    call.send().await.is_ok();
    let refused = desk
        .gateway
        .get(Http::Two, "/me")
        .bearer(&token)
        .send()
        .await;
    refused.is_denied(Reason::SessionRevoked);
}

#[tokio::test]
async fn an_identity_server_that_fails_resets_or_is_unreachable_is_a_503() {
    let desk = Desk::open().await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let (token, _) = desk.double.sign_in(&id);
    let signed_out = desk.double.sign_in(&id).0;
    for how in [Behave::Fail(500), Behave::Fail(502), Behave::Reset] {
        for kind in ["password", "signup", "refresh_token", "read-user", "logout"] {
            desk.double.behave(kind, how.clone());
        }
        for http in Http::BOTH {
            for (route, answer) in ask_all(&desk, http, &token).await {
                let reason = match route {
                    "register" => Reason::RegistrationUnknown,
                    _ => Reason::IdentityUnavailable,
                };
                // Requests that came after the breaker opened were never sent, and hold nothing.
                if answer.json()["code"] != Reason::IdentityUnavailable.public_code() {
                    answer.is_denied(reason);
                }
                assert_eq!(answer.status, 503, "{route} {}", answer.text());
            }
        }
    }
    // The logout applies here at once, and is forwarded until the identity server has it.
    let call = desk
        .post(Http::One, "logout", &json!({}))
        .bearer(&signed_out);
    call.send().await.is_ok();
    let refused = desk
        .gateway
        .get(Http::One, "/me")
        .bearer(&signed_out)
        .send()
        .await;
    refused.is_denied(Reason::SessionRevoked);
    let session = AuthServer::session_of(&signed_out);
    assert!(desk.double.session_lives(&session));
    for kind in ["password", "signup", "refresh_token", "read-user", "logout"] {
        desk.double.behave(kind, Behave::Well);
    }
    eventually("the session ends there, too", || {
        !desk.double.session_lives(&session)
    })
    .await;
}

#[tokio::test]
async fn a_partial_registration_is_reported() {
    for (supabase, kind) in [("", "signup"), (", register: admin", "create-user")] {
        let desk = Desk::with(Options::default(), supabase, UNLIMITED, |_| {}).await;
        for (number, http) in Http::BOTH.into_iter().enumerate() {
            let email = |case: &str| format!("{case}{number}@example.test");
            let register = |email: String| {
                let newcomer = login(&email, PASSWORD);
                desk.post(http, "register", &newcomer).send()
            };
            // The account exists, without tokens: only if creating it gives none.
            if kind == "create-user" {
                desk.double.behave("password", Behave::Fail(500));
                let answer = register(email("made")).await;
                answer.is_denied(Reason::RegisteredOnly);
                assert!(desk.double.has_user(&email("made")));
                desk.double.behave("password", Behave::Well);
                desk.signed_in(http, &email("made")).await;
            }

            // The account exists, and the reply was lost: signing in finds out.
            desk.double.behave(kind, Behave::LoseAnswer);
            register(email("lost")).await.is_ok();
            // The same, and signing in fails, too.
            desk.double.behave("password", Behave::Fail(500));
            register(email("unknown"))
                .await
                .is_denied(Reason::RegistrationUnknown);
            // The account was not created, and signing in finds that out, too.
            desk.double.behave(kind, Behave::Reset);
            desk.double.behave("password", Behave::Well);
            register(email("not"))
                .await
                .is_denied(Reason::IdentityUnavailable);
            assert!(!desk.double.has_user(&email("not")));
            desk.double.behave(kind, Behave::Well);
            register(email("not")).await.is_ok();
        }
        desk.gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn a_registration_completes_after_the_client_disconnects() {
    let desk = Desk::with(Options::default(), ", register: admin", UNLIMITED, |_| {}).await;
    for (number, http) in Http::BOTH.into_iter().enumerate() {
        let email = format!("{number}@example.test");
        let hold = Hold::new();
        desk.double
            .behave("create-user", Behave::Wait(hold.clone()));
        let before = desk.double.calls("password");
        let connector = desk.gateway.connector(http, crate::support::Door::Tls);
        let call = connector
            .call("POST", "/api/v1/auth/register")
            .header("content-type", "application/json")
            .body(login(&email, PASSWORD).to_string());
        let leaves = tokio::spawn(call.send());
        desk.double.has_seen("create-user", number + 1).await;
        leaves.abort();
        assert!(leaves.await.is_err());
        hold.let_go();
        desk.double.has_seen("password", before + 1).await;
        assert!(desk.double.has_user(&email));
    }
}

#[tokio::test]
async fn a_hung_store_delays_no_answer_and_a_lost_one_follows_the_failure_matrix() {
    let redis = RedisServer::start();
    let desk = Desk::with(
        Options::default(),
        "",
        "reset: { address: 9/m }",
        |config| {
            config.store(&redis.url());
        },
    )
    .await;
    desk.is_ready().await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let (token, refresh) = desk.double.sign_in(&id);
    let leaving = desk.double.sign_in(&id).0;
    desk.gateway
        .get(Http::One, "/me")
        .bearer(&token)
        .send()
        .await
        .is_ok();
    redis.pause();
    for http in Http::BOTH {
        let answers = in_time("answers", async {
            desk.signed_in(http, EMAIL).await;
            desk.get(http, "me", &token).send().await.is_ok();
            let call = desk.post(http, "password-reset", &json!({ "email": EMAIL }));
            call.send().await
        });
        answers.await.is_ok();
    }
    let call = desk.post(Http::One, "refresh", &json!({ "refresh_token": refresh }));
    call.send().await.is_ok();
    // The session is refused here, and the client learns that not every replica has it.
    let call = desk.post(Http::Two, "logout", &json!({})).bearer(&leaving);
    call.send().await.is_denied(Reason::LogoutIncomplete);
    let refused = desk
        .gateway
        .get(Http::Two, "/me")
        .bearer(&leaving)
        .send()
        .await;
    refused.is_denied(Reason::SessionRevoked);
    redis.resume();
}

#[tokio::test]
async fn sign_in_is_refused_until_the_list_of_revocations_is_known() {
    let (port, folder) = RedisServer::absent();
    let desk = Desk::with(Options::default(), "", UNLIMITED, |config| {
        config.store(&format!("redis://127.0.0.1:{port}"));
    })
    .await;
    desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let answer = desk
            .post(http, "login", &login(EMAIL, PASSWORD))
            .send()
            .await;
        answer.is_denied(Reason::StoreUnavailable);
        let answer = desk
            .post(http, "refresh", &json!({ "refresh_token": "r" }))
            .send()
            .await;
        answer.is_denied(Reason::StoreUnavailable);
    }
    assert_eq!(desk.double.calls("password"), 0);
    drop(folder);
}

#[tokio::test]
async fn three_hundred_concurrent_logins_leak_no_connection() {
    let desk = Desk::with(
        Options::default(),
        ", concurrency: 8, queue: 64",
        UNLIMITED,
        |_| {},
    )
    .await;
    // Hashing at the cost of real users.
    let newcomer = login(EMAIL, PASSWORD);
    desk.post(Http::One, "register", &newcomer)
        .send()
        .await
        .is_ok();
    let count = |folder: &str| {
        let path = format!("/proc/{}/{folder}", desk.gateway.pid());
        std::fs::read_dir(path).unwrap().count()
    };
    desk.gateway.is_quiet().await;
    let (tasks, files) = (count("task"), count("fd"));
    let connector = desk.gateway.connector(Http::One, crate::support::Door::Tls);
    let logins: Vec<_> = (0..300)
        .map(|_| {
            let connector = connector.clone();
            tokio::spawn(async move {
                let call = connector
                    .call("POST", "/api/v1/auth/login")
                    .header("content-type", "application/json")
                    .body(login(EMAIL, PASSWORD).to_string());
                call.send().await
            })
        })
        .collect();
    let mut served = 0;
    let mut most = 0;
    for login in logins {
        let answer = login.await.unwrap();
        most = most.max(count("task"));
        match answer.status.as_u16() {
            200 => served += 1,
            // Too many at once, too slow, or refused by the open breaker.
            503 | 504 => {}
            _ => panic!("{} {}", answer.status, answer.text()),
        }
    }
    assert!(served > 0, "none was served");
    assert!(most <= tasks + 1, "{most} threads, {tasks} before");
    desk.gateway.is_quiet().await;
    // Connections to the identity server are pooled, no more than there are concurrent calls.
    eventually("files are closed", || count("fd") <= files + 8).await;
    assert!(count("task") <= tasks + 1);
    // The gateway continues to serve.
    desk.signed_in(Http::Two, EMAIL).await;
}
