//! The body of an upstream's answer, over either protocol. Each of the two keeps its own time
//! limits.
//!
//! A client that takes nothing for a moment keeps no other from its turn: the answer then counts
//! among the live streams, and gives its place among the requests to another.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::occupancy::Occupancies;
use super::{exchange, http2};
use crate::denial::Reason;
use crate::live::StreamHandle;
use crate::upstream::error::AnswerError;

/// For how many milliseconds the client must have taken nothing of an answer that is ended for
/// others. A choice.
const LONG: u64 = 2000;

/// An answer that is refused a place among the live streams tries again at one of so many polls.
const RETRY: u32 = 5;

/// The body of an answer, streamed.
#[derive(Debug)]
pub struct UpstreamBody(Rc<AnswerExchange>);

/// An exchange with an upstream whose answer is on its way to the client. Also the client's
/// connection knows it.
pub(crate) struct AnswerExchange {
    body: RefCell<ProtocolBody>,
    occupancies: Rc<Occupancies>,
    place: Cell<Place>,
    /// How often it was asked to make room.
    polls: Cell<u32>,
    /// The handle of an answer that has lasted, until whoever polls the body takes it.
    registered: Cell<Option<Box<StreamHandle>>>,
}

/// Where an exchange has its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Requests,
    Streams,
    /// Nowhere: the gateway ended it.
    Ended,
}

#[derive(Debug)]
pub(super) enum ProtocolBody {
    /// On a connection of its own.
    Http1(exchange::Http1AnswerBody),
    /// On a shared connection.
    Http2(http2::Http2AnswerBody),
}

impl AnswerExchange {
    /// Makes room for others, because the client has taken nothing for `pause` milliseconds: the
    /// answer counts among the live streams. If those are as many as may be, and requests are
    /// scarce, an answer that has paused for long is ended.
    pub(crate) fn make_room(&self, pause: u64) {
        if self.place.get() != Place::Requests || !self.is_due() {
            return;
        }
        // It is not being polled: the client takes nothing.
        let Ok(mut body) = self.body.try_borrow_mut() else {
            return;
        };
        if body.is_end_stream() {
            return;
        }
        if body.move_to(&self.occupancies).is_ok() {
            self.place.set(Place::Streams);
        } else if pause >= LONG && self.occupancies.requests.is_scarce() {
            body.cancel();
            self.place.set(Place::Ended);
        }
    }

    /// Whether the body was read to its end.
    pub(crate) fn is_over(&self) -> bool {
        // While it is being polled it is not known to be.
        let body = self.body.try_borrow();
        self.place.get() == Place::Ended || body.is_ok_and(|body| body.is_end_stream())
    }

    /// Keeps the handle of the answer, which has lasted.
    pub(crate) fn register(&self, handle: StreamHandle) {
        self.registered.set(Some(Box::new(handle)));
    }

    /// Ends the answer if it has lasted and must end. Whoever polls the body does so, too; but
    /// while the client takes nothing, nobody does.
    pub(crate) fn end_if_refused(&self) {
        let registered = self.registered.take();
        let must_end = registered.as_ref().is_some_and(|handle| handle.must_end());
        self.registered.set(registered);
        if must_end && let Ok(mut body) = self.body.try_borrow_mut() {
            body.cancel();
            self.place.set(Place::Ended);
        }
    }

    /// The handle of the answer, if it has lasted; once.
    pub(crate) fn take_registered(&self) -> Option<StreamHandle> {
        self.registered.take().map(|handle| *handle)
    }

    /// Whether to try now: a refusal looks at all seats, so it is not repeated at every poll.
    fn is_due(&self) -> bool {
        let polls = self.polls.get();
        self.polls.set(polls.wrapping_add(1));
        polls.is_multiple_of(RETRY)
    }
}

impl std::fmt::Debug for AnswerExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerExchange")
            .field("body", &self.body)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl ProtocolBody {
    fn move_to(&mut self, occupancies: &Occupancies) -> Result<(), Reason> {
        match self {
            Self::Http1(body) => body.move_to(&occupancies.streams),
            Self::Http2(body) => body.move_to(&occupancies.streams),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn cancel(&mut self) {
        match self {
            Self::Http1(body) => body.cancel(),
            Self::Http2(body) => body.cancel(),
        }
    }
}

impl UpstreamBody {
    pub(super) fn new(body: ProtocolBody, occupancies: Rc<Occupancies>) -> Self {
        Self(Rc::new(AnswerExchange {
            body: RefCell::new(body),
            occupancies,
            place: Cell::new(Place::Requests),
            polls: Cell::new(0),
            registered: Cell::new(None),
        }))
    }

    /// The exchange, for the connection that the answer is sent on.
    pub(crate) fn exchange(&self) -> &Rc<AnswerExchange> {
        &self.0
    }

    /// The answer is a live stream: it takes a seat among them, and its request's body may pause as
    /// long as the answer may.
    pub(super) fn become_stream(&mut self) -> Result<(), Reason> {
        let mut body = self.0.body.borrow_mut();
        match &mut *body {
            ProtocolBody::Http1(body) => body.relax(),
            ProtocolBody::Http2(body) => body.relax(),
        }
        body.move_to(&self.0.occupancies)?;
        self.0.place.set(Place::Streams);
        Ok(())
    }

    /// Cancels the answer, so that the upstream stops.
    pub(crate) fn cancel(&mut self) {
        self.0.body.borrow_mut().cancel();
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if self.0.place.get() == Place::Ended {
            return Poll::Ready(Some(Err(AnswerError::Ended)));
        }
        match &mut *self.0.body.borrow_mut() {
            ProtocolBody::Http1(body) => Pin::new(body).poll_frame(context),
            ProtocolBody::Http2(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        if self.0.place.get() == Place::Ended {
            // The error is still to come.
            return false;
        }
        self.0.body.borrow().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &*self.0.body.borrow() {
            ProtocolBody::Http1(body) => body.size_hint(),
            ProtocolBody::Http2(body) => body.size_hint(),
        }
    }
}
