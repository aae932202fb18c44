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

mod body;
mod exchange;
mod headers;
mod http1;
mod http2;
mod learn;
mod lease;
mod location;
mod pool;
mod upload;

use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::{Instant, timeout_at};

pub use body::UpstreamBody;
pub(crate) use lease::Switched;
pub use pool::Pools;

use crate::answer::Answer;
use crate::auth::{Permit, Spent, Standing, rest};
use crate::config::checked::{Protocol, Target};
use crate::denial::{Denial, Reason};
use crate::facts::Touched;
use crate::process::Process;
use crate::record::Trail;
use crate::streams::{Kind, Opening, Streaming, TunnelLimits, grpc};
use exchange::{Failure, Limits};
use headers::Said;
use http1::{AnswerHead, Malformed, Outgoing};
use http2::RequestBody;
use lease::Lease;
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
    let body_limit = rule.body_limit;
    let stalled = permit.request().snapshot().config().connections.body_idle;
    // In a call of gRPC a client may listen for as long as it likes before it says more.
    let body_idle = match grpc::is_grpc(permit.request().headers()) {
        true => limits.stream_idle.unwrap_or(LISTENING),
        false => stalled,
    };

    let mut spent = permit.spend();
    let touched = std::mem::replace(&mut spent.touched, Touched::nothing());
    let request = spent.standing.request();
    if request.rule().learn.is_some() {
        learn::prepare(&mut spent.fields);
    }
    if let Some(rules) = &request.rule().rest {
        rest::name_schema(rules, request.method(), &mut spent.fields);
    }
    let message = Message::new(spent, body_limit, body_idle)?;
    // Boxed where something is touched, so that most requests do not carry room for it along.
    if touched.is_something() {
        Box::pin(touched.begin()).await;
    }
    match pool.config().protocol {
        Protocol::Http1 => {
            let (outgoing, standing) = message.over_http1(&pool, &trail.id);
            let mut attempt = Attempt::new(Box::new(outgoing), process, &pool);
            // The requests that came in together with this one are judged before any of them is sent. Sent one behind the other, they
            // wake the other side once and not one by one, and code that judges does not take turns in the cache with code that sends.
            tokio::task::yield_now().await;
            let outcome = attempt.run(&pool, &limits, Instant::now()).await;
            if touched.is_something() {
                Box::pin(touched.end()).await;
            }
            trail.note_upstream();
            let (head, lease) = outcome?;
            let (status, headers) = (head.status, head.headers);
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return switch(lease, headers, standing, &limits, stalled);
            }
            let body = exchange::AnswerBody::new(lease, attempt.outgoing, limits);
            let body = UpstreamBody::Http1(body);
            answer(&pool, status, headers, body, standing).await
        }
        Protocol::Http2 => {
            let (request, standing) = message.over_http2(&pool, &trail.id)?;
            // Boxed, so that every other request does not carry room for it along.
            let outcome = Box::pin(http2::exchange(&pool, process, request, limits)).await;
            if touched.is_something() {
                Box::pin(touched.end()).await;
            }
            trail.note_upstream();
            let (head, body) = outcome?.into_parts();
            let body = UpstreamBody::Http2(body);
            answer(&pool, head.status, head.headers, body, standing).await
        }
    }
}

/// The answer, as the client will see it.
async fn answer(
    pool: &Pool,
    status: StatusCode,
    mut headers: HeaderMap,
    body: UpstreamBody,
    standing: Standing,
) -> Result<Response<Answer>, Denial> {
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

/// The head before a tunnel, if the upstream's 101 is one that was asked for.
fn switch(
    lease: Lease,
    mut headers: HeaderMap,
    standing: Standing,
    limits: &Limits,
    stalled: Duration,
) -> Result<Response<Answer>, Denial> {
    let Some(handshake) = standing.request().handshake() else {
        return Err(Reason::UpstreamProtocol.because("101 unasked"));
    };
    let own = &standing.request().snapshot().config().sessions.cookie;
    handshake
        .finish(&mut headers, own)
        .map_err(|why| Reason::UpstreamProtocol.because(format!("{}: {why}", lease.server())))?;
    let rule = standing.request().rule();
    let judged = rule
        .realtime
        .then(|| usize::try_from(rule.body_limit).unwrap_or(usize::MAX));
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

/// A request on its way to an upstream, before it is written in a protocol.
struct Message {
    standing: Standing,
    fields: HeaderMap,
    authorization: Option<HeaderValue>,
    upload: Option<Upload>,
    /// The length of the body, if the client said it.
    declared: Option<u64>,
}

impl Message {
    fn new(spent: Spent, body_limit: u64, body_idle: Duration) -> Result<Self, Denial> {
        let Spent {
            standing,
            mut fields,
            body,
            authorization,
            touched: _,
        } = spent;
        let upload = match body {
            None => None,
            Some(body) => Upload::new(body, body_limit, body_idle)?,
        };
        // Without a length, a body goes out in chunks. hyper has made sure that a length which is there is one number, and true.
        let declared = match &upload {
            // A length without a body would promise bytes that never come.
            None => length(&fields).filter(|length| *length == 0),
            Some(upload) => upload.length().and(length(&fields)),
        };
        if declared.is_none() {
            fields.remove(header::CONTENT_LENGTH);
        }
        Ok(Self {
            standing,
            fields,
            authorization,
            upload,
            declared,
        })
    }

    fn said<'a>(&'a self, id: &'a HeaderValue) -> Said<'a> {
        let request = self.standing.request();
        Said {
            host: request.host(),
            client: request.client(),
            caller: self.standing.caller(),
            authorization: self.authorization.as_ref(),
            id,
            handshake: request.handshake(),
        }
    }

    fn over_http1(self, pool: &Pool, id: &HeaderValue) -> (Outgoing, Standing) {
        let (said, request) = (self.said(id), self.standing.request());
        let (method, target) = (request.method(), request.target());
        let head = headers::write(method, target, &self.fields, &said, pool.config());
        let outgoing = Outgoing::new(method.clone(), head, self.declared, self.upload);
        (outgoing, self.standing)
    }

    fn over_http2(
        mut self,
        pool: &Pool,
        id: &HeaderValue,
    ) -> Result<(Request<RequestBody>, Standing), Denial> {
        let body = RequestBody::new(self.upload.take());
        let mut fields = std::mem::take(&mut self.fields);
        let (said, request) = (self.said(id), self.standing.request());
        headers::say(&mut fields, &said);
        let host = headers::host(&said, pool.config());
        let request = http2::request(request.method(), host, request.target(), fields, body)?;
        Ok((request, self.standing))
    }
}

/// The declared length of a request's body.
fn length(fields: &HeaderMap) -> Option<u64> {
    fields
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse().ok())
}

/// One request on its way to some server.
struct Attempt<'a> {
    outgoing: Box<Outgoing>,
    process: &'a Process,
    upstream: &'a str,
}

impl<'a> Attempt<'a> {
    fn new(outgoing: Box<Outgoing>, process: &'a Process, pool: &'a Pool) -> Self {
        Self {
            outgoing,
            process,
            upstream: &pool.config().name,
        }
    }

    async fn run(
        &mut self,
        pool: &Pool,
        limits: &Limits,
        began: Instant,
    ) -> Result<(AnswerHead, Lease), Denial> {
        let mut fresh = false;
        loop {
            let mut lease = self.connect(pool, fresh, limits, began).await?;
            // To send on a kept connection takes no time to begin; to open one does.
            let began = if lease.reused && !fresh {
                began
            } else {
                Instant::now()
            };
            let sending = exchange::send(&mut lease, &mut self.outgoing, limits, began);
            let failure = match sending.await {
                Ok(head) => return Ok((head, lease)),
                Err(failure) => failure,
            };
            // Only a kept connection can be stale.
            let may_repeat = lease.reused
                && match failure {
                    Failure::Unsent => true,
                    Failure::Silent => self.is_repeatable(),
                    Failure::Broken
                    | Failure::Protocol(_)
                    | Failure::Upload(_)
                    | Failure::FirstByteTimeout
                    | Failure::TotalTimeout => false,
                };
            if !may_repeat {
                return Err(denial(failure, &lease));
            }
            self.outgoing.rewind();
            fresh = true;
            self.process
                .metrics()
                .upstream_retries
                .with_label_values(&[self.upstream])
                .inc();
        }
    }

    /// Each server once, then the last refusal.
    async fn connect(
        &self,
        pool: &Pool,
        fresh: bool,
        limits: &Limits,
        now: Instant,
    ) -> Result<Lease, Denial> {
        let turn = pool.turn();
        if !fresh && let Some(lease) = pool.take_kept(turn, now.into_std()) {
            return Ok(lease);
        }
        // Boxed, because most requests find a kept connection, and should not carry room for this along.
        Box::pin(self.open(pool, turn, fresh, limits)).await
    }

    async fn open(
        &self,
        pool: &Pool,
        turn: usize,
        fresh: bool,
        limits: &Limits,
    ) -> Result<Lease, Denial> {
        let mut refusal = None;
        for offset in 0..pool.len() {
            if limits.is_over() {
                return Err(Reason::UpstreamTotalTimeout.into());
            }
            let taking = pool.take(turn.wrapping_add(offset), fresh);
            let taken = match limits.deadline {
                None => taking.await,
                Some(deadline) => timeout_at(deadline, taking)
                    .await
                    .map_err(|_| Reason::UpstreamTotalTimeout)?,
            };
            match taken {
                Ok(lease) => return Ok(lease),
                Err(denial) => refusal = Some(denial),
            }
        }
        Err(refusal.unwrap_or_else(|| Reason::Internal.into()))
    }

    fn is_repeatable(&self) -> bool {
        self.outgoing.upload().is_none()
            && matches!(
                *self.outgoing.method(),
                Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
            )
    }
}

fn denial(failure: Failure, lease: &Lease) -> Denial {
    let server = lease.server().to_string();
    match failure {
        Failure::Upload(fault) => fault.reason().into(),
        Failure::Unsent | Failure::Silent | Failure::Broken => {
            Reason::UpstreamClosed.because(server)
        }
        Failure::Protocol(Malformed(what)) => {
            Reason::UpstreamProtocol.because(format!("{server}: {what}"))
        }
        Failure::FirstByteTimeout => Reason::UpstreamFirstByteTimeout.because(server),
        Failure::TotalTimeout => Reason::UpstreamTotalTimeout.because(server),
    }
}
