//! The client's body on its way to the upstream: 413 if it exceeds the route's limit, 408 if the
//! client stops sending or is too slow. Nothing is buffered; a frame is taken from the client when the upstream
//! can take it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body as _, Frame};

use crate::clock;
use crate::denial::{Denial, Reason};
use crate::policy::listen::BodyPace;
use crate::request::body::Body;
use crate::request::headers;
use crate::request::pace::Pace;

/// The client's body, with its limits.
#[derive(Debug)]
pub(super) struct Upload {
    body: Body,
    left: u64,
    pace: Pace,
    last: Instant,
}

/// Why the client's body failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UploadError {
    /// It is longer than the route allows.
    TooLarge,
    /// The client stopped sending, or sends too slowly.
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
    pub(super) fn new(body: Body, limit: u64, pace: BodyPace) -> Result<Option<Self>, Denial> {
        if body.size_hint().lower() > limit {
            return Err(Reason::BodyTooLarge.into());
        }
        if body.is_end_stream() {
            return Ok(None);
        }
        Ok(Some(Self {
            body,
            left: limit,
            pace: Pace::new(pace),
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
            Poll::Pending => self
                .pace
                .poll_late(context)
                .map(|()| Some(Err(UploadError::Stalled))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(UploadError::Gone))),
            Poll::Ready(Some(Ok(frame))) => {
                self.last = clock::now();
                Poll::Ready(Some(self.pass(frame)))
            }
        }
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, UploadError> {
        match frame.into_data() {
            Ok(data) => {
                self.pace.arrived(data.len(), self.last);
                let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                self.left = self.left.checked_sub(length).ok_or(UploadError::TooLarge)?;
                Ok(Frame::data(data))
            }
            Err(frame) => Ok(Frame::trailers(passing(
                frame.into_trailers().unwrap_or_default(),
            ))),
        }
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
