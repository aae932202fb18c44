//! Hand-written HTTP/1.1: bytes that no client library would send.

use std::io;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Answer;
use super::client::Stream;
use super::in_time;
use super::log::Log;

/// A connection for raw bytes.
pub struct Raw {
    stream: Box<dyn Stream>,
    over_tls: bool,
    log: Log,
    unread: Vec<u8>,
}

/// The outcome of hand-written bytes.
#[derive(Debug)]
pub enum Outcome {
    /// The gateway answered; checked like every answer.
    Answer(Box<Answer>),
    /// The connection ended, or was reset.
    Closed,
}

impl Outcome {
    /// The gateway's answer.
    #[track_caller]
    pub fn answer(self) -> Answer {
        match self {
            Self::Answer(answer) => *answer,
            other => panic!("no answer but {other:?}"),
        }
    }
}

impl Raw {
    pub(super) fn new(stream: Box<dyn Stream>, over_tls: bool, log: Log) -> Self {
        Self {
            stream,
            over_tls,
            log,
            unread: Vec::new(),
        }
    }

    /// Sends bytes. The gateway may have closed already; its answer can still be read.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let sent = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        let _: io::Result<()> = in_time("writing", sent).await;
        self
    }

    /// Shuts down the sending side.
    pub async fn finish_writing(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads bytes as they come; empty at the end.
    pub async fn read(&mut self) -> Vec<u8> {
        if !self.unread.is_empty() {
            return std::mem::take(&mut self.unread);
        }
        let mut buffer = vec![0; 16 * 1024];
        let read = in_time("reading", self.stream.read(&mut buffer))
            .await
            .unwrap_or(0);
        buffer.truncate(read);
        buffer
    }

    /// Reads one answer.
    pub async fn answer(&mut self) -> Outcome {
        self.answer_to("GET").await
    }

    /// Reads one answer; the method determines whether it has a body.
    pub async fn answer_to(&mut self, method: &str) -> Outcome {
        let Some(head) = self.until(b"\r\n\r\n").await else {
            return Outcome::Closed;
        };
        let (status, headers) = parse_head(&head);
        if status == StatusCode::CONTINUE {
            return Box::pin(self.answer_to(method)).await;
        }
        let bodiless = method == "HEAD"
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || status.is_informational();
        let body = match (bodiless, headers.get("content-length")) {
            (true, _) => Some(Vec::new()),
            (false, Some(length)) => {
                let length = length.to_str().unwrap().parse().unwrap();
                self.exactly(length).await
            }
            (false, None) if headers.contains_key("transfer-encoding") => self.chunks().await,
            (false, None) => Some(self.rest().await),
        };
        match body {
            None => Outcome::Closed,
            Some(body) => Outcome::Answer(Box::new(Answer::checked(
                status,
                headers,
                Bytes::from(body),
                None,
                self.over_tls,
                self.log.clone(),
            ))),
        }
    }

    /// Reads answers until the gateway closes the connection.
    pub async fn answers(&mut self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        loop {
            match self.answer().await {
                Outcome::Closed => return outcomes,
                outcome => outcomes.push(outcome),
            }
        }
    }

    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 16 * 1024];
        let read = in_time("an answer", self.stream.read(&mut buffer))
            .await
            .unwrap_or(0);
        self.unread.extend_from_slice(&buffer[..read]);
        read > 0
    }

    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            let found = self
                .unread
                .windows(end.len())
                .position(|window| window == end);
            if let Some(place) = found {
                return Some(self.unread.drain(..place + end.len()).collect());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.unread.len() < length {
            if !self.more().await {
                return None;
            }
        }
        Some(self.unread.drain(..length).collect())
    }

    async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.unread)
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n").await?;
            let text = std::str::from_utf8(&line).unwrap().trim();
            let size = usize::from_str_radix(text, 16).unwrap();
            if size == 0 {
                while self.until(b"\r\n").await? != b"\r\n" {}
                return Some(body);
            }
            body.extend(self.exactly(size).await?);
            self.exactly(2).await?;
        }
    }
}

fn parse_head(head: &[u8]) -> (StatusCode, HeaderMap) {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.trim_end().split("\r\n");
    let first = lines.next().unwrap();
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("status line {first:?}"));
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value.trim()).unwrap(),
        );
    }
    (status, headers)
}
