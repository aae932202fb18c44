//! The session about which a refresh was refused: once the identity server says that it has ended,
//! its access tokens are refused here, too, on every replica.
//!
//! Reuse of a refresh token, a session that is one too many for its user, and a session that has
//! expired are found out only there, at a refresh.

use hyper::header::{HeaderName, HeaderValue};
use uuid::Uuid;

use super::call::Reply;
use super::grant::AuthError;
use crate::clock;
use crate::revocation::{Revocation, Target};
use crate::secrets::secret::Secret;

/// Names the session that a reply is about.
const SESSION: HeaderName = HeaderName::from_static("sb-auth-session-id");

/// Names its user.
const USER: HeaderName = HeaderName::from_static("sb-auth-user-id");

/// `true` if the session ended because its refresh token was used twice. Only for tokens of the
/// newer form.
const ENDED_BY_REUSE: HeaderName = HeaderName::from_static("sb-auth-refresh-token-rotated");

/// The length of a refresh token of the older form, in bytes.
const OLD_FORM: usize = 12;

/// The revocation of the session that has ended, as this refusal of `token` says. `None` if it says
/// nothing of the kind, or not which session it was. The revocation is kept for `lifetime`, in
/// seconds.
pub(super) fn ended_session(
    reply: &Reply,
    token: &Secret,
    issuer: &str,
    lifetime: i64,
) -> Option<Revocation> {
    if !reply.status.is_client_error() {
        return None;
    }
    let id = |name: &HeaderName| {
        let text = reply.headers.get(name)?.to_str().ok()?;
        Uuid::try_parse(text).ok().map(|id| id.to_string())
    };
    let has_ended = match AuthError::read(reply).code.as_str() {
        "session_not_found" | "session_expired" => true,
        // With a token of the older form, the whole family of tokens has ended.
        "refresh_token_already_used" => {
            let is_said = reply
                .headers
                .get(&ENDED_BY_REUSE)
                .map(HeaderValue::as_bytes);
            is_said == Some(b"true") || token.expose().len() == OLD_FORM
        }
        _ => false,
    };
    let session = id(&SESSION).filter(|_| has_ended)?;
    let now = clock::unix_millis();
    let target = Target::Session {
        issuer: issuer.to_owned(),
        session,
        subject: id(&USER),
    };
    Some(Revocation::new(target, now, now / 1000 + lifetime))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::{HeaderMap, StatusCode};
    use serde_json::json;

    use super::*;

    const ID: &str = "0190a6f4-7c1e-7a52-9d3b-5f2a8c4e6b70";

    #[test]
    fn only_the_end_of_a_known_session_is_one() {
        let old = "abcdefghijkl";
        let new = "a-refresh-token-of-the-newer-form";
        for (status, code, token, named, said, ends) in [
            (400, "session_expired", old, true, false, true),
            (400, "session_not_found", new, true, false, true),
            (400, "session_not_found", new, false, false, false),
            (400, "refresh_token_already_used", old, true, false, true),
            (400, "refresh_token_already_used", new, true, true, true),
            (400, "refresh_token_already_used", new, true, false, false),
            (400, "user_banned", old, true, false, false),
            (400, "validation_failed", new, true, false, false),
            (500, "session_expired", old, true, false, false),
            (200, "", old, true, false, false),
        ] {
            let mut headers = HeaderMap::new();
            if named {
                headers.insert(SESSION, HeaderValue::from_static(ID));
                headers.insert(USER, HeaderValue::from_static(ID));
            }
            if said {
                headers.insert(ENDED_BY_REUSE, HeaderValue::from_static("true"));
            }
            let reply = Reply {
                status: StatusCode::from_u16(status).expect("a status"),
                headers,
                body: Bytes::from(json!({ "code": code, "message": "" }).to_string()),
            };
            let found = ended_session(&reply, &Secret::new(token), "i", 60);
            assert_eq!(found.is_some(), ends, "{status} {code} {token}");
        }
    }
}
