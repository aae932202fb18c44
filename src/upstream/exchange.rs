//! One request and its answer on one HTTP/1.1 connection, with their time limits. Retries are
//! decided in `attempt_http1`.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::http1::{AnswerHead, OutgoingRequest, ReadFailure};
use super::lease::Lease;
use super::occupancy::Occupancy;
use super::upload;
use crate::denial::Reason;
use crate::http1::Piece;
use crate::live::Waiting;
use crate::upstream::error::AnswerError;
use crate::upstream::limits::{ExchangeError, Limits};

/// A request that is being sent, and its authorization. Together, so that the futures that send it
/// have room for one reference.
pub(super) struct PendingRequest<'a> {
    pub(super) outgoing: Box<OutgoingRequest>,
    pub(super) waiting: Waiting<'a>,
}

/// Sends a request at `started` and waits for the head of its answer, while the request would still
/// be authorized. This future drives the connection.
pub(super) async fn send(
    lease: &mut Lease,
    request: &mut PendingRequest<'_>,
    limits: &Limits,
    started: Instant,
) -> Result<AnswerHead, ExchangeError> {
    poll_fn(|context| {
        let PendingRequest { outgoing, waiting } = &mut *request;
        if let Poll::Ready(reason) = waiting.poll_refusal(context) {
            return Poll::Ready(Err(ExchangeError::Refused(reason)));
        }
        let connection = lease.connection();
        if let Poll::Ready(Err(error)) = connection.poll_send(outgoing, context) {
            return Poll::Ready(Err(ExchangeError::Upload(error)));
        }
        if let Poll::Ready(read) = connection.poll_head(outgoing.method(), context) {
            return Poll::Ready(read.map_err(|failure| match failure {
                ReadFailure::Silent if outgoing.is_unsent() => ExchangeError::Unsent,
                ReadFailure::Silent => ExchangeError::Silent,
                ReadFailure::Broken => ExchangeError::Broken,
                ReadFailure::Malformed(what) => ExchangeError::Protocol(what),
            }));
        }
        let limit = match outgoing.moved().map(Instant::from_std) {
            // The client is slow, which has a limit of its own.
            Some(_) if outgoing.waits_for_client() => limits.deadline,
            // An upload in progress is no sign of a slow upstream.
            moved => {
                let since = moved.map_or(started, |moved| moved.max(started));
                Some(limits.earlier(since + limits.first_byte))
            }
        };
        let Some(due) = waiting.earlier(limit) else {
            return Poll::Pending;
        };
        ready!(connection.poll_timeout(due, context));
        if waiting.has_lasted(Instant::now()) || limit.is_none_or(|limit| due < limit) {
            // The limit is still to come; the next poll waits for that, and for the refusal.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Err(match limits.is_over() {
            true => ExchangeError::TotalTimeout,
            false => ExchangeError::FirstByteTimeout,
        }))
    })
    .await
}

/// The body of an upstream's answer, streamed. It drives the connection while the client reads, and
/// gives it back at the end.
#[derive(Debug)]
pub(super) struct Http1AnswerBody {
    /// The connection, until the answer is read to its end.
    lease: Option<Lease>,
    /// The request, while its body is still being sent.
    outgoing: Option<Box<OutgoingRequest>>,
    limits: Limits,
    /// When the last frame arrived; known once the body was waited for.
    last: Option<Instant>,
}

impl Http1AnswerBody {
    pub(super) fn new(lease: Lease, outgoing: Box<OutgoingRequest>, limits: Limits) -> Self {
        let mut body = Self {
            lease: Some(lease),
            outgoing: Some(outgoing).filter(|outgoing| !outgoing.is_sent()),
            limits,
            last: None,
        };
        // An answer without a body will not be polled.
        body.give_back_at_end();
        body
    }

    /// Gives the connection back if the answer was read to its end; closes it if the request was
    /// not sent completely.
    fn give_back_at_end(&mut self) {
        let Some(lease) = self
            .lease
            .take_if(|lease| lease.connection().is_body_done())
        else {
            return;
        };
        match self.outgoing.take() {
            None => lease.give_back(),
            Some(_) => drop(lease),
        }
    }

    /// The answer is a live stream: its request's body may pause.
    pub(super) fn relax(&mut self) {
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.relax(self.limits.stream_pause());
        }
    }

    /// Takes a seat among the live streams; another request may take the slot of its connection.
    pub(super) fn move_to(&mut self, streams: &Rc<Occupancy>) -> Result<(), Reason> {
        match &mut self.lease {
            None => Ok(()),
            Some(lease) => lease.become_stream(streams),
        }
    }

    /// Closes the connection, so that the upstream stops.
    pub(super) fn cancel(&mut self) {
        self.lease = None;
        self.outgoing = None;
    }

    fn break_off(&mut self, error: AnswerError) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        self.cancel();
        Poll::Ready(Some(Err(error)))
    }

    fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(lease) = &mut self.lease else {
            return Poll::Pending;
        };
        let due = match (self.limits.stream_idle, self.limits.deadline) {
            (None, None) => return Poll::Pending,
            (None, Some(deadline)) => deadline,
            (Some(idle), _) => {
                let last = *self.last.get_or_insert_with(Instant::now);
                // An upload that the upstream still reads shows that it is alive, too.
                let moved = self.outgoing.as_ref().and_then(|outgoing| outgoing.moved());
                let last = moved.map_or(last, |moved| last.max(Instant::from_std(moved)));
                self.limits.earlier(last + idle)
            }
        };
        lease.connection().poll_timeout(due, context)
    }
}

impl Body for Http1AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = &mut *self;
        let Some(lease) = &mut this.lease else {
            return Poll::Ready(None);
        };
        if let Some(outgoing) = &mut this.outgoing {
            match lease.connection().poll_send(outgoing, context) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => this.outgoing = None,
                Poll::Ready(Err(_)) => return this.break_off(AnswerError::Upload),
            }
        }
        match lease.connection().poll_piece(context) {
            Poll::Pending => match this.poll_timeout(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => this.break_off(this.limits.reached()),
            },
            Poll::Ready(Err(_)) => this.break_off(AnswerError::Upstream),
            // A client that reads slowly always finds data from the upstream, so the timer alone
            // would not be enough.
            Poll::Ready(Ok(_)) if this.limits.is_over() => this.break_off(AnswerError::TimeLimit),
            Poll::Ready(Ok(piece)) => {
                this.last = None;
                this.give_back_at_end();
                Poll::Ready(match piece {
                    Piece::Data(data) => Some(Ok(Frame::data(data))),
                    Piece::Trailers(trailers) => {
                        Some(Ok(Frame::trailers(upload::passing(trailers))))
                    }
                    Piece::End => None,
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.lease.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = match &self.lease {
            None => Some(0),
            Some(lease) => lease.body_left(),
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
