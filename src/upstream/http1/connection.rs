//! A connection to a server: it moves bytes, which `head` and `body` parse.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::head::{self, AnswerHead};
use super::request::OutgoingRequest;
use crate::http1::{Decoder, Malformed, Piece, ReadBuffer};
use crate::upstream::timeouts::Timeout;
use crate::upstream::upload::UploadError;

/// How many interim answers (1xx) may come before the final one.
const INTERIM: usize = 8;

/// Why nothing more can be read.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::upstream) enum ReadFailure {
    /// The connection ended before the first byte of the answer.
    Silent,
    /// It ended in the middle of the answer.
    Broken,
    /// The bytes are not an answer.
    Malformed(Malformed),
}

/// A connection to a server.
pub(in crate::upstream) struct Connection {
    stream: TcpStream,
    buffer: ReadBuffer,
    /// Bytes that were read and are not decoded yet.
    unread: Bytes,
    decoder: Decoder,
    keeps_open: bool,
    interim: usize,
    timeout: Timeout,
}

impl Connection {
    pub(in crate::upstream) fn new(
        stream: TcpStream,
        buffer: ReadBuffer,
        timeout: Timeout,
    ) -> Self {
        Self {
            stream,
            buffer,
            unread: Bytes::new(),
            decoder: Decoder::Done,
            keeps_open: true,
            interim: 0,
            timeout,
        }
    }

    /// Whether the server has neither closed the connection nor sent unsolicited bytes. Costs no
    /// system call if nothing arrived.
    pub(in crate::upstream) fn is_quiet(&self) -> bool {
        self.unread.is_empty()
            && matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether the answer was read to its end, nothing follows it, and the server keeps the
    /// connection.
    pub(in crate::upstream) fn is_reusable(&self) -> bool {
        self.decoder.is_done() && self.keeps_open && self.unread.is_empty()
    }

    /// Whether the body of the answer was read to its end.
    pub(in crate::upstream) fn is_body_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// How much of the body is missing, if its head declared it.
    pub(in crate::upstream) fn body_left(&self) -> Option<u64> {
        self.decoder.left()
    }

    /// Writes as much of a request as possible.
    pub(in crate::upstream) fn poll_send(
        &mut self,
        outgoing: &mut OutgoingRequest,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), UploadError>> {
        outgoing.poll_send(&mut self.stream, context)
    }

    /// Reads the head of the answer to a request with this method.
    pub(in crate::upstream) fn poll_head(
        &mut self,
        method: &Method,
        context: &mut Context<'_>,
    ) -> Poll<Result<AnswerHead, ReadFailure>> {
        loop {
            if !self.unread.is_empty()
                && let Some(head) =
                    head::take(&mut self.unread, method).map_err(ReadFailure::Malformed)?
            {
                if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS
                {
                    self.interim += 1;
                    if self.interim > INTERIM {
                        return Poll::Ready(Err(ReadFailure::Malformed(Malformed(
                            "too many interim (1xx) answers",
                        ))));
                    }
                    continue;
                }
                self.interim = 0;
                self.decoder = Decoder::new(head.framing);
                self.keeps_open = head.keeps_open;
                return Poll::Ready(Ok(head));
            }
            match ready!(self.poll_fill(context)) {
                Ok(true) => {}
                Ok(false) | Err(_) => {
                    let began = self.interim > 0 || !self.unread.is_empty();
                    return Poll::Ready(Err(match began {
                        true => ReadFailure::Broken,
                        false => ReadFailure::Silent,
                    }));
                }
            }
        }
    }

    /// Reads the next piece of the answer's body.
    pub(in crate::upstream) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Piece, ReadFailure>> {
        loop {
            if let Some(piece) = self
                .decoder
                .next(&mut self.unread)
                .map_err(ReadFailure::Malformed)?
            {
                return Poll::Ready(Ok(piece));
            }
            match ready!(self.poll_fill(context)) {
                Ok(true) => {}
                Ok(false) if self.decoder.ends_with_connection() => {
                    return Poll::Ready(Ok(Piece::End));
                }
                Ok(false) | Err(_) => return Poll::Ready(Err(ReadFailure::Broken)),
            }
        }
    }

    /// Gives up the socket after the head of a 101, with the bytes that were read after it.
    pub(in crate::upstream) fn upgrade(self) -> (TcpStream, Bytes) {
        (self.stream, self.unread)
    }

    /// Reads once. False at the end of the connection.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Self {
            stream,
            buffer,
            unread,
            ..
        } = self;
        buffer.poll_fill(stream, unread, context)
    }

    /// Ready shortly after `due`.
    pub(in crate::upstream) fn poll_timeout(
        &self,
        due: Instant,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        self.timeout.poll(due, context)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("decoder", &self.decoder)
            .field("keeps_open", &self.keeps_open)
            .finish_non_exhaustive()
    }
}
