//! What a client says on a socket whose messages are judged: frames become messages, and no message
//! goes on before it is known what it says.
//!
//! Decides: which bytes may go on, which must wait for a judgement, and 400 `message_invalid` or
//! 413 `body_too_large` for what cannot be judged. Trusts: nothing. Not here: what messages mean
//! (`phoenix`), and whether a token is good (`auth`).
//!
//! A message is held until it is known that it carries no token; for most that is after a few
//! bytes, and the rest passes unread. One that may carry a token is held whole, up to a limit.
//! Bytes go on as they came: nothing is framed or masked anew.

mod frame;

use std::mem;

use super::phoenix::{self, InvalidMessage, MessageKind};
use crate::denial::Reason;
use frame::Frame;

/// From how much of a message on its beginning is looked at before it is whole; then at each
/// doubling.
const FIRST_CHECK: usize = 256;

/// How much is held of a message while nobody has proven who they are: room for a join with the
/// longest token there can be.
const UNAUTHENTICATED_LIMIT: usize = 16 * 1024;

/// A client's side of a socket.
#[derive(Debug)]
pub(super) struct Messages {
    /// What came and has not gone on.
    held: Vec<u8>,
    /// How much of it was read.
    read: usize,
    frame: Option<Frame>,
    message: Option<Message>,
    /// Held whole until it is judged.
    limit: usize,
    /// What is no token and not about the socket passes only behind a token that was good.
    needs_token: bool,
    closed: bool,
}

/// The message that is under way.
#[derive(Debug)]
struct Message {
    is_text: bool,
    /// What it says, unmasked; of no use once it passes.
    payload: Vec<u8>,
    passes: bool,
    check_at: usize,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Pass these bytes on, if there are any, and wait for more.
    Pass(Vec<u8>),
    /// Judge who is speaking; then [`Messages::allow`].
    Authorize(Option<String>),
    /// End it.
    Refuse(Reason),
}

impl Messages {
    /// Messages of up to `limit` bytes; `needs_token` where nobody may speak who has not kind who
    /// they are.
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

    /// Takes what the client kind. Behind its goodbye it has nothing to say.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.held.extend_from_slice(bytes);
        }
    }

    /// What was taken and will not go on, when it all ends.
    pub(super) fn forget(&mut self) -> Vec<u8> {
        self.read = 0;
        mem::take(&mut self.held)
    }

    /// The token was good, and was `somebody`'s: the message that carried it goes on.
    pub(super) fn allow(&mut self, is_user: bool) -> Vec<u8> {
        self.needs_token &= !is_user;
        self.message = None;
        self.pass()
    }

    /// Reads on.
    pub(super) fn next(&mut self) -> Next {
        match self.read_on() {
            Ok(None) => Next::Pass(self.passing()),
            Ok(Some(token)) => Next::Authorize(token),
            Err(reason) => Next::Refuse(reason),
        }
    }

    /// How long a message may be that is held.
    fn limit(&self) -> usize {
        match self.needs_token {
            true => self.limit.min(UNAUTHENTICATED_LIMIT),
            false => self.limit,
        }
    }

    /// What may go on: everything that was read, unless a message is held.
    fn passing(&mut self) -> Vec<u8> {
        let is_held = self.message.as_ref().is_some_and(|message| !message.passes);
        // A control frame passes whole, so that it can be refused before any of it went on.
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

    /// To the end of what came, or to a token.
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

    /// Whether what came of a message is enough to let it pass; and that what is held is not too
    /// much.
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

    /// The message is whole. Some if it carries a token, and stays held.
    fn end_message(&mut self) -> Result<Option<Option<String>>, Reason> {
        let Some(message) = &self.message else {
            return Ok(None);
        };
        if !message.passes {
            let is_long = message.payload.len() > self.limit();
            let kind = match message.is_text {
                // As if it had come in pieces.
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
