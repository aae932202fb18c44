//! One request and its answer on one connection.
//!
//! Decides: when waiting is over, and what a failure was. Trusts: hyper for reading and writing messages. Not here: whether to try again
//! (the parent module).

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::TrySendError;
use hyper::{Request, Response};
use tokio::time::{Instant, Sleep, sleep_until};

use super::pool::Lease;
use super::upload::{self, Progress, Upload};
use crate::answer::AnswerError;

/// How long to wait for what.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// For the head of the answer, from the last byte that was sent.
    pub(super) first_byte: Duration,
    /// Between two frames of the answer's body.
    pub(super) stream_idle: Option<Duration>,
    /// For everything.
    pub(super) deadline: Option<Instant>,
}

impl Limits {
    /// Whether the time for everything is over.
    pub(super) fn is_over(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline <= Instant::now())
    }

    fn earlier(&self, other: Instant) -> Instant {
        self.deadline.map_or(other, |deadline| deadline.min(other))
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was written; here is the request again.
    Unsent(Box<Request<Upload>>),
    /// The connection ended after something may have been written.
    Closed,
    /// What came is not an HTTP/1.1 answer.
    Protocol,
    /// The head did not come in time.
    FirstByteTimeout,
    /// The time for everything is over.
    TotalTimeout,
}

/// Sends a request and waits for the head of its answer. The connection is driven by this very future.
pub(super) fn send<'a>(
    lease: &'a mut Lease,
    request: Box<Request<Upload>>,
    progress: Option<&'a Progress>,
    limits: &'a Limits,
) -> impl Future<Output = Result<Response<Incoming>, Failure>> + 'a {
    // Handed over before the first await, so that the future does not carry the request along.
    let sending = lease
        .sender()
        .map(|sender| sender.try_send_request(*request));
    async move {
        let mut sending = pin!(sending.ok_or(Failure::Closed)?);
        let first = Instant::now() + limits.first_byte;
        let mut timer = pin!(sleep_until(limits.earlier(first)));
        poll_fn(|context| {
            loop {
                let ended = lease.poll_drive(context).is_ready();
                match sending.as_mut().poll(context) {
                    Poll::Ready(outcome) => return Poll::Ready(outcome.map_err(Failure::from)),
                    Poll::Pending if ended => return Poll::Ready(Err(Failure::Closed)),
                    Poll::Pending => {}
                }
                if timer.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                if limits.is_over() {
                    return Poll::Ready(Err(Failure::TotalTimeout));
                }
                // An upload that still moves is not a slow upstream.
                let due =
                    progress.map(|progress| Instant::from_std(progress.last()) + limits.first_byte);
                match due.filter(|due| *due > Instant::now()) {
                    Some(due) => timer.as_mut().reset(limits.earlier(due)),
                    None => return Poll::Ready(Err(Failure::FirstByteTimeout)),
                }
            }
        })
        .await
    }
}

impl From<TrySendError<Request<Upload>>> for Failure {
    fn from(mut error: TrySendError<Request<Upload>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(Box::new(request)),
            None if error.error().is_parse() => Self::Protocol,
            None => Self::Closed,
        }
    }
}

/// The body of an upstream's answer, streamed. Drives the connection while the client reads, and gives it back at the end.
#[derive(Debug)]
pub struct UpstreamBody {
    body: Incoming,
    lease: Option<Lease>,
    /// The upload that may still be under way.
    upload: Option<Rc<Progress>>,
    limits: Limits,
    timer: Option<Pin<Box<Sleep>>>,
}

impl UpstreamBody {
    pub(super) fn new(
        body: Incoming,
        lease: Lease,
        upload: Option<Rc<Progress>>,
        limits: Limits,
    ) -> Self {
        let mut body = Self {
            body,
            lease: Some(lease),
            upload,
            limits,
            timer: None,
        };
        // An answer without a body will not be polled.
        if body.body.is_end_stream() {
            body.give_back(&mut Context::from_waker(std::task::Waker::noop()));
        }
        body
    }

    fn give_back(&mut self, context: &mut Context<'_>) {
        if let Some(lease) = self.lease.take() {
            lease.give_back(context);
        }
    }

    /// Closes the connection. An upload that broke off explains whatever the connection says about it.
    fn break_off(&mut self) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        self.lease = None;
        let fault = self.upload.as_ref().and_then(|upload| upload.fault());
        Poll::Ready(Some(Err(match fault {
            Some(_) => AnswerError::Upload,
            None => AnswerError::Upstream,
        })))
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let due = match (self.limits.stream_idle, self.limits.deadline) {
            (None, None) => return Poll::Pending,
            (None, Some(deadline)) => deadline,
            (Some(idle), _) => self.limits.earlier(Instant::now() + idle),
        };
        self.timer
            .get_or_insert_with(|| Box::pin(sleep_until(due)))
            .as_mut()
            .poll(context)
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = &mut *self;
        let mut polled = Pin::new(&mut this.body).poll_frame(context);
        if polled.is_pending()
            && let Some(lease) = &mut this.lease
        {
            // Asking made the connection want to read. What its end means for the body, the body itself says.
            let _ = lease.poll_drive(context);
            polled = Pin::new(&mut this.body).poll_frame(context);
        }
        match polled {
            Poll::Pending => match this.poll_timer(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => this.break_off(),
            },
            Poll::Ready(None) => {
                this.give_back(context);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => this.break_off(),
            // A client that reads slowly never finds the upstream silent, so the timer alone would not do.
            Poll::Ready(Some(Ok(_))) if this.limits.is_over() => this.break_off(),
            Poll::Ready(Some(Ok(frame))) => {
                if this.limits.stream_idle.is_some() {
                    this.timer = None;
                }
                // Nothing comes after trailers, and hyper does not ask.
                if this.body.is_end_stream() || frame.is_trailers() {
                    this.give_back(context);
                }
                Poll::Ready(Some(Ok(match frame.into_data() {
                    Ok(data) => Frame::data(data),
                    Err(frame) => {
                        Frame::trailers(upload::passing(frame.into_trailers().unwrap_or_default()))
                    }
                })))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
