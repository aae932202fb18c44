//! What the identity server replies: a grant of tokens, or an error, which is written in the form
//! of either version of GoTrue's API.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::RETRY_AFTER;
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::call::Reply;
use crate::denial::format::{ERROR_CODE, GotrueVersion};
use crate::secrets::secret::Secret;

/// Tokens for a user, as issued by the identity server.
pub struct Grant {
    /// The body, byte for byte. It contains both tokens.
    pub raw: Bytes,
    /// The JWT that requests carry.
    pub access_token: Secret,
    /// The refresh token, valid for one refresh.
    pub refresh_token: Secret,
    /// The lifetime of the access token, in seconds.
    pub expires_in: i64,
    /// When the access token expires, in Unix seconds, if the server says so.
    pub expires_at: Option<i64>,
    /// The user, as JSON.
    pub user: Box<RawValue>,
}

#[derive(Deserialize)]
struct TokenResponse<'a> {
    access_token: String,
    refresh_token: String,
    expires_in: i64,
    expires_at: Option<i64>,
    #[serde(borrow)]
    user: &'a RawValue,
}

impl Grant {
    /// Reads the body of a 200; `None` if it contains no tokens, such as that of a sign-up that
    /// must be confirmed first.
    pub fn read(body: &Bytes) -> Option<Self> {
        let response: TokenResponse<'_> = serde_json::from_slice(body).ok()?;
        if response.access_token.is_empty() || response.refresh_token.is_empty() {
            return None;
        }
        Some(Self {
            access_token: Secret::new(response.access_token),
            refresh_token: Secret::new(response.refresh_token),
            expires_in: response.expires_in,
            expires_at: response.expires_at,
            user: response.user.to_owned(),
            raw: body.clone(),
        })
    }
}

/// Omits tokens and user data.
impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant")
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// An error of the identity server, or one in its form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthError {
    /// A 4xx or 5xx.
    pub status: StatusCode,
    /// The error code, such as `invalid_credentials`; empty if the server gave none.
    pub code: String,
    /// A sentence for developers, in English.
    pub message: String,
    /// Why a password is too weak, for the code `weak_password`.
    pub weak_password: Option<Value>,
    /// How long to wait, if the server says so, in a field or in its sentence.
    pub retry_after: Option<Duration>,
    /// Whether it is in a form of the identity server itself; see [`is_own`](Self::is_own).
    pub is_own: bool,
}

/// The longest wait that is passed on. A choice.
const LONGEST_WAIT: u64 = 24 * 60 * 60;

impl AuthError {
    /// Creates an error in the server's form.
    pub fn new(status: StatusCode, code: &str, message: &str) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.to_owned(),
            weak_password: None,
            retry_after: None,
            is_own: true,
        }
    }

    /// Reads an error in any form that GoTrue, its OAuth part, or the edge in front of it uses. An
    /// unreadable one has only its status.
    pub fn read(reply: &Reply) -> Self {
        let members: Map<String, Value> = serde_json::from_slice(&reply.body).unwrap_or_default();
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let field = reply.headers.get(ERROR_CODE);
        let code = text("error_code")
            .or_else(|| text("code"))
            .or_else(|| field.and_then(|value| value.to_str().ok()))
            .or_else(|| text("error"));
        let message = text("message")
            .or_else(|| text("msg"))
            .or_else(|| text("error_description"));
        let wait = reply.headers.get(RETRY_AFTER);
        let wait = wait.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        let wait = wait.or_else(|| message.and_then(seconds_in));
        Self {
            status: reply.status,
            code: code.unwrap_or_default().to_owned(),
            message: message
                .or(reply.status.canonical_reason())
                .unwrap_or_default()
                .to_owned(),
            weak_password: members.get("weak_password").cloned(),
            retry_after: wait.map(|seconds| Duration::from_secs(seconds.min(LONGEST_WAIT))),
            is_own: Self::is_own(reply),
        }
    }

    /// Whether an error is the identity server's own. Otherwise it is of the edge or another proxy
    /// in front of it, and says nothing of what the server did.
    pub fn is_own(reply: &Reply) -> bool {
        if reply.headers.contains_key(ERROR_CODE) {
            return true;
        }
        let members: Map<String, Value> = serde_json::from_slice(&reply.body).unwrap_or_default();
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let is_code = |name: &str| text(name).is_some_and(is_code);
        // The others are the form of older versions, which had no codes, and of its OAuth part.
        is_code("error_code")
            || is_code("code")
            || (members.get("code").is_some_and(Value::is_u64) && text("msg").is_some())
            || (is_code("error") && text("error_description").is_some())
    }

    /// Reads an error that was written for a client.
    pub fn of_answer(answer: &Response<Bytes>) -> Self {
        Self::read(&Reply {
            status: answer.status(),
            headers: answer.headers().clone(),
            body: answer.body().clone(),
        })
    }

    /// The body for a client of this API version.
    pub fn body(&self, version: GotrueVersion) -> Bytes {
        let mut body = match version {
            GotrueVersion::Initial => json!({
                "code": self.status.as_u16(),
                "error_code": self.code,
                "msg": self.message,
            }),
            GotrueVersion::V20240101 => json!({ "code": self.code, "message": self.message }),
        };
        if let (Some(reasons), Some(members)) = (&self.weak_password, body.as_object_mut()) {
            members.insert("weak_password".to_owned(), reasons.clone());
        }
        body.to_string().into()
    }
}

/// Whether a text has the form of the server's error codes: a lower-case word.
pub(super) fn is_code(text: &str) -> bool {
    let is_code_byte =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(is_code_byte)
}

/// The seconds in a sentence such as `you can only request this after 59 seconds`. The server has
/// no field for it.
fn seconds_in(sentence: &str) -> Option<u64> {
    let mut words = sentence.split_whitespace();
    let mut before = words.next()?;
    for word in words {
        if word.trim_end_matches(['.', ',']).trim_end_matches('s') == "second"
            && let Ok(seconds) = before.parse()
        {
            return Some(seconds);
        }
        before = word;
    }
    None
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    fn reply(status: u16, body: &'static str) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap_or_default(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn only_a_token_body_is_read_as_a_grant() {
        let body = r#"{"access_token":"a.b.c","token_type":"bearer","expires_in":3600,"expires_at":7,"refresh_token":"r","user":{"id":"1", "z":0}}"#;
        let grant = Grant::read(&Bytes::from_static(body.as_bytes()));
        let grant = grant.unwrap_or_else(|| unreachable!("a grant"));
        assert_eq!(grant.access_token.expose(), b"a.b.c");
        assert_eq!(grant.refresh_token.expose(), b"r");
        assert_eq!((grant.expires_in, grant.expires_at), (3600, Some(7)));
        assert_eq!(grant.user.get(), r#"{"id":"1", "z":0}"#);
        assert_eq!(grant.raw, body.as_bytes());
        let shown = format!("{grant:?}");
        assert!(!shown.contains("a.b.c"));
        for body in [
            "{}",
            r#"{"id":"1","email":"a@b.test"}"#,
            r#"{"access_token":"","refresh_token":"","expires_in":1,"user":{}}"#,
            r#"{"access_token":"a","access_token":"b","refresh_token":"r","expires_in":1,"user":{}}"#,
            "",
        ] {
            assert!(Grant::read(&Bytes::from_static(body.as_bytes())).is_none());
        }
    }

    #[test]
    fn an_error_is_read_in_every_form_and_written_in_both() {
        let cases = [
            reply(400, r#"{"code":400,"error_code":"bad_input","msg":"Bad"}"#),
            reply(400, r#"{"code":"bad_input","message":"Bad"}"#),
            reply(400, r#"{"error":"bad_input","error_description":"Bad"}"#),
        ];
        for reply in cases {
            let error = AuthError::read(&reply);
            assert_eq!(
                error,
                AuthError::new(StatusCode::BAD_REQUEST, "bad_input", "Bad")
            );
            assert_eq!(
                error.body(GotrueVersion::Initial),
                r#"{"code":400,"error_code":"bad_input","msg":"Bad"}"#
            );
            assert_eq!(
                error.body(GotrueVersion::V20240101),
                r#"{"code":"bad_input","message":"Bad"}"#
            );
        }
        let error = AuthError::read(&reply(502, "<html>"));
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            ("", "Bad Gateway")
        );
        let weak =
            r#"{"code":"weak_password","message":"Weak","weak_password":{"reasons":["length"]}}"#;
        let error = AuthError::read(&reply(422, weak));
        assert_eq!(error.body(GotrueVersion::V20240101), weak);
    }

    #[test]
    fn the_edge_is_told_from_the_identity_server() {
        for (body, is_own) in [
            (r#"{"code":400,"error_code":"bad_input","msg":"Bad"}"#, true),
            (r#"{"code":"bad_input","message":"Bad"}"#, true),
            (
                r#"{"error":"invalid_request","error_description":"Bad"}"#,
                true,
            ),
            (
                r#"{"code":401,"msg":"This endpoint requires a Bearer token"}"#,
                true,
            ),
            (r#"{"message":"Unauthorized"}"#, false),
            (
                r#"{"message":"Invalid API key","hint":"Double check it."}"#,
                false,
            ),
            (r#"{"code":401,"message":"Unauthorized"}"#, false),
            (
                r#"{"code":"UNAUTHORIZED_INVALID_KEY","message":"No"}"#,
                false,
            ),
            (r#"{"error":"Unauthorized"}"#, false),
            ("<html>", false),
            ("", false),
        ] {
            assert_eq!(AuthError::is_own(&reply(401, body)), is_own, "{body}");
        }
        let mut with_field = reply(401, "");
        let code = hyper::header::HeaderValue::from_static("bad_jwt");
        with_field.headers.insert(ERROR_CODE, code);
        assert!(AuthError::is_own(&with_field));
    }

    #[test]
    fn the_seconds_to_wait_are_read_from_the_field_or_the_sentence() {
        let wait = |sentence: &str| {
            let body = json!({ "code": "over_email_send_rate_limit", "message": sentence });
            let reply = Reply {
                body: body.to_string().into(),
                ..reply(429, "")
            };
            AuthError::read(&reply)
                .retry_after
                .map(|wait| wait.as_secs())
        };
        let sentence = "For security purposes, you can only request this after 59 seconds.";
        assert_eq!(wait(sentence), Some(59));
        assert_eq!(wait("Wait 1 second, please"), Some(1));
        assert_eq!(wait("after 99999999 seconds"), Some(LONGEST_WAIT));
        for sentence in ["Email rate limit exceeded", "a few seconds", "59", ""] {
            assert_eq!(wait(sentence), None, "{sentence}");
        }
        let mut with_field = reply(429, r#"{"code":"x","message":"after 59 seconds"}"#);
        with_field.headers.insert(RETRY_AFTER, 7.into());
        let wait = AuthError::read(&with_field).retry_after;
        assert_eq!(wait, Some(Duration::from_secs(7)));
    }
}
