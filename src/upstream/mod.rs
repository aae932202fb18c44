//! Forwarding: a permit goes in, the upstream's answer comes out.
//!
//! Decides: which server, when to try again, how long to wait, and which reason a failure has.
//! Trusts: the permit; it takes nothing else. Not here: whether the request may be forwarded.
//!
//! | what happened | what is done |
//! |---|---|
//! | no connection could be made | the next server is tried; each once |
//! | a kept connection was closed before a byte of the request was written | sent again on a fresh connection, whatever the method |
//! | a kept connection was closed after that, before a byte of the answer | sent again once if the method is idempotent (RFC 9110, section 9.2.2) and there is no body |
//! | the same on a fresh connection, or with another method | 502 `upstream_closed`: the upstream may have acted |
//! | a byte of the answer was forwarded | never sent again; the client sees a broken answer |
//!
//! Over HTTP/2 the connection is shared; there, a request of which nothing was sent is sent again,
//! and any other is not.

mod attempt_http1;
mod attempt_http2;
mod body;
pub mod error;
mod exchange;
mod fields;
mod headers;
mod http1;
pub(crate) mod http2;
mod learn;
mod lease;
mod limits;
mod location;
mod metrics;
mod pool;
mod server;
mod timeouts;
mod upload;

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use tokio::time::Instant;

pub use body::UpstreamBody;
pub(crate) use lease::UpgradedConnection;
pub use metrics::UpstreamMetrics;
pub use pool::Pools;

use crate::auth::{Permit, SpentPermit, StreamAuthorization, rest};
use crate::denial::grpc::is_grpc;
use crate::denial::{Denial, Reason};
use crate::facts::Facts;
use crate::policy::route::Target;
use crate::policy::upstream::{Protocol, Upstream};
use crate::record::Record;
use crate::request::headers::clean_response;
use crate::upstream::attempt_http1::Attempt;
use http1::OutgoingRequest;
use http2::RequestBody;
use limits::Limits;
use pool::Pool;
use upload::Upload;

/// How long a client of gRPC may only listen where the route sets no limit.
const GRPC_IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// An upstream's answer as soon as its head is there.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status.
    pub(crate) status: StatusCode,
    /// The fields that clients may see.
    pub(crate) headers: HeaderMap,
    /// What follows the head.
    pub(crate) body: ReplyBody,
    /// By which an answer that goes on is authorized again.
    pub(crate) authorization: StreamAuthorization,
}

/// What follows the head of an upstream's answer.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    /// The body, as it comes.
    Streamed(UpstreamBody),
    /// The body, which was read for what it teaches.
    Read(Bytes),
    /// Behind a 101: a connection that speaks HTTP no longer.
    Upgraded(UpgradedConnection),
}

/// Forwards a permitted request and gives the answer as soon as its head is there; bodies stream
/// both ways. What the route learns is bound in `facts`.
///
/// # Errors
///
/// A [`Reason`] of the upstream's group, or [`Reason::BodyTooLarge`], [`Reason::BodyTimeout`].
pub(crate) async fn forward(
    pools: &Pools,
    facts: &Facts,
    permit: Permit,
    record: &mut Record,
) -> Result<Reply, Denial> {
    let started = record.lap();
    let Target::Upstream(index) = permit.target() else {
        return Err(Reason::Internal.into());
    };
    let pool = pools.get(permit.request().in_force(), index);
    let pool = pool.ok_or(Reason::Internal)?;
    let limits = Limits::of(permit.request().rule(), pool.config(), started);
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
    let outcome = match pool.config().protocol {
        Protocol::Http1 => {
            let outgoing = over_http1(&spent, payload, &pool, &record.id);
            let authorization = spent.into_stream();
            let mut attempt = Attempt::new(Box::new(outgoing), &pool);
            // Requests that came in together are all authorized before the first of them is sent.
            // Sent one behind the other they wake the server once, and between two of them the
            // cache is asked for no code but what sends.
            let_others_go_first().await;
            let outcome = attempt.run(&limits, began).await;
            outcome.map(|(head, lease)| {
                let body =
                    match head.status {
                        StatusCode::SWITCHING_PROTOCOLS => ReplyBody::Upgraded(lease.upgrade()),
                        _ => ReplyBody::Streamed(UpstreamBody::Http1(
                            exchange::Http1AnswerBody::new(lease, attempt.outgoing, limits),
                        )),
                    };
                (head.status, head.headers, body, authorization)
            })
        }
        Protocol::Http2 => {
            let request = over_http2(&mut spent, payload, &pool, &record.id)?;
            let authorization = spent.into_stream();
            // Boxed, so that every other request does not carry room for it along.
            let exchange = Box::pin(attempt_http2::exchange(&pool, request, limits));
            let_others_go_first().await;
            exchange.await.map(|answer| {
                let (head, body) = answer.into_parts();
                let body = ReplyBody::Streamed(UpstreamBody::Http2(body));
                (head.status, head.headers, body, authorization)
            })
        }
    };
    if touched.is_something() {
        Box::pin(touched.end()).await;
    }
    record.note_upstream();
    let (status, headers, body, authorization) = outcome?;
    let reply = Reply {
        status,
        headers,
        body,
        authorization,
    };
    finish(reply, facts, pool.config()).await
}

/// Cleans the answer's fields, and reads its body where the route learns from it.
async fn finish(mut reply: Reply, facts: &Facts, upstream: &Upstream) -> Result<Reply, Denial> {
    let body = match reply.body {
        // The handshake decides which fields of a 101 pass.
        ReplyBody::Upgraded(_) | ReplyBody::Read(_) => return Ok(reply),
        ReplyBody::Streamed(body) => body,
    };
    // It was let in to authenticate on a WebSocket, which this is not.
    if reply.authorization.needs_token() {
        return Err(Reason::TokenMissing.into());
    }
    let request = reply.authorization.request();
    let own = &request.in_force().config().sessions.cookie;
    if clean_response(&mut reply.headers, own) {
        location::rewrite(&mut reply.headers, upstream, request);
    }
    reply.body = match learn::teaches(reply.status, &reply.authorization) {
        None => ReplyBody::Streamed(body),
        Some(lesson) => {
            // Boxed, so that requests on other routes do not carry room for it along.
            let learning = learn::learn(lesson, &reply.headers, body, &reply.authorization, facts);
            ReplyBody::Read(Box::pin(learning).await?)
        }
    };
    Ok(reply)
}

/// Waits until every task that is ready now has had its turn. Unlike the runtime's own `yield_now`
/// it does not ask for new events on the way, which would be a system call.
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
fn prepare(spent: &mut SpentPermit) {
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

/// A request's body, and how it is delimited.
struct Payload {
    upload: Option<Upload>,
    /// The length of the body, if the client said it.
    declared: Option<u64>,
}

impl Payload {
    fn of(spent: &mut SpentPermit, limits: &Limits) -> Result<Self, Denial> {
        let upload = match spent.take_body() {
            None => None,
            Some(body) => {
                let request = spent.request();
                // In a call of gRPC a client may listen for as long as it likes before it says
                // more.
                let idle = match is_grpc(request.headers()) {
                    true => limits.stream_idle.unwrap_or(GRPC_IDLE),
                    false => request.in_force().config().connections.body_idle,
                };
                Upload::new(body, request.rule().body_limit, idle)?
            }
        };
        // Without a length, a body goes out in chunks. hyper has made sure that a length which is
        // there is one number, and true.
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

fn over_http1(
    spent: &SpentPermit,
    payload: Payload,
    pool: &Pool,
    id: &HeaderValue,
) -> OutgoingRequest {
    let head = headers::write(spent, id, pool.config());
    let method = spent.request().method().clone();
    OutgoingRequest::new(method, head, payload.declared, payload.upload)
}

fn over_http2(
    spent: &mut SpentPermit,
    payload: Payload,
    pool: &Pool,
    id: &HeaderValue,
) -> Result<Request<RequestBody>, Denial> {
    let mut fields = std::mem::take(spent.fields());
    headers::write_added(&mut fields, spent, id);
    let (host, request) = (headers::host(spent, pool.config()), spent.request());
    let body = RequestBody::new(payload.upload);
    attempt_http2::request(request.method(), host, request.target(), fields, body)
}

/// The declared length of a request's body.
fn length(fields: &HeaderMap) -> Option<u64> {
    fields
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse().ok())
}
