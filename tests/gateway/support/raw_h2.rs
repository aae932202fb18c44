//! Hand-written HTTP/2: frames and field blocks that every client library refuses to send.
//!
//! Field blocks are written as literals without indexing and without Huffman coding (RFC 7541,
//! section 6.2.2). Field blocks of answers are not read: a refusal is known by its body, and by the
//! request's log line.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::Stream;
use super::gateway::request_line;
use super::in_time;
use super::log::Log;

pub use super::attacks::frame;

pub const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

pub const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// A connection for raw frames.
pub struct RawTwo {
    stream: Box<dyn Stream>,
    log: Log,
    next: u32,
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An answer with this body.
    Answered(Vec<u8>),
    /// Reset, with this error code.
    Reset(u32),
    /// The connection was ended: GOAWAY with this error code, or a closed socket.
    GoneAway(Option<u32>),
}

impl RawTwo {
    pub(super) async fn begin(mut stream: Box<dyn Stream>, log: Log) -> Self {
        let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        opening.extend(frame(SETTINGS, 0, 0, &[]));
        stream.write_all(&opening).await.unwrap();
        Self {
            stream,
            log,
            next: 1,
        }
    }

    /// Opens a stream with these fields, pseudo-fields among them, and ends it. Returns its number.
    pub async fn request(&mut self, fields: &[(&str, &str)]) -> u32 {
        let stream = self.open(fields, END_STREAM).await;
        self.flush().await;
        stream
    }

    /// Opens a stream with these fields, sends a body, and ends it.
    pub async fn request_with_body(&mut self, fields: &[(&str, &str)], body: &[u8]) -> u32 {
        let stream = self.open(fields, 0).await;
        self.write(&frame(DATA, END_STREAM, stream, body)).await;
        self.flush().await;
        stream
    }

    /// The fields of an ordinary GET, before others are added or changed.
    pub fn get(path: &str) -> Vec<(&str, &str)> {
        vec![
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", super::pki::NAME),
            (":path", path),
        ]
    }

    /// Opens a stream with these fields and flags. Returns its number.
    pub async fn open(&mut self, fields: &[(&str, &str)], flags: u8) -> u32 {
        let stream = self.next;
        self.next += 2;
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                length(&mut block, text.len());
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.write(&frame(HEADERS, flags | END_HEADERS, stream, &block))
            .await;
        stream
    }

    /// Sends any frame.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.write(&frame(kind, flags, stream, payload)).await;
        self.flush().await;
    }

    /// Sends any bytes at once, such as many frames.
    pub async fn send_all(&mut self, bytes: &[u8]) {
        in_time("writing", self.write(bytes)).await;
        in_time("writing", self.flush()).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        // The gateway may have ended the connection; its frames are read all the same.
        let _ = self.stream.write_all(bytes).await;
    }

    async fn flush(&mut self) {
        let _ = self.stream.flush().await;
    }

    /// Waits for the end of a stream.
    pub async fn ending(&mut self, stream: u32) -> Ending {
        in_time("the end of a stream", self.wait_for_ending(stream)).await
    }

    /// Reads until the gateway announces that it will end the connection, and returns the error
    /// code; `None` if it just closes it.
    pub async fn going(&mut self) -> Option<u32> {
        in_time("GOAWAY", async {
            loop {
                match self.frame().await? {
                    (GOAWAY, _, _, payload) => return Some(word(&payload[4..])),
                    (PING, flags, _, payload) if flags & ACK == 0 => {
                        self.send(PING, ACK, 0, &payload).await;
                    }
                    _ => {}
                }
            }
        })
        .await
    }

    async fn wait_for_ending(&mut self, stream: u32) -> Ending {
        let mut body = Vec::new();
        loop {
            let Some((kind, flags, number, payload)) = self.frame().await else {
                return Ending::GoneAway(None);
            };
            match kind {
                SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await,
                PING if flags & ACK == 0 => self.send(PING, ACK, 0, &payload).await,
                RST_STREAM if number == stream => return Ending::Reset(word(&payload)),
                GOAWAY if word(&payload[4..]) != 0 => {
                    return Ending::GoneAway(Some(word(&payload[4..])));
                }
                DATA | HEADERS if number == stream => {
                    if kind == DATA {
                        body.extend_from_slice(&payload);
                    }
                    if flags & END_STREAM != 0 {
                        return Ending::Answered(body);
                    }
                }
                _ => {}
            }
        }
    }

    async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((head[3], head[4], word(&head[5..]) & 0x7fff_ffff, payload))
    }

    /// The log line of a refusal whose problem document this is.
    pub fn log_line(&self, body: &[u8]) -> Value {
        let problem: Value = serde_json::from_slice(body).unwrap();
        request_line(&self.log, problem["request_id"].as_str().unwrap())
    }

    /// Sends a request and returns the reason of its refusal; panics if the gateway did not refuse
    /// it.
    pub async fn reason(&mut self, fields: &[(&str, &str)]) -> String {
        let stream = self.request(fields).await;
        match self.ending(stream).await {
            Ending::Answered(body) => {
                let reason = &self.log_line(&body)["reason"];
                reason.as_str().unwrap_or("none").to_owned()
            }
            other => panic!("no answer but {other:?}"),
        }
    }
}

/// An integer with a prefix of 7 bits (RFC 7541, section 5.1).
fn length(block: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        return block.push(u8::try_from(value).unwrap());
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    block.push(u8::try_from(value).unwrap());
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}
