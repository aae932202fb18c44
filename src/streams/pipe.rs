//! One direction of a tunnel: it forwards bytes, and inserts a close frame between two frames when
//! the tunnel ends.
//!
//! Nothing is read before what was read is written, so that a slow reader slows the other side
//! down; and an idle tunnel holds no buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::frames::{self, FrameBoundaries};
use super::messages::{Messages, Next};
use super::scratch::Scratch;
use crate::denial::Reason;

/// How often one direction may read before other tasks get their turn.
const READS_PER_TURN: usize = 8;

/// Which end of a pipe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PipeError {
    Read,
    Write,
}

/// What a pipe does with the bytes that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Forwards them.
    Open,
    /// Forwards the rest of the current frame, and then the close frame.
    Closing,
    /// Forwards nothing more.
    Closed,
}

/// One direction of a tunnel.
#[derive(Debug)]
pub(super) struct Pipe {
    pending: Bytes,
    frames: FrameBoundaries,
    mode: Mode,
    close_frame: Bytes,
    unflushed: bool,
    /// What is pending is a ping of this gateway, which is no activity of either side.
    is_ping: bool,
    /// How many bytes were read.
    pub(super) moved: u64,
    /// Something was read or written since this was last cleared.
    pub(super) is_active: bool,
    /// Since when the writer accepts nothing.
    pub(super) blocked_since: Option<Instant>,
    /// Inspects messages before they are forwarded.
    messages: Option<Box<Messages>>,
    /// The decision that must be made before anything more is forwarded.
    decision: Option<Decision>,
}

/// A decision that an inspecting pipe waits for.
#[derive(Debug)]
pub(super) enum Decision {
    /// Whether a token is accepted; then [`Pipe::allow`].
    Authorize(Option<String>),
    /// The message is refused, and the tunnel must end.
    Refuse(Reason),
    /// Either of them, and the tunnel has taken it.
    Taken,
}

impl Pipe {
    /// Begins with bytes that were already read.
    pub(super) fn new(unread: Bytes) -> Self {
        let mut frames = FrameBoundaries::default();
        frames.follow(&unread);
        Self {
            moved: u64::try_from(unread.len()).unwrap_or_default(),
            pending: unread,
            frames,
            mode: Mode::Open,
            close_frame: Bytes::new(),
            unflushed: false,
            is_ping: false,
            is_active: false,
            blocked_since: None,
            messages: None,
            decision: None,
        }
    }

    /// The same, for a pipe that inspects every message before it forwards it.
    pub(super) fn inspected(unread: &[u8], messages: Messages) -> Self {
        let mut pipe = Self::new(Bytes::new());
        pipe.messages = Some(Box::new(messages));
        pipe.inspect(unread);
        pipe
    }

    /// The decision to make before anything more is forwarded; given once.
    pub(super) fn take_decision(&mut self) -> Option<Decision> {
        match &self.decision {
            None | Some(Decision::Taken) => None,
            Some(_) => self.decision.replace(Decision::Taken),
        }
    }

    /// The token was accepted; `is_user` if it was a user's.
    pub(super) fn allow(&mut self, is_user: bool) {
        self.decision = None;
        if let Some(messages) = &mut self.messages {
            let passed = messages.allow(is_user);
            self.pass_on(passed);
        }
        self.inspect(&[]);
    }

    /// Whether the client must authenticate by a message, and has not yet.
    pub(super) fn needs_token(&self) -> bool {
        let messages = self.messages.as_ref();
        messages.is_some_and(|messages| messages.needs_token())
    }

    /// Takes bytes that were read, and forwards those that may be.
    fn inspect(&mut self, read: &[u8]) {
        let Some(messages) = &mut self.messages else {
            return;
        };
        self.moved += u64::try_from(read.len()).unwrap_or_default();
        messages.take(read);
        match messages.next() {
            Next::Pass(passed) => self.pass_on(passed),
            Next::Authorize(token) => self.decision = Some(Decision::Authorize(token)),
            Next::Refuse(reason) => self.decision = Some(Decision::Refuse(reason)),
        }
    }

    fn pass_on(&mut self, passed: Vec<u8>) {
        self.frames.follow(&passed);
        self.pending = match self.pending.is_empty() {
            true => passed.into(),
            false => [&self.pending[..], &passed].concat().into(),
        };
    }

    /// Whether a close frame passed.
    pub(super) fn is_closed(&self) -> bool {
        self.frames.is_closed()
    }

    /// Inserts a ping if nothing is under way.
    pub(super) fn ping(&mut self) {
        let is_idle = self.pending.is_empty() && self.frames.is_between();
        if self.mode == Mode::Open && is_idle && !self.frames.is_closed() {
            self.pending = Bytes::from_static(&frames::PING);
            self.is_ping = true;
        }
    }

    /// Ends with this close frame, as soon as the current frame ends. No second close frame is
    /// sent.
    pub(super) fn close(&mut self, close_frame: Vec<u8>) {
        if self.mode != Mode::Open {
            return;
        }
        if self.frames.is_closed() {
            self.mode = Mode::Closed;
            return;
        }
        self.mode = Mode::Closing;
        self.close_frame = close_frame.into();
        self.insert_close_frame();
    }

    /// Follows bytes that are not forwarded any more.
    pub(super) fn observe(&mut self, read: &[u8]) {
        self.frames.follow(read);
    }

    fn insert_close_frame(&mut self) {
        if self.mode == Mode::Closing && self.frames.is_between() {
            self.mode = Mode::Closed;
            // The held bytes are not forwarded any more, but must be followed to find the answer to
            // our close frame.
            if let Some(messages) = &mut self.messages {
                let held = messages.forget();
                self.frames.follow(&held);
            }
            self.pending = match self.pending.is_empty() {
                true => std::mem::take(&mut self.close_frame),
                false => [&self.pending[..], &self.close_frame].concat().into(),
            };
        }
    }

    /// Moves as many bytes as possible. Ready when nothing more will come and everything is
    /// written.
    pub(super) fn poll_move<R, W>(
        &mut self,
        reader: &mut R,
        writer: &mut W,
        scratch: &Scratch,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), PipeError>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..READS_PER_TURN {
            ready!(self.poll_write(writer, context)).map_err(|_| PipeError::Write)?;
            if self.mode == Mode::Closed {
                return Poll::Ready(Ok(()));
            }
            if self.decision.is_some() && self.mode == Mode::Open {
                // The tunnel polls again once it has decided.
                return Poll::Pending;
            }
            let mut buffer = scratch.0.borrow_mut();
            let mut buffer = ReadBuf::new(&mut buffer);
            ready!(Pin::new(&mut *reader).poll_read(context, &mut buffer))
                .map_err(|_| PipeError::Read)?;
            if buffer.filled().is_empty() {
                // Without a frame boundary, no close frame can be inserted any more.
                self.mode = Mode::Closed;
                return Poll::Ready(Ok(()));
            }
            self.take(buffer.filled());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn take(&mut self, read: &[u8]) {
        let rest = match self.mode {
            Mode::Open if self.messages.is_some() => {
                self.is_active = true;
                return self.inspect(read);
            }
            Mode::Open => {
                self.frames.follow(read);
                &[]
            }
            Mode::Closing => self.frames.follow_frame(read),
            Mode::Closed => read,
        };
        let passed = read.len() - rest.len();
        self.is_active = true;
        self.moved += u64::try_from(passed).unwrap_or_default();
        self.pending = Bytes::copy_from_slice(read.get(..passed).unwrap_or_default());
        self.insert_close_frame();
        self.frames.follow(rest);
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        writer: &mut W,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            match Pin::new(&mut *writer).poll_write(context, &self.pending) {
                Poll::Pending => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.pending.advance(written);
                    self.blocked_since = None;
                    self.is_active |= !self.is_ping;
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        self.pending = Bytes::new();
        self.is_ping = false;
        if self.unflushed {
            ready!(Pin::new(&mut *writer).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
