//! Limits of calls to the identity server: every operation has a rate by address, and none uses up
//! the calls of the others.

use std::collections::BTreeSet;

use super::*;
use crate::support::auth_server::Hold;
use crate::support::{Config, in_time};

/// Every operation of the pass-through: its name in metrics, and a request that counts. A logout is
/// missing, since it is never refused.
const OPERATIONS: [(&str, &str, &str, &str); 38] = [
    (
        "password",
        "POST",
        "token?grant_type=password",
        r#"{"email":"ada@example.test","password":"wrong"}"#,
    ),
    (
        "refresh",
        "POST",
        "token?grant_type=refresh_token",
        r#"{"refresh_token":"made up"}"#,
    ),
    ("pkce", "POST", "token?grant_type=pkce", "{}"),
    ("id_token", "POST", "token?grant_type=id_token", "{}"),
    ("web3", "POST", "token?grant_type=web3", "{}"),
    (
        "signup",
        "POST",
        "signup",
        r#"{"email":"x@example.test","password":"long enough"}"#,
    ),
    ("otp", "POST", "otp", r#"{"email":"ada@example.test"}"#),
    (
        "magiclink",
        "POST",
        "magiclink",
        r#"{"email":"ada@example.test"}"#,
    ),
    (
        "recover",
        "POST",
        "recover",
        r#"{"email":"ada@example.test"}"#,
    ),
    (
        "resend",
        "POST",
        "resend",
        r#"{"email":"ada@example.test"}"#,
    ),
    ("verify", "POST", "verify", r#"{"token":"1"}"#),
    ("verify", "GET", "verify?token=1&type=signup", ""),
    ("reauthenticate", "GET", "reauthenticate", ""),
    ("read_user", "GET", "user", ""),
    ("change_user", "PUT", "user", r#"{"data":{}}"#),
    (
        "identities",
        "GET",
        "user/identities/authorize?provider=github",
        "",
    ),
    ("factors", "POST", "factors", "{}"),
    (
        "challenge_factor",
        "POST",
        "factors/018f5b5e-0000-7000-8000-000000000001/challenge",
        "{}",
    ),
    (
        "verify_factor",
        "POST",
        "factors/018f5b5e-0000-7000-8000-000000000001/verify",
        r#"{"code":"1"}"#,
    ),
    ("authorize", "GET", "authorize?provider=github", ""),
    ("callback", "GET", "callback?code=x&state=y", ""),
    ("callback", "POST", "callback", "code=x&state=y"),
    ("oauth_grants", "GET", "user/oauth/grants", ""),
    (
        "unenroll",
        "DELETE",
        "factors/018f5b5e-0000-7000-8000-000000000001",
        "",
    ),
    (
        "passkey_challenge",
        "POST",
        "passkeys/authentication/options",
        "{}",
    ),
    ("passkey", "POST", "passkeys/authentication/verify", "{}"),
    ("passkeys", "GET", "passkeys", ""),
    ("sso", "POST", "sso", "{}"),
    ("saml_acs", "POST", "sso/saml/acs", "SAMLResponse=x"),
    ("oauth_authorize", "GET", "oauth/authorize?client_id=x", ""),
    ("oauth_consent", "GET", "oauth/authorizations/x", ""),
    ("oauth_register", "POST", "oauth/clients/register", "{}"),
    (
        "oauth_token",
        "POST",
        "oauth/token",
        "grant_type=authorization_code",
    ),
    ("oauth_user", "GET", "oauth/userinfo", ""),
    ("metadata", "GET", "sso/saml/metadata", ""),
    ("settings", "GET", "settings", ""),
    ("health", "GET", "health", ""),
    ("jwks", "GET", ".well-known/jwks.json", ""),
];

/// Two attempts of each kind from an address.
const TWO: &str = "login: { address: 2/d, account: 1000/s }, register: { address: 2/d }, refresh: { address: 2/d }, reset: { address: 2/d }, verify: { address: 2/d, account: 1000/s }, challenge: { address: 2/d, account: 1000/s }, redirect: { address: 2/d }, account: { address: 2/d }, read: { address: 2/d }, everywhere: 1000000/s, refusal_floor: 0s";

/// A gateway that takes the client's address from a field.
async fn behind(supabase: &str, throttle: &str) -> Desk {
    let change = |config: &mut Config| {
        config.routes(ROUTES);
        config.set("trusted_proxies", "{ from: [127.0.0.1], hops: 1 }");
    };
    let desk = Desk::with(Options::default(), supabase, throttle, change).await;
    desk.is_ready().await;
    desk
}

/// Calls to the identity server so far, of this operation.
fn calls(desk: &Desk, operation: &str) -> f64 {
    let metrics = desk.gateway.metrics();
    metrics.sum("foregate_identity_calls_total", &[("call", operation)])
}

#[tokio::test]
async fn every_operation_has_a_rate_by_address() {
    let desk = behind("", TWO).await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let (token, _) = desk.double.sign_in(&id);
    for (number, (operation, method, path, body)) in OPERATIONS.into_iter().enumerate() {
        let http = Http::BOTH[number % 2];
        let from = format!("203.0.113.{number}");
        let send = async || {
            let call = ask(&desk, http, method, path)
                .header("x-forwarded-for", &from)
                .bearer(&token);
            let kind = match body.starts_with('{') {
                true => "application/json",
                false => "application/x-www-form-urlencoded",
            };
            let call = match body.is_empty() {
                true => call,
                false => call.header("content-type", kind).body(body),
            };
            call.send().await
        };
        let before = calls(&desk, operation);
        let refused = match operation {
            "refresh" => Reason::SignInBusy,
            _ => Reason::TooManyAttempts,
        };
        for _ in 0..2 {
            let answer = send().await;
            assert!(
                answer.log_line()["reason"] != refused.code(),
                "{operation}: {}",
                answer.text()
            );
        }
        // A failed refresh is counted after its answer.
        let answer = async {
            loop {
                let answer = send().await;
                if answer.log_line()["reason"] == refused.code() {
                    return answer;
                }
                assert_eq!(operation, "refresh", "{}", answer.text());
            }
        };
        let answer = in_time("a refusal", answer).await;
        denied(&answer, refused);
        assert!(!answer.header("retry-after").is_empty());
        if operation != "refresh" {
            assert_eq!(calls(&desk, operation) - before, 2.0, "{operation}");
        }
        // Another address is not affected.
        let call = ask(&desk, http, method, path)
            .header("x-forwarded-for", format!("198.51.100.{number}"));
        let call = call
            .header("content-type", "application/json")
            .bearer(&token);
        let elsewhere = call.body(body).send().await;
        assert!(elsewhere.status != 429, "{operation}");
    }
    // No operation is missing.
    let metrics = desk.gateway.metrics();
    let known: BTreeSet<&str> = metrics
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("foregate_identity_calls_total{call=\""))
        .filter_map(|line| Some(line.split_once('"')?.0))
        .collect();
    let tested: BTreeSet<&str> = OPERATIONS.iter().map(|row| row.0).collect();
    let others: Vec<_> = known.difference(&tested).collect();
    assert_eq!(others, [&"admin_users", &"logout"]);
}

#[tokio::test]
async fn signing_out_is_never_refused_and_ending_other_sessions_is() {
    let desk = behind("", TWO).await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let mut calls = 0;
    for http in Http::BOTH {
        for own in [true, false] {
            let sessions: Vec<_> = (0..4).map(|_| desk.double.sign_in(&id)).collect();
            let from = format!("203.0.113.{calls}");
            calls += 1;
            let send = async |token: &str, method: &str, path: &str| {
                let call = desk.gateway.call(http, method, path);
                let call = call.header("x-forwarded-for", &from);
                let call = call.header("apikey", PUBLISHABLE);
                call.bearer(token).send().await
            };
            let (user, logout) = match own {
                true => ("/api/v1/auth/me", "/api/v1/auth/logout"),
                false => ("/auth/v1/user", "/auth/v1/logout"),
            };
            for (token, _) in &sessions[..2] {
                send(token, "GET", user).await.is_ok();
            }
            let token = &sessions[0].0;
            denied(&send(token, "GET", user).await, Reason::TooManyAttempts);
            let others = format!("{logout}?scope=others");
            denied(&send(token, "POST", &others).await, Reason::TooManyAttempts);
            for (token, _) in &sessions {
                let local = format!("{logout}?scope=local");
                let answer = send(token, "POST", &local).await;
                assert!(answer.status.is_success(), "{}", answer.text());
                let answer = desk.gateway.get(http, "/me").bearer(token).send().await;
                answer.is_denied(Reason::SessionRevoked);
            }
        }
    }
    // The identity server is told of each.
    desk.double.has_seen("logout", 4 * 4).await;
}

#[tokio::test]
async fn a_flood_of_one_operation_leaves_calls_for_the_others() {
    let desk = behind(", concurrency: 8, queue: 4", UNLIMITED).await;
    desk.double.add_user(EMAIL, PASSWORD);
    let hold = Hold::new();
    desk.double.behave("callback", Behave::Wait(hold.clone()));
    let connector = |http| {
        desk.gateway
            .connector(http, crate::support::client::Door::Tls)
    };
    let flood: Vec<_> = (0..60)
        .map(|number| {
            let connector = connector(Http::BOTH[number % 2]);
            tokio::spawn(async move {
                let call = connector.call("GET", "/auth/v1/callback?code=x&state=y");
                let from = format!("203.0.113.{number}");
                call.header("x-forwarded-for", from).send().await
            })
        })
        .collect();
    desk.double.has_seen("callback", 2).await;
    for (number, http) in [Http::One, Http::Two, Http::One].into_iter().enumerate() {
        let email = format!("{number}@example.test");
        let new = json!({ "email": email, "password": PASSWORD });
        post(&desk, http, "signup", &new).send().await.is_ok();
        let code = json!({ "email": email });
        post(&desk, http, "otp", &code).send().await.is_ok();
        signed_in(&desk, http, EMAIL).await;
    }
    assert_eq!(desk.double.calls("callback"), 2, "a third of half");
    hold.let_go();
    let mut busy = 0;
    for call in flood {
        let answer = call.await.unwrap();
        busy += usize::from(answer.status == 503);
    }
    assert!(busy >= 50, "{busy}");
}

#[tokio::test]
async fn an_office_behind_one_address_meets_no_default_and_one_account_does() {
    let desk = behind("", "").await;
    let from = |path: &str, body: Value| {
        let call = post(&desk, Http::Two, path, &body);
        call.header("x-forwarded-for", "203.0.113.1").send()
    };
    for number in 0..40 {
        let email = format!("{number}@example.test");
        let link = from("otp", json!({ "email": email })).await;
        link.is_ok();
        // Anonymous users have no account; the double refuses them by itself.
        let anonymous = from("signup", json!({})).await;
        says(&anonymous, 422, "anonymous_provider_disabled");
    }
    // Whoever tries one weak password after the other is refused by the identity server alone.
    let weak = async {
        let mut asked = 0;
        while asked < 10 {
            let weak = json!({ "email": "weak@example.test", "password": "weak" });
            let answer = from("signup", weak).await;
            // The attempt before is given back in the background.
            if answer.status != 429 {
                says(&answer, 422, "weak_password");
                asked += 1;
            }
        }
    };
    in_time("ten refusals", weak).await;
    let mut refused = 0;
    for _ in 0..15 {
        let link = from("otp", json!({ "email": "one@example.test" })).await;
        refused += usize::from(link.status == 429);
    }
    // Three at once, and three a minute.
    assert!(refused >= 8, "{refused}");
}

#[tokio::test]
async fn redirects_from_one_address_are_limited_by_default() {
    let desk = behind("", "").await;
    let mut client = desk.gateway.connect(Http::Two).await;
    let mut refused = 0;
    for _ in 0..220 {
        let call = client.get("/auth/v1/callback?code=x&state=y");
        let call = call.header("x-forwarded-for", "203.0.113.1");
        refused += usize::from(call.send().await.status == 429);
    }
    // A hundred and twenty at once, and two a second.
    assert!((1..=100).contains(&refused), "{refused}");
    assert_eq!(desk.double.calls("callback"), 220 - refused);
}

#[tokio::test]
async fn spellings_that_the_identity_server_takes_for_one_account_are_one_here() {
    let limits = "login: { address: 1000/s, account: 3/d }, refusal_floor: 0s, everywhere: 1000/s";
    let desk = behind("", limits).await;
    for (number, http) in Http::BOTH.into_iter().enumerate() {
        let from = format!("203.0.113.{number}");
        let mut refused = 0;
        for start in [
            "vik",
            "v\u{130}k",
            "V\u{130}\u{212a}",
            "\u{a0}vi\u{212a}",
            "VIK",
        ] {
            let body = json!({ "email": format!("{start}@example.test"), "password": "guess" });
            let call = post(&desk, http, "token?grant_type=password", &body);
            let answer = call.header("x-forwarded-for", &from).send().await;
            refused += usize::from(answer.status == 429);
        }
        assert_eq!(refused, 2);
        assert_eq!(desk.double.calls("password"), 3 * (number + 1));
    }
}

#[tokio::test]
async fn a_holder_of_a_slash_48_has_eight_addresses_and_not_sixty_thousand() {
    let desk = behind("", "redirect: { address: 2/d }").await;
    let send = async |from: String| {
        let call = ask(&desk, Http::Two, "GET", "callback?code=x&state=y");
        call.header("x-forwarded-for", from).send().await
    };
    let mut refused = Vec::new();
    for network in 0..40 {
        let from = format!("2001:db8:1:{network:x}::1");
        refused.extend(Some(send(from).await).filter(|answer| answer.status == 429));
    }
    assert_eq!(refused.len(), 40 - 2 * 8);
    for answer in &refused {
        denied(answer, Reason::TooManyAttempts);
    }
    assert_eq!(desk.double.calls("callback"), 2 * 8);
    assert_eq!(send("2001:db8:2::1".to_owned()).await.status, 303);
    // An IPv4-mapped address is the IPv4 address.
    for (from, status) in [
        ("203.0.113.1", 303),
        ("::ffff:203.0.113.1", 303),
        ("[::ffff:203.0.113.1]:443", 429),
        ("203.0.113.1", 429),
    ] {
        assert_eq!(send(from.to_owned()).await.status, status, "{from}");
    }
}
