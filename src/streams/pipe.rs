//! One direction of a tunnel.
//!
//! Decides: nothing but what stands between two frames when it must end. Trusts: `frames`. Not
//! here: when that is (`tunnel`).
//!
//! Nothing is read before what was read is written, so that a slow reader slows the other side
//! down; and a tunnel that is silent holds no buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::frames::FrameBoundaries;
use super::messages::{Messages, Next};
use super::scratch::Scratch;
use crate::denial::Reason;

/// How often one direction may read before others get their turn.
const READS_PER_TURN: usize = 8;

/// Which end of a pipe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PipeError {
    Read,
    Write,
}

/// What a pipe does with what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Passes it on.
    Open,
    /// Passes on the rest of the frame that is under way, and then the last words.
    Closing,
    /// Nothing more is passed on.
    Closed,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Pipe {
    pending: Bytes,
    frames: FrameBoundaries,
    mode: Mode,
    close_frame: Bytes,
    unflushed: bool,
    /// Bytes that were read.
    pub(super) moved: u64,
    /// Something was read or written since this was last cleared.
    pub(super) is_active: bool,
    /// Since when the writer takes nothing.
    pub(super) blocked_since: Option<Instant>,
    /// Judges what is said before it goes on.
    messages: Option<Box<Messages>>,
    /// What waits for an answer before anything goes on.
    decision: Option<Decision>,
}

/// What a pipe whose messages are judged waits for.
#[derive(Debug)]
pub(super) enum Decision {
    /// That it is known whether a token is good; then [`Pipe::allow`].
    Authorize(Option<String>),
    /// The end.
    Refuse(Reason),
    /// Either, and somebody knows.
    Taken,
}

impl Pipe {
    /// Begins with what the writer has not seen yet.
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
            is_active: false,
            blocked_since: None,
            messages: None,
            decision: None,
        }
    }

    /// The same, of which every message is judged before it goes on.
    pub(super) fn inspected(unread: &[u8], messages: Messages) -> Self {
        let mut pipe = Self::new(Bytes::new());
        pipe.messages = Some(Box::new(messages));
        pipe.inspect(unread);
        pipe
    }

    /// What is to be answered before anything more goes on; told once.
    pub(super) fn take_decision(&mut self) -> Option<Decision> {
        match &self.decision {
            None | Some(Decision::Taken) => None,
            Some(_) => self.decision.replace(Decision::Taken),
        }
    }

    /// The token was good; `somebody` if it was a user's.
    pub(super) fn allow(&mut self, is_user: bool) {
        self.decision = None;
        if let Some(messages) = &mut self.messages {
            let passed = messages.allow(is_user);
            self.pass_on(passed);
        }
        self.inspect(&[]);
    }

    /// Takes what was read, and passes on what may.
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

    /// Ends with these words, as soon as they may be said. Nobody says two goodbyes.
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

    /// Follows what is passed on no longer.
    pub(super) fn observe(&mut self, read: &[u8]) {
        self.frames.follow(read);
    }

    fn insert_close_frame(&mut self) {
        if self.mode == Mode::Closing && self.frames.is_between() {
            self.mode = Mode::Closed;
            // What was held is not passed on any more, but must be followed to find the answer to
            // our goodbye.
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

    /// Moves what can be moved. Ready when nothing more will come and everything is written.
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
                // Whoever answers comes back here.
                return Poll::Pending;
            }
            let mut buffer = scratch.0.borrow_mut();
            let mut buffer = ReadBuf::new(&mut buffer);
            ready!(Pin::new(&mut *reader).poll_read(context, &mut buffer))
                .map_err(|_| PipeError::Read)?;
            if buffer.filled().is_empty() {
                // Without a boundary before it, nothing can be said any more.
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
                    self.is_active = true;
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        self.pending = Bytes::new();
        if self.unflushed {
            ready!(Pin::new(&mut *writer).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
