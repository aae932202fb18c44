//! The answers of each route without failures: field by field those of the earlier backend.

use foregate::denial::Reason;
use serde_json::json;

use super::*;
use crate::support::auth_server::Behave;
use crate::support::tokens::now;
use crate::support::{RedisServer, eventually};

const TOKENS: [&str; 5] = [
    "access_token",
    "expires_in",
    "refresh_token",
    "token_type",
    "user",
];

#[tokio::test]
async fn login_returns_tokens_that_the_gateway_accepts() {
    let desk = Desk::open().await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let call = desk.post(http, "login", &login(EMAIL, PASSWORD));
        let answer = call.header("user-agent", "Browser/1").send().await;
        is_own(answer.is_ok());
        let body = answer.json();
        assert_eq!(members(&body), TOKENS);
        assert_eq!(body["token_type"], "Bearer");
        assert_eq!(body["expires_in"], 3600);
        assert_eq!(body["user"]["id"], id.as_str());
        assert_eq!(body["user"]["email"], EMAIL);
        let token = text(&body, "access_token");
        desk.gateway
            .get(http, "/me")
            .bearer(token)
            .send()
            .await
            .is_ok();
        let call = desk.double.last("password");
        assert_eq!(call.header("user-agent"), "Browser/1");
        assert_eq!(call.header("x-forwarded-for"), "127.0.0.1");
    }
    let seen = desk.gateway.origin.take();
    assert!(seen.iter().all(|seen| seen.target == "/me"), "{seen:?}");
}

#[tokio::test]
async fn an_unknown_account_and_a_wrong_password_get_the_same_answer_after_one_call() {
    let desk = Desk::open().await;
    desk.double.add_user(EMAIL, PASSWORD);
    let banned = desk.double.add_user("banned@example.test", PASSWORD);
    desk.double.ban(&banned);
    for http in Http::BOTH {
        let mut shown = Vec::new();
        for (email, password, reason) in [
            (EMAIL, "wrong", Reason::InvalidCredentials),
            ("nobody@example.test", "wrong", Reason::InvalidCredentials),
            // The real server may answer this before it checks the password.
            ("banned@example.test", PASSWORD, Reason::AccountBanned),
        ] {
            let before = desk.double.calls("password");
            let answer = desk
                .post(http, "login", &login(email, password))
                .send()
                .await;
            answer.is_denied(reason);
            assert_eq!(answer.status, 401);
            assert_eq!(answer.json()["detail"], "Invalid email or password");
            assert_eq!(desk.double.calls("password"), before + 1);
            let mut headers = answer.headers.clone();
            headers.remove("x-request-id");
            headers.remove("date");
            shown.push((headers, answer.text().replace(answer.id(), "")));
        }
        assert_eq!(shown[0], shown[1]);
        assert_eq!(shown[0], shown[2]);
    }
    desk.gateway.origin.saw_nothing();
}

#[tokio::test]
async fn register_creates_an_account_and_signs_in() {
    let desk = Desk::open().await;
    for (http, email) in [
        (Http::One, "one@example.test"),
        (Http::Two, "two@example.test"),
    ] {
        let newcomer = json!({ "email": email, "password": PASSWORD, "full_name": "Ada", "role": "admin", "user_metadata": { "x": 1 } });
        let answer = desk.post(http, "register", &newcomer).send().await;
        is_own(answer.is_ok());
        let body = answer.json();
        assert_eq!(members(&body), TOKENS);
        assert_eq!(body["user"]["user_metadata"]["full_name"], "Ada");
        // Only the fields that the route knows are forwarded.
        let made: Value = serde_json::from_slice(&desk.double.last("signup").body).unwrap();
        assert_eq!(
            made,
            json!({ "email": email, "password": PASSWORD, "data": { "full_name": "Ada" } })
        );
        assert_eq!(desk.double.calls("create-user"), 0);
        let me = desk
            .get(http, "me", text(&body, "access_token"))
            .send()
            .await;
        is_own(me.is_ok());
        let me = me.json();
        assert_eq!(
            members(&me),
            ["created_at", "email", "id", "role", "updated_at"]
        );
        assert_eq!(me["role"], "authenticated");
        assert_eq!(me["email"], email);

        let again = desk.post(http, "register", &newcomer).send().await;
        again.is_denied(Reason::EmailExists);
        assert_eq!(again.json()["detail"], "Email already registered");
    }
    desk.gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_registration_to_confirm_sends_a_message_and_returns_no_tokens() {
    let desk = Desk::with(
        Options::default(),
        ", register: admin, confirm_email: required",
        UNLIMITED,
        |_| {},
    )
    .await;
    for (http, email) in [
        (Http::One, "one@example.test"),
        (Http::Two, "two@example.test"),
    ] {
        let answer = desk
            .post(http, "register", &login(email, PASSWORD))
            .send()
            .await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        is_own(&answer);
        assert_eq!(members(&answer.json()), ["email", "message"]);
        assert!(desk.double.code_for(email).is_some(), "a message was sent");
        let early = desk
            .post(http, "login", &login(email, PASSWORD))
            .send()
            .await;
        early.is_denied(Reason::EmailNotConfirmed);
    }
}

#[tokio::test]
async fn a_registration_to_confirm_has_the_same_answer_for_an_address_with_an_account() {
    let confirmed = ", register: admin, confirm_email: required";
    let desk = Desk::with(Options::default(), confirmed, UNLIMITED, |_| {}).await;
    desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let register = async |email: &str| {
            let answer = desk.post(http, "register", &login(email, PASSWORD));
            let answer = answer.send().await;
            assert_eq!(answer.status, 202, "{email}: {}", answer.text());
            assert_eq!(answer.json()["email"], email);
            answer.json()["message"].clone()
        };
        let new = register(&format!("{http:?}@example.test").to_lowercase()).await;
        assert_eq!(register(EMAIL).await, new);
        // It was sent a message a moment ago.
        desk.double
            .behave("resend", Behave::Refuse(429, "over_email_send_rate_limit"));
        assert_eq!(register(EMAIL).await, new);
        desk.double.behave("resend", Behave::Well);
    }
    desk.gateway.origin.saw_nothing();
}

#[tokio::test]
async fn refresh_returns_new_tokens_of_the_same_session() {
    let desk = Desk::open().await;
    desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let first = desk.signed_in(http, EMAIL).await;
        let token = json!({ "refresh_token": first["refresh_token"] });
        let answer = desk.post(http, "refresh", &token).send().await;
        is_own(answer.is_ok());
        let second = answer.json();
        assert_eq!(members(&second), TOKENS);
        assert_eq!(second["token_type"], "Bearer");
        assert_ne!(first["refresh_token"], second["refresh_token"]);
        assert_eq!(
            AuthServer::session_of(text(&first, "access_token")),
            AuthServer::session_of(text(&second, "access_token"))
        );
        let unknown = json!({ "refresh_token": "unknown" });
        let refused = desk.post(http, "refresh", &unknown).send().await;
        refused.is_denied(Reason::RefreshTokenInvalid);
        assert_eq!(refused.json()["detail"], "Invalid refresh token");
    }
}

#[tokio::test]
async fn a_refresh_token_does_not_revive_a_session_that_was_ended_here() {
    let desk = Desk::open().await;
    desk.double.add_user(EMAIL, PASSWORD);
    desk.double.behave("logout", Behave::Fail(500));
    for http in Http::BOTH {
        let session = desk.signed_in(http, EMAIL).await;
        let call = desk.post(http, "logout", &json!({}));
        let token = text(&session, "access_token");
        call.bearer(token).send().await.is_ok();
        let refresh = json!({ "refresh_token": session["refresh_token"] });
        let refused = desk.post(http, "refresh", &refresh).send().await;
        refused.is_denied(Reason::RefreshTokenInvalid);
        assert_eq!(refused.log_line()["detail"], "session_revoked");
    }
}

#[tokio::test]
async fn whoami_describes_the_caller() {
    let desk = Desk::open().await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let session = desk.signed_in(http, EMAIL).await;
        let answer = desk
            .get(http, "whoami", text(&session, "access_token"))
            .send()
            .await;
        is_own(answer.is_ok());
        let body = answer.json();
        assert_eq!(
            members(&body),
            ["created_at", "email", "id", "metadata", "role"]
        );
        assert_eq!(body["id"], id.as_str());
        assert_eq!(body["metadata"], json!({}));
        desk.gateway
            .get(http, "/api/v1/auth/whoami")
            .send()
            .await
            .is_denied(Reason::TokenMissing);
    }
}

#[tokio::test]
async fn logout_ends_only_this_session_here_and_at_the_identity_server() {
    let desk = Desk::open().await;
    desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let (one, other) = (
            desk.signed_in(http, EMAIL).await,
            desk.signed_in(http, EMAIL).await,
        );
        let token = text(&one, "access_token");
        let call = desk.post(http, "logout", &json!({})).bearer(token);
        let answer = call.send().await;
        is_own(answer.is_ok());
        assert_eq!(
            answer.json(),
            json!({ "message": "Logged out successfully" })
        );
        let refused = desk.gateway.get(http, "/me").bearer(token).send().await;
        refused.is_denied(Reason::SessionRevoked);
        let session = AuthServer::session_of(token);
        eventually("the session ends there", || {
            !desk.double.session_lives(&session)
        })
        .await;
        desk.gateway
            .get(http, "/me")
            .bearer(text(&other, "access_token"))
            .send()
            .await
            .is_ok();
    }
}

#[tokio::test]
async fn logout_ends_the_sessions_of_its_scope() {
    let desk = Desk::open().await;
    for (number, http) in Http::BOTH.into_iter().enumerate() {
        let email = format!("{number}@example.test");
        let id = desk.double.add_user(&email, PASSWORD);
        let (one, other) = (
            desk.signed_in(http, &email).await,
            desk.signed_in(http, &email).await,
        );
        let me = |session: &Value| {
            let token = text(session, "access_token").to_owned();
            desk.gateway.get(http, "/me").bearer(&token).send()
        };
        let leave = |scope: &str| {
            let token = text(&one, "access_token");
            let route = format!("logout?scope={scope}");
            desk.post(http, &route, &json!({})).bearer(token).send()
        };
        leave("everybody").await.is_denied(Reason::InputInvalid);
        leave("others").await.is_ok();
        me(&other).await.is_denied(Reason::SessionRevoked);
        me(&one).await.is_ok();
        eventually("one session is left", || desk.double.sessions_of(&id) == 1).await;

        leave("global").await.is_ok();
        me(&one).await.is_denied(Reason::SessionRevoked);
        eventually("none is left", || desk.double.sessions_of(&id) == 0).await;
        // A sign-in right afterwards is a new session.
        let again = desk.signed_in(http, &email).await;
        me(&again).await.is_ok();
    }
}

#[tokio::test]
async fn a_logout_everywhere_ends_sessions_that_began_elsewhere_in_the_same_seconds() {
    let redis = RedisServer::start();
    let desk = Desk::with(Options::default(), "", UNLIMITED, |config| {
        config.store(&redis.url());
    })
    .await;
    desk.is_ready().await;
    let (tokens, identity) = (
        desk.double.tokens(),
        super::identity(&desk.double, "", UNLIMITED),
    );
    let other = desk.gateway.replica(|config| {
        config.store(&redis.url());
        config.set("tokens", &tokens).set("identity", &identity);
    });
    let other = other.await;
    super::is_ready(&other).await;
    for (number, http) in Http::BOTH.into_iter().enumerate() {
        let email = format!("{number}@example.test");
        let id = desk.double.add_user(&email, PASSWORD);
        // Neither is in the user's list: both began at the identity server, a moment ago.
        let (own, _) = desk.double.sign_in(&id);
        let (elsewhere, _) = desk.double.sign_in(&id);
        let ask = async |gateway: &Gateway, token: &str| {
            gateway.get(http, "/me").bearer(token).send().await
        };
        for token in [&own, &elsewhere] {
            ask(&desk.gateway, token).await.is_ok();
            ask(&other, token).await.is_ok();
        }
        desk.gateway.origin.take();
        other.origin.take();
        let out = desk.post(http, "logout?scope=global", &json!({}));
        out.bearer(&own).send().await.is_ok();
        // A sign-in right afterwards is exempt, on every replica, though its time of sign-in is
        // within the same leeway.
        let again = desk.signed_in(http, &email).await;
        let again = text(&again, "access_token");
        for gateway in [&desk.gateway, &other] {
            eventually("the revocation is there", || {
                gateway
                    .metrics()
                    .sum("foregate_revocations", &[("kind", "subject")])
                    == (number + 1) as f64
            })
            .await;
            ask(gateway, &own).await.is_denied(Reason::SessionRevoked);
            // By its user, or by itself if it was listed by then.
            let refused = ask(gateway, &elsewhere).await;
            assert_eq!(refused.status, 401, "{}", refused.text());
            assert_eq!(refused.json()["code"], "session_not_found");
            gateway.origin.saw_nothing();
            ask(gateway, again).await.is_ok();
            gateway.origin.take();
        }
    }
    // Another logout everywhere ends that one, too.
    let email = "0@example.test";
    let again = desk.signed_in(Http::Two, email).await;
    let again = text(&again, "access_token").to_owned();
    desk.gateway
        .revoke(&json!({ "kind": "subject", "subject": AuthServer::claims(&again)["sub"] }));
    let refused = desk.gateway.get(Http::Two, "/me").bearer(&again).send();
    refused.await.is_denied(Reason::SubjectRevoked);
}

#[tokio::test]
async fn a_confirmed_logout_is_kept_for_one_token_lifetime_and_any_other_for_longer() {
    const DAY: i64 = 24 * 60 * 60;
    let desk = Desk::open().await;
    desk.double.add_user(EMAIL, PASSWORD);
    let expiries = || {
        let call = crate::support::admin::get(&desk.gateway, "/revocations/entries?all=true");
        let entries = call["entries"].as_array().unwrap().clone();
        let left = |entry: &Value| entry["expires"].as_i64().unwrap() - now();
        entries.iter().map(left).collect::<Vec<_>>()
    };
    let shortened = || {
        let metrics = desk.gateway.metrics();
        metrics.sum("foregate_revocations_shortened_total", &[])
    };
    // The identity server refuses the token: that says nothing about the session.
    desk.double.behave("logout", Behave::Refuse(403, "bad_jwt"));
    let session = desk.signed_in(Http::Two, EMAIL).await;
    let token = text(&session, "access_token").to_owned();
    desk.post(Http::Two, "logout", &json!({}))
        .bearer(&token)
        .send()
        .await
        .is_ok();
    let labels = [("kind", "logout"), ("outcome", "refused")];
    desk.gateway
        .metric_becomes("foregate_identity_later_total", &labels, 1.0)
        .await;
    assert_eq!(expiries().len(), 1);
    assert!(expiries()[0] > 30 * DAY, "{:?}", expiries());
    assert_eq!(shortened(), 0.0);
    // The caller's own session is gone there, and for that reason no other was ended.
    let gone = Behave::Refuse(403, "session_not_found");
    desk.double.behave("logout", gone);
    desk.double.add_user("gone@example.test", PASSWORD);
    let session = desk.signed_in(Http::Two, "gone@example.test").await;
    let token = text(&session, "access_token").to_owned();
    let out = desk.post(Http::Two, "logout?scope=global", &json!({}));
    out.bearer(&token).send().await.is_ok();
    eventually("its own is confirmed", || shortened() >= 1.0).await;
    let mut left = expiries();
    left.sort_unstable();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left[0] <= DAY + 600 && left[1] > 30 * DAY, "{left:?}");
    assert_eq!(shortened(), 1.0);
    // It does not answer, and then confirms.
    let first = Behave::First(1, Box::new(Behave::Reset));
    desk.double.behave("logout", first);
    let session = desk.signed_in(Http::Two, EMAIL).await;
    let token = text(&session, "access_token").to_owned();
    desk.post(Http::Two, "logout?scope=global", &json!({}))
        .bearer(&token)
        .send()
        .await
        .is_ok();
    eventually("it is confirmed", || shortened() >= 3.0).await;
    let mut left = expiries();
    left.sort_unstable();
    assert_eq!(left.len(), 5, "{left:?}");
    assert!(left[2] <= DAY + 600 && left[0] > DAY, "{left:?}");
    assert!(left[3] > 30 * DAY, "{left:?}");
    let refused = desk.gateway.get(Http::Two, "/me").bearer(&token).send();
    refused.await.is_denied(Reason::SessionRevoked);
}

#[tokio::test]
async fn a_reset_has_the_same_answer_for_every_address_and_sends_one_message() {
    let desk = Desk::open().await;
    desk.double.add_user(EMAIL, PASSWORD);
    for (round, http) in Http::BOTH.into_iter().enumerate() {
        let mut shown = Vec::new();
        for email in [EMAIL, "nobody@example.test"] {
            let before = desk.double.calls("recover");
            let call = desk.post(http, "password-reset", &json!({ "email": email }));
            let answer = call.send().await;
            is_own(answer.is_ok());
            assert_eq!(
                answer.json(),
                json!({ "message": "Password reset email sent if account exists", "email": email })
            );
            desk.double.has_seen("recover", before + 1).await;
            let mut headers = answer.headers.clone();
            for own in ["x-request-id", "date", "content-length"] {
                headers.remove(own);
            }
            shown.push(headers);
        }
        assert_eq!(shown[0], shown[1]);
        assert_eq!(desk.double.calls("recover"), 2 * (round + 1));
    }
    eventually("a message came", || desk.double.code_for(EMAIL).is_some()).await;
}

#[tokio::test]
async fn paths_of_the_earlier_backend_are_not_forwarded() {
    let desk = Desk::with(Options::default(), "", UNLIMITED, |config| {
        config.more_routes("  - { path: \"/api/v1/{*rest}\", access: public }");
    })
    .await;
    for http in Http::BOTH {
        for path in [
            "validate",
            "check-email",
            "health",
            "security-info",
            "",
            "login/x",
        ] {
            let answer = desk
                .gateway
                .get(http, &format!("/api/v1/auth/{path}"))
                .send()
                .await;
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        }
        desk.gateway
            .get(http, "/api/v1/auth/login")
            .send()
            .await
            .is_denied(Reason::MethodNotAllowed);
    }
    desk.gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_session_that_is_gone_at_the_identity_server_is_a_401() {
    let desk = Desk::open().await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let (token, _) = desk.double.sign_in(&id);
        desk.get(http, "me", &token).send().await.is_ok();
        desk.double
            .behave("read-user", Behave::Refuse(403, "session_not_found"));
        desk.get(http, "me", &token)
            .send()
            .await
            .is_denied(Reason::SessionRevoked);
        desk.double.behave("read-user", Behave::Well);
    }
}
