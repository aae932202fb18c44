//! The throttle: what is refused or delayed, and that the owner of an account is not locked out.

use std::time::{Duration, Instant};

use foregate::denial::Reason;
use serde_json::json;

use super::*;
use crate::support::auth_server::{Behave, PUBLISHABLE};
use crate::support::{RedisServer, eventually};

/// A route to the pass-through.
const PASS_THROUGH: &str = r#"
  - { path: "/auth/v1/{*rest}", access: optional, serve: identity_server, errors: gotrue }
"#;

/// Any peer may set the client's address.
const BEHIND: &str = "{ from: [127.0.0.1], hops: 1 }";

async fn behind(throttle: &str) -> Desk {
    Desk::with(Options::default(), "", throttle, |config| {
        config.set("trusted_proxies", BEHIND);
    })
    .await
}

impl Desk {
    /// Sends an attempt from an address, on a kept connection.
    async fn tries(&self, http: Http, from: &str, email: &str, password: &str) -> Answer {
        self.post(http, "login", &login(email, password))
            .header("x-forwarded-for", from)
            .send()
            .await
    }
}

#[tokio::test]
async fn guessing_is_refused_and_the_owner_signs_in_from_elsewhere() {
    let desk = behind("login: { address: 8/d, account: 3/d }").await;
    desk.double.add_user(EMAIL, PASSWORD);
    for (http, network) in [(Http::One, 1), (Http::Two, 2)] {
        let from = format!("203.0.113.{network}");
        let mut answers = Vec::new();
        for _ in 0..12 {
            answers.push(desk.tries(http, &from, EMAIL, "guess").await);
        }
        for answer in &answers[..3] {
            answer.is_denied(Reason::InvalidCredentials);
        }
        for answer in &answers[3..] {
            answer.is_denied(Reason::TooManyAttempts);
            assert_eq!(answer.header("ratelimit-limit"), "3");
            assert_eq!(answer.header("ratelimit-remaining"), "0");
            assert_eq!(
                answer.header("retry-after"),
                answer.header("ratelimit-reset")
            );
            let wait: u64 = answer.header("retry-after").parse().unwrap();
            assert!((28_000..=28_800).contains(&wait), "{wait}");
        }
        assert_eq!(answers[3].log_line()["detail"], "account");
        // The right password does not help the guesser, and the owner is not affected.
        let lucky = desk.tries(http, &from, EMAIL, PASSWORD).await;
        lucky.is_denied(Reason::TooManyAttempts);
        let elsewhere = format!("198.51.100.{network}");
        desk.tries(http, &elsewhere, EMAIL, PASSWORD).await.is_ok();

        // One password, many accounts: five more, which makes eight of this address.
        let mut refused = 0;
        for number in 0..20 {
            let email = format!("{number}@example.test");
            let answer = desk.tries(http, &from, &email, "password1").await;
            refused += usize::from(answer.status == 429);
        }
        assert_eq!(refused, 15);
    }
    // Refused attempts were never forwarded.
    assert_eq!(desk.double.calls("password"), 2 * (3 + 1 + 5));
    desk.gateway.origin.saw_nothing();
}

#[tokio::test]
async fn an_account_under_attack_is_delayed_and_never_locked() {
    let desk = behind("everywhere: 3/d, longest_delay: 300ms").await;
    desk.double.add_user(EMAIL, PASSWORD);
    for network in 0..8 {
        let from = format!("203.0.113.{network}");
        let answer = desk.tries(Http::Two, &from, EMAIL, "guess").await;
        answer.is_denied(Reason::InvalidCredentials);
    }
    let delayed = desk
        .gateway
        .metrics()
        .sum("foregate_sign_in_delayed_total", &[]);
    assert_eq!(delayed, 5.0);
    desk.tries(Http::One, "198.51.100.1", EMAIL, PASSWORD)
        .await
        .is_ok();
    // Another account is not delayed.
    desk.double.add_user("eve@example.test", PASSWORD);
    let answer = desk
        .tries(Http::One, "198.51.100.1", "eve@example.test", PASSWORD)
        .await;
    answer.is_ok();
    let metrics = desk.gateway.metrics();
    assert_eq!(metrics.sum("foregate_sign_in_delayed_total", &[]), 6.0);
    assert_eq!(metrics.sum("foregate_sign_in_waiting", &[]), 0.0);
}

#[tokio::test]
async fn delayed_attempts_are_bounded() {
    let desk = behind("everywhere: 1/d, longest_delay: 5s, waiting: 0, refusal_floor: 0s").await;
    for http in Http::BOTH {
        let email = format!("{http:?}@example.test").to_lowercase();
        let first = desk.tries(http, "203.0.113.1", &email, "guess").await;
        first.is_denied(Reason::InvalidCredentials);
        let second = desk.tries(http, "203.0.113.2", &email, "guess").await;
        second.is_denied(Reason::SignInBusy);
    }
    assert_eq!(desk.double.calls("password"), 2);
}

/// The floor under refusals, which makes a wrong password and a missing account take the same time.
const FLOOR: Duration = Duration::from_millis(400);

#[tokio::test]
async fn the_duration_of_a_refusal_does_not_disclose_whether_the_account_exists() {
    let limits = format!("{UNLIMITED}, refusal_floor: {}ms", FLOOR.as_millis());
    let desk = Desk::with(Options::default(), "", &limits, |config| {
        config.more_routes(PASS_THROUGH);
    })
    .await;
    desk.double.add_user(EMAIL, PASSWORD);
    // The identity server hashes only for existing accounts.
    for (email, how) in [
        ("nobody@example.test", Behave::Well),
        (EMAIL, Behave::Slow(FLOOR / 2)),
    ] {
        desk.double.behave("password", how);
        for http in Http::BOTH {
            let started = Instant::now();
            let answer = desk
                .post(http, "login", &login(email, "guess"))
                .send()
                .await;
            answer.is_denied(Reason::InvalidCredentials);
            assert!(started.elapsed() >= FLOOR, "{email}");
            let started = Instant::now();
            let call = desk
                .gateway
                .post(http, "/auth/v1/token?grant_type=password")
                .header("apikey", PUBLISHABLE)
                .header("content-type", "application/json")
                .body(login(email, "guess").to_string());
            assert_eq!(call.send().await.status, 400);
            assert!(started.elapsed() >= FLOOR, "{email} at the pass-through");
        }
    }
}

#[tokio::test]
async fn a_held_refusal_occupies_no_slot_and_displaces_no_delayed_attempt() {
    let limits = format!("{UNLIMITED}, refusal_floor: 3s, waiting: 0");
    let desk = Desk::with(
        Options::default(),
        ", concurrency: 1, queue: 0",
        &limits,
        |_| {},
    )
    .await;
    desk.double.add_user(EMAIL, PASSWORD);
    let wrong = login(EMAIL, "guess");
    let held = async {
        let answer = desk.post(Http::One, "login", &wrong).send().await;
        answer.is_denied(Reason::InvalidCredentials);
    };
    let others = async {
        let waiting = || desk.gateway.metrics().sum("foregate_sign_in_waiting", &[]) == 1.0;
        eventually("it is held", waiting).await;
        // The right password is not held, and gets the one free slot.
        desk.signed_in(Http::Two, EMAIL).await;
        let answer = desk.post(Http::Two, "login", &wrong).send().await;
        answer.is_denied(Reason::InvalidCredentials);
    };
    futures_util::future::join(held, others).await;
    assert_eq!(
        desk.gateway.metrics().sum("foregate_sign_in_waiting", &[]),
        0.0
    );
}

#[tokio::test]
async fn registrations_resets_and_refreshes_have_their_own_limits() {
    let limits = "register: { address: 2/d }, reset: { address: 2/d }, refresh: { address: 2/d }";
    let desk = Desk::with(Options::default(), "", limits, |_| {}).await;
    for (number, http) in [Http::One, Http::Two, Http::One, Http::Two]
        .into_iter()
        .enumerate()
    {
        let email = format!("{number}@example.test");
        let register = desk
            .post(http, "register", &login(&email, PASSWORD))
            .send()
            .await;
        let reset = desk
            .post(http, "password-reset", &json!({ "email": email }))
            .send()
            .await;
        match number {
            0 | 1 => {
                register.is_ok();
                reset.is_ok();
            }
            _ => {
                register.is_denied(Reason::TooManyAttempts);
                reset.is_denied(Reason::TooManyAttempts);
            }
        }
    }
    assert_eq!(desk.double.calls("signup"), 2);
    desk.double.has_seen("recover", 2).await;
    assert_eq!(desk.double.calls("recover"), 2);
    // Failed refreshes are counted in the background.
    let guess = json!({ "refresh_token": "guess" });
    let mut refused = false;
    for number in 0..50 {
        let answer = desk
            .post(Http::BOTH[number % 2], "refresh", &guess)
            .send()
            .await;
        refused |= answer.status == 503;
        match refused {
            true => answer.is_denied(Reason::SignInBusy),
            false => answer.is_denied(Reason::RefreshTokenInvalid),
        };
    }
    assert!(refused, "two failures are enough");
}

#[tokio::test]
async fn replicas_share_counts_and_count_alone_at_half_the_rate_without_the_store() {
    let redis = RedisServer::start();
    let limits = "login: { address: 1000/d, account: 6/d }";
    let desk = Desk::with(Options::default(), "", limits, |config| {
        config.store(&redis.url());
    })
    .await;
    desk.is_ready().await;
    desk.double.add_user(EMAIL, PASSWORD);
    let (tokens, identity) = (desk.double.tokens(), identity(&desk.double, "", limits));
    let other = desk
        .gateway
        .replica(|config| {
            config
                .store(&redis.url())
                .set("tokens", &tokens)
                .set("identity", &identity);
        })
        .await;
    is_ready(&other).await;
    let other = |email: &str| {
        other
            .post(Http::Two, "/api/v1/auth/login")
            .header("content-type", "application/json")
            .body(login(email, "guess").to_string())
            .send()
    };
    let here = |email: &str| desk.post(Http::One, "login", &login(email, "guess")).send();
    for _ in 0..3 {
        here(EMAIL).await.is_denied(Reason::InvalidCredentials);
        other(EMAIL).await.is_denied(Reason::InvalidCredentials);
    }
    here(EMAIL).await.is_denied(Reason::TooManyAttempts);
    other(EMAIL).await.is_denied(Reason::TooManyAttempts);

    redis.pause();
    let email = "eve@example.test";
    let mut admitted = 0;
    for _ in 0..6 {
        let answer = here(email).await;
        match answer.status.as_u16() {
            401 => admitted += 1,
            _ => drop(answer.is_denied(Reason::TooManyAttempts)),
        }
    }
    assert_eq!(admitted, 3, "half of six");
    let alone = desk
        .gateway
        .metrics()
        .sum("foregate_sign_in_throttled_alone_total", &[]);
    assert!(alone >= 6.0, "{alone}");
    redis.resume();
    eventually("the store is back", || {
        desk.gateway.metrics().sum("foregate_store_up", &[]) == 1.0
    })
    .await;
    here(EMAIL).await.is_denied(Reason::TooManyAttempts);
}

#[tokio::test]
async fn the_store_holds_no_readable_account_name() {
    let redis = RedisServer::start();
    let desk = Desk::with(
        Options::default(),
        "",
        "login: { address: 9/d }",
        |config| {
            config.store(&redis.url());
        },
    )
    .await;
    desk.is_ready().await;
    desk.tries(Http::One, "203.0.113.9", EMAIL, "guess")
        .await
        .is_denied(Reason::InvalidCredentials);
    let kept: String = redis
        .everything()
        .iter()
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .collect();
    assert!(kept.contains("bucket"), "{kept}");
    for part in ["ada", "example", "203.0", "127.0", "guess"] {
        assert!(!kept.contains(part), "{part} in {kept}");
    }
}

#[tokio::test]
async fn clients_that_a_proxy_does_not_name_are_limited_by_account_alone() {
    let desk = behind("login: { address: 2/d, account: 3/d }").await;
    for (number, http) in Http::BOTH.into_iter().enumerate() {
        for account in 0..6 {
            let email = format!("{number}-{account}@example.test");
            let answer = desk.tries(http, "unknown", &email, "guess").await;
            answer.is_denied(Reason::InvalidCredentials);
        }
        let email = format!("{number}@example.test");
        for _ in 0..3 {
            let answer = desk.tries(http, "unknown", &email, "guess").await;
            answer.is_denied(Reason::InvalidCredentials);
        }
        let answer = desk.tries(http, "unknown", &email, "guess").await;
        answer.is_denied(Reason::TooManyAttempts);
        // Whoever is named has limits of its own.
        let from = format!("203.0.113.{number}");
        let answer = desk.tries(http, &from, &email, "guess").await;
        answer.is_denied(Reason::InvalidCredentials);
    }
}
