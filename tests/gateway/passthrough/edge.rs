//! The edge in front of the identity server: what it answers is told from what the server says of a
//! client, and a server that is back is asked at once.

use std::time::{Duration, Instant};

use super::*;
use crate::support::{RedisServer, in_time};

/// What Kong answers to a wrong key, and while it has no server; the second does not say whether a
/// server had got the request.
const NO_KEY: &str = r#"{"message":"Unauthorized"}"#;
const NO_ANSWER: &str =
    r#"{"message":"An invalid response was received from the upstream server"}"#;
const NO_SERVER: &str = r#"{"message":"name resolution failed"}"#;

#[tokio::test]
async fn an_edge_that_refuses_our_key_is_an_outage_and_signs_nobody_out() {
    let desk = open(Options::default()).await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let (token, renewal) = desk.double.sign_in(&id);
    for (status, body) in [
        (401, NO_KEY),
        (
            401,
            r#"{"message":"Invalid API key","hint":"Double check it."}"#,
        ),
        (403, r#"{"message":"You cannot consume this service"}"#),
        (403, "<html>"),
    ] {
        desk.double.behave_always(Behave::Edge(status, body));
        for http in Http::BOTH {
            for answer in [
                refresh(&desk, http, &renewal).send().await,
                post(
                    &desk,
                    http,
                    "token?grant_type=password",
                    &password(PASSWORD),
                )
                .send()
                .await,
                ask(&desk, http, "GET", "user").bearer(&token).send().await,
                ask(&desk, http, "GET", "settings").send().await,
            ] {
                denied(&answer, Reason::IdentityRefused);
                assert_eq!(answer.status, 503);
            }
        }
    }
    let text = desk.gateway.log().text();
    assert!(
        text.contains("refuses the gateway: check the keys"),
        "it is logged in words"
    );
    // What the server itself says of the user's token passes.
    desk.double.behave_always(Behave::Well);
    desk.double
        .behave("read-user", Behave::Refuse(403, "bad_jwt"));
    let answer = ask(&desk, Http::Two, "GET", "user")
        .bearer(&token)
        .send()
        .await;
    says(&answer, 403, "bad_jwt");
    refresh(&desk, Http::Two, &renewal).send().await.is_ok();
}

#[tokio::test]
async fn a_page_of_a_proxy_is_no_answer_about_a_password() {
    let desk = open(Options::default()).await;
    desk.double.add_user(EMAIL, PASSWORD);
    for body in [
        "<html>400 Request Header Or Cookie Too Large</html>",
        r#"{"message":"Bad request"}"#,
        "",
    ] {
        desk.double.behave("password", Behave::Edge(400, body));
        for http in Http::BOTH {
            let login = crate::sign_in::login(EMAIL, PASSWORD);
            let own = desk.post(http, "login", &login).send().await;
            own.is_denied(Reason::IdentityRefused);
            let credentials = password(PASSWORD);
            let passed = post(&desk, http, "token?grant_type=password", &credentials);
            let passed = passed.send().await;
            assert!(
                !passed.text().contains("invalid_credentials"),
                "{}",
                passed.text()
            );
        }
    }
}

#[tokio::test]
async fn a_malformed_refresh_token_is_refused_as_the_server_refuses_it_and_counts() {
    let desk = limited(Options::default(), "refresh: { address: 5/d }").await;
    for (number, token) in [
        "x",
        "not a token",
        "ABCDEFGHIJKL",
        "a\u{e4}",
        "0123456789abc",
    ]
    .into_iter()
    .enumerate()
    {
        let http = Http::BOTH[number % 2];
        says(
            &refresh(&desk, http, token).send().await,
            400,
            "validation_failed",
        );
    }
    // Counted in the background.
    let more = async {
        for number in 0.. {
            let token = format!("made up {number}");
            let answer = refresh(&desk, Http::Two, &token).send().await;
            match answer.status.as_u16() {
                400 => says(&answer, 400, "validation_failed"),
                _ => return answer,
            }
        }
        unreachable!("a refusal ends it");
    };
    denied(&in_time("a refusal", more).await, Reason::SignInBusy);
    // The server's OAuth form.
    let desk = open(Options::default()).await;
    let empty = refresh(&desk, Http::One, "").send().await;
    assert_eq!(
        (empty.status.as_u16(), &empty.json()["error"]),
        (400, &json!("invalid_request"))
    );
}

#[tokio::test]
async fn a_refresh_that_reached_no_server_is_repeated_as_often_as_a_client_asks() {
    let desk = open(Options {
        reuse_interval: Duration::ZERO,
        ..Options::default()
    })
    .await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let (_, token) = desk.double.sign_in(&id);
    desk.double
        .behave("refresh_token", Behave::Edge(503, NO_SERVER));
    for http in [Http::One, Http::Two, Http::One, Http::Two, Http::One] {
        denied(
            &refresh(&desk, http, &token).send().await,
            Reason::IdentityUnavailable,
        );
    }
    desk.double.behave("refresh_token", Behave::Well);
    refresh(&desk, Http::Two, &token).send().await.is_ok();
}

#[tokio::test]
async fn a_session_is_refreshed_within_seconds_of_the_return_of_the_server_on_either_replica() {
    let redis = RedisServer::start();
    let desk = Desk::with(Options::default(), "", UNLIMITED, |config| {
        config.store(&redis.url()).routes(ROUTES);
    })
    .await;
    desk.is_ready().await;
    let (tokens, identity) = (
        desk.double.tokens(),
        crate::sign_in::identity(&desk.double, "", UNLIMITED),
    );
    let other = desk
        .gateway
        .replica(|config| {
            config
                .store(&redis.url())
                .set("tokens", &tokens)
                .set("identity", &identity)
                .routes(ROUTES);
        })
        .await;
    crate::sign_in::is_ready(&other).await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let at_other = |token: &str| {
        other
            .post(Http::Two, "/auth/v1/token?grant_type=refresh_token")
            .header("apikey", PUBLISHABLE)
            .header("content-type", "application/json")
            .body(json!({ "refresh_token": token }).to_string())
            .send()
    };
    for round in 0..2 {
        let (_, token) = desk.double.sign_in(&id);
        desk.double.behave_always(Behave::Edge(502, NO_ANSWER));
        // More than the calls that may be made while it is not known what they do.
        for _ in 0..4 {
            let here = refresh(&desk, Http::One, &token).send().await;
            denied(&here, Reason::IdentityUnavailable);
            assert_eq!(at_other(&token).await.status, 503);
        }
        desk.double.behave_always(Behave::Well);
        let back = Instant::now();
        let refreshed = async {
            loop {
                let answer = match round {
                    0 => refresh(&desk, Http::Two, &token).send().await,
                    _ => at_other(&token).await,
                };
                match answer.status.as_u16() {
                    200 => return,
                    503 => tokio::time::sleep(Duration::from_millis(50)).await,
                    _ => panic!("{} {}", answer.status, answer.text()),
                }
            }
        };
        in_time("new tokens", refreshed).await;
        // Before it was half a minute.
        assert!(
            back.elapsed() < Duration::from_secs(15),
            "{:?}",
            back.elapsed()
        );
    }
}

#[tokio::test]
async fn a_refresh_keeps_the_user_agent_of_the_client() {
    let desk = open(Options::default()).await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let (_, token) = desk.double.sign_in(&id);
        let answer = refresh(&desk, http, &token)
            .header("user-agent", "Grace/1")
            .send()
            .await;
        let next = text(answer.is_ok(), "refresh_token");
        assert_eq!(
            desk.double.last("refresh_token").header("user-agent"),
            "Grace/1"
        );
        let own = desk
            .gateway
            .post(http, "/api/v1/auth/refresh")
            .header("content-type", "application/json")
            .header("user-agent", "Grace/2")
            .body(json!({ "refresh_token": next }).to_string());
        own.send().await.is_ok();
        assert_eq!(
            desk.double.last("refresh_token").header("user-agent"),
            "Grace/2"
        );
    }
}

#[tokio::test]
async fn a_nul_is_refused_in_words_and_reaches_nobody() {
    let desk = open(Options::default()).await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let token = desk.double.sign_in(&id).0;
    for http in Http::BOTH {
        for (method, path, body) in [
            (
                "POST",
                "token?grant_type=password",
                json!({ "email": "a\0@b.test", "password": "p" }),
            ),
            (
                "POST",
                "signup",
                json!({ "email": "a@b.test", "password": "p", "data": { "a": ["\0"] } }),
            ),
            ("POST", "otp", json!({ "phone": "+1\0" })),
            (
                "POST",
                "verify",
                json!({ "token_hash": "\0", "type": "signup" }),
            ),
            ("PUT", "user", json!({ "data": { "a\0": 1 } })),
            ("GET", "verify?token=a%00&type=signup", Value::Null),
        ] {
            let mut call = ask(&desk, http, method, path).bearer(&token);
            if !body.is_null() {
                call = call
                    .header("content-type", "application/json")
                    .body(body.to_string());
            }
            let answer = call.send().await;
            says(&answer, 400, "validation_failed");
            let sentence = text(&answer, "message");
            assert!(sentence.contains("NUL"), "{path}: {sentence}");
        }
    }
    for kind in ["password", "signup", "otp", "verify", "change-user"] {
        assert_eq!(desk.double.calls(kind), 0, "{kind}");
    }
}

#[tokio::test]
async fn the_seconds_in_the_servers_sentence_become_retry_after() {
    let desk = open(Options::default()).await;
    desk.double.behave(
        "otp",
        Behave::Edge(
            429,
            r#"{"code":"over_email_send_rate_limit","message":"For security purposes, you can only request this after 59 seconds."}"#,
        ),
    );
    desk.double
        .behave("signup", Behave::Refuse(429, "over_request_rate_limit"));
    for http in Http::BOTH {
        let answer = post(&desk, http, "otp", &json!({ "email": EMAIL }))
            .send()
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("retry-after")),
            (429, "59")
        );
        let answer = post(&desk, http, "signup", &password(PASSWORD))
            .send()
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("retry-after")),
            (429, "10")
        );
    }
}
