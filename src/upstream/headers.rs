//! The head an upstream sees.
//!
//! Decides: which fields are added to the cleaned ones. None of them can be among those: `request::headers` removed every copy. Trusts: the permit. Not here: what a client may not say (`request::headers`).

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method};

use super::http1::RequestHead;
use crate::auth::{Caller, Spent};
use crate::config::checked::{Upstream, UpstreamHost};
use crate::request::handshake::Handshake;
use crate::request::host::Host;
use crate::request::peer::Client;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static HTTPS: HeaderValue = HeaderValue::from_static("https");
static HTTP: HeaderValue = HeaderValue::from_static("http");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const DECISION: HeaderName = HeaderName::from_static("x-foregate-decision");
const SUBJECT: HeaderName = HeaderName::from_static("x-foregate-subject");
const SESSION: HeaderName = HeaderName::from_static("x-foregate-session");
const ROLES: HeaderName = HeaderName::from_static("x-foregate-roles");

/// Room for the fields this gateway adds, but for the token. Longer ones make the head grow, which is slower and nothing else.
const OWN_FIELDS: usize = 640;

/// What this gateway says of a request.
pub(super) struct Said<'a> {
    /// The canonical host.
    pub(super) host: &'a Host,
    /// Where the request came from.
    pub(super) client: &'a Client,
    /// Who it is from.
    pub(super) caller: &'a Caller,
    /// The `Authorization` field of the permit.
    pub(super) authorization: Option<&'a HeaderValue>,
    /// The decision id.
    pub(super) id: &'a HeaderValue,
    /// The handshake of a WebSocket.
    pub(super) handshake: Option<&'a Handshake>,
}

impl<'a> Said<'a> {
    /// What is said of a request whose decision id is `id`.
    pub(super) fn of(spent: &'a Spent, id: &'a HeaderValue) -> Self {
        let request = spent.request();
        Self {
            host: request.host(),
            client: request.client(),
            caller: spent.caller(),
            authorization: spent.authorization(),
            id,
            handshake: request.handshake(),
        }
    }
}

/// Where fields are written.
pub(super) trait Fields {
    /// Adds a field.
    fn field(&mut self, name: &HeaderName, value: &HeaderValue);
}

impl Fields for HeaderMap {
    fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append(name, value.clone());
    }
}

/// The host an upstream sees.
pub(super) fn host<'a>(said: &Said<'a>, upstream: &'a Upstream) -> &'a HeaderValue {
    match &upstream.host {
        UpstreamHost::Keep => said.host.value(),
        UpstreamHost::Value(value) => value,
    }
}

/// Writes the head of a request in HTTP/1.1: what only this gateway may say, and what is left of the client's fields.
pub(super) fn write(
    method: &Method,
    target: &PathAndQuery,
    fields: &HeaderMap,
    said: &Said<'_>,
    upstream: &Upstream,
) -> RequestHead {
    let room: usize = fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    let token = said.authorization.map_or(0, HeaderValue::len);
    let mut head = RequestHead::new(method, target, room + token + OWN_FIELDS);
    head.field(&header::HOST, host(said, upstream));
    say(&mut head, said);
    for (name, value) in fields {
        head.field(name, value);
    }
    for (name, value) in said.handshake.into_iter().flat_map(Handshake::fields) {
        head.field(&name, &value);
    }
    head
}

/// Writes what only this gateway may say, but for the host.
pub(super) fn say(head: &mut impl Fields, said: &Said<'_>) {
    head.field(&FORWARDED_FOR, &said.client.text);
    let scheme = if said.client.https { &HTTPS } else { &HTTP };
    head.field(&FORWARDED_PROTO, scheme);
    head.field(&FORWARDED_HOST, said.host.value());
    head.field(&REQUEST_ID, said.id);
    head.field(&DECISION, said.id);
    if let Some(authorization) = said.authorization {
        head.field(&header::AUTHORIZATION, authorization);
    }
    if let Some(verified) = said.caller.verified() {
        for (name, value) in [
            (&SUBJECT, verified.subject_field()),
            (&SESSION, verified.session_field()),
            (&ROLES, said.caller.roles().field()),
        ] {
            if let Some(value) = value {
                head.field(name, value);
            }
        }
    }
}
