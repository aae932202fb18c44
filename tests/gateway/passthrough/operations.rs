//! The table of the identity server's operations: every row passes as it says, everything else is
//! refused, and members of bodies are refused only where the two servers could read them apart.

use foregate::sign_in::operation::{BodyRule, CallerRule, Operation, REFUSED, Route};

use super::*;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// A path of this row, with its query.
fn target(route: &Route) -> String {
    let path = route
        .path
        .replace("{id}", "018f5b5e-0000-7000-8000-000000000001")
        .replace("{word}", "Ab_9-z");
    match route.grant {
        Some(grant) => format!("{path}?grant_type={grant}"),
        None => path,
    }
}

fn rows() -> Vec<(Operation, &'static Route)> {
    let of = |operation: Operation| {
        let routes = operation.row().routes.iter();
        routes.map(move |route| (operation, route))
    };
    Operation::ALL.into_iter().flat_map(of).collect()
}

#[tokio::test]
async fn every_row_reaches_the_identity_server_with_the_body_that_it_says() {
    let desk = open(Options::default()).await;
    for (number, (operation, route)) in rows().into_iter().enumerate() {
        let http = Http::BOTH[number % 2];
        let id = desk.double.add_user(&format!("{number}@x.test"), PASSWORD);
        let (token, _) = desk.double.sign_in(&id);
        let path = target(route);
        let row = operation.row();
        let call = desk
            .gateway
            .call(http, route.method.as_str(), &format!("/auth/v1/{path}"));
        let call = match row.caller {
            CallerRule::Anyone => call,
            CallerRule::Key => call.header("apikey", PUBLISHABLE),
            CallerRule::User | CallerRule::Gateway => {
                call.header("apikey", PUBLISHABLE).bearer(&token)
            }
        };
        let (kind, body) = match route.body {
            BodyRule::None => ("", ""),
            BodyRule::Json | BodyRule::JsonOrNone => {
                (JSON, r#"{"someName":1,"refresh_token":"x"}"#)
            }
            BodyRule::Form => (FORM, "code=a%20b&state=c"),
        };
        let call = match body {
            "" => call,
            body => call.header("content-type", kind).body(body),
        };
        let answer = call.send().await;
        let reason = answer.log_line()["reason"].to_string();
        assert!(
            reason == "null" || row.effect == foregate::sign_in::operation::Effect::Refreshes,
            "{path}: {reason} {}",
            answer.text()
        );
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let kind_of_call = crate::support::auth_server::kind(&route.method, path, query);
        let seen = desk.double.last(&kind_of_call);
        assert_eq!(seen.method, route.method, "{path}");
        assert!(
            seen.target.starts_with(&format!("/auth/v1/{path}")),
            "{path}"
        );
        assert_eq!(seen.header("apikey"), PUBLISHABLE);
        if operation != Operation::Refresh {
            assert_eq!(seen.body, body.as_bytes(), "{path}");
            assert_eq!(seen.header("content-type"), kind, "{path}");
        }
    }
    desk.gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_row_is_only_for_its_callers_and_its_kind_of_body() {
    let desk = open(Options::default()).await;
    for (number, (operation, route)) in rows().into_iter().enumerate() {
        let http = Http::BOTH[number % 2];
        let path = format!("/auth/v1/{}", target(route));
        let bare = || desk.gateway.call(http, route.method.as_str(), &path);
        match operation.row().caller {
            CallerRule::Anyone => {}
            CallerRule::Key => denied(&bare().send().await, Reason::ApikeyMissing),
            CallerRule::User | CallerRule::Gateway => {
                let stranger = bare().header("apikey", PUBLISHABLE);
                denied(&stranger.send().await, Reason::TokenMissing);
                continue;
            }
        }
        let other = match route.body {
            BodyRule::None => continue,
            BodyRule::Json | BodyRule::JsonOrNone => FORM,
            BodyRule::Form => JSON,
        };
        let call = bare().header("apikey", PUBLISHABLE);
        let call = call.header("content-type", other).body("{}");
        denied(&call.send().await, Reason::BodyType);
    }
    let calls = desk.gateway.metrics();
    assert_eq!(calls.sum("foregate_identity_calls_total", &[]), 0.0);
}

#[tokio::test]
async fn what_is_for_others_is_refused_by_name() {
    let desk = open(Options::default()).await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let (token, _) = desk.double.sign_in(&id);
    let below = ["", "/users", "/v2/Users", "/generate_link", "/a/b/c"];
    for http in Http::BOTH {
        for row in REFUSED {
            for end in below {
                for method in ["GET", "POST", "DELETE"] {
                    let path = format!("{}{end}", row.path);
                    let call = ask(&desk, http, method, &path).bearer(&token);
                    let answer = call.send().await;
                    denied(&answer, Reason::OperationUnknown);
                    assert_eq!(answer.log_line()["detail"], row.why, "{path}");
                }
            }
        }
        for path in ["", "users", "user/oauth", "oauth/token/x", "Admin/users"] {
            let answer = ask(&desk, http, "GET", path).bearer(&token).send().await;
            assert_eq!(answer.status, 404, "{path}");
        }
    }
    assert_eq!(
        desk.gateway
            .metrics()
            .sum("foregate_identity_calls_total", &[]),
        0.0
    );
}

#[tokio::test]
async fn only_a_member_that_the_identity_server_would_mistake_is_refused() {
    let desk = open(Options::default()).await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let (token, _) = desk.double.sign_in(&id);
    for http in Http::BOTH {
        for name in [
            "Email",
            "EMAIL",
            "pa\u{17f}sword",
            "PASSWORD",
            "Nonce",
            "Data",
            "phon\u{45}",
        ] {
            let body = json!({ name: "x", "data": {} });
            let call = ask(&desk, http, "PUT", "user").bearer(&token);
            let call = call.header("content-type", JSON).body(body.to_string());
            let answer = call.send().await;
            denied(&answer, Reason::MemberSpelling);
            let sentence = text(&answer, "message");
            assert!(sentence.contains("upper and lower case"), "{sentence}");
        }
        let body = json!({ "factorId": id, "friendlyName": "x", "émail": 1 });
        let call = ask(&desk, http, "PUT", "user").bearer(&token);
        let call = call.header("content-type", JSON).body(body.to_string());
        call.send().await.is_ok();
    }
    assert_eq!(desk.double.calls("change-user"), 2);
}
