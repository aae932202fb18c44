//! One record per request: what was asked, who judged, what was answered, how it ended.
//!
//! Decides: nothing. Trusts: the facts the request's way writes into it. Not here: where log lines go (`log`), and what metrics exist
//! (`metrics`).
//!
//! A [`Trail`] owns the record while the request runs, and finishes it exactly once when it is dropped: after the last byte of the
//! answer, or when the client went away, or after a panic. No query value, token, cookie or secret is ever written into it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use hyper::{Method, StatusCode, Version};
use serde::Serialize;
use uuid::Uuid;

use crate::auth::LayerName;
use crate::clock;
use crate::config::snapshot::Snapshot;
use crate::denial::Reason;
use crate::gateway::Gateway;
use crate::listen::connection::ConnectionState;
use crate::tokens::Verified;

/// The facts of one request.
#[derive(Debug)]
pub struct Record {
    /// The decision id: what the client gets as `X-Request-Id` and an operator looks up.
    pub id: HeaderValue,
    /// When the head was complete.
    pub started: Instant,
    /// The configuration it was judged by.
    pub snapshot: Arc<Snapshot>,
    /// The method.
    pub method: Method,
    /// The version the client spoke.
    pub version: Version,
    /// The canonical host.
    pub host: Option<HeaderValue>,
    /// The canonical path; empty while there is none.
    pub path: String,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// Index of the route.
    pub route: Option<usize>,
    /// The proven caller.
    pub caller: Option<Arc<Verified>>,
    /// What each layer said, in order.
    pub steps: Vec<Step>,
    /// Whether this is a CORS preflight, which no layer of the chain judges.
    pub preflight: bool,
    /// Whether all layers said yes.
    pub permitted: bool,
    /// Why the gateway answered in the upstream's place.
    pub reason: Option<Reason>,
    /// What only the operator may read.
    pub detail: Option<Cow<'static, str>>,
    /// The status of the answer.
    pub status: Option<StatusCode>,
    /// From the complete head to the head of the answer.
    pub answered: Option<Duration>,
    /// The upstream's part of it.
    pub upstream: Option<Duration>,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// How it ended.
    pub end: End,
}

/// One layer's verdict.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Which layer.
    pub layer: LayerName,
    /// How long it took.
    pub took: Duration,
    /// What it said.
    pub verdict: Verdict,
}

/// What a layer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Passed,
    /// No, and that was the end.
    Denied(Reason),
    /// It would have said no, but is in shadow.
    Waived(Reason),
    /// It was not asked.
    Off,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The whole answer was handed to the client's connection.
    Complete,
    /// The client went away before that.
    ClientGone,
    /// The upstream failed in the middle of its answer; the client saw an error, never a complete answer.
    UpstreamFailed,
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client_gone",
            Self::UpstreamFailed => "upstream_failed",
        }
    }
}

impl Record {
    fn begin(snapshot: Arc<Snapshot>, method: Method, version: Version) -> Self {
        let mut buffer = Uuid::encode_buffer();
        let id = Uuid::now_v7().hyphenated().encode_lower(&mut buffer);
        Self {
            id: HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("-")),
            started: clock::now(),
            snapshot,
            method,
            version,
            host: None,
            path: String::new(),
            client: None,
            route: None,
            caller: None,
            steps: Vec::with_capacity(LayerName::ALL.len()),
            preflight: false,
            permitted: false,
            reason: None,
            detail: None,
            status: None,
            answered: None,
            upstream: None,
            sent: 0,
            end: End::ClientGone,
        }
    }

    /// The route's name, or `none`.
    pub fn route_name(&self) -> &str {
        self.route
            .and_then(|index| self.snapshot.config().routes.get(index))
            .map_or("none", |route| route.name.as_str())
    }

    /// One line of JSON, with its line end.
    pub fn write_line(&self, lines: &mut Vec<u8>) {
        let mut steps = String::with_capacity(64);
        for step in &self.steps {
            let gap = if steps.is_empty() { "" } else { " " };
            let _ = match step.verdict {
                Verdict::Passed => write!(
                    steps,
                    "{gap}{}:{}",
                    step.layer.as_str(),
                    step.took.as_micros()
                ),
                Verdict::Denied(_) => write!(
                    steps,
                    "{gap}{}:{}:denied",
                    step.layer.as_str(),
                    step.took.as_micros()
                ),
                Verdict::Waived(reason) => {
                    write!(
                        steps,
                        "{gap}{}:{}:waived:{}",
                        step.layer.as_str(),
                        step.took.as_micros(),
                        reason.code()
                    )
                }
                Verdict::Off => write!(steps, "{gap}{}:off", step.layer.as_str()),
            };
        }
        let line = Line {
            timestamp: jiff::Timestamp::now(),
            level: "INFO",
            message: "request",
            id: text(&self.id),
            decision: match (self.permitted, self.preflight) {
                (true, _) => "permit",
                (false, true) => "preflight",
                (false, false) => "deny",
            },
            reason: self.reason.map(Reason::code),
            detail: self.detail.as_deref(),
            status: self.status.map(|status| status.as_u16()),
            method: self.method.as_str(),
            host: self.host.as_ref().map(text),
            path: Some(self.path.as_str()).filter(|path| !path.is_empty()),
            route: self.route_name(),
            http: match self.version {
                Version::HTTP_2 => "2",
                Version::HTTP_10 => "1.0",
                _ => "1.1",
            },
            client: self.client,
            issuer: self.caller.as_ref().map(|caller| caller.issuer()),
            subject: self.caller.as_ref().map(|caller| caller.subject()),
            session: self.caller.as_ref().and_then(|caller| caller.session()),
            layers: &steps,
            upstream_us: self.upstream.map(|time| time.as_micros()),
            answered_us: self.answered.map(|time| time.as_micros()),
            total_us: self.started.elapsed().as_micros(),
            sent: self.sent,
            end: self.end.as_str(),
            generation: self.snapshot.generation(),
        };
        // Writing to memory cannot fail, and every field can be written as JSON.
        if serde_json::to_writer(&mut *lines, &line).is_ok() {
            lines.push(b'\n');
        }
    }
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}

/// The line an operator reads. `layers` has `name:microseconds` and, where it is not simply yes, the verdict.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: jiff::Timestamp,
    level: &'static str,
    message: &'static str,
    id: &'a str,
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    route: &'a str,
    http: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    layers: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_us: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answered_us: Option<u128>,
    total_us: u128,
    sent: u64,
    end: &'static str,
    generation: u64,
}

/// Owns a record until the request is over, whichever way that comes about.
#[derive(Debug)]
pub struct Trail {
    record: Box<Record>,
    gateway: Rc<Gateway>,
    connection: Rc<ConnectionState>,
}

impl Trail {
    /// Opens the record of a request whose head is complete.
    pub fn begin(
        gateway: Rc<Gateway>,
        connection: Rc<ConnectionState>,
        snapshot: Arc<Snapshot>,
        method: Method,
        version: Version,
    ) -> Self {
        connection.request_began();
        Self {
            record: Box::new(Record::begin(snapshot, method, version)),
            gateway,
            connection,
        }
    }

    /// The connection the request came on.
    pub fn connection(&self) -> &Rc<ConnectionState> {
        &self.connection
    }
}

impl std::ops::Deref for Trail {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

impl std::ops::DerefMut for Trail {
    fn deref_mut(&mut self) -> &mut Record {
        &mut self.record
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        self.connection.request_ended();
        self.gateway.finish(&self.record);
    }
}
