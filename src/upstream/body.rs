//! The body of an upstream's answer, over either protocol. Each of the two keeps its own time
//! limits.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::occupancy::Occupancy;
use super::{exchange, http2};
use crate::denial::Reason;
use crate::upstream::error::AnswerError;

/// The body of an answer, streamed.
#[derive(Debug)]
pub enum UpstreamBody {
    /// On a connection of its own.
    Http1(exchange::Http1AnswerBody),
    /// On a shared connection.
    Http2(http2::Http2AnswerBody),
}

impl UpstreamBody {
    /// The answer is a live stream: it takes a seat among them, and its request's body may pause as
    /// long as the answer may.
    pub(super) fn become_stream(&mut self, streams: &Rc<Occupancy>) -> Result<(), Reason> {
        match self {
            Self::Http1(body) => body.become_stream(streams),
            Self::Http2(body) => body.become_stream(streams),
        }
    }

    /// Cancels the answer, so that the upstream stops.
    pub(crate) fn cancel(&mut self) {
        match self {
            Self::Http1(body) => body.cancel(),
            Self::Http2(body) => body.cancel(),
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match &mut *self {
            Self::Http1(body) => Pin::new(body).poll_frame(context),
            Self::Http2(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
