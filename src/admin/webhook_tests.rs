//! Which messages are trusted, and their effects.

use hyper::header::{HeaderName, HeaderValue};

use super::*;

const NOW: i64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const BODY: &[u8] = br#"{"type":"user.banned","data":{"id":"u"}}"#;

fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

fn webhook() -> Webhook {
    Webhook {
        issuer: "https://i".to_owned(),
        secrets: vec![key(b"another secret, which is the new one"), key(SECRET)],
    }
}

fn signature(id: &str, timestamp: &str, body: &[u8], secret: &[u8]) -> String {
    let content = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let tag = hmac::sign(&key(secret), &content);
    format!("v1,{}", STANDARD.encode(tag.as_ref()))
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| {
        let value = HeaderValue::from_str(value).expect("visible ASCII");
        (HeaderName::from_static(name), value)
    };
    fields.iter().map(field).collect()
}

fn verify(id: &str, timestamp: &str, signature: &str, body: &[u8]) -> Result<i64, StatusCode> {
    let headers = headers(&[
        ("webhook-id", id),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", signature),
    ]);
    let head = SignedHead::read(&headers, NOW).map_err(|error| error.status)?;
    head.verify(&webhook(), body)
        .map_err(|error| error.status)?;
    Ok(head.sent)
}

#[test]
fn the_test_vector_of_the_specification_is_signed_alike() {
    // From the test vectors of the Standard Webhooks libraries.
    let secret = STANDARD
        .decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        .expect("base64");
    let body = br#"{"test": 2432232314}"#;
    assert_eq!(
        signature("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body, &secret),
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    );
}

#[test]
fn a_recent_message_signed_by_any_secret_is_trusted() {
    let now = NOW.to_string();
    let good = signature("m", &now, BODY, SECRET);
    let strange = signature("m", &now, BODY, b"a secret of somebody else, nobody's");
    assert_eq!(verify("m", &now, &good, BODY), Ok(NOW));
    assert_eq!(
        verify("m", &now, &format!("{strange} v1a,x {good}"), BODY),
        Ok(NOW)
    );
    for shift in [-300, 60] {
        let then = (NOW + shift).to_string();
        let good = signature("m", &then, BODY, SECRET);
        assert_eq!(verify("m", &then, &good, BODY), Ok(NOW + shift));
    }
}

#[test]
fn other_messages_are_refused() {
    let now = NOW.to_string();
    let good = signature("m", &now, BODY, SECRET);
    let unsigned = good.trim_start_matches("v1,");
    let refused = Err(StatusCode::UNAUTHORIZED);
    for (id, timestamp, signature, body) in [
        ("n", now.as_str(), good.as_str(), BODY),
        ("m", "1800000001", &good, BODY),
        (
            "m",
            &now,
            &good,
            br#"{"type":"user.banned","data":{"id":"v"}}"#,
        ),
        ("m", &now, unsigned, BODY),
        ("m", &now, &good.replace("v1,", "v2,"), BODY),
        ("m", &now, "", BODY),
        ("m", &now, "v1,", BODY),
        ("m", &now, &signature("m", &now, BODY, b"x"), BODY),
        ("", &now, &signature("", &now, BODY, SECRET), BODY),
        ("m", "", &signature("m", "", BODY, SECRET), BODY),
        (
            "m",
            "+1800000000",
            &signature("m", "+1800000000", BODY, SECRET),
            BODY,
        ),
        (
            "m",
            "99999999999999999999",
            &signature("m", "99999999999999999999", BODY, SECRET),
            BODY,
        ),
    ] {
        assert_eq!(
            verify(id, timestamp, signature, body),
            refused,
            "{id} {timestamp}"
        );
    }
    for shift in [-301, 61] {
        let then = (NOW + shift).to_string();
        let good = signature("m", &then, BODY, SECRET);
        assert_eq!(verify("m", &then, &good, BODY), refused);
    }
    // Two parsers could each pick another one.
    let twice = headers(&[
        ("webhook-id", "m"),
        ("webhook-timestamp", &now),
        ("webhook-timestamp", &now),
        ("webhook-signature", &good),
    ]);
    assert!(SignedHead::read(&twice, NOW).is_err());
}

#[test]
fn a_part_of_a_body_cannot_pass_for_the_timestamp() {
    let (old, now) = ((NOW - 9000).to_string(), NOW.to_string());
    let inner = r#"{"type":"user.deleted","data":{"id":"victim"}}"#;
    let body = format!("x.{now}.{inner}");
    let good = signature("m", &old, body.as_bytes(), SECRET);
    let shifted = format!("m.{old}.x");
    let content = format!("{shifted}.{now}.{inner}");
    assert_eq!(
        content,
        format!("m.{old}.{body}"),
        "the same bytes are signed"
    );
    assert!(verify(&shifted, &now, &good, inner.as_bytes()).is_err());
}

fn of(message: Value) -> Result<WebhookEffect, StatusCode> {
    effect(&message, NOW).map_err(|error| error.status)
}

fn ends(subject: &str, except: &[&str], deleted: bool) -> Result<WebhookEffect, StatusCode> {
    Ok(WebhookEffect::Ended {
        subject: subject.to_owned(),
        except: except.iter().map(|&id| id.to_owned()).collect(),
        deleted,
    })
}

fn is_ignored(message: Value) -> bool {
    matches!(of(message), Ok(WebhookEffect::Ignored(_)))
}

#[test]
fn events_about_a_user_end_their_sign_ins() {
    for (message, expected) in [
        (
            json!({ "type": "user.banned", "data": { "id": "u" } }),
            ends("u", &[], false),
        ),
        (
            json!({ "type": "user.deleted", "data": { "user_id": "u" } }),
            ends("u", &[], true),
        ),
        (
            json!({ "type": "user.updated", "data": { "user": { "id": "u" } } }),
            ends("u", &[], false),
        ),
        (
            json!({ "type": "user.updated", "data": { "id": "u", "session_id": "s" } }),
            ends("u", &["s"], false),
        ),
        // A ban exempts no session.
        (
            json!({ "type": "user.banned", "data": { "id": "u", "session_id": "s" } }),
            ends("u", &[], false),
        ),
        (
            json!({ "type": "user.updated", "data": { "id": "u", "except_sessions": ["b", "a", "b"] } }),
            ends("u", &["a", "b"], false),
        ),
    ] {
        assert_eq!(of(message.clone()), expected, "{message}");
    }
    assert!(is_ignored(
        json!({ "type": "user.created", "data": { "id": "u" } })
    ));
    for bad in [
        json!({}),
        json!({ "type": 1 }),
        json!({ "type": "user.banned" }),
        json!({ "type": "user.banned", "data": {} }),
        json!({ "type": "user.banned", "data": { "id": 7 } }),
        json!({ "type": "user.banned", "data": { "id": "" } }),
        json!({ "type": "user.updated", "data": { "id": "u", "except_sessions": [1] } }),
        json!({ "type": "user.updated", "data": { "id": "u", "except_sessions": "s" } }),
    ] {
        assert_eq!(of(bad.clone()), Err(StatusCode::BAD_REQUEST), "{bad}");
    }
}

fn update(old: Value, new: Value) -> Value {
    json!({ "type": "UPDATE", "schema": "auth", "table": "users", "record": new, "old_record": old })
}

#[test]
fn a_changed_row_ends_sign_ins_only_if_a_relevant_column_changed() {
    let before = json!({ "id": "u", "email": "a@example.com", "banned_until": null, "last_sign_in_at": "2026-01-01T00:00:00Z" });
    let with = |column: &str, value: Value| {
        let mut after = before.clone();
        if let Some(row) = after.as_object_mut() {
            row.insert(column.to_owned(), value);
        }
        update(before.clone(), after)
    };
    for (column, value) in [
        ("email", json!("b@example.com")),
        ("encrypted_password", json!("$2a$10$")),
        ("raw_app_meta_data", json!({ "roles": ["admin"] })),
        ("role", json!("authenticated")),
        ("deleted_at", json!("2026-11-01T00:00:00Z")),
        ("banned_until", json!("2100-01-01T00:00:00+00:00")),
        ("banned_until", json!("infinity")),
    ] {
        assert_eq!(of(with(column, value)), ends("u", &[], false), "{column}");
    }
    for (column, value) in [
        // Every sign-in changes this column, and must not end itself.
        ("last_sign_in_at", json!("2026-11-01T00:00:00Z")),
        ("updated_at", json!("2026-11-01T00:00:00Z")),
        ("raw_user_meta_data", json!({ "theme": "dark" })),
        ("banned_until", json!("2026-01-01T00:00:00Z")),
    ] {
        assert!(is_ignored(with(column, value)), "{column}");
    }
    let banned = json!({ "id": "u", "banned_until": "2100-01-01T00:00:00Z" });
    let free = json!({ "id": "u", "banned_until": null });
    assert!(is_ignored(update(banned.clone(), free.clone())));
    // Without the old row.
    assert_eq!(of(update(Value::Null, banned)), ends("u", &[], false));
    assert!(is_ignored(update(Value::Null, free)));
    let deleted = json!({ "type": "DELETE", "schema": "auth", "table": "users", "old_record": before, "record": null });
    assert_eq!(of(deleted), ends("u", &[], true));
    for (schema, table) in [("public", "users"), ("auth", "sessions")] {
        let other =
            json!({ "type": "DELETE", "schema": schema, "table": table, "old_record": before });
        assert!(is_ignored(other));
    }
    assert!(is_ignored(
        json!({ "type": "INSERT", "schema": "auth", "table": "users", "record": before })
    ));
}
