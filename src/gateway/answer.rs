//! The body of an answer, whoever makes it: this gateway, an upstream, or a live stream. It keeps
//! the request's record up to date and finishes it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::Method;
use hyper::body::{Body, Frame, SizeHint};

use crate::gateway::connection::{AnswerSlot, ConnectionState};
use crate::record::RequestEnd;
use crate::record::stream::StreamEnd;
use crate::record::trail::Trail;
use crate::streams::{LiveStream, PendingTunnel, Tunnel};
use crate::upstream::UpstreamBody;
use crate::upstream::error::AnswerError;

/// The body of an answer. Dropping it finishes the request's record.
#[derive(Debug)]
pub struct Answer {
    content: Content,
    trail: Option<Trail>,
    slot: Option<AnswerSlot>,
    stream: Option<Box<LiveStream>>,
}

#[derive(Debug)]
enum Content {
    Gateway(Option<Bytes>),
    Upstream(UpstreamBody),
    /// After a 101: HTTP sends no body, and the connection becomes a tunnel.
    Tunnel(Option<Box<PendingTunnel>>),
}

impl Answer {
    /// An answer without a body.
    pub fn empty() -> Self {
        Self::new(Content::Gateway(None))
    }

    /// A body that this gateway makes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::new(Content::Gateway(
            Some(bytes.into()).filter(|bytes| !bytes.is_empty()),
        ))
    }

    /// The upstream's body, streamed.
    pub fn upstream(body: UpstreamBody) -> Self {
        Self::new(Content::Upstream(body))
    }

    /// The upstream's body, which is a live stream.
    pub(crate) fn stream(body: UpstreamBody, stream: LiveStream) -> Self {
        Self {
            stream: Some(Box::new(stream)),
            ..Self::upstream(body)
        }
    }

    /// The head of a 101; the connection becomes a tunnel.
    pub(crate) fn tunnel(pending: PendingTunnel) -> Self {
        Self::new(Content::Tunnel(Some(Box::new(pending))))
    }

    fn new(content: Content) -> Self {
        Self {
            content,
            trail: None,
            slot: None,
            stream: None,
        }
    }

    /// Attaches the record, which is finished together with the body.
    pub(crate) fn with_trail(mut self, mut trail: Trail, connection: &Rc<ConnectionState>) -> Self {
        if let Content::Tunnel(pending) = &mut self.content {
            if let Some(pending) = pending.take() {
                let streams = connection.gateway().streams();
                connection.open_tunnel(Tunnel::begin(*pending, streams, trail));
            }
            return self;
        }
        // hyper never polls the body of an answer to HEAD, so the answer is complete with its head.
        if trail.method == Method::HEAD {
            self.content = Content::Gateway(None);
        }
        if self.is_end_stream() {
            trail.end = RequestEnd::Complete;
        } else {
            self.slot = Some(connection.begin_answer());
            if let Some(stream) = &mut self.stream {
                stream.begin(connection.gateway().streams());
                trail.stream = stream.ends_by(StreamEnd::ClientGone);
            }
        }
        self.trail = Some(trail);
        self
    }

    /// Notes that the client took a part of what was handed out.
    pub(crate) fn note_progress(&self) {
        if let Some(slot) = &self.slot {
            slot.note_poll(false);
        }
    }

    /// Notes that the client did not take all of what was handed out.
    pub(crate) fn abandon(&mut self) {
        if let Some(trail) = &mut self.trail
            && trail.end == RequestEnd::Complete
        {
            trail.end = RequestEnd::ClientGone;
        }
    }

    fn note(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, AnswerError>>>) {
        if let Some(slot) = &self.slot {
            slot.note_poll(polled.is_pending());
        }
        let complete = self.is_end_stream();
        let Some(trail) = &mut self.trail else { return };
        match polled {
            Poll::Pending => {}
            Poll::Ready(None) => trail.end = RequestEnd::Complete,
            Poll::Ready(Some(Err(AnswerError::Ended))) => trail.end = RequestEnd::Ended,
            Poll::Ready(Some(Err(AnswerError::Upstream))) => trail.end = RequestEnd::UpstreamFailed,
            Poll::Ready(Some(Err(AnswerError::Upload))) => trail.end = RequestEnd::ClientGone,
            Poll::Ready(Some(Ok(frame))) => {
                trail.sent += frame
                    .data_ref()
                    .map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
                if complete {
                    trail.end = RequestEnd::Complete;
                }
            }
        }
        if let Some(stream) = &self.stream {
            if stream.is_ended() {
                trail.end = RequestEnd::Ended;
            }
            trail.stream = stream.ends_by(match trail.end {
                RequestEnd::Complete => StreamEnd::Finished,
                RequestEnd::ClientGone | RequestEnd::Ended => StreamEnd::ClientGone,
                RequestEnd::UpstreamFailed => StreamEnd::UpstreamGone,
            });
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = &mut *self;
        let polled = match &mut this.content {
            Content::Gateway(bytes) => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            Content::Upstream(body) => match &mut this.stream {
                None => Pin::new(body).poll_frame(context),
                Some(stream) => stream.poll_frame(body, context),
            },
            Content::Tunnel(_) => Poll::Ready(None),
        };
        self.note(&polled);
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Gateway(bytes) => bytes.is_none(),
            Content::Upstream(body) => match &self.stream {
                None => body.is_end_stream(),
                Some(stream) => stream.is_over() || body.is_end_stream(),
            },
            Content::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Gateway(bytes) => SizeHint::with_exact(
                bytes
                    .as_ref()
                    .map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            ),
            Content::Upstream(body) => body.size_hint(),
            Content::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}
