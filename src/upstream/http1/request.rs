//! An HTTP/1.1 request that is being sent: its head, and a body that is exactly as long as
//! declared. The types of its fields rule out line ends.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method};
use tokio::io::AsyncWrite;

use crate::clock;
use crate::upstream::fields::FieldWriter;
use crate::upstream::upload::{Upload, UploadError};

/// A request head that is being written.
pub(in crate::upstream) struct RequestHead(Vec<u8>);

impl std::fmt::Debug for RequestHead {
    /// It contains tokens and cookies.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RequestHead({} bytes)", self.0.len())
    }
}

impl RequestHead {
    /// Begins with the request line; reserves `fields` more bytes.
    pub(in crate::upstream) fn new(method: &Method, target: &PathAndQuery, fields: usize) -> Self {
        let target = target.as_str();
        let line = method.as_str().len() + target.len() + " HTTP/1.1\r\n\r\n".len() + 1;
        let mut head = Vec::with_capacity(line + fields);
        head.extend_from_slice(method.as_str().as_bytes());
        head.push(b' ');
        head.extend_from_slice(target.as_bytes());
        head.extend_from_slice(b" HTTP/1.1\r\n");
        Self(head)
    }

    fn line(&mut self, name: &str, value: &[u8]) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    fn finish(mut self) -> Self {
        self.0.extend_from_slice(b"\r\n");
        self
    }
}

impl FieldWriter for RequestHead {
    fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.line(name.as_str(), value.as_bytes());
    }
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyFraming {
    /// So many bytes are missing, as `Content-Length` declared.
    Length(u64),
    /// By chunks.
    Chunked,
}

/// A request that is being sent.
pub(in crate::upstream) struct OutgoingRequest {
    method: Method,
    head: RequestHead,
    /// How much of the head was written.
    sent: usize,
    body: Option<Body>,
    /// Writing failed. What the server sent before may still be read.
    broken: bool,
}

/// A body, of which one frame at a time is being written.
struct Body {
    upload: Box<Upload>,
    delimited: BodyFraming,
    /// Before the frame: the chunk size, or the end of all chunks.
    front: Bytes,
    data: Bytes,
    /// After the frame.
    tail: &'static [u8],
    /// No frame will follow.
    ended: bool,
    /// When a part of it was last written.
    moved: Instant,
}

impl std::fmt::Debug for OutgoingRequest {
    /// Its body may contain passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutgoingRequest")
            .field("method", &self.method)
            .field("head", &self.head)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl OutgoingRequest {
    /// A request with this head and body. A body without a declared length is sent in chunks.
    pub(in crate::upstream) fn new(
        method: Method,
        mut head: RequestHead,
        declared: Option<u64>,
        upload: Option<Box<Upload>>,
    ) -> Self {
        let body = upload.map(|upload| Body {
            upload,
            delimited: declared.map_or(BodyFraming::Chunked, BodyFraming::Length),
            front: Bytes::new(),
            data: Bytes::new(),
            tail: b"",
            ended: false,
            moved: clock::now(),
        });
        match &body {
            Some(Body {
                delimited: BodyFraming::Chunked,
                ..
            }) => {
                head.line("transfer-encoding", b"chunked");
            }
            Some(_) => {}
            // Methods that expect a body declare that there is none (RFC 9110, section 8.6).
            None if declared.is_none()
                && matches!(method, Method::POST | Method::PUT | Method::PATCH) =>
            {
                head.line("content-length", b"0");
            }
            None => {}
        }
        Self {
            method,
            head: head.finish(),
            sent: 0,
            body,
            broken: false,
        }
    }

    pub(in crate::upstream) fn method(&self) -> &Method {
        &self.method
    }

    /// Whether everything that the client sent so far is written, and more must come.
    pub(in crate::upstream) fn waits_for_client(&self) -> bool {
        !self.has_bytes() && self.body.as_ref().is_some_and(Body::needs_frame)
    }

    /// When a part of the body was last written, if there is a body.
    pub(in crate::upstream) fn moved(&self) -> Option<Instant> {
        self.body.as_ref().map(|body| body.moved)
    }

    /// The body, if there is one.
    pub(in crate::upstream) fn upload(&self) -> Option<&Upload> {
        self.body.as_ref().map(|body| &*body.upload)
    }

    pub(in crate::upstream) fn upload_mut(&mut self) -> Option<&mut Upload> {
        self.body.as_mut().map(|body| &mut *body.upload)
    }

    /// The answer is a live stream: the client may send nothing for `idle`.
    pub(in crate::upstream) fn relax(&mut self, idle: Duration) {
        if let Some(body) = &mut self.body {
            body.upload.relax(idle);
        }
    }

    /// Whether nothing was written, so that the server cannot have acted.
    pub(in crate::upstream) fn is_unsent(&self) -> bool {
        self.sent == 0
    }

    pub(in crate::upstream) fn is_sent(&self) -> bool {
        !self.broken
            && self.sent == self.head.0.len()
            && self.body.as_ref().is_none_or(Body::is_sent)
    }

    /// Starts over. Only for a request without a body, or of which nothing was written.
    pub(in crate::upstream) fn rewind(&mut self) {
        self.sent = 0;
        self.broken = false;
    }

    /// Writes as much as possible. Ready when everything is written, or when the client's body
    /// failed. Why a connection cannot be written to is found out by reading from it.
    pub(super) fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), UploadError>> {
        if self.broken {
            return Poll::Pending;
        }
        loop {
            // A frame that has already arrived is sent together with the head.
            let next = match &mut self.body {
                Some(body) if body.needs_frame() => body.poll_frame(context)?,
                Some(_) | None => Poll::Ready(()),
            };
            // A head that declares an empty body would be a complete request, and the client may
            // still break the stream that it is on.
            let awaits_end = next.is_pending()
                && self
                    .body
                    .as_ref()
                    .is_some_and(|body| body.delimited == BodyFraming::Length(0));
            if awaits_end && self.sent == 0 {
                return Poll::Pending;
            }
            if !self.has_bytes() {
                return match next {
                    Poll::Ready(()) if self.is_sent() => Poll::Ready(Ok(())),
                    // Only an empty frame arrived.
                    Poll::Ready(()) => continue,
                    Poll::Pending => Poll::Pending,
                };
            }
            match ready!(self.poll_write(stream, context)) {
                Ok(written) if written > 0 => self.advance(written),
                Ok(_) | Err(_) => {
                    self.broken = true;
                    return Poll::Pending;
                }
            }
        }
    }

    fn has_bytes(&self) -> bool {
        self.sent < self.head.0.len() || self.body.as_ref().is_some_and(Body::has_bytes)
    }

    fn poll_write<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let head = self.head.0.get(self.sent..).unwrap_or_default();
        let stream = Pin::new(stream);
        match &self.body {
            Some(body) if body.has_bytes() => {
                let parts = [head, &body.front, &body.data, body.tail].map(IoSlice::new);
                stream.poll_write_vectored(context, &parts)
            }
            Some(_) | None => stream.poll_write(context, head),
        }
    }

    fn advance(&mut self, mut written: usize) {
        let of_head = written.min(self.head.0.len() - self.sent);
        self.sent += of_head;
        written -= of_head;
        let Some(body) = &mut self.body else { return };
        body.moved = clock::now();
        for part in [&mut body.front, &mut body.data] {
            let of_part = written.min(part.len());
            part.advance(of_part);
            written -= of_part;
        }
        body.tail = body.tail.get(written..).unwrap_or_default();
    }
}

impl Body {
    fn has_bytes(&self) -> bool {
        !(self.front.is_empty() && self.data.is_empty() && self.tail.is_empty())
    }

    fn needs_frame(&self) -> bool {
        !self.ended && !self.has_bytes()
    }

    fn is_sent(&self) -> bool {
        self.ended && !self.has_bytes()
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, UploadError> {
        let frame = match self.upload.poll_frame(context) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(frame) => frame.transpose()?,
        };
        match frame.map(hyper::body::Frame::into_data) {
            Some(Ok(data)) => self.take_data(data)?,
            Some(Err(frame)) => self.end(frame.into_trailers().ok().as_ref())?,
            None => self.end(None)?,
        }
        Ok(Poll::Ready(()))
    }

    fn take_data(&mut self, data: Bytes) -> Result<(), UploadError> {
        // An empty chunk would be the end.
        if data.is_empty() {
            return Ok(());
        }
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        match &mut self.delimited {
            // Bytes beyond the declared length would be the next request.
            BodyFraming::Length(left) => {
                *left = left.checked_sub(length).ok_or(UploadError::Gone)?
            }
            BodyFraming::Chunked => {
                self.front = format!("{length:x}\r\n").into();
                self.tail = b"\r\n";
            }
        }
        self.data = data;
        Ok(())
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), UploadError> {
        self.ended = true;
        match self.delimited {
            BodyFraming::Length(0) => Ok(()),
            // A body below the declared length would swallow the next request.
            BodyFraming::Length(_) => Err(UploadError::Gone),
            BodyFraming::Chunked => {
                let mut end = b"0\r\n".to_vec();
                for (name, value) in trailers.into_iter().flatten() {
                    end.extend_from_slice(name.as_str().as_bytes());
                    end.extend_from_slice(b": ");
                    end.extend_from_slice(value.as_bytes());
                    end.extend_from_slice(b"\r\n");
                }
                end.extend_from_slice(b"\r\n");
                self.front = end.into();
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header;

    use super::*;

    #[test]
    fn debug_text_contains_no_query_and_no_token() {
        let target = PathAndQuery::from_static("/a?email=alice");
        let mut head = RequestHead::new(&Method::POST, &target, 100);
        head.field(
            &header::AUTHORIZATION,
            &HeaderValue::from_static("Bearer x.y.z"),
        );
        let shown = format!("{head:?}");
        assert_eq!(shown, "RequestHead(59 bytes)");
        let outgoing = OutgoingRequest::new(Method::POST, head, None, None);
        let shown = format!("{outgoing:?}");
        // As text, and as a list of bytes: 46 and 121 are `.y`.
        assert!(
            !shown.contains("x.y.z") && !shown.contains("46, 121") && !shown.contains("alice"),
            "{shown}"
        );
    }
}
