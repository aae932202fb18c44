//! Answers in the form of the backend that gave them before, none of them cacheable. The identity
//! server's document about the user is passed on byte for byte.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, SET_COOKIE};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::login::secret_text;
use crate::denial::{Denial, Reason};
use crate::sessions::sign_in::NewSession;
use crate::sign_in::grant::Grant;

/// The answer to a sign-in.
#[derive(Serialize)]
struct SignInResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<Cow<'a, str>>,
    token_type: &'static str,
    expires_in: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf_token: Option<String>,
    user: &'a RawValue,
}

/// 200 with tokens.
pub(super) fn tokens(grant: &Grant) -> Result<Response<Bytes>, Denial> {
    json(
        StatusCode::OK,
        &SignInResponse {
            access_token: Some(secret_text(grant.access_token.expose())),
            refresh_token: Some(secret_text(grant.refresh_token.expose())),
            token_type: "Bearer",
            expires_in: grant.expires_in,
            csrf_token: None,
            user: &grant.user,
        },
    )
}

/// 200 with tokens, or with a cookie in their place and its CSRF token.
pub(super) fn signed_in(grant: &Grant, begun: NewSession) -> Result<Response<Bytes>, Denial> {
    let Some(cookie) = begun.set_cookie else {
        return tokens(grant);
    };
    let mut response = json(
        StatusCode::OK,
        &SignInResponse {
            access_token: None,
            refresh_token: None,
            token_type: "cookie",
            expires_in: grant.expires_in,
            csrf_token: begun.csrf,
            user: &grant.user,
        },
    )?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// A JSON answer that must not be cached.
pub(super) fn json(
    status: StatusCode,
    document: &impl Serialize,
) -> Result<Response<Bytes>, Denial> {
    let body = serde_json::to_vec(document).map_err(|_| Reason::Internal)?;
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
