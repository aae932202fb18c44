//! A live stream that is an ordinary answer: server-sent events, messages of gRPC, or any other
//! answer that lasts. (WebSockets are in `tunnel`.)

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body as _, Frame};
use hyper::header::{self, HeaderMap};
use tokio::time::{Instant, Sleep, sleep};

use super::events::{self, EventBoundaries};
use crate::denial::grpc;
use crate::live::{AnswerAuthorization, Ending, StreamHandle, Streams};
use crate::record::stream::{StreamEnd, StreamKind};
use crate::upstream::UpstreamBody;
use crate::upstream::error::AnswerError;

/// How long an incomplete event may take to end. A second is a choice.
const GRACE: Duration = Duration::from_secs(1);

/// A live stream, and how its client learns of its end.
#[derive(Debug)]
pub(crate) struct LiveStream {
    end_signal: EndSignal,
    state: State,
    ending: Option<Ending>,
    /// How long the incomplete event has left.
    grace: Option<Pin<Box<Sleep>>>,
    is_over: bool,
    /// For a stream of events, if `streams.keepalive` is set.
    keepalive: Option<Keepalive>,
}

/// Times the comments of a quiet stream.
#[derive(Debug)]
struct Keepalive {
    every: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Nothing was said since the timer was set.
    is_quiet: bool,
}

impl Keepalive {
    /// Ready when the stream has been quiet for long enough; then it begins anew.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep(self.every)));
        if !std::mem::replace(&mut self.is_quiet, true) {
            timer.as_mut().reset(Instant::now() + self.every);
        }
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        // The task that polls the stream must be woken the next time, too.
        timer.as_mut().reset(Instant::now() + self.every);
        let _ = timer.as_mut().poll(context);
        Poll::Ready(())
    }
}

/// How the client learns that the stream was ended by this gateway.
#[derive(Debug)]
enum EndSignal {
    Event(EventBoundaries),
    Trailers,
    /// Not at all, but by an answer that breaks off: a body that is compressed, has a length, or is
    /// of another kind has no room for a message.
    Nothing,
}

#[derive(Debug)]
enum State {
    /// Its head is not answered yet.
    Pending(StreamKind, Option<AnswerAuthorization>),
    /// In the registry of live streams.
    Registered(StreamHandle),
}

impl LiveStream {
    /// A stream that will begin with its answer's body.
    pub(crate) fn new(
        kind: StreamKind,
        headers: &HeaderMap,
        authorization: AnswerAuthorization,
    ) -> Self {
        let is_plain = !headers.contains_key(header::CONTENT_ENCODING)
            && !headers.contains_key(header::CONTENT_LENGTH);
        let end_signal = match kind {
            StreamKind::Grpc => EndSignal::Trailers,
            StreamKind::Sse if is_plain => EndSignal::Event(EventBoundaries::new()),
            StreamKind::Sse | StreamKind::Websocket | StreamKind::Lasting => EndSignal::Nothing,
        };
        let config = authorization.authorization().request().in_force().config();
        let every = config.stream_keepalive;
        let every = every.filter(|_| matches!(end_signal, EndSignal::Event(_)));
        let keepalive = every.map(|every| Keepalive {
            every,
            timer: None,
            is_quiet: false,
        });
        Self {
            keepalive,
            ..Self::with(end_signal, State::Pending(kind, Some(authorization)))
        }
    }

    /// An answer that has lasted.
    pub(crate) fn lasting(handle: StreamHandle) -> Self {
        Self::with(EndSignal::Nothing, State::Registered(handle))
    }

    fn with(end_signal: EndSignal, state: State) -> Self {
        Self {
            end_signal,
            state,
            ending: None,
            grace: None,
            is_over: false,
            keepalive: None,
        }
    }

    /// Adds the stream to the registry.
    pub(crate) fn begin(&mut self, streams: &Rc<Streams>) {
        if let State::Pending(kind, authorization) = &mut self.state
            && let Some(authorization) = authorization.take()
        {
            let handle = authorization.begin(*kind, streams);
            self.state = State::Registered(handle);
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether this gateway ended the stream.
    pub(crate) fn is_ended(&self) -> bool {
        self.ending.is_some()
    }

    /// Notes the cause that the end would have if the stream ended now.
    pub(crate) fn ends_by(&self, cause: StreamEnd) -> Option<(StreamKind, StreamEnd)> {
        let State::Registered(handle) = &self.state else {
            return None;
        };
        handle.ends_by(self.ending.map_or(cause, |ending| ending.cause));
        Some((handle.kind(), handle.cause()))
    }

    /// The next frame: the upstream's, or the message that ends the stream.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut UpstreamBody,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if self.ending.is_none()
            && let State::Registered(handle) = &self.state
            && let Poll::Ready(ending) = handle.poll_ending(context)
        {
            self.ending = Some(ending);
        }
        if let Some(ending) = self.ending {
            return self.poll_last_frame(ending, body, context);
        }
        let polled = Pin::new(&mut *body).poll_frame(context);
        let ending = match &polled {
            // The client is told of these limits as of any other end.
            Poll::Ready(Some(Err(AnswerError::Idle))) => Ending::IDLE,
            Poll::Ready(Some(Err(AnswerError::TimeLimit))) => Ending::TIME_LIMIT,
            Poll::Ready(Some(Ok(frame))) => {
                self.follow(frame);
                return polled;
            }
            Poll::Ready(None | Some(Err(_))) => return polled,
            Poll::Pending => return self.poll_keepalive(context),
        };
        self.ending = Some(ending);
        self.poll_last_frame(ending, body, context)
    }

    fn follow(&mut self, frame: &Frame<Bytes>) {
        if let (EndSignal::Event(events), Some(data)) = (&mut self.end_signal, frame.data_ref()) {
            events.follow(data, false);
        }
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.is_quiet = false;
        }
    }

    /// A comment for the client of a stream of events that has said nothing for a while.
    fn poll_keepalive(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let (EndSignal::Event(events), Some(keepalive)) = (&self.end_signal, &mut self.keepalive)
        else {
            return Poll::Pending;
        };
        // An event that does not end has no room for a comment; the next poll is by its rest.
        match keepalive.poll(context) {
            Poll::Ready(()) if events.is_between() => {
                Poll::Ready(Some(Ok(Frame::data(events::comment()))))
            }
            Poll::Ready(()) | Poll::Pending => Poll::Pending,
        }
    }

    /// The rest of an incomplete event, then the message that ends the stream.
    fn poll_last_frame(
        &mut self,
        ending: Ending,
        body: &mut UpstreamBody,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match &mut self.end_signal {
            EndSignal::Nothing => self.break_off(body),
            EndSignal::Trailers => {
                self.finish(body);
                Poll::Ready(Some(Ok(Frame::trailers(trailers(ending)))))
            }
            EndSignal::Event(events) if events.is_between() => {
                self.finish(body);
                Poll::Ready(Some(Ok(Frame::data(events::last(ending)))))
            }
            EndSignal::Event(events) => {
                let grace = self.grace.get_or_insert_with(|| Box::pin(sleep(GRACE)));
                if grace.as_mut().poll(context).is_ready() {
                    return self.break_off(body);
                }
                match Pin::new(&mut *body).poll_frame(context) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(mut data) => {
                            let end = events.follow(&data, true);
                            Poll::Ready(Some(Ok(Frame::data(data.split_to(end)))))
                        }
                        Err(_) => self.break_off(body),
                    },
                    Poll::Ready(_) => self.break_off(body),
                }
            }
        }
    }

    fn finish(&mut self, body: &mut UpstreamBody) {
        self.is_over = true;
        body.cancel();
    }

    fn break_off(
        &mut self,
        body: &mut UpstreamBody,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        self.finish(body);
        Poll::Ready(Some(Err(AnswerError::Ended)))
    }
}

/// The trailers that end a gRPC call.
fn trailers(ending: Ending) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Every denial after the call began has the same status, whatever a new request would be
    // answered.
    let status = match ending.reason {
        None => StatusCode::SERVICE_UNAVAILABLE,
        Some(_) if ending.status() == StatusCode::UNAUTHORIZED => StatusCode::UNAUTHORIZED,
        Some(_) => StatusCode::FORBIDDEN,
    };
    grpc::write_status(&mut trailers, status, ending.code());
    trailers
}
