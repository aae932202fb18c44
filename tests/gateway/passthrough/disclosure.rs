//! What a stranger learns of an account: nothing that the gateway's own sign-in routes do not tell.

use super::*;
use crate::sign_in::login;

const BANNED: &str = "banned@example.test";
const UNCONFIRMED: &str = "unconfirmed@example.test";
const NOBODY: &str = "nobody@example.test";

/// All that a client sees of an answer, but for what differs by request.
fn seen(answer: &Answer) -> (u16, String, String) {
    let mut headers = answer.headers.clone();
    for own in ["x-request-id", "date"] {
        headers.remove(own);
    }
    let mut headers: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    headers.sort_unstable();
    (
        answer.status.as_u16(),
        headers.join("\n"),
        answer.text().to_owned(),
    )
}

#[tokio::test]
async fn a_banned_account_looks_like_a_wrong_password_and_like_none_in_both_apis() {
    let desk = open(Options::default()).await;
    desk.double.add_user(EMAIL, PASSWORD);
    let banned = desk.double.add_user(BANNED, PASSWORD);
    desk.double.ban(&banned);
    for http in Http::BOTH {
        for version in ["2024-01-01", ""] {
            let (mut grants, mut logins) = (Vec::new(), Vec::new());
            for (email, password) in [
                (EMAIL, "wrong"),
                (BANNED, "wrong"),
                (BANNED, PASSWORD),
                (NOBODY, PASSWORD),
            ] {
                let body = login(email, password);
                let grant = desk
                    .gateway
                    .post(http, "/auth/v1/token?grant_type=password")
                    .header("apikey", PUBLISHABLE)
                    .header("x-supabase-api-version", version)
                    .header("content-type", "application/json")
                    .body(body.to_string());
                grants.push(seen(&grant.send().await));
                logins.push(seen(&desk.post(http, "login", &body).send().await));
            }
            assert_eq!(grants[0].0, 400);
            assert!(grants[0].2.contains("Invalid login credentials"));
            assert_eq!(logins[0].0, 401);
            for seen in &grants {
                assert_eq!(*seen, grants[0]);
            }
            for (_, headers, text) in &logins {
                assert_eq!((headers, logins[0].0), (&logins[0].1, 401));
                assert!(text.contains("Invalid email or password"), "{text}");
            }
        }
    }
}

/// Codes that tell something of an account, each with the status it has at some version of the
/// identity server.
#[tokio::test]
async fn whatever_login_calls_a_wrong_password_is_one_at_the_pass_through() {
    let desk = open(Options::default()).await;
    desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let grant = || post(&desk, http, "token?grant_type=password", &password("x")).send();
        let wrong = seen(&grant().await);
        for (status, code) in [
            (400, "user_banned"),
            (403, "user_banned"),
            (404, "user_not_found"),
            (400, "invalid_grant"),
            (400, "invented_later"),
        ] {
            desk.double.behave("password", Behave::Refuse(status, code));
            assert_eq!(seen(&grant().await), wrong, "{code}");
            let login = desk.post(http, "login", &login(EMAIL, "x")).send().await;
            assert_eq!(login.json()["code"], "invalid_credentials", "{code}");
        }
        // What concerns the request, and not the account, is told.
        for (status, code) in [
            (400, "validation_failed"),
            (400, "captcha_failed"),
            (422, "email_provider_disabled"),
            (400, "email_not_confirmed"),
        ] {
            desk.double.behave("password", Behave::Refuse(status, code));
            says(&grant().await, status, code);
        }
        desk.double.behave("password", Behave::Well);
    }
}

#[tokio::test]
async fn a_code_that_was_never_sent_does_not_tell_of_a_ban() {
    let desk = open(Options::default()).await;
    for http in Http::BOTH {
        let body = json!({ "type": "email", "email": BANNED, "token": "000000" });
        let verify = || post(&desk, http, "verify", &body).send();
        let wrong = seen(&verify().await);
        assert_eq!(wrong.0, 403);
        for (status, code) in [(403, "user_banned"), (404, "user_not_found")] {
            desk.double.behave("verify", Behave::Refuse(status, code));
            assert_eq!(seen(&verify().await), wrong, "{code}");
        }
        desk.double
            .behave("verify", Behave::Refuse(400, "validation_failed"));
        says(&verify().await, 400, "validation_failed");
        desk.double.behave("verify", Behave::Well);
    }
}

#[tokio::test]
async fn a_limit_that_only_existing_accounts_reach_is_not_told() {
    let desk = open(Options::default()).await;
    for http in Http::BOTH {
        for kind in ["recover", "resend"] {
            let body = json!({ "type": "signup", "email": UNCONFIRMED });
            let send = || post(&desk, http, kind, &body).send();
            let unknown = seen(&send().await);
            assert_eq!(unknown.0, 200);
            desk.double
                .behave(kind, Behave::Refuse(429, "over_email_send_rate_limit"));
            assert_eq!(seen(&send().await), unknown, "{kind}");
            // A limit of the address is no matter of accounts.
            desk.double
                .behave(kind, Behave::Refuse(429, "over_request_rate_limit"));
            says(&send().await, 429, "over_request_rate_limit");
            desk.double
                .behave(kind, Behave::Refuse(400, "captcha_failed"));
            says(&send().await, 400, "captcha_failed");
            desk.double.behave(kind, Behave::Well);
        }
    }
}
