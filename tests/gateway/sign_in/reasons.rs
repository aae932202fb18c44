//! Produces every reason of the sign-in routes, for the test that walks the whole table.

use foregate::denial::Reason;
use serde_json::json;

use super::*;
use crate::support::RedisServer;
use crate::support::auth_server::Behave;

/// Produces a reason, and asserts that it is the expected one and that the origin saw nothing.
pub async fn produce(reason: Reason, http: Http) {
    let desk = match reason {
        Reason::TooManyAttempts => {
            Desk::with(Options::default(), "", "login: { account: 1/d }", |_| {}).await
        }
        Reason::RegisteredOnly => {
            Desk::with(Options::default(), ", register: admin", UNLIMITED, |_| {}).await
        }
        Reason::LogoutIncomplete => return without_store(http).await,
        _ => Desk::open().await,
    };
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let says = |kind: &str, status: u16, code: &'static str| {
        desk.double.behave(kind, Behave::Refuse(status, code));
    };
    let sign_in = || desk.post(http, "login", &login(EMAIL, PASSWORD));
    let register = || desk.post(http, "register", &login("new@example.test", PASSWORD));
    let login_is = |status: u16, code: &'static str| {
        says("password", status, code);
        sign_in()
    };
    let call = match reason {
        Reason::BodyType => desk.gateway.post(http, "/api/v1/auth/login").body("{}"),
        Reason::BodyMalformed => {
            let call = desk.gateway.post(http, "/api/v1/auth/login");
            call.header("content-type", "application/json").body("{")
        }
        Reason::SignInBusy => login_is(409, "conflict"),
        Reason::IdentityUnavailable => login_is(500, "unexpected_failure"),
        Reason::IdentityTimeout => login_is(504, "request_timeout"),
        Reason::IdentityRefused => login_is(403, "not_admin"),
        Reason::IdentityLimited => login_is(429, "over_request_rate_limit"),
        Reason::TooManyAttempts => {
            let guess = desk.post(http, "login", &login(EMAIL, "guess"));
            guess.send().await.is_denied(Reason::InvalidCredentials);
            sign_in()
        }
        Reason::InputInvalid => desk.post(http, "login", &json!({})),
        Reason::InvalidCredentials => desk.post(http, "login", &login(EMAIL, "guess")),
        Reason::AccountBanned => {
            desk.double.ban(&id);
            sign_in()
        }
        Reason::EmailNotConfirmed => login_is(400, "email_not_confirmed"),
        Reason::RefreshTokenInvalid => {
            desk.post(http, "refresh", &json!({ "refresh_token": "unknown" }))
        }
        Reason::EmailExists => desk.post(http, "register", &login(EMAIL, PASSWORD)),
        Reason::WeakPassword => {
            says("signup", 422, "weak_password");
            register()
        }
        Reason::RegistrationRefused => {
            says("signup", 403, "unknown");
            register()
        }
        Reason::CaptchaFailed => login_is(400, "captcha_failed"),
        Reason::SignInClosed => login_is(422, "email_provider_disabled"),
        Reason::RegisteredOnly => {
            says("password", 500, "unexpected_failure");
            register()
        }
        Reason::RegistrationUnknown => {
            says("signup", 500, "unexpected_failure");
            says("password", 500, "unexpected_failure");
            register()
        }
        Reason::SessionAbsent => {
            let (token, _) = desk.double.sign_in(&id);
            let path = format!("/api/v1/auth/sessions/{}", "0".repeat(64));
            let call = desk.gateway.call(http, "DELETE", &path).bearer(&token);
            call.send().await.is_denied(reason);
            return desk.gateway.origin.saw_nothing();
        }
        Reason::FactorAbsent | Reason::SecondFactorRequired => {
            let factor = desk.double.add_factor(&id);
            let (token, _) = desk.double.sign_in(&id);
            let factor = match reason {
                Reason::FactorAbsent => id,
                _ => factor,
            };
            let path = format!("/api/v1/auth/factors/{factor}");
            let call = desk.gateway.call(http, "DELETE", &path).bearer(&token);
            call.send().await.is_denied(reason);
            return desk.gateway.origin.saw_nothing();
        }
        Reason::SignedOutRecently => {
            // By the revocation of the issuer, which also covers sign-ins within the same seconds.
            let issuer = desk.double.issuer();
            desk.gateway
                .revoke(&json!({ "kind": "issuer", "issuer": issuer }));
            sign_in()
        }
        other => panic!("`{}` is not of the sign-in routes", other.code()),
    };
    call.send().await.is_denied(reason);
    desk.gateway.origin.saw_nothing();
}

async fn without_store(http: Http) {
    let redis = RedisServer::start();
    let desk = Desk::with(Options::default(), "", UNLIMITED, |config| {
        config.store(&redis.url());
    })
    .await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let (token, _) = desk.double.sign_in(&id);
    desk.is_ready().await;
    desk.gateway
        .get(http, "/optional")
        .bearer(&token)
        .send()
        .await
        .is_ok();
    desk.gateway.origin.take();
    redis.pause();
    let leave = desk.post(http, "logout", &json!({})).bearer(&token);
    leave.send().await.is_denied(Reason::LogoutIncomplete);
    redis.resume();
    desk.gateway.origin.saw_nothing();
}
