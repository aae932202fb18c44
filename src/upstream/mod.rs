//! Forwarding: a permit goes in, the upstream's answer comes out.
//!
//! Decides: which server gets the request, when it is retried, how long to wait, and which reason a
//! failure has. Trusts: the permit; it accepts nothing else. Not here: whether the request may be
//! forwarded.
//!
//! | event | what is done |
//! |---|---|
//! | no connection could be opened | the next server is tried; each once |
//! | a kept connection was closed before a byte of the request was written | retried on a fresh connection, whatever the method |
//! | a kept connection was closed after that, before a byte of the answer | retried once if the method is idempotent (RFC 9110, section 9.2.2) and there is no body |
//! | the same on a fresh connection, or with another method | 502 `upstream_closed`: the upstream may have acted |
//! | a byte of the answer was forwarded | never retried; the client sees an incomplete answer |
//!
//! Over HTTP/2 the connection is shared; there, a request of which nothing was sent is retried, and
//! any other is not.

mod admission;
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
mod occupancy;
mod pool;
mod server;
mod timeouts;
mod upload;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant as StdInstant;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use tokio::time::Instant;

pub(crate) use body::AnswerExchange;
use body::ProtocolBody;
pub use body::UpstreamBody;
pub(crate) use lease::UpgradedConnection;
pub use metrics::UpstreamMetrics;
pub use pool::Pools;

use crate::auth::{Permit, SpentPermit, StreamAuthorization, rest};
use crate::denial::{Denial, Reason};
use crate::facts::Facts;
use crate::live::{AnswerAuthorization, Streams, Waiting};
use crate::policy::route::Target;
use crate::policy::upstream::Protocol;
use crate::record::stream::StreamKind;
use crate::record::{Decision, Record};
use crate::request::headers::clean_response;
use crate::request::holder::Holder;
use crate::upstream::admission::Admission;
use crate::upstream::attempt_http1::Attempt;
use exchange::PendingRequest;
use http1::OutgoingRequest;
use http2::RequestBody;
use learn::Lesson;
use limits::Limits;
use occupancy::Occupant;
use pool::Pool;
use upload::Upload;

/// An upstream's answer whose head has arrived.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// The fields that clients may see.
    pub(crate) headers: HeaderMap,
    pub(crate) body: ReplyBody,
    /// The authorization that a live stream keeps, or an answer that lasts.
    pub(crate) authorization: AnswerAuthorization,
    /// The kind of live stream that the answer is, if it is one.
    pub(crate) stream: Option<StreamKind>,
}

/// What follows the head of an upstream's answer.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    /// The body, streamed.
    Streamed(UpstreamBody),
    /// The body, which was read to learn from it.
    Read(Bytes),
    /// After a 101: a connection that does not speak HTTP any more.
    Upgraded(UpgradedConnection),
}

/// What forwarding needs besides the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForwardContext<'a> {
    pub(crate) pools: &'a Pools,
    /// Where a route binds what it learns.
    pub(crate) facts: &'a Facts,
    /// Where a request that lasts is registered.
    pub(crate) streams: &'a Rc<Streams>,
}

/// Forwards a permitted request and returns the answer as soon as its head has arrived; bodies are
/// streamed in both directions.
///
/// # Errors
///
/// A [`Reason`] of the upstream's group, or [`Reason::BodyTooLarge`], [`Reason::BodyTimeout`]; or
/// the reason for which the request would be refused now, if that is found before its answer.
pub(crate) async fn forward(
    context: &ForwardContext<'_>,
    permit: Permit,
    record: &mut Record,
) -> Result<Reply, Denial> {
    let started = record.lap();
    let Target::Upstream(index) = permit.target() else {
        return Err(Reason::Internal.into());
    };
    let pool = context.pools.get(permit.request().in_force(), index);
    let pool = pool.ok_or(Reason::Internal)?;
    let limits = Limits::of(permit.request().rule(), pool.config(), started);
    let mut spent = permit.spend();
    // Other streams are known by their answer.
    if spent.request().handshake().is_some() {
        let holder = Holder::of(spent.request().client(), spent.verified());
        let streams = &pool.occupancies.streams;
        streams
            .check(holder)
            .map_err(|busy| busy.because("live streams"))?;
    }
    prepare(&mut spent, context.facts)?;
    let touched = spent.take_touched();
    let mut payload = Payload::of(&mut spent)?;
    let (occupant, waited) = admit(&spent, &mut payload, &pool, &limits).await?;
    let mut began = waited.unwrap_or_else(|| Instant::from_std(started));
    // Boxed if facts are invalidated, so that the future of most requests has no room for it.
    if touched.is_something() {
        Box::pin(touched.begin()).await;
        // The upstream is not charged for the time that took.
        began = Instant::now();
    }
    let (outcome, mut waiting) = match pool.config().protocol {
        Protocol::Http1 => {
            let mut outgoing = Box::new(over_http1(&spent, payload, &pool, &record.id));
            let upload = outgoing.upload_mut();
            let waiting = wait(context.streams, spent, started, upload);
            let mut attempt = Attempt::new(PendingRequest { outgoing, waiting }, &pool);
            // Requests that arrived together are all authorized before the first of them is sent.
            // Sent one after the other they wake the server once, and the processor's cache needs
            // only the code that sends.
            let_others_go_first().await;
            let outcome = attempt.run(&limits, began).await;
            let PendingRequest { outgoing, waiting } = attempt.request;
            let outcome = outcome.map(|(head, mut lease)| {
                lease.occupant = Some(occupant);
                let body = match head.status {
                    StatusCode::SWITCHING_PROTOCOLS => ReplyBody::Upgraded(lease.upgrade()),
                    _ => {
                        let body = exchange::Http1AnswerBody::new(lease, outgoing, limits);
                        let body = ProtocolBody::Http1(body);
                        ReplyBody::Streamed(UpstreamBody::new(body, pool.occupancies.clone()))
                    }
                };
                (head.status, head.headers, body)
            });
            (outcome, waiting)
        }
        Protocol::Http2 => {
            let mut request = Box::new(over_http2(&mut spent, payload, &pool, &record.id)?);
            let upload = request.body_mut().upload_mut();
            let waiting = wait(context.streams, spent, started, upload);
            // Boxed, so that the future of every other request has no room for it.
            let exchange = attempt_http2::exchange(&pool, *request, limits, occupant, waiting);
            let exchange = Box::pin(exchange);
            let_others_go_first().await;
            let (outcome, waiting) = exchange.await;
            let outcome = outcome.map(|answer| {
                let (head, body) = answer.into_parts();
                let body = ProtocolBody::Http2(body);
                let body = UpstreamBody::new(body, pool.occupancies.clone());
                let body = ReplyBody::Streamed(body);
                (head.status, head.headers, body)
            });
            (outcome, waiting)
        }
    };
    if touched.is_something() {
        Box::pin(touched.end()).await;
    }
    record.note_upstream();
    if outcome.is_err() && waiting.fail() {
        record.decision = Decision::Deny;
    }
    let (status, mut headers, mut body) = outcome?;
    let stream = match &mut body {
        ReplyBody::Upgraded(connection) => {
            connection.become_stream(&pool.occupancies.streams)?;
            None
        }
        ReplyBody::Streamed(body) => {
            let kind = StreamKind::of(status, &headers);
            if kind.is_some() {
                body.become_stream()?;
            }
            kind
        }
        ReplyBody::Read(_) => None,
    };
    if let ReplyBody::Streamed(streamed) = body {
        let lesson = clean(status, &mut headers, &pool, waiting.authorization())?;
        body = match lesson {
            None => ReplyBody::Streamed(streamed),
            Some(lesson) => {
                let learning = learn::learn(lesson, &headers, streamed, context.facts);
                // Boxed, so that requests on other routes have no room for it.
                ReplyBody::Read(Box::pin(waiting.wait_for(learning)).await??)
            }
        };
    }
    Ok(Reply {
        status,
        headers,
        body,
        authorization: waiting.into_answer(),
        stream,
    })
}

/// Waits until the request may be sent. If it had to wait, also returns when that ended: the
/// upstream is not charged for the time.
async fn admit(
    spent: &SpentPermit,
    payload: &mut Payload,
    pool: &Pool,
    limits: &Limits,
) -> Result<(Occupant, Option<Instant>), Denial> {
    let mut upload = payload.upload.as_deref_mut();
    let mut has_waited = false;
    let at_once = poll_fn(|context| {
        let admission = Admission::of(spent, pool, limits);
        match admission.at_once(upload.as_deref_mut(), context) {
            // A body that came with its head is handed over by the connection, which is polled
            // next.
            Ok(None) if !std::mem::replace(&mut has_waited, true) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            outcome => Poll::Ready(outcome),
        }
    });
    match at_once.await? {
        Some(occupant) => Ok((occupant, None)),
        // Boxed, so that the future of most requests has no room for it.
        None => {
            let occupant = Box::pin(Admission::of(spent, pool, limits).later(upload)).await?;
            Ok((occupant, Some(Instant::now())))
        }
    }
}

/// The authorization of a request that began at `started`. If it is sent before its body, and the
/// body takes long, the request is authorized again before the first part of the body is sent.
fn wait<'a>(
    streams: &'a Rc<Streams>,
    spent: SpentPermit,
    started: StdInstant,
    upload: Option<&mut Upload>,
) -> Waiting<'a> {
    let mut waiting = Waiting::new(streams, spent.into_stream(), started.into());
    if let Some(upload) = upload.filter(|upload| upload.early.is_some()) {
        upload.hold_until(waiting.authorize_body());
    }
    waiting
}

/// Cleans the answer's fields. Returns what the route learns from the answer, if it does. For a
/// 101, the handshake decides which fields pass.
fn clean(
    status: StatusCode,
    headers: &mut HeaderMap,
    pool: &Pool,
    authorization: &StreamAuthorization,
) -> Result<Option<Lesson>, Denial> {
    // The request was permitted in order to authenticate on a WebSocket, which this is not.
    if authorization.needs_token() {
        return Err(Reason::TokenMissing.into());
    }
    let request = authorization.request();
    let own = &request.in_force().config().sessions.cookie;
    if clean_response(headers, own) {
        location::rewrite(headers, pool.config(), request);
    }
    let lesson = learn::teaches(status, authorization);
    Ok(lesson
        .map(|lesson| Lesson::of(lesson, authorization))
        .transpose()?)
}

/// Waits until every task that is ready now has been polled. Unlike the runtime's own `yield_now`
/// it does not poll for new events, which would be a system call.
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

/// Sets the fields that rules of the route require.
///
/// # Errors
///
/// What the answer teaches could not be kept.
fn prepare(spent: &mut SpentPermit, facts: &Facts) -> Result<(), Denial> {
    let rule = spent.request().rule();
    if rule.learn.is_none() && rule.rest.is_none() {
        return Ok(());
    }
    if rule.learn.is_some() {
        facts.may_bind()?;
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
    Ok(())
}

/// A request's body, and how it is delimited.
struct Payload {
    /// Boxed, so that the future of a request without a body has no room for it.
    upload: Option<Box<Upload>>,
    /// The length of the body, if the client declared it.
    declared: Option<u64>,
}

impl Payload {
    fn of(spent: &mut SpentPermit) -> Result<Self, Denial> {
        let upload = match spent.take_body() {
            None => None,
            Some(body) => {
                let request = spent.request();
                Upload::new(body, request.rule().body_limit, request.body_pace())?
            }
        };
        // A body without a declared length is sent in chunks. A declared length is one number,
        // and the body is exactly as long.
        let fields = spent.fields();
        let declared = match &upload {
            // A length without a body would announce bytes that never come.
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
