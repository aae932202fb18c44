//! Answers in the words of the backend that gave them before.

use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::answer::Answer;
use crate::denial::{Denial, Reason};
use crate::identity::Grant;

/// What whoever signed in gets.
#[derive(Serialize)]
struct Tokens<'a> {
    access_token: &'a str,
    refresh_token: &'a str,
    token_type: &'static str,
    expires_in: i64,
    user: &'a RawValue,
}

/// 200, with tokens.
pub(super) fn tokens(grant: &Grant) -> Result<Response<Answer>, Denial> {
    let text = |secret: &'_ [u8]| std::str::from_utf8(secret).map(str::to_owned);
    // They were read as JSON, so they are text.
    let access_token = text(grant.access_token.expose()).map_err(|_| Reason::Internal)?;
    let refresh_token = text(grant.refresh_token.expose()).map_err(|_| Reason::Internal)?;
    json(
        StatusCode::OK,
        &Tokens {
            access_token: &access_token,
            refresh_token: &refresh_token,
            token_type: "Bearer",
            expires_in: grant.expires_in,
            user: &grant.user,
        },
    )
}

/// A document that nobody may keep.
pub(super) fn json(
    status: StatusCode,
    document: &impl Serialize,
) -> Result<Response<Answer>, Denial> {
    let body = serde_json::to_vec(document).map_err(|_| Reason::Internal)?;
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Answer::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
