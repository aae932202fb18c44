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
    /// What is known of callers and things: it stands in for the database.
    pub facts: policy::resources::StaticFacts,
    /// At least one.
    pub cases: Vec<Case>,
}

/// A case, checked.
#[derive(Debug)]
pub(crate) struct Case {
    /// What it is about; unique in its file.
    pub name: String,
    /// The line it begins at.
    pub line: u32,
    /// What is asked.
    pub request: Request,
    /// Who asks; `None` is nobody.
    pub caller: Option<Caller>,
    /// What must become of it.
    pub expect: Expected,
}

/// What is asked.
#[derive(Debug)]
pub(crate) struct Request {
    /// Default GET.
    pub method: Method,
    /// Path and query, as a client would write them.
    pub path: String,
    /// Default: the first of the gateway's hosts.
    pub host: Option<String>,
    /// The peer's address. Default 203.0.113.1, which belongs to nobody (RFC 5737).
    pub address: IpAddr,
    /// Header fields, in order. Where there is a body and none of them says otherwise, it is JSON.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body: text as it stands, anything else as JSON.
    pub body: Option<Bytes>,
}

/// Whose token comes with a request.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    /// `sub`.
    pub subject: String,
    /// Default: the issuer of the first entry of `tokens`.
    pub issuer: Option<String>,
    /// `session_id`.
    pub session: Option<String>,
    /// Roles, put where `roles.from` looks for them.
    pub roles: Vec<String>,
    /// The assurance level: 1 or 2.
    pub aal: u8,
    /// One of Supabase's anonymous users.
    pub anonymous: bool,
    /// More claims, or other values.
    pub claims: BTreeMap<String, Json>,
}

/// What must become of a request.
#[derive(Debug)]
pub(crate) enum Expected {
    /// It is let in; with what was written about where it goes.
    Allow {
        /// The name of the route.
        route: Option<String>,
        /// The name of the upstream.
        upstream: Option<String>,
        /// What is answered here, such as `health`.
        serve: Option<String>,
    },
    /// It is refused.
    Deny {
        /// Why.
        reason: Reason,
        /// By whom: the name of a layer, or `request` for what is refused before anybody judges.
        layer: Option<String>,
        /// The route it belongs to.
        route: Option<String>,
    },
}

/// What is refused before any layer judges.
pub(crate) const BEFORE_LAYERS: &str = "request";
