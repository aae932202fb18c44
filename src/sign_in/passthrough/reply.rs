//! The answer to a client of the identity server: which fields pass, and the form of errors.
//! Refusals by the gateway are denials, as everywhere.

use bytes::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER,
};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value};

use crate::denial::format::{API_VERSION, ERROR_CODE, GotrueVersion, VERSION_20240101};
use crate::denial::{Denial, Reason};
use crate::secrets::secret::Secret;
use crate::sessions::record::InnerTokens;
use crate::sign_in::call::Reply;
use crate::sign_in::grant::AuthError;

/// Response fields that a client may see; not those that name tokens and users for the server's
/// operator.
const PASS: [HeaderName; 5] = [
    CONTENT_TYPE,
    CACHE_CONTROL,
    LOCATION,
    RETRY_AFTER,
    ERROR_CODE,
];

/// Tokens in a grant, and in a redirect that has one.
pub(super) const TOKENS: [&str; 4] = [
    "access_token",
    "refresh_token",
    "provider_token",
    "provider_refresh_token",
];

/// `Retry-After` for a 429 of the identity server that says nothing of it. A choice.
const DEFAULT_RETRY_AFTER: HeaderValue = HeaderValue::from_static("10");

/// The answer, in the form of the client's API version.
///
/// # Errors
///
/// A proxy in front of the identity server failed: its reply is not in the API's form.
pub(super) fn answer(reply: &Reply, version: GotrueVersion) -> Result<Response<Bytes>, Denial> {
    let is_error = reply.status.is_client_error() || reply.status.is_server_error();
    let members = || serde_json::from_slice::<Map<String, Value>>(&reply.body).ok();
    let body = match is_error.then(members) {
        None => reply.body.clone(),
        Some(_) if reply.status.is_server_error() && !AuthError::is_own(reply) => {
            return Err(
                Reason::IdentityUnavailable.because("the reply is not the identity server's own")
            );
        }
        Some(None) => reply.body.clone(),
        // The form we requested. Other forms, such as those of OAuth or of the edge, are the same
        // in both versions.
        Some(Some(members)) if is_dated_format(&members) => AuthError::read(reply).body(version),
        Some(Some(_)) => reply.body.clone(),
    };
    let mut response = build(reply.status, &reply.headers, body, version);
    if reply.status == StatusCode::TOO_MANY_REQUESTS
        && let Some(wait) = AuthError::read(reply).retry_after
    {
        let seconds = HeaderValue::from(wait.as_secs());
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    Ok(response)
}

/// The access token that a redirect passes to a page, in the fragment of its URL.
pub(super) fn redirect_token(reply: &Reply) -> Option<&str> {
    in_fragment(reply, "access_token=")
}

/// Both tokens that a redirect passes to a page.
pub(super) fn tokens_in_redirect(reply: &Reply) -> Option<InnerTokens> {
    Some(InnerTokens {
        access: Secret::new(in_fragment(reply, "access_token=")?),
        refresh: Secret::new(in_fragment(reply, "refresh_token=")?),
    })
}

fn in_fragment<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    let location = reply.headers.get(LOCATION)?.to_str().ok()?;
    let (_, fragment) = location.split_once('#')?;
    let mut pairs = fragment.split('&');
    let value = pairs.find_map(|pair| pair.strip_prefix(name));
    value.filter(|_| reply.status.is_redirection())
}

/// Whether a reply has a member that is a token.
pub(super) fn has_tokens(reply: &Reply) -> bool {
    let members: Option<Map<String, Value>> = serde_json::from_slice(&reply.body).ok();
    members.is_some_and(|members| TOKENS.iter().any(|name| members.contains_key(*name)))
}

/// Removes the tokens from the fragment to which a reply redirects, and adds `more`.
///
/// # Errors
///
/// The place is no URL.
pub(super) fn remove_tokens(reply: &mut Reply, more: Option<&str>) -> Result<(), Denial> {
    let location = reply.headers.get(LOCATION);
    let location = location.and_then(|place| place.to_str().ok());
    let (page, fragment) = location
        .unwrap_or_default()
        .split_once('#')
        .unwrap_or_default();
    let is_named = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        TOKENS.contains(&name)
    };
    let kept = fragment.split('&').filter(|pair| !is_named(pair));
    let fragment: Vec<&str> = kept.chain(more).collect();
    let place = format!("{page}#{}", fragment.join("&"));
    let place = HeaderValue::try_from(place).map_err(|_| Reason::Internal)?;
    reply.headers.insert(LOCATION, place);
    Ok(())
}

/// Whether a redirect tells a page of an error: how a link is refused that somebody followed.
pub(super) fn redirects_with_error(reply: &Reply) -> bool {
    let location = reply.headers.get(LOCATION).map(HeaderValue::as_bytes);
    let mut pairs = location
        .unwrap_or_default()
        .split(|byte| matches!(byte, b'?' | b'#' | b'&'));
    reply.status.is_redirection()
        && pairs.any(|pair| pair.starts_with(b"error=") || pair.starts_with(b"error_code="))
}

/// An error in the identity server's form.
pub(super) fn error(error: &AuthError, version: GotrueVersion) -> Response<Bytes> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(code) = HeaderValue::from_str(&error.code) {
        headers.insert(ERROR_CODE, code);
    }
    build(error.status, &headers, error.body(version), version)
}

/// 200 with tokens.
pub(super) fn grant(body: &Bytes, version: GotrueVersion) -> Response<Bytes> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    build(StatusCode::OK, &headers, body.clone(), version)
}

/// 204 without a body.
pub(super) fn no_content(version: GotrueVersion) -> Response<Bytes> {
    build(
        StatusCode::NO_CONTENT,
        &HeaderMap::new(),
        Bytes::new(),
        version,
    )
}

fn is_dated_format(members: &Map<String, Value>) -> bool {
    let is_text = |name: &str| members.get(name).is_some_and(Value::is_string);
    is_text("code") && is_text("message")
}

fn build(
    status: StatusCode,
    fields: &HeaderMap,
    body: Bytes,
    version: GotrueVersion,
) -> Response<Bytes> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for name in PASS {
        if let Some(value) = fields.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    if version == GotrueVersion::V20240101 {
        headers.insert(API_VERSION, HeaderValue::from_static(VERSION_20240101));
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        headers.entry(RETRY_AFTER).or_insert(DEFAULT_RETRY_AFTER);
    }
    // Only the key set may be cached, and the server says so for that alone.
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if status != StatusCode::NO_CONTENT {
        headers.insert(CONTENT_LENGTH, length);
    }
    response
}
