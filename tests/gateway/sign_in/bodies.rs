//! Bodies of the sign-in routes: read in exactly one way, or refused; and never a way to act as
//! another user.

use foregate::denial::Reason;
use serde_json::json;

use super::*;

#[tokio::test]
async fn an_ambiguous_body_is_refused_and_nothing_is_called() {
    let desk = Desk::open().await;
    desk.double.add_user(EMAIL, PASSWORD);
    let good = login(EMAIL, PASSWORD).to_string();
    let long = format!(
        "{{\"email\":\"{EMAIL}\",\"password\":\"{}\"}}",
        "x".repeat(20_000)
    );
    let deep = format!(
        "{{\"email\":\"{EMAIL}\",\"password\":\"p\",\"x\":{}{}}}",
        "[".repeat(500),
        "]".repeat(500)
    );
    let twice = format!("{{\"email\":\"{EMAIL}\",\"password\":\"a\",\"password\":\"b\"}}");
    let mut not_text = good.clone().into_bytes();
    not_text[12] = 0xff;
    let form = format!("email={EMAIL}&password=p");
    let json_type = "application/json";
    let cases: Vec<(&str, Vec<u8>, Reason)> = vec![
        ("", good.clone().into_bytes(), Reason::BodyType),
        ("text/plain", good.clone().into_bytes(), Reason::BodyType),
        (
            "application/x-www-form-urlencoded",
            form.clone().into_bytes(),
            Reason::BodyType,
        ),
        (
            "application/json; charset=utf-16",
            good.clone().into_bytes(),
            Reason::BodyType,
        ),
        (json_type, form.into_bytes(), Reason::BodyMalformed),
        (json_type, Vec::new(), Reason::BodyMalformed),
        (json_type, not_text, Reason::BodyMalformed),
        (json_type, twice.into_bytes(), Reason::BodyMalformed),
        (json_type, deep.into_bytes(), Reason::BodyMalformed),
        (
            json_type,
            good[..good.len() - 1].into(),
            Reason::BodyMalformed,
        ),
        (
            json_type,
            format!("{good}{good}").into_bytes(),
            Reason::BodyMalformed,
        ),
        (
            json_type,
            format!("[\"{EMAIL}\",\"{PASSWORD}\"]").into_bytes(),
            Reason::InputInvalid,
        ),
        (json_type, b"null".to_vec(), Reason::InputInvalid),
        (json_type, b"\"text\"".to_vec(), Reason::InputInvalid),
        (
            json_type,
            b"{\"email\":1,\"password\":\"p\"}".to_vec(),
            Reason::InputInvalid,
        ),
        (json_type, long.into_bytes(), Reason::BodyTooLarge),
    ];
    for http in Http::BOTH {
        for (kind, body, reason) in &cases {
            let mut call = desk.gateway.post(http, "/api/v1/auth/login");
            if !kind.is_empty() {
                call = call.header("content-type", kind);
            }
            let shown = String::from_utf8_lossy(body).into_owned();
            let answer = call.body(body.clone()).send().await;
            assert_eq!(
                answer.json()["code"],
                reason.public_code(),
                "{kind} {shown:.80}"
            );
            answer.is_denied(*reason);
        }
    }
    assert_eq!(desk.double.calls("password"), 0);
    // Unknown members are ignored, for compatibility.
    let more = json!({ "email": EMAIL, "password": PASSWORD, "remember_me": true, "x": [1] });
    for kind in ["application/json", "application/json;charset=UTF-8"] {
        let call = desk.gateway.post(Http::One, "/api/v1/auth/login");
        let call = call.header("content-type", kind).body(more.to_string());
        call.send().await.is_ok();
    }
    let sent: Value = serde_json::from_slice(&desk.double.last("password").body).unwrap();
    assert_eq!(sent, login(EMAIL, PASSWORD));
}

#[tokio::test]
async fn an_invalid_field_is_named_in_the_refusal() {
    let desk = Desk::open().await;
    let cases = [
        ("login", json!({}), vec!["email", "password"]),
        ("login", login("", ""), vec!["email", "password"]),
        ("login", login("nobody", "p"), vec!["email"]),
        ("login", login(EMAIL, "a\0b"), vec!["password"]),
        ("register", login(EMAIL, "short"), vec!["password"]),
        ("register", login(EMAIL, &"x".repeat(73)), vec!["password"]),
        // 36 characters of two bytes fit, 37 do not.
        ("register", login(EMAIL, &"ä".repeat(37)), vec!["password"]),
        (
            "register",
            json!({ "email": EMAIL, "password": PASSWORD, "full_name": "x".repeat(201) }),
            vec!["full_name"],
        ),
        (
            "refresh",
            json!({ "refresh_token": "" }),
            vec!["refresh_token"],
        ),
        (
            "password-reset",
            json!({ "email": format!("{}@b.test", "a".repeat(250)) }),
            vec!["email"],
        ),
    ];
    for http in Http::BOTH {
        for (route, body, fields) in &cases {
            let answer = desk.post(http, route, body).send().await;
            answer.is_denied(Reason::InputInvalid);
            let document = answer.json();
            let errors = document["errors"].as_array().unwrap();
            let named: Vec<&str> = errors.iter().map(|error| text(error, "field")).collect();
            assert_eq!(&named, fields, "{route} {document}");
        }
    }
    for kind in ["password", "signup", "refresh_token", "recover"] {
        assert_eq!(desk.double.calls(kind), 0, "{kind}");
    }
    let fits = login("two@example.test", &"ä".repeat(36));
    desk.post(Http::One, "register", &fits).send().await.is_ok();
}

/// The earlier backend took a token out of a JSON body, in preference to the one in the header.
#[tokio::test]
async fn a_token_in_a_body_authenticates_no_one() {
    let desk = Desk::open().await;
    let ada = desk.double.add_user(EMAIL, PASSWORD);
    let eve = desk.double.add_user("eve@example.test", PASSWORD);
    let ((ada_token, _), (eve_token, _)) = (desk.double.sign_in(&ada), desk.double.sign_in(&eve));
    let stolen = json!({ "scheme": "Bearer", "credentials": ada_token });
    for http in Http::BOTH {
        for (method, route) in [("GET", "me"), ("GET", "whoami"), ("POST", "logout")] {
            let call = |token: Option<&str>| {
                let path = format!("/api/v1/auth/{route}");
                let call = desk.gateway.call(http, method, &path);
                let call = match token {
                    Some(token) => call.bearer(token),
                    None => call,
                };
                call.header("content-type", "application/json")
                    .body(stolen.to_string())
                    .send()
            };
            call(None).await.is_denied(Reason::TokenMissing);
            if route != "logout" {
                let answer = call(Some(&eve_token)).await;
                assert_eq!(answer.is_ok().json()["id"], eve.as_str());
            }
        }
    }
    // The session that ended is that of the token in the header.
    let call = desk.post(Http::One, "logout", &stolen).bearer(&eve_token);
    call.send().await.is_ok();
    desk.get(Http::One, "me", &ada_token).send().await.is_ok();
    desk.get(Http::One, "me", &eve_token)
        .send()
        .await
        .is_denied(Reason::SessionRevoked);
    desk.gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_body_that_stalls_is_refused() {
    let desk = Desk::with(Options::default(), "", UNLIMITED, |config| {
        config.set("connections", "{ body_idle: 300ms }");
    })
    .await;
    for http in Http::BOTH {
        let call = desk.gateway.post(http, "/api/v1/auth/login");
        let (call, body) = call.header("content-type", "application/json").streaming();
        body.chunk("{\"email\":").await;
        call.send().await.is_denied(Reason::BodyTimeout);
        drop(body);
    }
    assert_eq!(desk.double.calls("password"), 0);
}
