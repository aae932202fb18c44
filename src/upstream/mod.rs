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
mod pool;
mod upload;

use std::rc::Rc;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use tokio::time::{Instant, timeout_at};

pub use exchange::UpstreamBody;
pub use pool::Pools;

use crate::answer::Answer;
use crate::auth::Permit;
use crate::clock;
use crate::config::checked::Target;
use crate::denial::{Denial, Reason};
use crate::process::Process;
use crate::record::Trail;
use exchange::{Failure, Limits};
use pool::{Lease, Pool};
use upload::{Fault, Progress, Upload};

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
    let started = clock::now();
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

    let (request, progress) = outgoing(permit, trail, &pool, body_limit, body_idle)?;
    let mut attempt = Attempt::new(request, progress, process, &pool);
    let outcome = attempt.run(&pool, &limits).await;
    trail.upstream = Some(started.elapsed());
    let (response, lease) = outcome?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Reason::UpstreamProtocol.because("101 unasked"));
    }
    if !has_one_framing(response.headers()) {
        return Err(Reason::UpstreamProtocol.because("ambiguous framing"));
    }
    let upload = attempt.progress;
    let mut response =
        response.map(|body| Answer::upstream(UpstreamBody::new(body, lease, upload, limits)));
    crate::request::headers::clean_response(response.headers_mut());
    // An upstream's HTTP/1.0 ends here.
    *response.version_mut() = headers::VERSION;
    Ok(response)
}

/// Whether an answer says only once how long it is. hyper obeys `Transfer-Encoding` and leaves `Content-Length` in place, by which the
/// client's message would then be cut; such an answer ought to be handled as an error (RFC 9112, section 6.3). So is a transfer coding
/// that hyper does not undo: the client would not learn of it.
fn has_one_framing(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match codings.next() {
        None => {
            let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
            lengths
                .next()
                .is_none_or(|length| !length.as_bytes().contains(&b','))
                && lengths.next().is_none()
        }
        Some(coding) => {
            coding.as_bytes().eq_ignore_ascii_case(b"chunked")
                && codings.next().is_none()
                && !headers.contains_key(header::CONTENT_LENGTH)
        }
    }
}

/// A request for the upstream, and how far its body is, if it has one.
type Outgoing = (Box<Request<Upload>>, Option<Rc<Progress>>);

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
    let (upload, progress) = Upload::new(body, body_limit, body_idle)?;
    headers::complete(
        &mut fields,
        &host,
        &client,
        &caller,
        authorization,
        &trail.id,
        pool.config(),
    );
    // Without this, hyper would drop the body of a method that usually has none.
    if progress.is_some() && hyper::body::Body::size_hint(&upload).exact().is_none() {
        fields.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
    }
    let mut request = Box::new(Request::new(upload));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(target);
    *request.version_mut() = headers::VERSION;
    *request.headers_mut() = fields;
    Ok((request, progress))
}

/// One request on its way to some server.
struct Attempt<'a> {
    request: Option<Box<Request<Upload>>>,
    progress: Option<Rc<Progress>>,
    process: &'a Process,
    upstream: &'a str,
}

impl<'a> Attempt<'a> {
    fn new(
        request: Box<Request<Upload>>,
        progress: Option<Rc<Progress>>,
        process: &'a Process,
        pool: &'a Pool,
    ) -> Self {
        Self {
            request: Some(request),
            progress,
            process,
            upstream: &pool.config().name,
        }
    }

    async fn run(
        &mut self,
        pool: &Pool,
        limits: &Limits,
    ) -> Result<(Response<hyper::body::Incoming>, Lease), Denial> {
        let mut fresh = false;
        loop {
            let mut lease = self.connect(pool, fresh, limits).await?;
            let request = self.request.take().ok_or(Reason::Internal)?;
            // Only a kept connection can be stale, so only then is a spare worth its cost.
            let spare = (lease.reused && self.is_repeatable(&request)).then(|| Spare::of(&request));
            match exchange::send(&mut lease, request, self.progress.as_deref(), limits).await {
                Ok(response) => return Ok((response, lease)),
                Err(Failure::Unsent(request)) if lease.reused => self.request = Some(request),
                Err(failure) => match (failure, spare) {
                    (Failure::Closed, Some(spare)) => self.request = spare.restore(),
                    (failure, _) => return Err(self.denial(failure, &lease)),
                },
            }
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

    fn is_repeatable(&self, request: &Request<Upload>) -> bool {
        self.progress.is_none()
            && matches!(
                *request.method(),
                Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
            )
    }

    fn denial(&self, failure: Failure, lease: &Lease) -> Denial {
        // A body that broke off explains whatever the connection says about it.
        match self.progress.as_ref().and_then(|progress| progress.fault()) {
            Some(Fault::TooLarge) => return Reason::BodyTooLarge.into(),
            Some(Fault::Stalled) => return Reason::BodyTimeout.into(),
            Some(Fault::Gone) => return Reason::BodyBroken.into(),
            None => {}
        }
        let server = lease.server().to_string();
        match failure {
            Failure::Unsent(_) | Failure::Closed => Reason::UpstreamClosed.because(server),
            Failure::Protocol => Reason::UpstreamProtocol.because(server),
            Failure::FirstByteTimeout => Reason::UpstreamFirstByteTimeout.because(server),
            Failure::TotalTimeout => Reason::UpstreamTotalTimeout.because(server),
        }
    }
}

/// What is needed to send a request without a body again. Short fields lie in one piece of memory, which costs less to make and to throw
/// away than a second map of them; long ones, such as a token, are shared. Nearly every spare is thrown away.
struct Spare {
    method: Method,
    uri: Uri,
    /// Name and value of each short field, each behind its length.
    short: Vec<u8>,
    long: Vec<(HeaderName, HeaderValue)>,
}

impl Spare {
    fn of(request: &Request<Upload>) -> Self {
        const SHORT: usize = 128;
        let mut short = Vec::with_capacity(1024);
        let mut long = Vec::new();
        for (name, value) in request.headers() {
            if value.len() > SHORT {
                long.push((name.clone(), value.clone()));
                continue;
            }
            for part in [name.as_str().as_bytes(), value.as_bytes()] {
                short.extend_from_slice(&part.len().to_be_bytes());
                short.extend_from_slice(part);
            }
        }
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            short,
            long,
        }
    }

    /// The request; `None` only if a field is not what it was a moment ago.
    fn restore(self) -> Option<Box<Request<Upload>>> {
        let mut request = Box::new(Request::new(Upload::none()));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        request.headers_mut().extend(
            self.long
                .into_iter()
                .map(|(name, value)| (Some(name), value)),
        );
        let mut rest = self.short.as_slice();
        while !rest.is_empty() {
            let name = HeaderName::from_bytes(next_part(&mut rest)?).ok()?;
            let value = HeaderValue::from_bytes(next_part(&mut rest)?).ok()?;
            request.headers_mut().append(name, value);
        }
        Some(request)
    }
}

fn next_part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk()?;
    let (part, behind) = behind.split_at_checked(usize::from_be_bytes(*length))?;
    *rest = behind;
    Some(part)
}
