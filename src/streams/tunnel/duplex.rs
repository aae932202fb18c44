//! Both directions of a tunnel, until it ends.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::limits::{GRACE, Limits};
use crate::auth::StreamAuthorization;
use crate::denial::{Denial, Reason};
use crate::live::Ending;
use crate::live::StreamHandle;
use crate::record::stream::StreamEnd;
use crate::record::trail::Trail;
use crate::streams::frames;
use crate::streams::pipe::{Decision, Pipe, PipeError};
use crate::streams::scratch::Scratch;

/// Both directions of a tunnel.
pub(super) struct Duplex {
    pub(super) up: Pipe,
    down: Pipe,
    pub(super) ending: Option<Ending>,
    began: Instant,
    /// When something was last read or written.
    last: Instant,
    /// When the client was last sent something, or pinged.
    told: Instant,
    /// When the closing handshake times out, and the cause of the end then.
    grace: Option<(Instant, StreamEnd)>,
    /// The authorization of the token in the message that is held.
    authorizing: Option<Authorizing>,
}

type Authorizing = Pin<Box<dyn Future<Output = Result<StreamAuthorization, Denial>>>>;

impl Duplex {
    /// Starts both directions with the bytes that were already read.
    pub(super) fn new(up: Pipe, unread: Bytes) -> Self {
        Self {
            up,
            down: Pipe::new(unread),
            ending: None,
            began: Instant::now(),
            last: Instant::now(),
            told: Instant::now(),
            grace: None,
            authorizing: None,
        }
    }

    pub(super) async fn run<U, D>(
        &mut self,
        up: &mut U,
        down: &mut D,
        stream: &StreamHandle,
        scratch: &Scratch,
        limits: &Limits,
        trail: &mut Trail,
    ) -> StreamEnd
    where
        U: AsyncRead + AsyncWrite + Unpin,
        D: AsyncRead + AsyncWrite + Unpin,
    {
        let mut timer = pin!(sleep_until(Instant::now()));
        poll_fn(|context| {
            loop {
                if self.ending.is_none()
                    && let Poll::Ready(ending) = stream.poll_ending(context)
                {
                    self.end(ending);
                }
                let moved = self.poll_both(up, down, scratch, context);
                trail.sent = self.down.moved;
                trail.received = self.up.moved;
                if let Some(cause) = moved {
                    return Poll::Ready(cause);
                }
                if self.ending.is_none() && self.poll_authorizing(stream, trail, context).is_ready()
                {
                    continue;
                }
                let due = self.due(limits);
                if timer.deadline() != due {
                    timer.as_mut().reset(due);
                }
                if timer.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                if let Some(cause) = self.time_is_over(limits) {
                    return Poll::Ready(cause);
                }
            }
        })
        .await
    }

    /// Makes the decision for which the client's side waits. Ready if something changed.
    fn poll_authorizing(
        &mut self,
        stream: &StreamHandle,
        trail: &mut Trail,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        match self.up.take_decision() {
            Some(Decision::Authorize(token)) => {
                self.authorizing = Some(Box::pin(stream.authorize_speaker(token)))
            }
            Some(Decision::Refuse(reason)) => {
                self.end(Ending::refused(reason));
                return Poll::Ready(());
            }
            Some(Decision::Taken) | None => {}
        }
        let Some(authorizing) = &mut self.authorizing else {
            return Poll::Pending;
        };
        let outcome = ready!(authorizing.as_mut().poll(context));
        self.authorizing = None;
        match outcome {
            Ok(authorization) => {
                let verified = authorization.caller().verified().cloned();
                self.up.allow(verified.is_some());
                trail.caller = verified;
                stream.replace_authorization(authorization);
            }
            Err(denial) => {
                trail.detail = denial.detail;
                self.end(Ending::refused(denial.reason));
            }
        }
        Poll::Ready(())
    }

    /// Begins to end the tunnel: a close frame to both sides.
    fn end(&mut self, ending: Ending) {
        self.ending = Some(ending);
        self.grace = Some((Instant::now() + GRACE, ending.cause));
        self.down.close(frames::close(ending, None));
        let mut mask = [0; 4];
        // Without randomness, which is a defect of the machine, the mask is constant; here it
        // protects nothing.
        let _ = aws_lc_rs::rand::fill(&mut mask);
        self.up.close(frames::close(ending, Some(mask)));
    }

    /// Moves both directions. Some cause if the tunnel is over.
    fn poll_both<U, D>(
        &mut self,
        up: &mut U,
        down: &mut D,
        scratch: &Scratch,
        context: &mut Context<'_>,
    ) -> Option<StreamEnd>
    where
        U: AsyncRead + AsyncWrite + Unpin,
        D: AsyncRead + AsyncWrite + Unpin,
    {
        let upload = self.up.poll_move(down, up, scratch, context);
        let download = self.down.poll_move(up, down, scratch, context);
        let is_told = std::mem::take(&mut self.down.is_active);
        if std::mem::take(&mut self.up.is_active) | is_told {
            self.last = Instant::now();
        }
        if is_told {
            self.told = self.last;
        }
        let both_closed = self.up.is_closed() && self.down.is_closed();
        let cause = |ending: Option<Ending>, otherwise: StreamEnd| {
            let natural = if both_closed {
                StreamEnd::Finished
            } else {
                otherwise
            };
            ending.map_or(natural, |ending| ending.cause)
        };
        match (upload, download) {
            (_, Poll::Ready(Err(PipeError::Write))) | (Poll::Ready(Err(PipeError::Read)), _) => {
                Some(cause(self.ending, StreamEnd::ClientGone))
            }
            (_, Poll::Ready(Err(PipeError::Read))) => {
                Some(cause(self.ending, StreamEnd::UpstreamGone))
            }
            // Bytes that the upstream sent before may still be readable.
            (Poll::Ready(Err(PipeError::Write)), Poll::Pending) => {
                self.begin_grace(cause(self.ending, StreamEnd::UpstreamGone))
            }
            // Everything was forwarded to the client.
            (_, Poll::Ready(Ok(()))) => {
                let natural = match self.down.is_closed() {
                    true => StreamEnd::Finished,
                    false => StreamEnd::UpstreamGone,
                };
                Some(self.ending.map_or(natural, |ending| ending.cause))
            }
            // A client that sent a close frame waits for the answer; one that did not is gone.
            (Poll::Ready(Ok(())), Poll::Pending) => {
                if self.ending.is_none() && !self.up.is_closed() {
                    return Some(StreamEnd::ClientGone);
                }
                self.begin_grace(StreamEnd::Finished)
            }
            (Poll::Pending, Poll::Pending) => None,
        }
    }

    fn begin_grace(&mut self, cause: StreamEnd) -> Option<StreamEnd> {
        self.grace
            .get_or_insert_with(|| (Instant::now() + GRACE, cause));
        None
    }

    /// When the timer must fire: the earliest of all limits.
    fn due(&self, limits: &Limits) -> Instant {
        let never = Instant::now() + Duration::from_secs(24 * 60 * 60);
        let open = self.ending.is_none();
        [
            self.grace.map(|(until, _)| until),
            self.idle_at(limits).filter(|_| open),
            self.ping_at(limits).filter(|_| open),
            self.token_at(limits).filter(|_| open),
            limits.deadline.filter(|_| open),
            self.stalled_at(limits),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(never)
    }

    fn idle_at(&self, limits: &Limits) -> Option<Instant> {
        limits.idle.map(|idle| self.last + idle)
    }

    fn ping_at(&self, limits: &Limits) -> Option<Instant> {
        limits.keepalive.map(|every| self.told + every)
    }

    /// When the client must have authenticated; a token that is being verified arrived in time.
    fn token_at(&self, limits: &Limits) -> Option<Instant> {
        let is_missing = self.up.needs_token() && self.authorizing.is_none();
        is_missing.then(|| self.began + limits.first_token)
    }

    fn stalled_at(&self, limits: &Limits) -> Option<Instant> {
        self.down.blocked_since.map(|since| since + limits.stalled)
    }

    /// A limit has passed. Some cause if the tunnel must be aborted; else it begins to end, if it
    /// has not yet.
    fn time_is_over(&mut self, limits: &Limits) -> Option<StreamEnd> {
        let now = Instant::now();
        let is_over = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if let Some((until, cause)) = self.grace
            && until <= now
        {
            return Some(cause);
        }
        if is_over(self.stalled_at(limits)) {
            return Some(
                self.ending
                    .map_or(StreamEnd::Stalled, |ending| ending.cause),
            );
        }
        if self.ending.is_none() {
            if is_over(limits.deadline) {
                self.end(Ending::TIME_LIMIT);
            } else if is_over(self.token_at(limits)) {
                self.end(Ending::refused(Reason::TokenMissing));
            } else if is_over(self.idle_at(limits)) {
                self.end(Ending::IDLE);
            } else if is_over(self.ping_at(limits)) {
                self.told = now;
                self.down.ping();
            }
        }
        None
    }
}
