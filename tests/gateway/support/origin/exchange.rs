//! One request at the origin, as a script handles it.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use aws_lc_rs::digest;

use super::reader::{Fault, Framing, Reader, field};
use super::{Seen, State};

/// How much of a body is kept.
const KEPT: usize = 64 * 1024;

/// A request whose head was received; the script decides about everything else.
pub struct Exchange {
    state: Arc<State>,
    reader: Reader,
    framing: Framing,
    /// Where the request is recorded, unless a test has taken the records meanwhile.
    place: usize,
    seen: Seen,
    digest: digest::Context,
    left: Option<u64>,
    body_read: bool,
    ended: bool,
}

impl Exchange {
    pub(super) fn new(
        state: Arc<State>,
        reader: Reader,
        framing: Framing,
        (place, seen): (usize, Seen),
    ) -> Self {
        Self {
            state,
            reader,
            framing,
            place,
            seen,
            digest: digest::Context::new(&digest::SHA256),
            left: match framing {
                Framing::Length(length) => Some(length),
                Framing::Chunked => None,
            },
            body_read: framing == Framing::Length(0),
            ended: false,
        }
    }

    /// The request, with as much of its body as was read.
    pub fn request(&self) -> &Seen {
        &self.seen
    }

    /// Reads the whole body. `false` if it is aborted.
    pub fn read_body(&mut self) -> bool {
        while let Some(read) = self.read_some() {
            if read == 0 {
                return true;
            }
        }
        false
    }

    /// Reads the next part of the body, at most one chunk or 64 KiB: how much, 0 at its end, `None`
    /// if it is aborted.
    pub fn read_some(&mut self) -> Option<usize> {
        if self.body_read {
            return Some(0);
        }
        let read = match self.framing {
            Framing::Length(_) => self.read_by_length(),
            Framing::Chunked => self.read_chunk(),
        };
        if read.is_none() {
            self.ended = true;
        }
        if read == Some(0) {
            self.body_read = true;
            let digest = self.digest.clone().finish();
            self.seen.sha256 = Some(
                digest
                    .as_ref()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
            );
        }
        self.record();
        read
    }

    fn read_by_length(&mut self) -> Option<usize> {
        let left = self.left?;
        if left == 0 {
            return Some(0);
        }
        let mut buffer = vec![0; KEPT.min(usize::try_from(left).unwrap_or(KEPT))];
        let read = self.reader.read(&mut buffer);
        if read == 0 {
            return None;
        }
        self.left = Some(left - u64::try_from(read).unwrap());
        self.keep(&buffer[..read]);
        Some(read)
    }

    fn read_chunk(&mut self) -> Option<usize> {
        let size = self.line()?;
        assert!(
            !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "chunk size {size:?}"
        );
        let size = usize::from_str_radix(&size, 16).unwrap();
        if size == 0 {
            loop {
                let line = self.line()?;
                if line.is_empty() {
                    return Some(0);
                }
                self.seen.trailers.push(field(&line).unwrap());
            }
        }
        let mut chunk = vec![0; size];
        let mut filled = 0;
        while filled < size {
            let read = self.reader.read(&mut chunk[filled..]);
            if read == 0 {
                return None;
            }
            filled += read;
        }
        assert_eq!(self.line()?, "", "a chunk ends with its line");
        self.keep(&chunk);
        Some(size)
    }

    fn line(&mut self) -> Option<String> {
        match self.reader.line(&mut Vec::new()) {
            Ok(line) => line,
            Err(Fault::Incomplete) => None,
            Err(Fault::Malformed(why)) => panic!("a malformed body: {why}"),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.seen.length += u64::try_from(bytes.len()).unwrap();
        let room = KEPT - self.seen.body.len();
        self.seen
            .body
            .extend_from_slice(&bytes[..room.min(bytes.len())]);
    }

    fn record(&self) {
        let mut requests = self.state.requests.lock().unwrap();
        if let Some(seen) = requests
            .get_mut(self.place)
            .filter(|seen| seen.head == self.seen.head)
        {
            *seen = self.seen.clone();
        }
    }

    /// Reads the body, and answers with a length.
    pub fn reply(&mut self, reply: &Reply) {
        if self.read_body() {
            self.reply_now(reply);
        }
    }

    /// Answers with a length, without reading the body first.
    pub fn reply_now(&mut self, reply: &Reply) {
        let head_only = self.seen.method == "HEAD";
        let bytes = reply.bytes(head_only);
        self.raw(&bytes);
    }

    /// Sends the head of a chunked answer.
    pub fn begin(&mut self, status: u16, headers: &[(&str, &str)]) -> bool {
        let mut head = format!("HTTP/1.1 {status} Scripted\r\ntransfer-encoding: chunked\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.raw(head.as_bytes())
    }

    /// Sends one chunk; `false` if the gateway has gone.
    pub fn chunk(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let bytes = bytes.as_ref();
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        self.raw(&framed)
    }

    /// Sends one server-sent event.
    pub fn event(&mut self, data: &str) -> bool {
        self.chunk(format!("data: {data}\n\n"))
    }

    /// Ends a chunked answer, with trailers or without.
    pub fn end(&mut self, trailers: &[(&str, &str)]) -> bool {
        let fields: String = trailers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        self.raw(format!("0\r\n{fields}\r\n").as_bytes())
    }

    /// Sends these very bytes; `false` if the gateway has gone.
    pub fn raw(&mut self, bytes: &[u8]) -> bool {
        let sent = self.reader.stream().write_all(bytes).is_ok();
        self.ended |= !sent;
        sent
    }

    /// Closes the connection when the script is over.
    pub fn close(&mut self) {
        self.ended = true;
    }

    /// Closes the connection now, with a reset.
    pub fn reset(&mut self) {
        self.ended = true;
        let socket = socket2::SockRef::from(self.reader.stream());
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        let _ = self.reader.stream().shutdown(Shutdown::Both);
    }

    /// Blocks until the gateway has closed its side.
    pub fn wait_for_close(&mut self) {
        self.ended = true;
        let mut rest = [0; 1024];
        while self
            .reader
            .stream()
            .read(&mut rest)
            .is_ok_and(|read| read > 0)
        {}
    }

    /// The connection, for the next request; `None` if it is closed.
    pub(super) fn into_next(self) -> Option<Reader> {
        if self.ended || !self.body_read {
            let _ = self.reader.stream().shutdown(Shutdown::Both);
            return None;
        }
        Some(self.reader)
    }
}

/// An answer with a length.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    /// 200 with `ok`.
    pub fn ok() -> Self {
        Self::new(200)
            .header("content-type", "text/plain")
            .body("ok")
    }

    /// This status and no body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    fn bytes(&self, head_only: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !matches!(self.status, 100..=199 | 204 | 304) {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}
