//! Calls of operators to revoke: authentication, validation and logging.

use foregate::denial::Reason;
use serde_json::{Value, json};

use super::{People, is_good, is_refused};
use crate::support::Gateway;
use crate::support::admin::{OPERATOR, Post};
use crate::support::log::says;
use crate::support::tokens::ISSUER;

#[tokio::test]
async fn only_an_operator_may_revoke_and_not_from_a_web_page() {
    let gateway = Gateway::start().await;
    let people = People::new(&gateway);
    let what = json!({ "kind": "session", "session": people.first_session });
    let good = Post::revoke(gateway.admin(), &what);
    let bearer = format!("Bearer {OPERATOR}");
    let cases = [
        (good.clone().without("Authorization"), 401),
        (
            good.clone().without("Authorization").header(
                "Authorization",
                "Bearer bob-0123456789abcdef0123456789abcdef",
            ),
            401,
        ),
        (
            good.clone()
                .without("Authorization")
                .header("Authorization", OPERATOR),
            401,
        ),
        (
            good.clone()
                .without("Authorization")
                .header("Authorization", &format!("Bearer {}", &OPERATOR[1..])),
            401,
        ),
        (good.clone().header("Authorization", &bearer), 401),
        (good.clone().header("Origin", "http://127.0.0.1"), 403),
        (good.clone().header("Origin", "null"), 403),
        (
            good.clone().without("Host").header("Host", "evil.example"),
            421,
        ),
        (good.clone().header("Host", "127.0.0.1"), 421),
        (good.clone().without("Content-Type"), 415),
        (
            good.clone()
                .without("Content-Type")
                .header("Content-Type", "text/plain"),
            415,
        ),
        (
            good.clone()
                .without("Content-Type")
                .header("Content-Type", "application/x-www-form-urlencoded"),
            415,
        ),
        (good.clone().body(vec![b' '; 65 * 1024]), 413),
    ];
    for (call, expected) in cases {
        let (status, answer) = call.send();
        assert_eq!(status, expected, "{answer}\n{call:?}");
    }
    is_good(&gateway, &people.first).await;
    assert_eq!(gateway.metrics().sum("foregate_revocations", &[]), 0.0);
    assert!(
        !gateway.log().text().contains("alice-"),
        "no token is logged"
    );
}

#[tokio::test]
async fn without_operators_revoking_is_refused() {
    let gateway = Gateway::with(|config| {
        config.set("admin", "{ address: \"127.0.0.1:0\" }");
    })
    .await;
    let what = json!({ "kind": "issuer", "issuer": ISSUER });
    let (status, answer) = Post::revoke(gateway.admin(), &what).send();
    assert_eq!(status, 403, "{answer}");
    is_good(&gateway, &gateway.issuer.token()).await;
}

#[tokio::test]
async fn an_invalid_call_is_refused_with_an_explanation_and_changes_nothing() {
    let gateway = Gateway::with(|config| {
        let tokens = config.get("tokens").to_owned();
        let second =
            "\n  - { issuer: second, audience: a, algorithms: ES256, jwks_file: jwks.json }";
        config.set("tokens", &(tokens + second));
    })
    .await;
    let long = "x".repeat(257);
    for (call, word) in [
        (json!({}), "kind"),
        (json!({ "kind": "tenant" }), "tenant"),
        (json!([]), "kind"),
        (json!({ "kind": "session" }), "session"),
        (
            json!({ "kind": "session", "session": "s" }),
            "several issuers",
        ),
        (
            json!({ "kind": "session", "session": "", "issuer": "second" }),
            "`session`",
        ),
        (
            json!({ "kind": "session", "session": long, "issuer": "second" }),
            "`session`",
        ),
        (
            json!({ "kind": "session", "session": "a\nb", "issuer": "second" }),
            "`session`",
        ),
        (
            json!({ "kind": "session", "session": "s", "issuer": "third" }),
            "`third`",
        ),
        (
            json!({ "kind": "session", "session": "s", "issuer": "second", "sub": "x" }),
            "sub",
        ),
        (
            json!({ "kind": "subject", "subject": 7, "issuer": "second" }),
            "string",
        ),
        (json!({ "kind": "issuer" }), "issuer"),
        (json!({ "kind": "issuer", "issuer": "" }), "not an issuer"),
        (json!({ "kind": "token" }), "either"),
        (
            json!({ "kind": "token", "token": "a", "token_sha256": "b" }),
            "either",
        ),
        (json!({ "kind": "token", "token_sha256": "b" }), "64"),
        (json!({ "kind": "token", "token": "" }), "JWS"),
        (json!({ "kind": "token", "token": "sb_secret_x" }), "JWS"),
        (json!({ "kind": "token", "token": "e30.e30" }), "JWS"),
        (
            json!({ "kind": "subject", "subject": " \t", "issuer": "second" }),
            "`subject`",
        ),
        (
            json!({ "kind": "issuer", "issuer": "second", "expires_in": 0 }),
            "expires_in",
        ),
        (
            json!({ "kind": "issuer", "issuer": "second", "expires_in": 99_999_999 }),
            "expires_in",
        ),
        (
            json!({ "kind": "issuer", "issuer": "second", "reason": "a\nb" }),
            "reason",
        ),
    ] {
        let (status, answer) = Post::revoke(gateway.admin(), &call).send();
        assert_eq!(status, 400, "{call}\n{answer}");
        let why = answer["error"].as_str().unwrap();
        assert!(why.contains(word), "{call}\n{why}");
    }
    for body in ["", "{", "{\"kind\":\"issuer\"}{}", "\u{0}"] {
        let call = Post::revoke(gateway.admin(), &Value::Null).body(body);
        assert_eq!(call.send().0, 400, "{body}");
    }
    assert_eq!(gateway.metrics().sum("foregate_revocations", &[]), 0.0);
}

#[tokio::test]
async fn every_change_is_logged_with_its_operator_and_reason() {
    let gateway = Gateway::start().await;
    let people = People::new(&gateway);
    let answer = gateway.revoke(
        &json!({ "kind": "session", "session": people.first_session, "reason": "laptop stolen" }),
    );
    let line = gateway
        .log()
        .wait_for(|line| says(line, "revoked"))
        .unwrap();
    assert_eq!(line["operator"], "alice");
    assert_eq!(line["reason"], "laptop stolen");
    assert_eq!(line["id"], answer["id"]);
    assert!(
        line["revocation"]
            .as_str()
            .unwrap()
            .contains(&people.first_session)
    );
    is_refused(&gateway, &people.first, Reason::SessionRevoked).await;
    // A whole token in the log would be as valuable as the token.
    gateway.revoke(&json!({ "kind": "token", "token": people.second }));
    is_refused(&gateway, &people.second, Reason::TokenRevoked).await;
    assert!(!gateway.log().text().contains(&people.second));
}

#[tokio::test]
async fn revoking_a_forged_token_revokes_only_its_text() {
    let gateway = Gateway::with(|config| {
        config.set("revocations", "{ capacity: 100 }");
    })
    .await;
    let people = People::new(&gateway);
    // Someone reports tokens that claim to be the victim's.
    let stranger = crate::support::Issuer::new();
    for n in 0..120 {
        let claims = stranger
            .claims()
            .with("sub", people.subject.as_str())
            .with("n", n);
        let forged = stranger.sign(&claims.session(&people.first_session));
        gateway.revoke(&json!({ "kind": "token", "token": forged }));
    }
    for good in [&people.first, &people.second] {
        is_good(&gateway, good).await;
    }
}

#[tokio::test]
async fn operators_change_with_a_reload() {
    let mut gateway = Gateway::start().await;
    let people = People::new(&gateway);
    let what = json!({ "kind": "session", "session": people.first_session });
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        b"bob-0123456789abcdef0123456789abcdef",
    );
    let digest: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    gateway
        .reload(|config| {
            let bob = format!("{{ address: \"127.0.0.1:0\", hosts: [admin.test], operators: [{{ name: bob, token_sha256: {digest} }}] }}");
            config.set("admin", &bob);
        })
        .await;
    assert_eq!(Post::revoke(gateway.admin(), &what).send().0, 401);
    let bob = Post::revoke(gateway.admin(), &what)
        .without("Authorization")
        .header(
            "Authorization",
            "bearer bob-0123456789abcdef0123456789abcdef",
        )
        .without("Host")
        .header("Host", "admin.test:9901");
    assert_eq!(bob.send().0, 200);
    is_refused(&gateway, &people.first, Reason::SessionRevoked).await;
}

#[tokio::test]
async fn an_id_is_refused_however_it_is_spelled() {
    let gateway = Gateway::start().await;
    let people = People::new(&gateway);
    let spelled = format!(" {} ", people.first_session.to_uppercase());
    gateway.revoke(&json!({ "kind": "session", "session": spelled }));
    is_refused(&gateway, &people.first, Reason::SessionRevoked).await;
    is_good(&gateway, &people.second).await;
    // The other way around: the token has the capital letters.
    let subject = super::uuid();
    let claims = gateway.issuer.claims().with("sub", subject.to_uppercase());
    let token = gateway.issuer.sign(&claims);
    is_good(&gateway, &token).await;
    gateway.revoke(&json!({ "kind": "subject", "subject": subject }));
    is_refused(&gateway, &token, Reason::SubjectRevoked).await;
}

#[tokio::test]
async fn a_token_with_an_id_that_cannot_be_revoked_is_not_accepted() {
    let gateway = Gateway::with(|config| {
        config.subjects("text");
    })
    .await;
    for claim in ["sub", "session_id"] {
        let of_length = |length| {
            let claims = gateway.issuer.claims().with(claim, "x".repeat(length));
            gateway.issuer.sign(&claims)
        };
        is_good(&gateway, &of_length(256)).await;
        is_refused(&gateway, &of_length(257), Reason::TokenClaims).await;
    }
}
