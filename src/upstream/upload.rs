//! The client's body on its way to the upstream: 413 if it exceeds the route's limit, 408 if the
//! client stops sending. Nothing is buffered; a frame is taken from the client when the upstream
//! can take it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body as _, Frame};
use tokio::time::{Sleep, sleep};

use crate::clock;
use crate::denial::{Denial, Reason};
use crate::request::body::Body;
use crate::request::headers;

/// The client's body, with its limits.
#[derive(Debug)]
pub(super) struct Upload {
    body: Body,
    left: u64,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    last: Instant,
}

/// Why the client's body failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UploadError {
    /// It is longer than the route allows.
    TooLarge,
    /// The client stopped sending.
    Stalled,
    /// The client went away, or framed the body incorrectly.
    Gone,
}

impl UploadError {
    /// The reason of the refusal.
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::TooLarge => Reason::BodyTooLarge,
            Self::Stalled => Reason::BodyTimeout,
            Self::Gone => Reason::BodyBroken,
        }
    }
}

impl Upload {
    /// Wraps a body; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Reason::BodyTooLarge`] if the declared length exceeds the limit; nothing was read then,
    /// and no `100 Continue` was sent.
    pub(super) fn new(body: Body, limit: u64, idle: Duration) -> Result<Option<Self>, Denial> {
        if body.size_hint().lower() > limit {
            return Err(Reason::BodyTooLarge.into());
        }
        if body.is_end_stream() {
            return Ok(None);
        }
        Ok(Some(Self {
            body,
            left: limit,
            idle,
            timer: None,
            last: clock::now(),
        }))
    }

    /// When the last frame was handed over.
    pub(super) fn last(&self) -> Instant {
        self.last
    }

    /// The length, if the client declared it.
    pub(super) fn length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The next frame; `None` at the end.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => self.poll_idle(context),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(UploadError::Gone))),
            Poll::Ready(Some(Ok(frame))) => {
                self.timer = None;
                self.last = clock::now();
                Poll::Ready(Some(self.pass(frame)))
            }
        }
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, UploadError> {
        match frame.into_data() {
            Ok(data) => {
                let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                self.left = self.left.checked_sub(length).ok_or(UploadError::TooLarge)?;
                Ok(Frame::data(data))
            }
            Err(frame) => Ok(Frame::trailers(passing(
                frame.into_trailers().unwrap_or_default(),
            ))),
        }
    }

    fn poll_idle(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.idle)));
        timer
            .as_mut()
            .poll(context)
            .map(|()| Some(Err(UploadError::Stalled)))
    }
}

/// The trailers that may be forwarded: without those that are not allowed in a trailer, or not from
/// a client at all.
pub(super) fn passing(trailers: hyper::HeaderMap) -> hyper::HeaderMap {
    let mut kept = hyper::HeaderMap::with_capacity(trailers.len());
    for (name, value) in &trailers {
        if headers::is_allowed_trailer(name.as_str()) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}
