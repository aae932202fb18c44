//! Inspects what a client sends on a WebSocket whose messages are authorized: no message that may
//! carry a token is forwarded before the token is authorized.
//!
//! Decides: which bytes may be forwarded, which wait for an authorization, and 400
//! `message_invalid` or 413 `body_too_large` for a message that cannot be inspected. Trusts:
//! nothing that the client sends. Not here: the meaning of messages (`phoenix`), and whether a
//! token is accepted (`auth`).
//!
//! A message is held until it is known to carry no token; for most messages that takes a few bytes,
//! and the rest is forwarded without being read. A message that may carry a token is held whole, up
//! to a limit. Bytes are forwarded as they were received: frames are neither split, merged nor
//! masked again.

mod frame;

use std::mem;

use super::phoenix::{self, InvalidMessage, MessageKind};
use crate::denial::Reason;
use frame::Frame;

/// An incomplete message is checked once it has this many bytes, and then whenever its length has
/// doubled.
const FIRST_CHECK: usize = 256;

/// How much of a message is held before the client is authenticated: enough for a join with the
/// longest token that is accepted.
const UNAUTHENTICATED_LIMIT: usize = 16 * 1024;

/// Inspects the client's side of a WebSocket.
#[derive(Debug)]
pub(super) struct Messages {
    /// Bytes that were received and not forwarded.
    held: Vec<u8>,
    /// How many of them were read.
    read: usize,
    frame: Option<Frame>,
    message: Option<Message>,
    /// The longest message that is held.
    limit: usize,
    /// The client is not authenticated yet: only tokens and messages about the socket itself may
    /// pass.
    needs_token: bool,
    closed: bool,
}

/// The message that is being received.
#[derive(Debug)]
struct Message {
    is_text: bool,
    /// Its unmasked payload; not needed once it passes.
    payload: Vec<u8>,
    passes: bool,
    check_at: usize,
}

/// The next step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Forward these bytes, if there are any, and wait for more.
    Pass(Vec<u8>),
    /// Authorize the speaker; then call [`Messages::allow`].
    Authorize(Option<String>),
    /// End the stream.
    Refuse(Reason),
}

impl Messages {
    /// Holds messages of up to `limit` bytes; `needs_token` if the client must authenticate by a
    /// message.
    pub(super) fn new(limit: usize, needs_token: bool) -> Self {
        Self {
            held: Vec::new(),
            read: 0,
            frame: None,
            message: None,
            limit,
            needs_token,
            closed: false,
        }
    }

    /// Whether the client is not authenticated yet.
    pub(super) fn needs_token(&self) -> bool {
        self.needs_token
    }

    /// Takes bytes that were received. Bytes after a close frame are ignored.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.held.extend_from_slice(bytes);
        }
    }

    /// Takes the bytes that will not be forwarded, when the stream ends.
    pub(super) fn forget(&mut self) -> Vec<u8> {
        self.read = 0;
        mem::take(&mut self.held)
    }

    /// The speaker was authorized, as a user if `is_user`: the message that carried the token is
    /// forwarded.
    pub(super) fn allow(&mut self, is_user: bool) -> Vec<u8> {
        self.needs_token &= !is_user;
        self.message = None;
        self.pass()
    }

    /// Reads as far as possible.
    pub(super) fn next(&mut self) -> Next {
        match self.read_on() {
            Ok(None) => Next::Pass(self.passing()),
            Ok(Some(token)) => Next::Authorize(token),
            Err(reason) => Next::Refuse(reason),
        }
    }

    /// How long a held message may be now.
    fn limit(&self) -> usize {
        match self.needs_token {
            true => self.limit.min(UNAUTHENTICATED_LIMIT),
            false => self.limit,
        }
    }

    /// The bytes that may be forwarded: everything that was read, unless a message is held.
    fn passing(&mut self) -> Vec<u8> {
        let is_held = self.message.as_ref().is_some_and(|message| !message.passes);
        // A control frame is forwarded whole, so that it can be refused before any of it was
        // forwarded.
        let in_control = self.frame.as_ref().is_some_and(|frame| frame.is_control());
        match is_held || in_control {
            true => Vec::new(),
            false => self.pass(),
        }
    }

    fn pass(&mut self) -> Vec<u8> {
        let rest = self.held.split_off(self.read);
        self.read = 0;
        mem::replace(&mut self.held, rest)
    }

    /// Reads up to the end of what was received, or up to a token.
    fn read_on(&mut self) -> Result<Option<Option<String>>, Reason> {
        while !self.closed {
            if self.frame.is_none() && !self.begin_frame()? {
                self.check_prefix()?;
                return Ok(None);
            }
            self.read_payload();
            let Some(frame) = self.frame.take_if(|frame| frame.is_complete()) else {
                self.check_prefix()?;
                return Ok(None);
            };
            if frame.is_close() {
                self.closed = true;
                self.held.truncate(self.read);
            } else if !frame.is_control()
                && frame.is_last
                && let Some(token) = self.end_message()?
            {
                return Ok(Some(token));
            }
        }
        Ok(None)
    }

    /// Reads the header of a frame, if all of it was received.
    fn begin_frame(&mut self) -> Result<bool, Reason> {
        let rest = self.held.get(self.read..).unwrap_or_default();
        let Some((frame, length)) = Frame::parse(rest, self.message.is_some())? else {
            return Ok(false);
        };
        self.read += length;
        if frame.begins_message() {
            self.message = Some(Message {
                is_text: frame.is_text(),
                payload: Vec::new(),
                passes: false,
                check_at: FIRST_CHECK,
            });
        }
        self.frame = Some(frame);
        Ok(true)
    }

    fn read_payload(&mut self) {
        let Some(frame) = &mut self.frame else { return };
        let rest = self.held.get(self.read..).unwrap_or_default();
        let received = rest.get(..frame.available(rest)).unwrap_or_default();
        if let Some(message) = &mut self.message
            && !message.passes
            && !frame.is_control()
        {
            message.payload.extend(frame.unmask(received));
        }
        frame.advance(received.len());
        self.read += received.len();
    }

    /// Lets the current message pass if its beginning is enough to know that it carries no token;
    /// otherwise makes sure that not too much is held.
    fn check_prefix(&mut self) -> Result<(), Reason> {
        let Some(message) = &mut self.message else {
            return Ok(());
        };
        if message.passes {
            return Ok(());
        }
        if message.payload.len() >= message.check_at {
            message.check_at = message.payload.len() * 2;
            let kind = match message.is_text {
                true => phoenix::text_prefix(&message.payload),
                false => match phoenix::binary(&message.payload) {
                    None => None,
                    Some(Ok(kind)) => Some(kind),
                    Some(Err(InvalidMessage)) => return Err(Reason::MessageInvalid),
                },
            };
            if let Some(kind) = kind {
                may_pass(&kind, self.needs_token)?;
                message.passes = true;
                message.payload = Vec::new();
                return Ok(());
            }
        }
        match self.held.len() > self.limit() {
            true => Err(Reason::BodyTooLarge),
            false => Ok(()),
        }
    }

    /// The message is complete. Some if it carries a token; it stays held then.
    fn end_message(&mut self) -> Result<Option<Option<String>>, Reason> {
        let Some(message) = &self.message else {
            return Ok(None);
        };
        if !message.passes {
            let is_long = message.payload.len() > self.limit();
            let kind = match message.is_text {
                // As if it had been received in pieces.
                true if is_long => {
                    Some(phoenix::text_prefix(&message.payload).ok_or(Reason::BodyTooLarge)?)
                }
                true => phoenix::text(&message.payload),
                false => phoenix::binary(&message.payload).and_then(Result::ok),
            };
            match kind.ok_or(Reason::MessageInvalid)? {
                MessageKind::Token(token) => return Ok(Some(token)),
                kind @ (MessageKind::Socket | MessageKind::Other) => {
                    may_pass(&kind, self.needs_token)?
                }
            }
        }
        self.message = None;
        Ok(None)
    }
}

fn may_pass(kind: &MessageKind, needs_token: bool) -> Result<(), Reason> {
    match kind {
        MessageKind::Other if needs_token => Err(Reason::TokenMissing),
        MessageKind::Other | MessageKind::Socket | MessageKind::Token(_) => Ok(()),
    }
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]
mod tests;
