//! The request head that an upstream receives: the cleaned fields of the client and those that this
//! gateway adds.
//!
//! No added field can be among the client's: `request::headers` has removed every copy.

use hyper::header::{self, HeaderName, HeaderValue};

use super::fields::FieldWriter;
use super::http1::RequestHead;
use crate::auth::SpentPermit;
use crate::policy::upstream::{Upstream, UpstreamHost};
use crate::request::handshake::Handshake;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const DECISION: HeaderName = HeaderName::from_static("x-foregate-decision");
const SUBJECT: HeaderName = HeaderName::from_static("x-foregate-subject");
const SESSION: HeaderName = HeaderName::from_static("x-foregate-session");
const ROLES: HeaderName = HeaderName::from_static("x-foregate-roles");

static HTTPS: HeaderValue = HeaderValue::from_static("https");
static HTTP: HeaderValue = HeaderValue::from_static("http");

/// Room for the fields that this gateway adds, without the token. If it is not enough, the buffer
/// grows, which is only slower.
const ADDED_FIELDS: usize = 640;

/// The host that an upstream receives.
pub(super) fn host<'a>(spent: &'a SpentPermit, upstream: &'a Upstream) -> &'a HeaderValue {
    match &upstream.host {
        UpstreamHost::Keep => spent.request().host().value(),
        UpstreamHost::Value(value) => value,
    }
}

/// Writes the head of an HTTP/1.1 request: the fields that only this gateway may set, and the
/// client's cleaned fields. `id` is the decision id.
pub(super) fn write(spent: &SpentPermit, id: &HeaderValue, upstream: &Upstream) -> RequestHead {
    let request = spent.request();
    let fields = request.headers();
    let room: usize = fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    let token = spent.authorization().map_or(0, HeaderValue::len);
    let room = room + token + ADDED_FIELDS;
    let mut head = RequestHead::new(request.method(), request.target(), room);
    head.field(&header::HOST, host(spent, upstream));
    write_added(&mut head, spent, id);
    for (name, value) in fields {
        head.field(name, value);
    }
    let handshake = request.handshake().into_iter();
    for (name, value) in handshake.flat_map(Handshake::fields) {
        head.field(&name, &value);
    }
    head
}

/// Writes the fields that only this gateway may set, except `Host`.
pub(super) fn write_added(head: &mut impl FieldWriter, spent: &SpentPermit, id: &HeaderValue) {
    let (request, caller) = (spent.request(), spent.caller());
    let client = request.client();
    head.field(&FORWARDED_FOR, &client.text);
    let scheme = if client.https { &HTTPS } else { &HTTP };
    head.field(&FORWARDED_PROTO, scheme);
    head.field(&FORWARDED_HOST, request.host().value());
    head.field(&REQUEST_ID, id);
    head.field(&DECISION, id);
    if let Some(authorization) = spent.authorization() {
        head.field(&header::AUTHORIZATION, authorization);
    }
    if let Some(verified) = caller.verified() {
        for (name, value) in [
            (&SUBJECT, verified.subject_field()),
            (&SESSION, verified.session_field()),
            (&ROLES, caller.roles().field()),
        ] {
            if let Some(value) = value {
                head.field(name, value);
            }
        }
    }
}
