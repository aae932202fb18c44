//! Revocation: refusing what has not expired.

mod calls;
mod command;
mod full;
mod polling;
mod replicas;
mod undo;
mod webhook;

pub use full::refused_by_bucket;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foregate::denial::Reason;
use serde_json::{Value, json};

use crate::support::tokens::{ISSUER, now};
use crate::support::{Gateway, Http, eventually, in_time};

/// Two tokens of one user in two sessions, and one of another user.
struct People {
    first: String,
    second: String,
    other: String,
    subject: String,
    first_session: String,
}

impl People {
    /// Both users signed in an hour ago.
    fn new(gateway: &Gateway) -> Self {
        let (subject, first_session) = (uuid(), uuid());
        let earlier = |session: &str| {
            let claims = gateway.issuer.claims().with("sub", subject.as_str());
            gateway.issuer.sign(&claims.session(session).with(
                "amr",
                json!([{ "method": "password", "timestamp": now() - 3600 }]),
            ))
        };
        Self {
            first: earlier(&first_session),
            second: earlier(&uuid()),
            other: gateway.issuer.token(),
            subject,
            first_session,
        }
    }
}

fn uuid() -> String {
    uuid::Uuid::now_v7().to_string()
}

async fn is_good(gateway: &Gateway, token: &str) {
    for http in Http::BOTH {
        gateway.get(http, "/me").bearer(token).send().await.is_ok();
        gateway.origin.only();
    }
}

async fn is_refused(gateway: &Gateway, token: &str, reason: Reason) {
    for http in Http::BOTH {
        for path in ["/me", "/optional"] {
            let answer = gateway.get(http, path).bearer(token).send().await;
            answer.is_denied(reason);
        }
        // No credential is read on a public route.
        gateway
            .get(http, "/public/x")
            .bearer(token)
            .send()
            .await
            .is_ok();
        assert_eq!(gateway.origin.take().len(), 1, "only the public path");
    }
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_its_session_continues() {
    let gateway = Gateway::start().await;
    let people = People::new(&gateway);
    is_good(&gateway, &people.first).await;
    gateway.revoke(&json!({ "kind": "token", "token": people.first }));
    is_refused(&gateway, &people.first, Reason::TokenRevoked).await;
    let refreshed = gateway.issuer.claims().with("sub", people.subject.as_str());
    let refreshed = refreshed.session(&people.first_session);
    for good in [
        &people.second,
        &people.other,
        &gateway.issuer.sign(&refreshed),
    ] {
        is_good(&gateway, good).await;
    }
    // By its digest alone, before the token was ever seen.
    let (signed, _) = people.second.rsplit_once('.').unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, signed.as_bytes());
    let digest: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    gateway.revoke(&json!({ "kind": "token", "token_sha256": digest }));
    is_refused(&gateway, &people.second, Reason::TokenRevoked).await;
}

/// The same token with the other signature that ES256 has for it: (r, n - s) instead of (r, s).
fn with_other_signature(token: &str) -> String {
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63,
        0x25, 0x51,
    ];
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for (n, s) in N.iter().zip(&mut signature[32..]).rev() {
        let difference = i16::from(*n) - i16::from(*s) - borrow;
        borrow = i16::from(difference < 0);
        *s = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn a_revoked_token_does_not_come_back_with_another_signature() {
    let gateway = Gateway::start().await;
    let people = People::new(&gateway);
    let twin = with_other_signature(&people.first);
    assert_ne!(twin, people.first);
    is_good(&gateway, &twin).await;
    gateway.revoke(&json!({ "kind": "token", "token": people.first }));
    for token in [&people.first, &twin] {
        is_refused(&gateway, token, Reason::TokenRevoked).await;
    }
}

#[tokio::test]
async fn a_revoked_session_is_refused_with_all_its_tokens_and_no_other_is() {
    let gateway = Gateway::start().await;
    let people = People::new(&gateway);
    is_good(&gateway, &people.first).await;
    gateway.revoke(&json!({ "kind": "session", "session": people.first_session }));
    is_refused(&gateway, &people.first, Reason::SessionRevoked).await;
    let refreshed = gateway.issuer.claims().session(&people.first_session);
    let refreshed = gateway.issuer.sign(&refreshed);
    is_refused(&gateway, &refreshed, Reason::SessionRevoked).await;
    for good in [&people.second, &people.other] {
        is_good(&gateway, good).await;
    }
}

#[tokio::test]
async fn a_revoked_subject_keeps_only_the_excepted_sessions() {
    let gateway = Gateway::start().await;
    let people = People::new(&gateway);
    is_good(&gateway, &people.second).await;
    let except = [&people.first_session];
    gateway.revoke(
        &json!({ "kind": "subject", "subject": people.subject, "issuer": ISSUER, "except_sessions": except }),
    );
    is_refused(&gateway, &people.second, Reason::SubjectRevoked).await;
    // Refreshing does not make a sign-in younger.
    let refreshed = gateway.issuer.claims().with("sub", people.subject.as_str());
    let signed_in = |at: i64| {
        let amr = json!([{ "method": "password", "timestamp": at }, { "method": "totp", "timestamp": at + 3 }]);
        gateway.issuer.sign(&refreshed.clone().with("amr", amr))
    };
    is_refused(&gateway, &signed_in(now() - 3600), Reason::SubjectRevoked).await;
    for good in [&people.first, &people.other] {
        is_good(&gateway, good).await;
    }
    // The leeway of the comparison passes in time.
    signs_in_again(&gateway, || signed_in(now() + 1)).await;
}

/// Waits until a new sign-in counts as later than the revocation.
async fn signs_in_again(gateway: &Gateway, sign_in: impl Fn() -> String) {
    let mut client = gateway.connect(Http::Two).await;
    let accepted = async {
        while client.get("/me").bearer(&sign_in()).send().await.status != 200 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    in_time("a later sign-in is accepted", accepted).await;
    gateway.origin.only();
}

#[tokio::test]
async fn a_revoked_session_is_reported_in_the_form_that_supabase_clients_know() {
    let gateway = Gateway::start().await;
    let people = People::new(&gateway);
    gateway.revoke(&json!({ "kind": "session", "session": people.first_session }));
    for http in Http::BOTH {
        let answer = gateway.get(http, "/me").bearer(&people.first).send().await;
        answer.is_denied(Reason::SessionRevoked);
        assert_eq!(answer.json()["code"], "session_not_found");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    }
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_revocation_expires() {
    let gateway = Gateway::start().await;
    let people = People::new(&gateway);
    let mut client = gateway.connect(Http::Two).await;
    let what = json!({ "kind": "session", "session": people.first_session, "expires_in": 3 });
    gateway.revoke(&what);
    let mut answer = client.get("/me").bearer(&people.first).send().await;
    answer.is_denied(Reason::SessionRevoked);
    while answer.status == 401 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer = client.get("/me").bearer(&people.first).send().await;
    }
    answer.is_ok();
    eventually("it is taken out of the list", || {
        gateway.metrics().sum("foregate_revocations", &[]) == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_full_list_becomes_coarser_and_forgets_nothing() {
    let gateway = Gateway::with(|config| {
        config.set("revocations", "{ capacity: 100 }");
    })
    .await;
    let subject = uuid();
    let sign = |session: &str, n: i64| {
        let claims = gateway.issuer.claims().with("sub", subject.as_str());
        let amr = json!([{ "method": "password", "timestamp": now() - 3600 }]);
        gateway
            .issuer
            .sign(&claims.session(session).with("amr", amr).with("n", n))
    };
    let session = uuid();
    let tokens: Vec<String> = (0..101).map(|n| sign(&session, n)).collect();
    for token in &tokens {
        gateway.revoke(&json!({ "kind": "token", "token": token }));
    }
    // The hundred and first was one too many: the tokens are merged into their session now.
    assert_eq!(
        gateway
            .metrics()
            .sum("foregate_revocations", &[("kind", "session")]),
        1.0
    );
    assert_eq!(gateway.metrics().sum("foregate_revocations", &[]), 1.0);
    is_refused(&gateway, &tokens[0], Reason::SessionRevoked).await;
    let sessions: Vec<String> = (0..100).map(|_| uuid()).collect();
    for session in &sessions {
        gateway.revoke(&json!({ "kind": "session", "session": session, "subject": subject }));
    }
    assert_eq!(
        gateway
            .metrics()
            .sum("foregate_revocations", &[("kind", "subject")]),
        1.0
    );
    assert_eq!(gateway.metrics().sum("foregate_revocations", &[]), 1.0);
    for token in [&tokens[0], &tokens[100], &sign(&sessions[7], 7)] {
        is_refused(&gateway, token, Reason::SubjectRevoked).await;
    }
    is_good(&gateway, &gateway.issuer.token()).await;
    assert_eq!(
        gateway
            .metrics()
            .sum("foregate_revocations_coarsened_total", &[]),
        200.0
    );
    let alarm = gateway.log().wait_for(|line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("the revocation list is full"))
    });
    assert!(alarm.is_some());
}

#[tokio::test]
async fn a_full_list_that_cannot_become_coarser_refuses_new_revocations() {
    let gateway = Gateway::with(|config| {
        config.set("revocations", "{ capacity: 100 }");
    })
    .await;
    let admin = gateway.admin().to_owned();
    // Their session is unknown.
    let sessions: Vec<String> = (0..200).map(|_| uuid()).collect();
    for session in &sessions {
        gateway.revoke(&json!({ "kind": "session", "session": session }));
    }
    assert_eq!(
        gateway.metrics().sum("foregate_revocations_overfull", &[]),
        1.0
    );
    let more = json!({ "kind": "session", "session": uuid() });
    let (status, answer) = crate::support::admin::Post::revoke(&admin, &more).send();
    assert_eq!(status, 507, "{answer}");
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("nothing was revoked")
    );
    // The same again adds nothing.
    gateway.revoke(&json!({ "kind": "session", "session": sessions[0] }));
    for session in [&sessions[0], &sessions[199]] {
        let token = gateway
            .issuer
            .sign(&gateway.issuer.claims().session(session));
        is_refused(&gateway, &token, Reason::SessionRevoked).await;
    }
}

#[tokio::test]
async fn the_list_survives_a_reload_and_reports_its_position() {
    let mut gateway = Gateway::start().await;
    let people = People::new(&gateway);
    gateway.revoke(&json!({ "kind": "session", "session": people.first_session }));
    gateway
        .reload(|config| {
            config.set("drain", "29s");
        })
        .await;
    is_refused(&gateway, &people.first, Reason::SessionRevoked).await;
    let (status, text) = crate::support::metrics::get(gateway.admin(), "/revocations");
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 200);
    assert_eq!(told["complete"], true);
    assert_eq!(
        told["entries"],
        json!({ "token": 0, "session": 1, "subject": 0, "issuer": 0 })
    );
    assert_eq!(told["queued"], 0);
    assert_eq!(told["position"]["seq"], 1);
    assert!(!text.contains(&people.first_session));
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("foregate_revocations_complete", &[]), 1.0);
    assert_eq!(
        metrics.sum("foregate_revocation_lag_seconds_count", &[]),
        1.0
    );
    let started = metrics.sum("foregate_revocation_reloads_total", &[("cause", "start")]);
    assert_eq!(started, 1.0);
}
