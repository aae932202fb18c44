//! An answer that is being written: its head, and its body as far as the connection took it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use hyper::header::{self, HeaderMap};
use hyper::http::response::Parts;
use hyper::{StatusCode, Version};
use tokio::io::AsyncWrite;

use crate::clock;
use crate::denial;
use crate::gateway::answer::AnswerBytes;
use crate::http1::{Framing, digits};
use crate::request::headers;

/// A piece of a body that is copied behind what is not written yet, rather than written by itself.
const SMALL: usize = 1024;

/// How much is gathered before it is written.
const ENOUGH: usize = 16 * 1024;

/// What an answer says of its body and its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    /// How the body is delimited; `None` if the answer can have none.
    pub(super) framing: Option<Framing>,
    /// Whether the connection is kept after the answer.
    pub(super) keeps_open: bool,
    /// Whether the client can read trailers.
    pub(super) takes_trailers: bool,
    /// Whether the end of the body was added.
    pub(super) is_over: bool,
    /// Whether it broke off.
    pub(super) is_broken: bool,
}

/// What the fields of an answer declare already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Declared {
    pub(super) length: Option<u64>,
    date: bool,
}

/// An answer that is being written.
#[derive(Default)]
pub(super) struct Outgoing {
    /// The head, small pieces, and what delimits chunks.
    front: Vec<u8>,
    /// How much of it was written.
    sent: usize,
    data: AnswerBytes,
    /// The small pieces that were copied into `front`, until they are written.
    copied: Vec<AnswerBytes>,
    /// What delimits the chunk in `data`.
    tail: &'static [u8],
}

/// The answer is not as long as it declared.
#[derive(Debug)]
pub(super) struct WrongLength;

impl Outgoing {
    /// Begins with the status and the fields. Those that frame the answer are written by
    /// [`Outgoing::end_head`] and nowhere else.
    pub(super) fn begin_head(&mut self, version: Version, parts: &Parts) -> Declared {
        let status = parts.status;
        let front = &mut self.front;
        front.reserve(1024);
        front.extend_from_slice(match version {
            Version::HTTP_10 => b"HTTP/1.0 ",
            _ => b"HTTP/1.1 ",
        });
        front.extend_from_slice(status.as_str().as_bytes());
        front.push(b' ');
        let phrase = denial::renamed(status).or(status.canonical_reason());
        front.extend_from_slice(phrase.unwrap_or_default().as_bytes());
        front.extend_from_slice(b"\r\n");
        let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
        let mut declared = Declared::default();
        for (name, value) in &parts.headers {
            if *name == header::CONTENT_LENGTH {
                // Written once, at the end of the head.
                declared.length = digits(value.as_bytes());
                continue;
            }
            if *name == header::DATE {
                declared.date = true;
            } else if *name == header::TRANSFER_ENCODING
                || *name == header::CONNECTION && !is_switch
            {
                continue;
            }
            field(front, name.as_str(), value.as_bytes());
        }
        declared
    }

    /// Ends the head. A client may keep the connection for `idle` seconds.
    pub(super) fn end_head(
        &mut self,
        status: StatusCode,
        declared: Declared,
        announced: Announced,
        idle: u64,
    ) {
        let front = &mut self.front;
        if !declared.date {
            front.extend_from_slice(b"date: ");
            clock::write_http_date(front);
            front.extend_from_slice(b"\r\n");
        }
        match announced.framing {
            Some(Framing::Chunked) => front.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Some(Framing::Length(length)) => write_length(front, length),
            // As in the answer to a GET (RFC 9110, section 8.6).
            None => {
                if let Some(length) = declared.length {
                    write_length(front, length);
                }
            }
            Some(Framing::UntilClose) => {}
        }
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // `Connection: upgrade` was one of the fields.
        } else if announced.keeps_open {
            front.extend_from_slice(b"connection: keep-alive\r\nkeep-alive: timeout=");
            front.extend_from_slice(itoa::Buffer::new().format(idle).as_bytes());
            front.extend_from_slice(b"\r\n");
        } else {
            front.extend_from_slice(b"connection: close\r\n");
        }
        front.extend_from_slice(b"\r\n");
    }

    /// Adds a piece of the body.
    ///
    /// # Errors
    ///
    /// It is more than the head declared.
    pub(super) fn data(
        &mut self,
        data: AnswerBytes,
        announced: &mut Announced,
    ) -> Result<(), WrongLength> {
        if !data.has_remaining() {
            return Ok(());
        }
        match &mut announced.framing {
            None => return Ok(()),
            Some(Framing::UntilClose) => {}
            Some(Framing::Length(left)) => {
                let length = u64::try_from(data.remaining()).unwrap_or(u64::MAX);
                *left = left.checked_sub(length).ok_or(WrongLength)?;
            }
            Some(Framing::Chunked) => {
                let size = format!("{:x}\r\n", data.remaining());
                self.front.extend_from_slice(size.as_bytes());
                self.tail = b"\r\n";
            }
        }
        if data.remaining() <= SMALL {
            self.front.extend_from_slice(data.chunk());
            self.front.extend_from_slice(std::mem::take(&mut self.tail));
            self.copied.push(data);
        } else {
            self.data = data;
        }
        Ok(())
    }

    /// Ends the body.
    ///
    /// # Errors
    ///
    /// It is less than the head declared.
    pub(super) fn end(
        &mut self,
        trailers: Option<&HeaderMap>,
        announced: &mut Announced,
    ) -> Result<(), WrongLength> {
        announced.is_over = true;
        match announced.framing {
            Some(Framing::Length(1..)) => Err(WrongLength),
            Some(Framing::Length(0) | Framing::UntilClose) | None => Ok(()),
            Some(Framing::Chunked) => {
                self.front.extend_from_slice(b"0\r\n");
                let trailers = trailers.filter(|_| announced.takes_trailers);
                for (name, value) in trailers.into_iter().flatten() {
                    if headers::is_allowed_trailer(name.as_str()) {
                        field(&mut self.front, name.as_str(), value.as_bytes());
                    }
                }
                self.front.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }

    /// Whether more should be written before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.has_data() || self.front.len() >= ENOUGH
    }

    /// Whether everything was written.
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.front.len() && !self.has_data()
    }

    fn has_data(&self) -> bool {
        self.data.has_remaining() || !self.tail.is_empty()
    }

    /// Writes once; how much that was.
    pub(super) fn poll_write<S: AsyncWrite>(
        &mut self,
        stream: Pin<&mut S>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let front = self.front.get(self.sent..).unwrap_or_default();
        let written = if !self.has_data() {
            ready!(stream.poll_write(context, front))?
        } else {
            let parts = [front, self.data.chunk(), self.tail].map(IoSlice::new);
            ready!(stream.poll_write_vectored(context, &parts))?
        };
        let of_front = written.min(front.len());
        self.sent += of_front;
        let of_data = (written - of_front).min(self.data.remaining());
        self.data.advance(of_data);
        self.tail = self
            .tail
            .get(written - of_front - of_data..)
            .unwrap_or_default();
        if self.is_empty() {
            self.front.clear();
            self.sent = 0;
            for mut piece in self.copied.drain(..) {
                piece.advance(piece.remaining());
            }
            // It keeps the record of the request.
            self.data = AnswerBytes::default();
        }
        Poll::Ready(Ok(written))
    }
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    let mut digits = itoa::Buffer::new();
    field(out, "content-length", digits.format(length).as_bytes());
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
