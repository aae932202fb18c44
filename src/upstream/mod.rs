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

mod exchange;
mod headers;
mod http1;
mod pool;
mod upload;

use hyper::header;
use hyper::{Method, Response, StatusCode};
use tokio::time::{Instant, timeout_at};

pub use exchange::UpstreamBody;
pub use pool::Pools;

use crate::answer::Answer;
use crate::auth::Permit;
use crate::config::checked::Target;
use crate::denial::{Denial, Reason};
use crate::process::Process;
use crate::record::Trail;
use exchange::{Failure, Limits};
use headers::Said;
use http1::{AnswerHead, Malformed, Outgoing};
use pool::{Lease, Pool};
use upload::{Fault, Upload};

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
    let body_idle = permit.request().snapshot().config().connections.body_idle;

    let outgoing = Box::new(outgoing(permit, trail, &pool, body_limit, body_idle)?);
    let mut attempt = Attempt::new(outgoing, process, &pool);
    let outcome = attempt.run(&pool, &limits).await;
    trail.note_upstream();
    let (head, lease) = outcome?;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Reason::UpstreamProtocol.because("101 unasked"));
    }
    let body = UpstreamBody::new(lease, attempt.outgoing, limits);
    let mut response = Response::new(Answer::upstream(body));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    crate::request::headers::clean_response(response.headers_mut());
    Ok(response)
}

/// The request as the upstream will see it.
fn outgoing(
    permit: Permit,
    trail: &Trail,
    pool: &Pool,
    body_limit: u64,
    body_idle: std::time::Duration,
) -> Result<Outgoing, Denial> {
    let (inbound, caller, authorization) = permit.spend();
    let (head, target, _, _, body) = inbound.into_parts();
    let (method, mut fields, host, client, _) = head.into_forwarded();
    let upload = Upload::new(body, body_limit, body_idle)?;
    // Without a length, a body goes out in chunks. hyper has made sure that a length which is there is one number, and true.
    let declared = match &upload {
        None => length(&fields),
        Some(upload) => upload.length().and(length(&fields)),
    };
    if declared.is_none() {
        fields.remove(header::CONTENT_LENGTH);
    }
    let said = Said {
        host: &host,
        client: &client,
        caller: &caller,
        authorization: authorization.as_ref(),
        id: &trail.id,
    };
    let head = headers::write(&method, &target, &fields, &said, pool.config());
    Ok(Outgoing::new(method, head, declared, upload))
}

/// The declared length of a request's body.
fn length(fields: &hyper::HeaderMap) -> Option<u64> {
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

    async fn run(&mut self, pool: &Pool, limits: &Limits) -> Result<(AnswerHead, Lease), Denial> {
        let mut fresh = false;
        loop {
            let mut lease = self.connect(pool, fresh, limits).await?;
            let failure = match exchange::send(&mut lease, &mut self.outgoing, limits).await {
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
    async fn connect(&self, pool: &Pool, fresh: bool, limits: &Limits) -> Result<Lease, Denial> {
        let turn = pool.turn();
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
        Failure::Upload(Fault::TooLarge) => Reason::BodyTooLarge.into(),
        Failure::Upload(Fault::Stalled) => Reason::BodyTimeout.into(),
        Failure::Upload(Fault::Gone) => Reason::BodyBroken.into(),
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
