//! A client's connection as bytes: what was read and is not used yet, and how far the body of the
//! current request is decoded.
//!
//! The body of a request is read by whoever handles the request, out of this state. What is left of
//! it after that is discarded by the connection.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};

use super::head::{self, RefusedHead, RequestHead};
use crate::gateway::connection::ConnectionState;
use crate::http1::{Decoder, Framing, Piece, ReadBuffer};
use crate::policy::listen::Connections;
use crate::request::client_body::{BodySource, BrokenBody};

/// The most that is discarded of a body so that its connection can be kept.
const DISCARD_LIMIT: u64 = 2 * 1024 * 1024;

/// What is left of a body, and has not arrived, is short up to this length: it arrives in the time
/// that the connection has for it also at 50 KiB a second. A choice.
const SHORT: u64 = 256 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What becomes of the body of the current request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// Whoever handles the request reads it.
    Handler,
    /// The connection discards it; so many bytes were.
    Discard(u64),
}

/// A client's connection as bytes.
pub(super) struct Wire<S> {
    stream: RefCell<S>,
    state: Rc<ConnectionState>,
    buffer: ReadBuffer,
    unread: RefCell<Bytes>,
    /// How many of the unread bytes were searched for the end of a head.
    searched: Cell<usize>,
    decoder: Cell<Decoder>,
    reader: Cell<Reader>,
    /// The number of the current request.
    request: Cell<u32>,
    /// Whether the client waits for a `100 Continue` before it sends the body.
    expects_continue: Cell<bool>,
    /// What is left of a `100 Continue` that is being written.
    interim: Cell<&'static [u8]>,
    /// The task of the connection while somebody else reads the body.
    waker: RefCell<Option<Waker>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, state: Rc<ConnectionState>, buffer: ReadBuffer) -> Self {
        Self {
            stream: RefCell::new(stream),
            state,
            buffer,
            unread: RefCell::default(),
            searched: Cell::new(0),
            decoder: Cell::new(Decoder::Done),
            reader: Cell::new(Reader::Discard(0)),
            request: Cell::new(0),
            expects_continue: Cell::new(false),
            interim: Cell::new(b""),
            waker: RefCell::default(),
        }
    }

    /// Gives up the stream, with the bytes that were read and not used.
    pub(super) fn into_parts(self) -> (S, Bytes) {
        (self.stream.into_inner(), self.unread.into_inner())
    }

    /// Reads the next head. `None` at the end of the connection, and while it is shutting down.
    pub(super) fn poll_head(
        &self,
        limits: &Connections,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<RequestHead>, RefusedHead>> {
        loop {
            // Some clients end a body with a line end of their own (RFC 9112, section 2.2).
            while self.searched.get() == 0 && self.unread.borrow().starts_with(b"\r\n") {
                self.unread.borrow_mut().advance(2);
            }
            let has_bytes = !self.unread.borrow().is_empty();
            if has_bytes {
                self.state.bytes_received();
                if self.may_be_complete(limits.max_head)
                    && let Some(head) = head::take(&mut self.unread.borrow_mut(), limits)?
                {
                    self.searched.set(0);
                    return Poll::Ready(Ok(Some(head)));
                }
                self.searched.set(self.unread.borrow().len());
            } else if self.state.is_shutting_down() {
                return Poll::Ready(Ok(None));
            }
            match ready!(self.poll_fill(context)) {
                Ok(true) => {}
                Ok(false) | Err(_) => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// Whether it is worth parsing the unread bytes. A head that arrives byte by byte would else be
    /// parsed once per byte.
    fn may_be_complete(&self, max_head: usize) -> bool {
        let unread = self.unread.borrow();
        let searched = self.searched.get();
        let new = unread.get(searched.saturating_sub(3)..).unwrap_or_default();
        // A bare LF is refused by the parser, so it must see such a head, too.
        searched == 0
            || unread.len() > max_head
            || new.windows(3).any(|end| end == b"\n\r\n")
            || new.windows(2).any(|end| end == b"\n\n")
    }

    /// Begins the body of a request.
    pub(super) fn begin_body(self: &Rc<Self>, framing: Framing, expects_continue: bool) -> Body<S> {
        self.decoder.set(Decoder::new(framing));
        self.reader.set(Reader::Handler);
        self.expects_continue.set(expects_continue);
        let request = self.request.get().wrapping_add(1);
        self.request.set(request);
        Body {
            wire: self.clone(),
            request,
        }
    }

    /// Whether the body was read to its end.
    pub(super) fn is_body_done(&self) -> bool {
        self.decoder.get().is_done()
    }

    /// Whether what is left of the body can be discarded without keeping the connection busy.
    pub(super) fn is_body_short(&self) -> bool {
        let left = self.decoder.get().left();
        left.is_some_and(|left| left <= SHORT)
    }

    /// Whether the client still waits for a `100 Continue`, and may never send the body.
    pub(super) fn awaits_continue(&self) -> bool {
        self.expects_continue.get()
    }

    /// Takes the body away from whoever handled the request.
    pub(super) fn end_body(&self) {
        if self.reader.get() == Reader::Handler {
            self.reader.set(Reader::Discard(0));
        }
    }

    /// Drives what the connection does while a request is handled: it writes a `100 Continue`,
    /// discards a body that is not read, and notices that the client is gone. Ready in that last
    /// case.
    pub(super) fn poll_meanwhile(&self, context: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(Err(_)) = self.poll_interim(context) {
            return Poll::Ready(());
        }
        match self.reader.get() {
            Reader::Handler if !self.is_body_done() => {
                let mut waker = self.waker.borrow_mut();
                match &mut *waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            Reader::Handler | Reader::Discard(_) => match ready!(self.poll_discard(context)) {
                false => Poll::Ready(()),
                true if self.is_body_done() => self.poll_gone(context),
                // The answer comes first, and then it is seen what becomes of the rest.
                true => Poll::Pending,
            },
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Reads ahead, to see the end of the connection.
    fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.unread.borrow().is_empty() {
            return Poll::Pending;
        }
        match self.poll_fill(context) {
            Poll::Ready(Ok(false) | Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(true)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Discards the body, up to the limit. Ready with true when it ended or the limit is reached,
    /// and with false if the client is gone or its framing is broken.
    pub(super) fn poll_discard(&self, context: &mut Context<'_>) -> Poll<bool> {
        loop {
            if self.is_body_done() {
                return Poll::Ready(true);
            }
            let Reader::Discard(discarded) = self.reader.get() else {
                return Poll::Ready(true);
            };
            if discarded > DISCARD_LIMIT {
                return Poll::Ready(true);
            }
            match ready!(self.poll_decode(context)) {
                Ok(Piece::Data(data)) => {
                    let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    self.reader
                        .set(Reader::Discard(discarded.saturating_add(length)));
                }
                Ok(Piece::Trailers(_) | Piece::End) => {}
                Err(BrokenBody) => return Poll::Ready(false),
            }
        }
    }

    fn poll_decode(&self, context: &mut Context<'_>) -> Poll<Result<Piece, BrokenBody>> {
        loop {
            let mut decoder = self.decoder.get();
            let decoded = decoder.next(&mut self.unread.borrow_mut());
            self.decoder.set(decoder);
            if let Some(piece) = decoded.map_err(|_| BrokenBody)? {
                return Poll::Ready(Ok(piece));
            }
            match ready!(self.poll_fill(context)) {
                Ok(true) => {}
                Ok(false) | Err(_) => return Poll::Ready(Err(BrokenBody)),
            }
        }
    }

    fn poll_fill(&self, context: &mut Context<'_>) -> Poll<std::io::Result<bool>> {
        let mut stream = self.stream.borrow_mut();
        let mut unread = self.unread.borrow_mut();
        self.buffer.poll_fill(&mut *stream, &mut unread, context)
    }

    /// Writes what is left of a `100 Continue`.
    pub(super) fn poll_interim(&self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while let interim @ [_, ..] = self.interim.get() {
            let mut stream = self.stream.borrow_mut();
            let written = ready!(Pin::new(&mut *stream).poll_write(context, interim))?;
            self.interim.set(interim.get(written..).unwrap_or_default());
            let _ = Pin::new(&mut *stream).poll_flush(context)?;
        }
        Poll::Ready(Ok(()))
    }

    /// The stream, to write an answer.
    pub(super) fn with_stream<T>(&self, write: impl FnOnce(Pin<&mut S>) -> T) -> T {
        write(Pin::new(&mut *self.stream.borrow_mut()))
    }

    /// Reads once, and discards what was read. False at the end of the connection.
    pub(super) fn poll_more(&self, context: &mut Context<'_>) -> Poll<bool> {
        let read = ready!(self.poll_fill(context));
        self.unread.borrow_mut().clear();
        Poll::Ready(matches!(read, Ok(true)))
    }
}

/// The body of one request. It may outlive the request, and then reads nothing.
pub(super) struct Body<S> {
    wire: Rc<Wire<S>>,
    request: u32,
}

impl<S> Body<S> {
    fn is_current(&self) -> bool {
        self.wire.request.get() == self.request && self.wire.reader.get() == Reader::Handler
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> BodySource for Body<S> {
    fn poll_piece(&self, context: &mut Context<'_>) -> Poll<Result<Piece, BrokenBody>> {
        let wire = &self.wire;
        if !self.is_current() {
            return Poll::Ready(Err(BrokenBody));
        }
        if wire.expects_continue.take() && wire.unread.borrow().is_empty() {
            wire.interim.set(CONTINUE);
            wire.wake();
        }
        wire.poll_decode(context)
    }

    fn left(&self) -> Option<u64> {
        match self.is_current() {
            true => self.wire.decoder.get().left(),
            false => None,
        }
    }

    fn is_done(&self) -> bool {
        self.is_current() && self.wire.is_body_done()
    }

    fn release(&self) {
        if self.is_current() {
            self.wire.end_body();
            self.wire.wake();
        }
    }
}
