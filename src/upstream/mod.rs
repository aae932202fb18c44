//! Forwarding: a permit goes in, the upstream's answer comes out.
//!
//! Decides: which server, when to try again, how long to wait, and which reason a failure has. Trusts: the permit; it takes nothing else.
//! Not here: whether the request may be forwarded.
//!
//! | what happened | what is done |
//! |---|---|
//! | no connection could be made | the next server is tried; each once |
//! | a kept connection was closed before a byte of the request was written | sent again on a fresh connection, whatever the method |
//! | a kept connection was closed after that, before a byte of the answer | sent again once if the method is idempotent (RFC 9110, section 9.2.2) and there is no body |
//! | the same on a fresh connection, or with another method | 502 `upstream_closed`: the upstream may have acted |
//! | a byte of the answer was forwarded | never sent again; the client sees a broken answer |
//!
//! Over HTTP/2 the connection is shared; there, a request of which nothing was sent is sent again, and any other is not.

mod attempt_http1;
mod body;
pub mod error;
mod exchange;
mod headers;
mod http1;
pub(crate) mod http2;
mod learn;
mod lease;
mod limits;
mod location;
mod pool;
mod timeouts;
mod upload;

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::time::Instant;

pub use body::UpstreamBody;
pub(crate) use lease::Switched;
pub use pool::Pools;

use crate::auth::{Permit, Spent, Standing, rest};
use crate::denial::grpc::is_grpc;
use crate::denial::{Denial, Reason};
use crate::gateway::answer::Answer;
use crate::gateway::process::Process;
use crate::policy::route::Target;
use crate::policy::upstream::Protocol;
use crate::record::stream::Kind;
use crate::record::trail::Trail;
use crate::streams::{Opening, Streaming, TunnelLimits};
use crate::upstream::attempt_http1::Attempt;
use http1::Outgoing;
use http2::RequestBody;
use lease::Lease;
use limits::Limits;
use pool::Pool;
use upload::Upload;

/// How long a client of gRPC may only listen where the route sets no limit.
const LISTENING: Duration = Duration::from_secs(24 * 60 * 60);

/// Forwards a permitted request and returns the answer as soon as its head is there; bodies stream both ways.
///
/// # Errors
///
/// A [`Reason`] of the upstream's group, or [`Reason::BodyTooLarge`], [`Reason::BodyTimeout`].
pub async fn forward(
    pools: &Pools,
    process: &Process,
    permit: Permit,
    trail: &mut Trail,
) -> Result<Response<Answer>, Denial> {
    let started = trail.lap();
    let Target::Upstream(index) = permit.target() else {
        return Err(Reason::Internal.into());
    };
    let pool = pools
        .get(permit.request().snapshot(), index, process.metrics())
        .ok_or(Reason::Internal)?;
    let rule = permit.request().rule();
    let limits = Limits {
        first_byte: rule
            .timeouts
            .first_byte
            .unwrap_or(pool.config().first_byte_timeout),
        stream_idle: rule.timeouts.stream_idle,
        deadline: rule
            .timeouts
            .total
            .map(|total| Instant::from_std(started + total)),
    };
    let mut spent = permit.spend();
    let touched = spent.take_touched();
    prepare(&mut spent);
    let payload = Payload::of(&mut spent, &limits)?;
    let mut began = Instant::from_std(started);
    // Boxed where something is touched, so that most requests do not carry room for it along.
    if touched.is_something() {
        Box::pin(touched.begin()).await;
        // The upstream does not answer for the time that took.
        began = Instant::now();
    }
    let (status, mut headers, body, standing) = match pool.config().protocol {
        Protocol::Http1 => {
            let outgoing = over_http1(&spent, payload, &pool, &trail.id);
            let standing = spent.stand();
            let mut attempt = Attempt::new(Box::new(outgoing), process, &pool);
            // The requests that came in together with this one are judged before anything of them is sent. Sent one behind the other, they
            // wake the other side once and not one by one, and between two of them the cache is asked for no code but what sends.
            let_others_go_first().await;
            let outcome = attempt.run(&pool, &limits, began).await;
            if touched.is_something() {
                Box::pin(touched.end()).await;
            }
            trail.note_upstream();
            let (head, lease) = outcome?;
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return switch(lease, head.headers, standing, &limits);
            }
            let body = exchange::AnswerBody::new(lease, attempt.outgoing, limits);
            (
                head.status,
                head.headers,
                UpstreamBody::Http1(body),
                standing,
            )
        }
        Protocol::Http2 => {
            let request = over_http2(&mut spent, payload, &pool, &trail.id)?;
            let standing = spent.stand();
            // Boxed, so that every other request does not carry room for it along.
            let exchange = Box::pin(http2::exchange(&pool, process, request, limits));
            let_others_go_first().await;
            let outcome = exchange.await;
            if touched.is_something() {
                Box::pin(touched.end()).await;
            }
            trail.note_upstream();
            let (head, body) = outcome?.into_parts();
            (
                head.status,
                head.headers,
                UpstreamBody::Http2(body),
                standing,
            )
        }
    };
    // Let in to say who they are on a socket, which this is not.
    if standing.needs_token() {
        return Err(Reason::TokenMissing.into());
    }
    let own = &standing.request().snapshot().config().sessions.cookie;
    if crate::request::headers::clean_response(&mut headers, own) {
        location::rewrite(&mut headers, pool.config(), standing.request());
    }
    if let Some(lesson) = learn::teaches(status, &standing) {
        // Boxed, so that requests on other routes do not carry room for it along.
        return Box::pin(learn::learn(lesson, status, headers, body, &standing)).await;
    }
    let mut response = Response::new(match Kind::of(status, &headers) {
        None => Answer::upstream(body),
        Some(kind) => Answer::stream(body, Streaming::new(kind, &headers, standing)),
    });
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Waits until every task that is ready now has had its turn. Unlike the runtime's own `yield_now` it does not ask for new events on the way,
/// which would be a system call.
async fn let_others_go_first() {
    let mut has_waited = false;
    poll_fn(|context| match std::mem::replace(&mut has_waited, true) {
        true => Poll::Ready(()),
        false => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// What rules of the route want said of the request.
fn prepare(spent: &mut Spent) {
    let rule = spent.request().rule();
    if rule.learn.is_none() && rule.rest.is_none() {
        return;
    }
    let mut fields = std::mem::take(spent.fields());
    let request = spent.request();
    if request.rule().learn.is_some() {
        learn::prepare(&mut fields);
    }
    if let Some(rules) = &request.rule().rest {
        rest::name_schema(rules, request.method(), &mut fields);
    }
    *spent.fields() = fields;
}

/// The head before a tunnel, if the upstream's 101 is one that was asked for.
fn switch(
    lease: Lease,
    mut headers: HeaderMap,
    standing: Standing,
    limits: &Limits,
) -> Result<Response<Answer>, Denial> {
    let Some(handshake) = standing.request().handshake() else {
        return Err(Reason::UpstreamProtocol.because("101 unasked"));
    };
    let config = standing.request().snapshot().config();
    handshake
        .finish(&mut headers, &config.sessions.cookie)
        .map_err(|why| Reason::UpstreamProtocol.because(format!("{}: {why}", lease.server())))?;
    let rule = standing.request().rule();
    let judged = rule
        .realtime
        .then(|| usize::try_from(rule.body_limit).unwrap_or(usize::MAX));
    let stalled = config.connections.body_idle;
    let mut response = Response::new(Answer::tunnel(Opening {
        judged,
        upstream: lease.switch(),
        standing,
        limits: TunnelLimits {
            idle: limits.stream_idle,
            deadline: limits.deadline,
            stalled,
        },
    }));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    Ok(response)
}

/// A request's body, and how it is delimited.
struct Payload {
    upload: Option<Upload>,
    /// The length of the body, if the client said it.
    declared: Option<u64>,
}

impl Payload {
    fn of(spent: &mut Spent, limits: &Limits) -> Result<Self, Denial> {
        let upload = match spent.take_body() {
            None => None,
            Some(body) => {
                let request = spent.request();
                // In a call of gRPC a client may listen for as long as it likes before it says more.
                let idle = match is_grpc(request.headers()) {
                    true => limits.stream_idle.unwrap_or(LISTENING),
                    false => request.snapshot().config().connections.body_idle,
                };
                Upload::new(body, request.rule().body_limit, idle)?
            }
        };
        // Without a length, a body goes out in chunks. hyper has made sure that a length which is there is one number, and true.
        let fields = spent.fields();
        let declared = match &upload {
            // A length without a body would promise bytes that never come.
            None => length(fields).filter(|length| *length == 0),
            Some(upload) => upload.length().and(length(fields)),
        };
        if declared.is_none() {
            fields.remove(header::CONTENT_LENGTH);
        }
        Ok(Self { upload, declared })
    }
}

fn over_http1(spent: &Spent, payload: Payload, pool: &Pool, id: &HeaderValue) -> Outgoing {
    let head = headers::write(spent, id, pool.config());
    let method = spent.request().method().clone();
    Outgoing::new(method, head, payload.declared, payload.upload)
}

fn over_http2(
    spent: &mut Spent,
    payload: Payload,
    pool: &Pool,
    id: &HeaderValue,
) -> Result<Request<RequestBody>, Denial> {
    let mut fields = std::mem::take(spent.fields());
    headers::say(&mut fields, spent, id);
    let (host, request) = (headers::host(spent, pool.config()), spent.request());
    let body = RequestBody::new(payload.upload);
    http2::request(request.method(), host, request.target(), fields, body)
}

/// The declared length of a request's body.
fn length(fields: &HeaderMap) -> Option<u64> {
    fields
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse().ok())
}
