//! One HTTP/2 request: which server it is sent to, and when it is retried. Clear text with prior
//! knowledge (RFC 9113, section 3.3), which is what gRPC needs.
//!
//! A client's reset reaches the server as a reset, and the server's reaches the client as one:
//! dropping either half of an exchange resets its stream, and the connection stays open.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::http::uri::Scheme;
use hyper::{HeaderMap, Method, Request, Response, Uri, Version};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::denial::{Denial, Reason};
use crate::live::Waiting;
use crate::upstream::http2::body::{Http2AnswerBody, Progress, RequestBody};
use crate::upstream::http2::channel::{Channel, Share};
use crate::upstream::limits::Limits;
use crate::upstream::occupancy::Occupant;
use crate::upstream::pool::Pool;
use crate::upstream::upload::UploadError;

/// How many times a request is sent of which nothing was sent before. One connection that closes
/// just then is bad luck; three are a server that accepts no requests.
const ATTEMPTS: usize = 3;

/// Why there is no answer.
enum AttemptError {
    /// Nothing was sent; the request may be sent elsewhere.
    Unsent(Box<Request<RequestBody>>),
    /// The client's body failed.
    Upload(UploadError),
    /// The stream or the connection ended before an answer.
    Closed,
    /// The head did not arrive in time.
    FirstByteTimeout,
    /// The deadline of the request has passed.
    TotalTimeout,
    /// The request would be refused now, for this reason.
    Refused(Reason),
}

impl AttemptError {
    /// The refusal of the request.
    fn denial(self, channel: &Channel) -> Denial {
        let server = channel.server().to_owned();
        match self {
            Self::Unsent(_) | Self::Closed => Reason::UpstreamClosed.because(server),
            Self::Upload(error) => error.reason().into(),
            Self::FirstByteTimeout => Reason::UpstreamFirstByteTimeout.because(server),
            Self::TotalTimeout => Reason::UpstreamTotalTimeout.because(server),
            Self::Refused(reason) => reason.into(),
        }
    }
}

/// The request as the server receives it.
///
/// # Errors
///
/// The host and the target do not form a URI, which would be a defect: both were parsed as parts of
/// one.
pub(super) fn request(
    method: &Method,
    host: &HeaderValue,
    target: &hyper::http::uri::PathAndQuery,
    fields: HeaderMap,
    body: RequestBody,
) -> Result<Request<RequestBody>, Denial> {
    let uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(host.as_bytes())
        .path_and_query(target.clone())
        .build()
        .map_err(|_| Reason::Internal.because("host and target do not form a URI"))?;
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = fields;
    Ok(request)
}

/// Sends a request to one of the servers and returns its answer, and its authorization. Only a
/// request of which nothing was sent is retried: the server may have acted.
///
/// # Errors
///
/// A [`Reason`] of the upstream's group, or one about the client's body.
pub(super) async fn exchange<'a>(
    pool: &Pool,
    request: Request<RequestBody>,
    limits: Limits,
    occupant: Occupant,
    mut waiting: Waiting<'a>,
) -> (Result<Response<Http2AnswerBody>, Denial>, Waiting<'a>) {
    let answered = attempts(pool, request, limits, occupant, &mut waiting);
    (answered.await, waiting)
}

async fn attempts(
    pool: &Pool,
    mut request: Request<RequestBody>,
    limits: Limits,
    occupant: Occupant,
    waiting: &mut Waiting<'_>,
) -> Result<Response<Http2AnswerBody>, Denial> {
    let mut unanswered = Unanswered(Some(request.body().progress()));
    let mut attempts = 1;
    loop {
        let share = connect(pool, &limits).await?;
        if waiting.is_outdated(Instant::now()) {
            waiting.authorize_again().await?;
        }
        match send(share.channel(), request, &limits, waiting).await {
            Ok(answer) => {
                let progress = unanswered.0.take().unwrap_or_default();
                return Ok(answer
                    .map(|body| Http2AnswerBody::new(body, share, progress, limits, occupant)));
            }
            // The server closed the connection while the request was on its way to it.
            Err(AttemptError::Unsent(unsent)) if attempts < ATTEMPTS => request = *unsent,
            Err(failure) => return Err(failure.denial(share.channel())),
        }
        attempts += 1;
        pool.forget(&share);
        pool.count_retry();
    }
}

/// Cancels the request's body unless the head of the answer has arrived.
struct Unanswered(Option<Rc<Progress>>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(progress) = &self.0 {
            progress.cancel();
        }
    }
}

/// Connects to each server once; the last refusal if none accepts.
async fn connect(pool: &Pool, limits: &Limits) -> Result<Share, Denial> {
    let turn = pool.turn();
    let mut refusal = None;
    for offset in 0..pool.len() {
        if limits.is_over() {
            return Err(Reason::UpstreamTotalTimeout.into());
        }
        let sharing = pool.share(turn.wrapping_add(offset));
        let shared = match limits.deadline {
            None => sharing.await,
            Some(deadline) => timeout_at(deadline, sharing)
                .await
                .map_err(|_| Reason::UpstreamTotalTimeout)?,
        };
        match shared {
            Ok(share) => return Ok(share),
            Err(denial) => refusal = Some(denial),
        }
    }
    Err(refusal.unwrap_or_else(|| Reason::Internal.into()))
}

/// Sends a request and waits for the head of its answer, while the request would still be
/// authorized.
async fn send(
    channel: &Rc<Channel>,
    request: Request<RequestBody>,
    limits: &Limits,
    waiting: &mut Waiting<'_>,
) -> Result<Response<Incoming>, AttemptError> {
    let started = Instant::now();
    let refusal = poll_fn(|context| Poll::Ready(waiting.poll_refusal(context)));
    if let Poll::Ready(reason) = refusal.await {
        return Err(AttemptError::Refused(reason));
    }
    let progress = request.body().progress();
    let mut answer = pin!(channel.sender().try_send_request(request));
    let mut timer = pin!(sleep_until(started + limits.first_byte));
    poll_fn(|context| {
        if let Poll::Ready(answered) = answer.as_mut().poll(context) {
            return Poll::Ready(answered.map_err(|mut error| {
                match (progress.error(), error.take_message()) {
                    (Some(error), _) => AttemptError::Upload(error),
                    (None, Some(request)) => AttemptError::Unsent(Box::new(request)),
                    (None, None) => AttemptError::Closed,
                }
            }));
        }
        loop {
            if let Poll::Ready(reason) = waiting.poll_refusal(context) {
                return Poll::Ready(Err(AttemptError::Refused(reason)));
            }
            // An upload in progress is no sign of a slow upstream.
            let since = progress
                .last()
                .map_or(started, |last| Instant::from_std(last).max(started));
            let limit = limits.earlier(since + limits.first_byte);
            let due = waiting.earlier(Some(limit)).unwrap_or(limit);
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if limits.is_over() {
                return Poll::Ready(Err(AttemptError::TotalTimeout));
            }
            let now = Instant::now();
            if !waiting.has_lasted(now) && now >= limit {
                return Poll::Ready(Err(AttemptError::FirstByteTimeout));
            }
        }
    })
    .await
}
