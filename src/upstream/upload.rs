//! The request's body on its way to the upstream.
//!
//! Decides: 413 for a body over the route's limit, 408 for a client that stops sending, which trailers pass. Trusts: hyper's framing. Not
//! here: buffering; a frame is taken from the client when the upstream can take it.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::clock;
use crate::denial::{Denial, Reason};
use crate::request::headers;

/// A request body: none, or one that is watched.
#[derive(Debug)]
pub struct Upload(Option<Box<Watched>>);

#[derive(Debug)]
struct Watched {
    body: Incoming,
    left: u64,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    progress: Rc<Progress>,
}

/// What the request's task may know of a body that hyper has taken.
#[derive(Debug)]
pub struct Progress {
    /// When the last frame was handed to the upstream's connection.
    last: Cell<Instant>,
    /// Why the body broke off.
    fault: Cell<Option<Fault>>,
}

/// Why a body broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Longer than the route allows.
    TooLarge,
    /// The client stopped sending.
    Stalled,
    /// The client broke off, or framed the body wrongly.
    Gone,
}

impl Progress {
    /// When the last frame was handed over.
    pub fn last(&self) -> Instant {
        self.last.get()
    }

    /// Why the body broke off, if it did.
    pub fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }
}

impl Upload {
    /// Wraps a body. `None` for the progress if there is no body.
    ///
    /// # Errors
    ///
    /// [`Reason::BodyTooLarge`] if the declared length says so; nothing was read then, and no `100 Continue` was sent.
    pub fn new(
        body: Incoming,
        limit: u64,
        idle: Duration,
    ) -> Result<(Self, Option<Rc<Progress>>), Denial> {
        if body.size_hint().lower() > limit {
            return Err(Reason::BodyTooLarge.into());
        }
        if body.is_end_stream() {
            return Ok((Self(None), None));
        }
        let progress = Rc::new(Progress {
            last: Cell::new(clock::now()),
            fault: Cell::new(None),
        });
        let watched = Watched {
            body,
            left: limit,
            idle,
            timer: None,
            progress: progress.clone(),
        };
        Ok((Self(Some(Box::new(watched))), Some(progress)))
    }

    /// No body, for a request that is sent again.
    pub const fn none() -> Self {
        Self(None)
    }
}

/// The body broke off; [`Progress::fault`] says why.
#[derive(Debug)]
pub struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the request body broke off")
    }
}

impl std::error::Error for BrokenOff {}

impl Body for Upload {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut self.0 {
            None => Poll::Ready(None),
            Some(watched) => watched.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|watched| watched.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or(SizeHint::with_exact(0), |watched| watched.body.size_hint())
    }
}

impl Watched {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => self.poll_idle(context),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => self.break_off(Fault::Gone),
            Poll::Ready(Some(Ok(frame))) => {
                self.timer = None;
                self.progress.last.set(clock::now());
                match frame.into_data() {
                    Ok(data) => match self
                        .left
                        .checked_sub(u64::try_from(data.len()).unwrap_or(u64::MAX))
                    {
                        None => self.break_off(Fault::TooLarge),
                        Some(left) => {
                            self.left = left;
                            Poll::Ready(Some(Ok(Frame::data(data))))
                        }
                    },
                    Err(frame) => Poll::Ready(
                        frame
                            .into_trailers()
                            .ok()
                            .map(|trailers| Ok(Frame::trailers(passing(trailers)))),
                    ),
                }
            }
        }
    }

    fn poll_idle(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.idle)));
        match timer.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => self.break_off(Fault::Stalled),
        }
    }

    fn break_off(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.progress.fault.set(Some(fault));
        Poll::Ready(Some(Err(BrokenOff)))
    }
}

/// Trailers without those that must not come in a trailer, or not from a client at all.
pub(super) fn passing(trailers: hyper::HeaderMap) -> hyper::HeaderMap {
    let mut kept = hyper::HeaderMap::with_capacity(trailers.len());
    for (name, value) in &trailers {
        if headers::is_allowed_trailer(name.as_str()) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}
