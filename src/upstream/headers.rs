//! The head an upstream sees.
//!
//! Decides: which fields are added to the cleaned ones. Trusts: the permit. Not here: what a client may not say (`request::headers`).

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Version};

use crate::auth::Caller;
use crate::config::checked::{Upstream, UpstreamHost};
use crate::request::host::Host;
use crate::request::peer::Client;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const DECISION: HeaderName = HeaderName::from_static("x-foregate-decision");
const SUBJECT: HeaderName = HeaderName::from_static("x-foregate-subject");
const SESSION: HeaderName = HeaderName::from_static("x-foregate-session");
const ROLES: HeaderName = HeaderName::from_static("x-foregate-roles");

/// Adds what only this gateway may say.
pub(super) fn complete(
    headers: &mut HeaderMap,
    host: &Host,
    client: &Client,
    caller: &Caller,
    authorization: Option<HeaderValue>,
    id: &HeaderValue,
    upstream: &Upstream,
) {
    let for_upstream = match &upstream.host {
        UpstreamHost::Keep => host.value().clone(),
        UpstreamHost::Value(value) => value.clone(),
    };
    // One growth at most.
    headers.reserve(10);
    headers.insert(header::HOST, for_upstream);
    headers.insert(FORWARDED_FOR, client.text.clone());
    headers.insert(
        FORWARDED_PROTO,
        HeaderValue::from_static(if client.https { "https" } else { "http" }),
    );
    headers.insert(FORWARDED_HOST, host.value().clone());
    headers.insert(REQUEST_ID, id.clone());
    headers.insert(DECISION, id.clone());
    if let Some(authorization) = authorization {
        headers.insert(header::AUTHORIZATION, authorization);
    }
    let Some(verified) = caller.verified() else {
        return;
    };
    insert(headers, SUBJECT, verified.subject());
    if let Some(session) = verified.session() {
        insert(headers, SESSION, session);
    }
    insert(headers, ROLES, &caller.roles().join(","));
}

/// Claims have no control characters (`tokens` refuses them), and everything else may be in a field.
fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
        headers.insert(name, value);
    }
}

/// Requests go out as HTTP/1.1 whatever they came in as.
pub(super) const VERSION: Version = Version::HTTP_11;
