//! One record per request: the request, the verdict of each layer, the response, and how it ended.
//!
//! Decides:  the format of a request's log line.
//! Trusts:   what the code that handles the request writes into the record.
//! Not here: where log lines go (`log`), and the metrics ([`metrics`]).
//!
//! A [`trail::Trail`] owns the record while the request runs, and finishes it exactly once when it
//! is dropped: after the last byte of the response, when the client went away, or after a panic. No
//! query value, token, cookie or secret is ever written into a record.

pub mod metrics;
pub mod relation;
pub mod stream;
pub mod trail;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use hyper::{Method, StatusCode, Version};
use uuid::{NoContext, Uuid};

use crate::clock;
use crate::denial::Reason;
use crate::denial::format::ErrorFormat;
use crate::line::{Line, Parts, number_key, text_key};
use crate::policy::in_force::InForce;
use crate::policy::layers::LayerName;
use crate::policy::route::Target;
use crate::record::relation::Relation;
use crate::record::stream::{StreamEnd, StreamKind};
use crate::tokens::Verified;

/// Everything that is noted of one request.
#[derive(Debug)]
pub struct Record {
    /// The decision id, which the client gets as `X-Request-Id` and an operator looks up.
    pub id: HeaderValue,
    /// When the head was complete.
    pub started: Instant,
    /// The policy by which it was authorized.
    pub in_force: Arc<InForce>,
    /// The format of refusals.
    pub error_format: ErrorFormat,
    /// The method of the request.
    pub method: Method,
    /// The HTTP version of the client's request.
    pub version: Version,
    /// The canonical host.
    pub host: Option<HeaderValue>,
    /// The canonical path; empty until it is known.
    pub path: String,
    /// The client's address.
    pub client: Option<HeaderValue>,
    /// Index of the route.
    pub route: Option<usize>,
    /// The proven caller.
    pub caller: Option<Arc<Verified>>,
    /// The relation that gives the caller access to the resources of the request.
    pub relation: Option<Relation>,
    /// Whether a cookie proved the caller.
    pub by_cookie: bool,
    /// The verdicts of the layers, in order.
    pub steps: Vec<Step>,
    /// When the last step ended.
    lap: Instant,
    /// The gateway's decision.
    pub decision: Decision,
    /// Why the gateway answered in place of the upstream.
    pub reason: Option<Reason>,
    /// A detail that only the operator may read.
    pub detail: Option<Cow<'static, str>>,
    /// The status of the response.
    pub status: Option<StatusCode>,
    /// Time from the complete head to the head of the response.
    pub answered: Option<Duration>,
    /// The upstream's part of that time.
    pub upstream: Option<Duration>,
    /// Bytes of the response body, or bytes that a tunnel forwarded to the client.
    pub sent: u64,
    /// Bytes that a tunnel forwarded to the upstream.
    pub received: u64,
    /// The kind of a live stream, and why it ended.
    pub stream: Option<(StreamKind, StreamEnd)>,
    /// How the request ended.
    pub end: RequestEnd,
    /// Time from the complete head to that end.
    pub total: Duration,
}

/// The id as a header value. It is marked sensitive because it never repeats: HPACK then does not
/// store it, which would evict repeated fields from the dynamic table (RFC 7541, section 7.1.3).
fn decision_id(id: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("-"));
    value.set_sensitive(true);
    value
}

/// One layer's verdict.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The layer that ran.
    pub layer: LayerName,
    /// How long it took.
    pub took: Duration,
    /// Its verdict.
    pub verdict: Verdict,
}

/// The verdict of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request passed.
    Passed,
    /// The request was refused.
    Denied(Reason),
    /// The layer is in shadow and would have refused the request.
    Waived(Reason),
    /// The layer did not run.
    Off,
    /// The request passed because the layer had nothing to check.
    Idle,
}

/// The gateway's decision on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Some check refused the request; the initial value of every record.
    Deny,
    /// All layers let the request pass.
    Permit,
    /// A CORS preflight, for which no layer runs.
    Preflight,
    /// Redirected to HTTPS.
    Redirect,
}

impl Decision {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Permit => "permit",
            Self::Preflight => "preflight",
            Self::Redirect => "redirect",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEnd {
    /// The whole response was handed to the client's connection.
    Complete,
    /// The client went away before that.
    ClientGone,
    /// The upstream failed in the middle of its response; the client saw an error, never a complete
    /// response.
    UpstreamFailed,
    /// The gateway ended it: a stream that lost its authorization, or that reached a limit.
    Ended,
}

impl RequestEnd {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client_gone",
            Self::UpstreamFailed => "upstream_failed",
            Self::Ended => "ended",
        }
    }
}

impl Record {
    pub(crate) fn begin(in_force: Arc<InForce>, method: Method, version: Version) -> Self {
        let started = clock::now();
        let unix = clock::since_epoch();
        let unix = uuid::Timestamp::from_unix(NoContext, unix.as_secs(), unix.subsec_nanos());
        let mut buffer = Uuid::encode_buffer();
        let id = Uuid::new_v7(unix).hyphenated().encode_lower(&mut buffer);
        Self {
            id: decision_id(id),
            started,
            in_force,
            error_format: ErrorFormat::Problem,
            method,
            version,
            host: None,
            path: String::new(),
            client: None,
            route: None,
            caller: None,
            relation: None,
            by_cookie: false,
            steps: Vec::new(),
            lap: started,
            decision: Decision::Deny,
            reason: None,
            detail: None,
            status: None,
            answered: None,
            upstream: None,
            sent: 0,
            received: 0,
            stream: None,
            end: RequestEnd::ClientGone,
            total: Duration::ZERO,
        }
    }

    /// Notes a step, with the time since [`Self::start_lap`] or the previous step.
    pub fn step(&mut self, layer: LayerName, verdict: Verdict) {
        let now = clock::now();
        self.steps.push(Step {
            layer,
            took: now - self.lap,
            verdict,
        });
        self.lap = now;
    }

    /// Notes a step that had nothing to check, without a time.
    pub fn idle_step(&mut self, layer: LayerName) {
        self.steps.push(Step {
            layer,
            took: Duration::ZERO,
            verdict: Verdict::Idle,
        });
    }

    /// Starts the time of the first of at most this many steps.
    pub fn start_steps(&mut self, most: usize) {
        self.steps.reserve_exact(most);
        self.start_lap();
    }

    /// Starts the time of the next step.
    pub fn start_lap(&mut self) {
        self.lap = clock::now();
    }

    /// When the last step ended, or [`Self::start_lap`] was called.
    pub fn lap(&self) -> Instant {
        self.lap
    }

    /// Notes that the upstream has responded, with the time since the last step.
    pub(crate) fn note_upstream(&mut self) {
        let now = clock::now();
        self.upstream = Some(now - self.lap);
        self.lap = now;
    }

    /// Notes that the head of the response is ready. Right after an upstream's response this reads
    /// no clock.
    pub(crate) fn note_answer(&mut self) {
        let now = match self.upstream {
            Some(_) => self.lap,
            None => clock::now(),
        };
        self.answered = Some(now - self.started);
    }

    /// The route's name, or `none`.
    pub fn route_name(&self) -> &str {
        self.route
            .and_then(|index| self.in_force.config().routes.get(index))
            .map_or("none", |route| route.name.as_str())
    }

    /// The name of the upstream of the route, if it has one.
    pub fn upstream_name(&self) -> Option<&str> {
        let config = self.in_force.config();
        match config.routes.get(self.route?)?.target? {
            Target::Upstream(index) => Some(config.upstreams.get(index)?.name.as_str()),
            Target::Serve(_) => None,
        }
    }

    /// Writes the log line: one line of JSON, with its line end. `layers` has `name:microseconds`
    /// and every verdict but `Passed`; `name:-` if the layer had nothing to check. `timestamp` is
    /// the time in the format of [`clock::timestamp`].
    pub fn write_line(&self, timestamp: &str, lines: &mut Vec<u8>) {
        let mut line = Line::open(lines, timestamp);
        line.plain(text_key!("request_id"), text(&self.id));
        line.word(text_key!("decision"), self.decision.as_str());
        line.optional(text_key!("reason"), self.reason.map(Reason::code));
        line.optional(
            text_key!("fault"),
            self.reason.map(|reason| reason.fault().as_str()),
        );
        line.optional(text_key!("detail"), self.detail.as_deref());
        line.number(
            number_key!("status"),
            self.status.map_or(0, |status| status.as_u16().into()),
        );
        line.plain(text_key!("method"), known_method(&self.method));
        if let Some(host) = &self.host {
            line.plain(text_key!("host"), text(host));
        }
        line.optional(
            text_key!("path"),
            Some(self.path.as_str()).filter(|path| !path.is_empty()),
        );
        line.text(text_key!("route"), self.route_name());
        line.word(
            text_key!("http"),
            match self.version {
                Version::HTTP_2 => "2",
                Version::HTTP_10 => "1.0",
                _ => "1.1",
            },
        );
        if let Some(client) = &self.client {
            line.plain(text_key!("client"), text(client));
        }
        if let Some(caller) = &self.caller {
            line.members(caller.members());
        }
        line.optional(text_key!("via"), self.relation.map(Relation::as_str));
        line.parts(text_key!("layers"), |layers| {
            write_steps(layers, &self.steps)
        });
        if let Some(upstream) = self.upstream {
            line.number(number_key!("upstream_us"), micros(upstream));
        }
        if let Some(answered) = self.answered {
            line.number(number_key!("answered_us"), micros(answered));
        }
        line.number(number_key!("total_us"), micros(self.total));
        line.number(number_key!("sent"), self.sent);
        if let Some((kind, cause)) = self.stream {
            line.number(number_key!("received"), self.received);
            line.word(text_key!("stream"), kind.as_str());
            line.word(text_key!("cause"), cause.as_str());
        }
        line.word(text_key!("end"), self.end.as_str());
        line.number(number_key!("generation"), self.in_force.generation());
        line.close();
    }
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}

/// The name of a method; `_OTHER` where it is none of RFC 9110 or RFC 5789, as OpenTelemetry's
/// semantic conventions say. Where a client and the gateway disagree where a message ends, any
/// bytes of the client may come as the method.
fn known_method(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS
        | Method::CONNECT
        | Method::TRACE => method.as_str(),
        _ => "_OTHER",
    }
}

/// Writes the steps as `name:microseconds`, with every verdict but `Passed`.
fn write_steps(layers: &mut Parts<'_>, steps: &[Step]) {
    for (index, step) in steps.iter().enumerate() {
        if index > 0 {
            layers.word(" ");
        }
        layers.word(step.layer.as_str());
        layers.word(":");
        match step.verdict {
            Verdict::Off => layers.word("off"),
            Verdict::Idle => layers.word("-"),
            Verdict::Passed => layers.number(micros(step.took)),
            Verdict::Denied(_) => {
                layers.number(micros(step.took));
                layers.word(":denied");
            }
            Verdict::Waived(reason) => {
                layers.number(micros(step.took));
                layers.word(":waived:");
                layers.word(reason.code());
            }
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
