//! A file of cases, checked.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value as Json;

use crate::denial::Reason;
use crate::policy;

/// A file of cases, checked.
#[derive(Debug)]
pub(crate) struct Cases {
    /// The facts, which replace the database.
    pub facts: policy::resources::StaticFacts,
    /// At least one case.
    pub cases: Vec<Case>,
}

/// A case, checked.
#[derive(Debug)]
pub(crate) struct Case {
    /// What the case is about; unique in its file.
    pub name: String,
    /// The line where the case starts.
    pub line: u32,
    /// The request to authorize.
    pub request: Request,
    /// The caller; `None` is nobody.
    pub caller: Option<Caller>,
    /// The expected outcome.
    pub expect: Expected,
}

/// The request of a case.
#[derive(Debug)]
pub(crate) struct Request {
    /// Default: GET.
    pub method: Method,
    /// Path and query, as a client would write them.
    pub path: String,
    /// Default: the first of the gateway's hosts.
    pub host: Option<String>,
    /// The peer's address. Default: 203.0.113.1, which is reserved for documentation (RFC 5737).
    pub address: IpAddr,
    /// Header fields, in order. A body without a content type is JSON.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body: text as it is, anything else as JSON.
    pub body: Option<Bytes>,
}

/// The caller whose token the request carries.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    /// The claim `sub`.
    pub subject: String,
    /// Default: the issuer of the first entry of `tokens`.
    pub issuer: Option<String>,
    /// The claim `session_id`.
    pub session: Option<String>,
    /// Roles, put where `roles.from` looks for them.
    pub roles: Vec<String>,
    /// The assurance level: 1 or 2.
    pub aal: u8,
    /// Whether it is one of Supabase's anonymous users.
    pub anonymous: bool,
    /// Further claims, or other values of the above.
    pub claims: BTreeMap<String, Json>,
}

/// The expected outcome of a case.
#[derive(Debug)]
pub(crate) enum Expected {
    /// The request is allowed; checked as far as its destination is given.
    Allow {
        /// The name of the route.
        route: Option<String>,
        /// The name of the upstream.
        upstream: Option<String>,
        /// What the gateway answers itself, such as `health`.
        serve: Option<String>,
    },
    /// The request is refused.
    Deny {
        /// The reason of the refusal.
        reason: Reason,
        /// What refuses it: the name of a layer, or `request` for a refusal before the layers.
        layer: Option<String>,
        /// The route of the request.
        route: Option<String>,
    },
}

/// The name for refusals before any layer.
pub(crate) const BEFORE_LAYERS: &str = "request";
