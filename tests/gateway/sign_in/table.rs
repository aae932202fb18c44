//! The table of the identity server's errors and the gateway's refusals, row by row, end to end.

use foregate::denial::Reason;
use foregate::sign_in::endpoints::outcome::TABLE;
use serde_json::json;

use super::*;
use crate::support::auth_server::Behave;

/// A status that the identity server sends with a code.
fn status(code: &str) -> u16 {
    match code {
        "email_exists"
        | "user_already_exists"
        | "weak_password"
        | "signup_disabled"
        | "email_provider_disabled"
        | "provider_disabled" => 422,
        "bad_jwt" | "not_admin" => 403,
        "no_authorization" => 401,
        "conflict" => 409,
        "over_request_rate_limit" | "over_email_send_rate_limit" => 429,
        "unexpected_failure" => 500,
        "hook_timeout" => 422,
        "request_timeout" => 504,
        _ => 400,
    }
}

#[tokio::test]
async fn every_row_of_the_table_is_answered_with_its_reason() {
    let desk = Desk::with(Options::default(), ", register: admin", UNLIMITED, |_| {}).await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let (token, _) = desk.double.sign_in(&id);
    for (number, (codes, [login_reason, register, refresh, user])) in TABLE.iter().enumerate() {
        // Alternates between both protocols.
        let http = Http::BOTH[number % 2];
        for code in *codes {
            let said = Behave::Refuse(status(code), code);
            for kind in ["password", "create-user", "refresh_token", "read-user"] {
                desk.double.behave(kind, said.clone());
            }
            let answer = desk
                .post(http, "login", &login(EMAIL, PASSWORD))
                .send()
                .await;
            answer.is_denied(*login_reason);
            // A reply that is not final leaves the token's fate open, and a conflict is retried for
            // as long as a call may take.
            if *code != "conflict" {
                let token = json!({ "refresh_token": format!("token for {code}") });
                let answer = desk.post(http, "refresh", &token).send().await;
                match (status(code), refresh) {
                    (400 | 403 | 422, Reason::RefreshTokenInvalid) => answer.is_denied(*refresh),
                    _ => answer.is_denied(Reason::IdentityUnavailable),
                };
            }
            desk.get(http, "me", &token).send().await.is_denied(*user);
            let answer = desk
                .post(http, "register", &login("new@example.test", PASSWORD))
                .send()
                .await;
            // A failure leaves open whether the account was created, and signing in finds out.
            let register = match status(code) {
                500.. if *login_reason == Reason::InvalidCredentials => Reason::IdentityUnavailable,
                500.. => Reason::RegistrationUnknown,
                _ => *register,
            };
            answer.is_denied(register);
        }
    }
    desk.gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_429_of_the_identity_server_gets_a_retry_after_and_is_a_503_for_a_refresh() {
    let desk = Desk::open().await;
    desk.double
        .behave_always(Behave::Refuse(429, "over_request_rate_limit"));
    for http in Http::BOTH {
        let answer = desk
            .post(http, "login", &login(EMAIL, PASSWORD))
            .send()
            .await;
        answer.is_denied(Reason::IdentityLimited);
        assert_eq!(
            (answer.status.as_u16(), answer.header("retry-after")),
            (429, "10")
        );
        let answer = desk
            .post(http, "refresh", &json!({ "refresh_token": "r" }))
            .send()
            .await;
        assert_eq!(answer.status, 503, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_grant_whose_token_is_not_accepted_here_begins_no_session() {
    let desk = Desk::with(Options::default(), "", UNLIMITED, |config| {
        // The issuer is known, but its signing key is not accepted.
        let tokens = config.get("tokens").replace("authenticated]", "somebody]");
        config.set("tokens", &tokens);
    })
    .await;
    desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let answer = desk
            .post(http, "login", &login(EMAIL, PASSWORD))
            .send()
            .await;
        answer.is_denied(Reason::IdentityRefused);
        let detail = answer.log_line()["detail"].clone();
        assert_eq!(detail, "the token is not accepted here: token_claims");
    }
}
