//! Input of users and tokens appear nowhere in logs, metrics or errors.

use serde_json::json;

use super::*;
use crate::support::auth_server::{Behave, SECRET};

#[tokio::test]
async fn no_log_metric_or_error_contains_a_password_token_or_address() {
    let desk = Desk::open().await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let mut seen = String::new();
    let mut secrets = vec![EMAIL.to_owned(), PASSWORD.to_owned(), SECRET.to_owned()];
    secrets.push("another password".to_owned());
    let http = Http::Two;
    let session = desk.signed_in(http, EMAIL).await;
    for token in ["access_token", "refresh_token"] {
        secrets.push(text(&session, token).to_owned());
    }
    let token = text(&session, "access_token");
    for how in [
        Behave::Well,
        Behave::Fail(500),
        Behave::Refuse(400, "invalid_credentials"),
        Behave::Refuse(422, "something_new"),
        Behave::Reset,
    ] {
        desk.double.behave_always(how);
        let calls = [
            desk.post(http, "login", &login(EMAIL, "another password")),
            desk.post(http, "register", &login(EMAIL, "another password")),
            desk.post(
                http,
                "refresh",
                &json!({ "refresh_token": session["refresh_token"] }),
            ),
            desk.post(http, "login", &json!({ "email": EMAIL, "password": 5 })),
            desk.post(
                http,
                "login",
                &json!({ "email": [EMAIL], "password": PASSWORD }),
            ),
            desk.get(http, "whoami", token),
        ];
        for call in calls {
            let answer = call.send().await;
            if !answer.status.is_success() {
                seen.push_str(answer.text());
            }
            answer.log_line();
        }
    }
    let call = desk.post(http, "password-reset", &json!({ "email": EMAIL }));
    call.send().await.is_ok();
    let call = desk.post(http, "logout", &json!({})).bearer(token);
    call.send().await.is_ok().log_line();
    seen.push_str(&desk.gateway.log().text());
    seen.push_str(desk.gateway.metrics().text());
    for secret in &secrets {
        assert!(!seen.contains(secret), "{secret}");
    }
    // The subject may appear: operators look for it.
    assert!(seen.contains(&id));
}
