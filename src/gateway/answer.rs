//! The body of an answer, whoever makes it: this gateway, an upstream, or a live stream. It keeps
//! the request's record up to date and finishes it.
//!
//! A protocol implementation takes a body from us long before its client does, and holds it: for
//! the window of an HTTP/2 stream, or for the socket. So the record of a request, and the time
//! limit of its answer, end when the last byte was taken and not when it was handed over.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

use crate::auth::StreamAuthorization;
use crate::gateway::connection::{AnswerSlot, ConnectionState};
use crate::gateway::content;
use crate::live::AnswerAuthorization;
use crate::record::RequestEnd;
use crate::record::stream::StreamEnd;
use crate::record::trail::Trail;
use crate::streams::{LiveStream, PendingTunnel, Tunnel};
use crate::upstream::UpstreamBody;
use crate::upstream::error::AnswerError;

/// The body of an answer. The record of its request is finished when it is dropped, and every byte
/// that it handed out is taken or dropped.
#[derive(Debug)]
pub struct Answer {
    content: Content,
    /// Set together with the record.
    sending: Option<Rc<Sending>>,
    stream: Option<Box<LiveStream>>,
    /// The authorization of an answer that has not lasted, until it is being sent.
    authorization: Option<StreamAuthorization>,
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

    /// The upstream's body, streamed. Once it has lasted, it is authorized again like a live
    /// stream.
    pub(crate) fn upstream(body: UpstreamBody, authorization: AnswerAuthorization) -> Self {
        match authorization.split() {
            Ok(handle) => Self::stream(body, LiveStream::lasting(handle)),
            Err(authorization) => Self {
                // Without a user there is nothing that could end.
                authorization: Some(authorization).filter(StreamAuthorization::has_proof),
                ..Self::new(Content::Upstream(body))
            },
        }
    }

    /// The upstream's body, which is a live stream.
    pub(crate) fn stream(body: UpstreamBody, stream: LiveStream) -> Self {
        Self {
            stream: Some(Box::new(stream)),
            ..Self::new(Content::Upstream(body))
        }
    }

    /// The head of a 101; the connection becomes a tunnel.
    pub(crate) fn tunnel(pending: PendingTunnel) -> Self {
        Self::new(Content::Tunnel(Some(Box::new(pending))))
    }

    fn new(content: Content) -> Self {
        Self {
            content,
            sending: None,
            stream: None,
            authorization: None,
        }
    }

    /// Attaches the record, which is finished together with the body.
    pub(crate) fn with_trail(mut self, mut trail: Trail, connection: &Rc<ConnectionState>) -> Self {
        if let Content::Tunnel(pending) = &mut self.content {
            if let Some(pending) = pending.take() {
                let (gateway, pending) = (connection.gateway(), *pending);
                let tunnel = Tunnel::begin(pending, gateway.streams(), gateway.scratch(), trail);
                connection.open_tunnel(tunnel);
            }
            return self;
        }
        // The answer is complete with its head. An upstream that sends content all the same is
        // stopped: its connection has no further use, and its HTTP/2 stream is reset.
        if trail
            .status
            .is_some_and(|status| content::is_forbidden(&trail.method, status))
        {
            self.content = Content::Gateway(None);
        }
        let slot = connection.begin_answer();
        if self.is_end_stream() {
            trail.end = RequestEnd::Complete;
            // It may have lasted before its head arrived.
            let stream = self.stream.take();
            trail.stream = stream.and_then(|stream| stream.ends_by(StreamEnd::Finished));
        } else {
            if let Content::Upstream(body) = &self.content {
                slot.comes_from(body.exchange().clone());
            }
            if let Some(authorization) = self.authorization.take() {
                let waited = trail.answered.unwrap_or_default();
                slot.keep_authorization(authorization, waited);
            }
            if let Some(stream) = &mut self.stream {
                stream.begin(connection.gateway().streams());
                trail.stream = stream.ends_by(StreamEnd::ClientGone);
            }
        }
        self.sending = Some(Sending::new(trail, slot));
        self
    }

    /// Notes that the client did not take all of what was handed out.
    pub(crate) fn abandon(&self) {
        if let Some(sending) = &self.sending {
            sending.abandon();
        }
    }

    fn note(
        &self,
        polled: &Poll<Option<Result<Frame<Bytes>, AnswerError>>>,
        context: &Context<'_>,
    ) {
        let Some(sending) = &self.sending else { return };
        sending.note_poll(polled.is_pending(), context);
        let complete = self.is_end_stream();
        sending.note(|trail| {
            match polled {
                Poll::Pending => {}
                Poll::Ready(None) => trail.end = RequestEnd::Complete,
                Poll::Ready(Some(Err(AnswerError::Ended))) => trail.end = RequestEnd::Ended,
                Poll::Ready(Some(Err(AnswerError::Upstream))) => {
                    trail.end = RequestEnd::UpstreamFailed;
                }
                // It was the upstream that sent nothing; but which limit it met is in the log.
                Poll::Ready(Some(Err(error @ AnswerError::Idle))) => {
                    trail.end = RequestEnd::UpstreamFailed;
                    trail.detail = Some(error.to_string().into());
                }
                Poll::Ready(Some(Err(error @ AnswerError::TimeLimit))) => {
                    trail.end = RequestEnd::Ended;
                    trail.detail = Some(error.to_string().into());
                }
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
        });
    }
}

impl Body for Answer {
    type Data = AnswerBytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<AnswerBytes>, AnswerError>>> {
        let this = &mut *self;
        // The time of the answer goes on: it is the client that takes nothing.
        if let Some(sending) = &this.sending
            && sending.slot().poll_room(context).is_pending()
        {
            return Poll::Pending;
        }
        if let Content::Upstream(body) = &this.content
            && let Some(handle) = body.exchange().take_registered()
        {
            this.stream = Some(Box::new(LiveStream::lasting(handle)));
        }
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
        self.note(&polled, context);
        let held = |bytes| AnswerBytes::new(bytes, self.sending.clone());
        polled.map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(held))))
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

/// How much a client must take before its time begins anew. With any byte, one that takes a byte
/// twice a minute would hold an answer for ever. A choice.
const PROGRESS: usize = 4 * 1024;

/// An answer that is being sent. Its record is finished when this is dropped, after its last byte.
#[derive(Debug)]
pub(crate) struct Sending {
    trail: RefCell<Trail>,
    slot: AnswerSlot,
    /// Bytes that are handed out and not taken.
    held: Cell<usize>,
    /// What was taken since the time of the answer began.
    taken: Cell<usize>,
}

impl Sending {
    /// An answer with its record.
    pub(crate) fn new(trail: Trail, slot: AnswerSlot) -> Rc<Self> {
        Rc::new(Self {
            trail: RefCell::new(trail),
            slot,
            held: Cell::new(0),
            taken: Cell::new(0),
        })
    }

    /// Changes the record.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Trail)) {
        change(&mut self.trail.borrow_mut());
    }

    /// The place of the answer among those of its connection.
    pub(crate) fn slot(&self) -> &AnswerSlot {
        &self.slot
    }

    /// Notes that the body was polled.
    fn note_poll(&self, is_pending: bool, context: &Context<'_>) {
        // While the client has not taken what there is, it is the client that is waited for.
        if !is_pending || self.held.get() == 0 {
            self.slot.note_poll(is_pending, Some(context));
        }
    }

    fn hold(&self, length: usize) {
        self.held.set(self.held.get() + length);
        self.slot.connection().hold(length);
    }

    /// Notes that the client did not take all of the answer.
    pub(crate) fn abandon(&self) {
        self.note(|trail| {
            if trail.end == RequestEnd::Complete {
                trail.end = RequestEnd::ClientGone;
            }
        });
    }

    fn take(&self, length: usize, is_all: bool) {
        self.held.set(self.held.get().saturating_sub(length));
        self.slot.connection().release(length);
        let taken = self.taken.get() + length;
        if is_all || taken >= PROGRESS {
            self.taken.set(0);
            self.slot.note_poll(false, None);
        } else {
            self.taken.set(taken);
        }
    }
}

/// Bytes of an answer that the client has not taken.
#[derive(Debug, Default)]
pub struct AnswerBytes {
    bytes: Bytes,
    sending: Option<Rc<Sending>>,
}

impl AnswerBytes {
    /// Bytes that count as held for the client until they are taken, or dropped.
    pub(crate) fn new(bytes: Bytes, sending: Option<Rc<Sending>>) -> Self {
        if let Some(sending) = &sending {
            sending.hold(bytes.len());
        }
        Self { bytes, sending }
    }
}

impl Buf for AnswerBytes {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(sending) = &self.sending {
            sending.take(count, self.bytes.is_empty());
        }
    }
}

impl Drop for AnswerBytes {
    fn drop(&mut self) {
        if let Some(sending) = self.sending.take()
            && !self.bytes.is_empty()
        {
            sending.abandon();
            sending.take(self.bytes.len(), true);
        }
    }
}
