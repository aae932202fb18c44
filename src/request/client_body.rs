//! The body of a request, as the client sends it over either protocol.
//!
//! Decides: that a body of HTTP/2 is complete only when its stream ended as declared, and what
//! becomes of a body that nobody reads to its end. Trusts: `listen`, which decodes a body of
//! HTTP/1.1 and drains what is left of it. Not here: limits of length and time ([`super::body`]).

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, timeout_at};

use crate::http1::Piece;

/// The most that is read of a body after the answer has made it useless. A client that sends more
/// is told to stop (RFC 9113, section 8.1). Sixteen megabytes are a choice: an ordinary upload ends
/// by itself.
const DRAIN_LIMIT: u64 = 16 * 1024 * 1024;

/// How long such a body is read.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// The client went away, or framed the body incorrectly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenBody;

impl std::fmt::Display for BrokenBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the client's body ended early or is not well formed")
    }
}

impl std::error::Error for BrokenBody {}

/// The HTTP/1.1 connection that a body is read from.
pub(crate) trait BodySource {
    /// The next part of the body.
    fn poll_piece(&self, context: &mut Context<'_>) -> Poll<Result<Piece, BrokenBody>>;

    /// How much is missing, if its head declared it.
    fn left(&self) -> Option<u64>;

    /// Whether it was read to its end.
    fn is_done(&self) -> bool;

    /// Called when the body is dropped.
    fn release(&self);
}

/// The body of a request, as the client sends it.
pub struct ClientBody(Source);

enum Source {
    Empty,
    Http1(Rc<dyn BodySource>),
    Http2(StreamBody),
}

impl ClientBody {
    /// The body of a request without one.
    pub fn empty() -> Self {
        Self(Source::Empty)
    }

    /// The body that is next on an HTTP/1.1 connection.
    pub(crate) fn http1(source: Rc<dyn BodySource>) -> Self {
        Self(Source::Http1(source))
    }

    /// The body of an HTTP/2 stream. Dropping it before its end drains it in the background: a
    /// reset would overtake the answer in the client's buffer, and some clients then lose both.
    pub(crate) fn http2(incoming: Incoming) -> Self {
        Self(Source::Http2(StreamBody {
            incoming: Some(incoming),
            withheld: None,
        }))
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        match &mut self.0 {
            Source::Empty => Poll::Ready(None),
            Source::Http2(body) => body.poll_frame(context),
            Source::Http1(source) if source.is_done() => Poll::Ready(None),
            Source::Http1(source) => Poll::Ready(match ready!(source.poll_piece(context)) {
                Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
                Ok(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Ok(Piece::End) => None,
                Err(broken) => Some(Err(broken)),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Empty => true,
            Source::Http1(source) => source.is_done(),
            Source::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Empty => SizeHint::with_exact(0),
            Source::Http1(source) => source
                .left()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Source::Http2(body) => body.size_hint(),
        }
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        match &mut self.0 {
            Source::Empty => {}
            Source::Http1(source) => source.release(),
            Source::Http2(body) => body.drain(),
        }
    }
}

impl std::fmt::Debug for ClientBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            Source::Empty => "ClientBody(empty)",
            Source::Http1(_) => "ClientBody(h1)",
            Source::Http2(_) => "ClientBody(h2)",
        })
    }
}

/// The body of an HTTP/2 stream.
struct StreamBody {
    incoming: Option<Incoming>,
    /// The last bytes of the declared length, while the end of the stream is not seen. An upstream
    /// that got them would have a complete request, and the client may still break the stream (RFC
    /// 9113, section 8.1.1).
    withheld: Option<Bytes>,
}

impl StreamBody {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        loop {
            let Some(incoming) = &mut self.incoming else {
                return Poll::Ready(None);
            };
            let frame = match ready!(Pin::new(&mut *incoming).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => {
                    self.incoming = None;
                    return Poll::Ready(Some(Err(BrokenBody)));
                }
                None => {
                    self.incoming = None;
                    return Poll::Ready(self.withheld.take().map(|data| Ok(Frame::data(data))));
                }
            };
            let is_last = incoming.size_hint().exact() == Some(0);
            match frame.into_data() {
                // A client may still add an empty frame.
                Ok(data) if data.is_empty() && self.withheld.is_some() => {}
                Ok(data) if is_last && !incoming.is_end_stream() => self.withheld = Some(data),
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                // Trailers behind a declared length are dropped; they could not be forwarded.
                Err(_) if self.withheld.is_some() => {}
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.withheld.is_none() && self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let withheld = self.withheld.as_ref().map_or(0, Bytes::len);
        let withheld = u64::try_from(withheld).unwrap_or(u64::MAX);
        let left = self.incoming.as_ref().map(Body::size_hint);
        let left = left.unwrap_or_else(|| SizeHint::with_exact(0));
        match left.exact() {
            Some(left) => SizeHint::with_exact(left.saturating_add(withheld)),
            None => left,
        }
    }

    fn drain(&mut self) {
        if let Some(incoming) = self.incoming.take()
            && !incoming.is_end_stream()
        {
            tokio::task::spawn_local(drain(incoming));
        }
    }
}

/// Reads and discards a body for a while. The stream is reset if it does not end.
async fn drain(mut body: Incoming) {
    let deadline = Instant::now() + DRAIN_TIME;
    let mut left = DRAIN_LIMIT;
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let Ok(Some(Ok(frame))) = timeout_at(deadline, frame).await else {
            return;
        };
        let length = frame.data_ref().map_or(0, Bytes::len);
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
