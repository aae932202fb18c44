//! The client's body on its way to the upstream: 413 if it exceeds the route's limit, 408 if the
//! client stops sending or is too slow. Nothing is buffered but a first part; a frame is taken from
//! the client when the upstream can take it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body as _, Frame};

use super::occupancy::Occupant;
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::policy::listen::BodyPace;
use crate::request::body::Body;
use crate::request::headers;
use crate::request::pace::Pace;

/// The first part of a body, if it is not shorter. A client that sends a byte now and then is ended
/// before it has sent so much.
pub(super) const FIRST_PART: usize = 4096;

/// The client's body, with its limits.
#[derive(Debug)]
pub(super) struct Upload {
    body: Body,
    /// The length, if the client declared it.
    length: Option<u64>,
    left: u64,
    pace: Pace,
    last: Instant,
    gathered: Gathered,
    /// Until the first part has arrived, if the request is sent before.
    pub(super) early: Option<Occupant>,
    hold: Option<Hold>,
}

/// What the first part of a body waits for.
struct Hold(Pin<Box<dyn Future<Output = ()>>>);

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hold")
    }
}

/// What arrived before the request was sent.
#[derive(Debug, Default)]
struct Gathered {
    data: Bytes,
    trailers: Option<HeaderMap>,
    ended: bool,
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
    pub(super) fn new(body: Body, limit: u64, pace: BodyPace) -> Result<Option<Box<Self>>, Denial> {
        if body.size_hint().lower() > limit {
            return Err(Reason::BodyTooLarge.into());
        }
        if body.is_end_stream() {
            return Ok(None);
        }
        Ok(Some(Box::new(Self {
            length: body.size_hint().exact(),
            body,
            left: limit,
            pace: Pace::new(pace),
            last: clock::now(),
            gathered: Gathered::default(),
            early: None,
            hold: None,
        })))
    }

    /// When the last frame was handed over.
    pub(super) fn last(&self) -> Instant {
        self.last
    }

    /// The length, if the client declared it.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// The request is sent before its body, whose first part is then sent once `ready` is.
    pub(super) fn hold_until(&mut self, ready: impl Future<Output = ()> + 'static) {
        self.hold = Some(Hold(Box::pin(ready)));
    }

    /// The answer has begun as a live stream: from now on the client may send nothing for `idle`,
    /// and as slowly as it likes.
    pub(super) fn relax(&mut self, idle: Duration) {
        self.pace.relax(idle);
        self.early = None;
        // A live stream is authorized as such.
        self.hold = None;
    }

    /// Reads until there are so many bytes, or the body has ended. They are the next frame then.
    /// The client may take any time; see [`Self::poll_late`].
    pub(super) fn poll_gather(
        &mut self,
        enough: usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), UploadError>> {
        while self.gathered.data.len() < enough && !self.gathered.ended {
            match ready!(self.poll_arrived(context))
                .transpose()?
                .map(Frame::into_data)
            {
                Some(Ok(data)) if self.gathered.data.is_empty() => self.gathered.data = data,
                Some(Ok(data)) => {
                    self.gathered.data = [&self.gathered.data[..], &data].concat().into();
                }
                Some(Err(frame)) => {
                    self.gathered.trailers = frame.into_trailers().ok();
                    self.gathered.ended = true;
                }
                None => self.gathered.ended = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next frame; `None` at the end.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if self.hold.is_some()
            && let Err(error) = ready!(self.poll_hold(context))
        {
            return Poll::Ready(Some(Err(error)));
        }
        let gathered = &mut self.gathered;
        if !gathered.data.is_empty() {
            let data = std::mem::take(&mut gathered.data);
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if gathered.ended {
            let trailers = gathered.trailers.take();
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        self.poll_next(context)
    }

    /// Waits for the first part of the body, and then for whatever holds it.
    fn poll_hold(&mut self, context: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        match self.poll_gather(1, context) {
            Poll::Pending => return self.poll_late(context).map(Err),
            Poll::Ready(gathered) => gathered?,
        }
        if let Some(hold) = &mut self.hold {
            ready!(hold.0.as_mut().poll(context));
        }
        self.hold = None;
        Poll::Ready(Ok(()))
    }

    /// The next frame from the client, which may not be late.
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match self.poll_arrived(context) {
            Poll::Pending => self.poll_late(context).map(|late| Some(Err(late))),
            ready => ready,
        }
    }

    /// Called when nothing has arrived. Ready once the client is late.
    pub(super) fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<UploadError> {
        self.pace.poll_late(context).map(|()| UploadError::Stalled)
    }

    fn poll_arrived(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.early = None;
                Poll::Ready(None)
            }
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
                if self.pace.received() >= FIRST_PART as u64 {
                    self.early = None;
                }
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
