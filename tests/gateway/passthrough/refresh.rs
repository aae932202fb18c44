//! One call refreshes a session, for any number of clients on any replica, and no client is told
//! that a live session is over.

use std::collections::HashSet;

use foregate::denial::Reason;

use super::*;
use crate::sign_in::{identity, is_ready};
use crate::support::auth_server::Hold;
use crate::support::{Client, Gateway, RedisServer};

/// Two replicas in front of one identity server that forgives nothing.
struct Pair {
    double: AuthServer,
    first: Gateway,
    second: Gateway,
    _redis: RedisServer,
}

async fn pair(options: Options) -> Pair {
    let redis = RedisServer::start();
    let double = AuthServer::with(options);
    let start = async || {
        let gateway = Gateway::with(|config| {
            config
                .store(&redis.url())
                .set("tokens", &double.tokens())
                .set("identity", &identity(&double, "", UNLIMITED))
                .routes(ROUTES);
        })
        .await;
        is_ready(&gateway).await;
        gateway
    };
    let (first, second) = (start().await, start().await);
    Pair {
        double,
        first,
        second,
        _redis: redis,
    }
}

const STRICT: Options = Options {
    autoconfirm: true,
    reuse_interval: std::time::Duration::ZERO,
    parent_is_good: false,
    lifetime: 3600,
    ..Options::DEFAULT
};

fn at<'a>(gateway: &'a Gateway, http: Http, token: &str) -> Call<'a> {
    gateway
        .post(http, "/auth/v1/token?grant_type=refresh_token")
        .header("apikey", PUBLISHABLE)
        .header("x-supabase-api-version", "2024-01-01")
        .header("content-type", "application/json")
        .body(json!({ "refresh_token": token }).to_string())
}

/// Starts a refresh on this client's connection.
fn start_refresh(client: &Client, token: &str) -> tokio::task::JoinHandle<Answer> {
    let mut client = client.another();
    let body = json!({ "refresh_token": token }).to_string();
    tokio::spawn(async move {
        client
            .post("/auth/v1/token?grant_type=refresh_token")
            .header("apikey", PUBLISHABLE)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
    })
}

#[tokio::test]
async fn two_hundred_refreshes_at_two_replicas_make_one_call_and_get_equal_answers() {
    let pair = pair(STRICT).await;
    let id = pair.double.add_user(EMAIL, PASSWORD);
    let (access, token) = pair.double.sign_in(&id);
    let session = AuthServer::session_of(&access);
    // Held until both replicas have requests, so that none of the two hundred finds it done.
    let hold = Hold::new();
    pair.double
        .behave("refresh_token", Behave::Wait(hold.clone()));
    let mut clients = Vec::new();
    for gateway in [&pair.first, &pair.second] {
        clients.push(gateway.connect(Http::Two).await);
    }
    let calls: Vec<_> = (0..200)
        .map(|number| start_refresh(&clients[number % 2], &token))
        .collect();
    pair.double.has_seen("refresh_token", 1).await;
    hold.let_go();
    let mut bodies = HashSet::new();
    for call in calls {
        bodies.insert(call.await.unwrap().is_ok().body.clone());
    }
    assert_eq!(bodies.len(), 1, "all got the same");
    assert_eq!(pair.double.calls("refresh_token"), 1);
    assert!(pair.double.session_lives(&session));
    // A later request gets the same answer, on either replica.
    for gateway in [&pair.first, &pair.second] {
        for http in Http::BOTH {
            let again = at(gateway, http, &token).send().await;
            assert!(bodies.contains(&again.is_ok().body));
        }
    }
    assert_eq!(pair.double.calls("refresh_token"), 1);
}

#[tokio::test]
async fn a_session_survives_a_replica_killed_during_its_refresh() {
    for loses in [Behave::Hang, Behave::LoseAnswer] {
        let pair = pair(Options::default()).await;
        let id = pair.double.add_user(EMAIL, PASSWORD);
        let (access, token) = pair.double.sign_in(&id);
        let session = AuthServer::session_of(&access);
        let hold = Hold::new();
        // The caller never gets a reply to the first call: it hangs, or it is done and the reply is
        // lost with its reader.
        let first = match loses {
            Behave::Hang => Behave::Hang,
            _ => Behave::Wait(hold.clone()),
        };
        pair.double
            .behave("refresh_token", Behave::First(1, Box::new(first)));
        let connector = pair.first.connector(Http::One, crate::support::Door::Tls);
        let body = json!({ "refresh_token": token }).to_string();
        let call = connector
            .call("POST", "/auth/v1/token?grant_type=refresh_token")
            .header("apikey", PUBLISHABLE)
            .header("content-type", "application/json")
            .body(body);
        let holder = tokio::spawn(call.try_send());
        pair.double.has_seen("refresh_token", 1).await;
        let waiters: Vec<_> = (0..20)
            .map(|_| {
                let connector = pair.second.connector(Http::Two, crate::support::Door::Tls);
                let body = json!({ "refresh_token": token }).to_string();
                tokio::spawn(async move {
                    connector
                        .call("POST", "/auth/v1/token?grant_type=refresh_token")
                        .header("apikey", PUBLISHABLE)
                        .header("content-type", "application/json")
                        .body(body)
                        .send()
                        .await
                })
            })
            .collect();
        pair.first.signal("KILL");
        assert!(holder.await.unwrap().is_err(), "its client learns nothing");
        hold.let_go();
        let mut bodies = HashSet::new();
        for waiter in waiters {
            let answer = waiter.await.unwrap();
            match answer.status.as_u16() {
                200 => drop(bodies.insert(answer.body.clone())),
                503 => assert_eq!(answer.log_line()["reason"], "identity_unavailable"),
                _ => panic!("{} {}", answer.status, answer.text()),
            }
        }
        assert!(bodies.len() <= 1, "who got tokens got the same");
        assert!(pair.double.session_lives(&session));
        let again = at(&pair.second, Http::One, &token).send().await;
        let next = text(again.is_ok(), "refresh_token");
        at(&pair.second, Http::One, &next).send().await.is_ok();
        assert!(
            pair.double.calls("refresh_token") <= 3,
            "one repetition, and the next refresh"
        );
    }
}

#[tokio::test]
async fn a_failing_identity_server_never_ends_a_session() {
    let desk = open(STRICT).await;
    for http in Http::BOTH {
        for (how, reason) in [
            (Behave::Fail(500), Reason::IdentityUnavailable),
            (Behave::Fail(503), Reason::IdentityUnavailable),
            (
                Behave::Refuse(429, "over_request_rate_limit"),
                Reason::IdentityUnavailable,
            ),
            // Retried until the deadline.
            (Behave::Refuse(409, "conflict"), Reason::IdentityUnavailable),
            // Not about the token.
            (
                Behave::Refuse(422, "hook_timeout"),
                Reason::IdentityUnavailable,
            ),
            // About our key, or about no account at all.
            (
                Behave::Refuse(401, "no_authorization"),
                Reason::IdentityUnavailable,
            ),
            (
                Behave::Refuse(404, "not_found"),
                Reason::IdentityUnavailable,
            ),
        ] {
            let id = desk
                .double
                .add_user(&format!("{}@a.test", uuid::Uuid::now_v7()), PASSWORD);
            let (access, token) = desk.double.sign_in(&id);
            desk.double.behave("refresh_token", how);
            let answer = refresh(&desk, http, &token).send().await;
            denied(&answer, reason);
            assert_eq!(answer.status, 503);
            assert!(answer.headers.contains_key("retry-after"));
            assert!(desk.double.session_lives(&AuthServer::session_of(&access)));
            // Nothing was done, so the call is repeated.
            desk.double.behave("refresh_token", Behave::Well);
            refresh(&desk, http, &token).send().await.is_ok();
        }
    }
}

#[tokio::test]
async fn a_conflict_is_retried_and_not_reported() {
    let desk = open(STRICT).await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let (_, token) = desk.double.sign_in(&id);
    let conflict = Behave::Refuse(409, "conflict");
    desk.double
        .behave("refresh_token", Behave::First(3, Box::new(conflict)));
    refresh(&desk, Http::Two, &token).send().await.is_ok();
    assert_eq!(desk.double.calls("refresh_token"), 4);
}

#[tokio::test]
async fn a_lost_answer_is_requested_once_more_and_not_again() {
    let desk = open(Options::default()).await;
    for http in Http::BOTH {
        let id = desk
            .double
            .add_user(&format!("{http:?}@example.test"), PASSWORD);
        let (access, token) = desk.double.sign_in(&id);
        let before = desk.double.calls("refresh_token");
        desk.double.behave("refresh_token", Behave::LoseAnswer);
        for calls in [1, 2, 2, 2] {
            let answer = refresh(&desk, http, &token).send().await;
            denied(&answer, Reason::IdentityUnavailable);
            assert_eq!(desk.double.calls("refresh_token") - before, calls);
        }
        assert!(desk.double.session_lives(&AuthServer::session_of(&access)));
        // Once the store is reachable, another session is refreshed although its first call was
        // lost.
        let (_, token) = desk.double.sign_in(&id);
        desk.double.behave("refresh_token", Behave::Reset);
        let lost = refresh(&desk, http, &token).send().await;
        denied(&lost, Reason::IdentityUnavailable);
        desk.double.behave("refresh_token", Behave::Well);
        // It was the third consecutive failure, which opens the breaker.
        let up = || desk.gateway.metrics().sum("foregate_identity_up", &[]) == 1.0;
        eventually("it is asked again", up).await;
        refresh(&desk, http, &token).send().await.is_ok();
    }
}

#[tokio::test]
async fn an_invalid_token_is_refused_in_the_servers_form_after_one_call() {
    let desk = open(STRICT).await;
    for http in Http::BOTH {
        let unknown = format!("unknown{:05}", u8::from(http == Http::Two));
        let before = desk.double.calls("refresh_token");
        for _ in 0..3 {
            let answer = refresh(&desk, http, &unknown).send().await;
            says(&answer, 400, "refresh_token_not_found");
        }
        assert_eq!(desk.double.calls("refresh_token") - before, 1);
        let id = desk
            .double
            .add_user(&format!("{http:?}@example.test"), PASSWORD);
        let (_, token) = desk.double.sign_in(&id);
        desk.double.ban(&id);
        says(
            &refresh(&desk, http, &token).send().await,
            400,
            "user_banned",
        );
    }
}

#[tokio::test]
async fn without_the_store_each_replica_calls_once_and_the_session_survives() {
    let mut redis = RedisServer::start();
    let double = AuthServer::start();
    let gateway = Gateway::with(|config| {
        config
            .store(&redis.url())
            .set("tokens", &double.tokens())
            .set("identity", &identity(&double, "", UNLIMITED))
            .routes(ROUTES);
    })
    .await;
    is_ready(&gateway).await;
    let id = double.add_user(EMAIL, PASSWORD);
    let (access, token) = double.sign_in(&id);
    redis.kill();
    let hold = Hold::new();
    double.behave("refresh_token", Behave::Wait(hold.clone()));
    let client = gateway.connect(Http::Two).await;
    let calls: Vec<_> = (0..20).map(|_| start_refresh(&client, &token)).collect();
    double.has_seen("refresh_token", 1).await;
    hold.let_go();
    let mut bodies = HashSet::new();
    for call in calls {
        bodies.insert(call.await.unwrap().is_ok().body.clone());
    }
    assert_eq!((bodies.len(), double.calls("refresh_token")), (1, 1));
    assert!(double.session_lives(&AuthServer::session_of(&access)));
}
