//! Bodies over HTTP/2 in both directions, with their trailers. Nothing is buffered: hyper takes
//! from one side what the other has room for.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{self, Sleep, sleep_until};

use super::channel::Share;
use crate::denial::Reason;
use crate::upstream::error::AnswerError;
use crate::upstream::limits::Limits;
use crate::upstream::occupancy::{Occupancy, Occupant};
use crate::upstream::upload::{self, Upload, UploadError};

/// The progress of a request body that is being sent.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Progress {
    last: Cell<Option<Instant>>,
    error: Cell<Option<UploadError>>,
    /// The answer is not needed any more.
    cancelled: Cell<bool>,
    /// The answer is a live stream, and the client may send nothing for so long.
    relaxed: Cell<Option<Duration>>,
    waker: RefCell<Option<Waker>>,
}

impl Progress {
    /// When the last frame was handed over, if there is a body.
    pub(in crate::upstream) fn last(&self) -> Option<Instant> {
        self.last.get()
    }

    /// Why the body failed, if it did.
    pub(in crate::upstream) fn error(&self) -> Option<UploadError> {
        self.error.get()
    }

    /// The answer is a live stream: the client may send nothing for `idle`.
    pub(in crate::upstream) fn relax(&self, idle: Duration) {
        self.relaxed.set(Some(idle));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Cancels the body: the answer is not needed any more.
    pub(in crate::upstream) fn cancel(&self) {
        self.cancelled.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A request's body.
#[derive(Debug)]
pub(in crate::upstream) struct RequestBody {
    upload: Option<Box<Upload>>,
    progress: Rc<Progress>,
}

impl RequestBody {
    /// Empty, or the client's upload.
    pub(in crate::upstream) fn new(upload: Option<Box<Upload>>) -> Self {
        let progress = Progress::default();
        progress
            .last
            .set(upload.as_ref().map(|upload| upload.last()));
        Self {
            upload,
            progress: Rc::new(progress),
        }
    }

    /// The client's upload, if there is one.
    pub(in crate::upstream) fn upload_mut(&mut self) -> Option<&mut Upload> {
        self.upload.as_deref_mut()
    }

    /// The progress of this body, for the task that waits for the answer.
    pub(in crate::upstream) fn progress(&self) -> Rc<Progress> {
        self.progress.clone()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    /// The stream is reset with `CANCEL`, as by a client that goes away. The reason is in
    /// [`Progress`].
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        let Some(upload) = &mut this.upload else {
            return Poll::Ready(None);
        };
        if this.progress.cancelled.get() {
            return Poll::Ready(Some(Err(h2::Reason::CANCEL.into())));
        }
        if let Some(idle) = this.progress.relaxed.take() {
            upload.relax(idle);
        }
        this.progress.waker.replace(Some(context.waker().clone()));
        upload.poll_frame(context).map(|frame| {
            this.progress.last.set(Some(upload.last()));
            frame.map(|frame| {
                frame.map_err(|error| {
                    this.progress.error.set(Some(error));
                    h2::Reason::CANCEL.into()
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.upload.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.upload {
            None => SizeHint::with_exact(0),
            Some(upload) => upload
                .length()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// An answer's body.
#[derive(Debug)]
pub(in crate::upstream) struct Http2AnswerBody {
    /// The body, until it is read to its end; if it is dropped before, the stream is reset.
    content: Option<(Incoming, Share)>,
    progress: Rc<Progress>,
    limits: Limits,
    timer: Option<Pin<Box<Sleep>>>,
    /// Its seat among the requests or streams; `None` while it moves.
    occupant: Option<Occupant>,
}

impl Http2AnswerBody {
    pub(in crate::upstream) fn new(
        body: Incoming,
        share: Share,
        progress: Rc<Progress>,
        limits: Limits,
        occupant: Occupant,
    ) -> Self {
        Self {
            content: (!body.is_end_stream()).then_some((body, share)),
            progress,
            limits,
            timer: None,
            occupant: Some(occupant),
        }
    }

    /// The answer is a live stream: its request's body may pause.
    pub(in crate::upstream) fn relax(&mut self) {
        self.progress.relax(self.limits.stream_pause());
    }

    /// Takes a seat among the live streams.
    pub(in crate::upstream) fn move_to(&mut self, streams: &Rc<Occupancy>) -> Result<(), Reason> {
        match &mut self.occupant {
            None => Ok(()),
            Some(occupant) => occupant.move_to(streams),
        }
    }

    /// Resets the stream, so that the upstream stops.
    pub(in crate::upstream) fn cancel(&mut self) {
        if self.content.take().is_some() {
            self.progress.cancel();
        }
    }

    fn break_off(&mut self, error: AnswerError) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        self.cancel();
        Poll::Ready(Some(Err(match self.progress.error() {
            Some(_) => AnswerError::Upload,
            None => error,
        })))
    }

    /// Ready when the answer was idle for too long, or the deadline has passed.
    fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let now = time::Instant::now();
        let due = match (self.limits.stream_idle, self.limits.deadline) {
            (None, None) => return Poll::Pending,
            (None, Some(deadline)) => deadline,
            (Some(idle), _) => self.limits.earlier(now + idle),
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        while timer.as_mut().poll(context).is_ready() {
            // In a gRPC call it may be the client that sends.
            let spoken = self.progress.last().zip(self.limits.stream_idle);
            let due = spoken.map(|(last, idle)| time::Instant::from_std(last) + idle);
            match due.map(|due| self.limits.earlier(due)) {
                Some(due) if due > now => timer.as_mut().reset(due),
                Some(_) | None => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

impl Drop for Http2AnswerBody {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Body for Http2AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = &mut *self;
        let Some((body, _)) = &mut this.content else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_frame(context) {
            Poll::Pending => match this.poll_timeout(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => this.break_off(this.limits.reached()),
            },
            Poll::Ready(Some(Err(_))) => this.break_off(AnswerError::Upstream),
            // A client that reads slowly always finds data from the upstream, so the timer alone
            // would not be enough.
            Poll::Ready(Some(Ok(_))) if this.limits.is_over() => {
                this.break_off(AnswerError::TimeLimit)
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.timer = None;
                if this
                    .content
                    .as_ref()
                    .is_some_and(|(body, _)| body.is_end_stream())
                {
                    this.content = None;
                }
                let frame = match frame.into_data() {
                    Ok(data) => Frame::data(data),
                    Err(frame) => {
                        Frame::trailers(upload::passing(frame.into_trailers().unwrap_or_default()))
                    }
                };
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.content = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.content
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}
