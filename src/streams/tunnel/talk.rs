//! Both directions of a tunnel.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::limits::{GRACE, Limits};
use crate::auth::StreamAuthorization;
use crate::denial::Denial;
use crate::record::stream::Cause;
use crate::record::trail::Trail;
use crate::streams::ending::Ending;
use crate::streams::frames;
use crate::streams::pipe::{Failed, Pipe, Waits};
use crate::streams::registry::Live;
use crate::streams::scratch::Scratch;

/// Both directions.
pub(super) struct Talk {
    pub(super) up: Pipe,
    down: Pipe,
    pub(super) ending: Option<Ending>,
    /// When something was last said.
    last: Instant,
    /// When waiting for last words is over, and why it ends then.
    grace: Option<(Instant, Cause)>,
    /// Whether the token that the client just said is good.
    judging: Option<Judging>,
}

type Judging = Pin<Box<dyn Future<Output = Result<StreamAuthorization, Denial>>>>;

impl Talk {
    /// A tunnel in which nothing was said but what the pipes hold.
    pub(super) fn new(up: Pipe, unread: Bytes) -> Self {
        Self {
            up,
            down: Pipe::new(unread),
            ending: None,
            last: Instant::now(),
            grace: None,
            judging: None,
        }
    }

    pub(super) async fn run<U, D>(
        &mut self,
        up: &mut U,
        down: &mut D,
        live: &Live,
        limits: &Limits,
        trail: &mut Trail,
    ) -> Cause
    where
        U: AsyncRead + AsyncWrite + Unpin,
        D: AsyncRead + AsyncWrite + Unpin,
    {
        let mut alarm = pin!(sleep_until(Instant::now()));
        let streams = live.streams().clone();
        poll_fn(|context| {
            loop {
                if self.ending.is_none()
                    && let Poll::Ready(ending) = live.poll_ending(context)
                {
                    self.end(ending);
                }
                let moved = self.poll_both(up, down, streams.scratch(), context);
                trail.sent = self.down.moved;
                trail.received = self.up.moved;
                if let Some(cause) = moved {
                    return Poll::Ready(cause);
                }
                if self.ending.is_none() && self.poll_judging(live, trail, context).is_ready() {
                    continue;
                }
                let due = self.due(limits);
                if alarm.deadline() != due {
                    alarm.as_mut().reset(due);
                }
                if alarm.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                if let Some(cause) = self.time_is_over(limits) {
                    return Poll::Ready(cause);
                }
            }
        })
        .await
    }

    /// Answers what the client's side waits for. Ready if that changed something.
    fn poll_judging(
        &mut self,
        live: &Live,
        trail: &mut Trail,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        match self.up.asks() {
            Some(Waits::Judgement(token)) => self.judging = Some(Box::pin(live.judge(token))),
            Some(Waits::End(reason)) => {
                self.end(Ending::refused(reason));
                return Poll::Ready(());
            }
            Some(Waits::Noted) | None => {}
        }
        let Some(judging) = &mut self.judging else {
            return Poll::Pending;
        };
        let judged = ready!(judging.as_mut().poll(context));
        self.judging = None;
        match judged {
            Ok(standing) => {
                let verified = standing.caller().verified().cloned();
                self.up.allow(verified.is_some());
                trail.caller = verified;
                live.stand(standing);
            }
            Err(denial) => {
                trail.detail = denial.detail;
                self.end(Ending::refused(denial.reason));
            }
        }
        Poll::Ready(())
    }

    /// Begins the end: last words to both.
    fn end(&mut self, ending: Ending) {
        self.ending = Some(ending);
        self.grace = Some((Instant::now() + GRACE, ending.cause));
        self.down.close(frames::close(ending, None));
        let mut mask = [0; 4];
        // Without randomness, which is a defect of the machine, the mask is a constant; it hides nothing from anybody here.
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
    ) -> Option<Cause>
    where
        U: AsyncRead + AsyncWrite + Unpin,
        D: AsyncRead + AsyncWrite + Unpin,
    {
        let said = self.up.poll_move(down, up, scratch, context);
        let answered = self.down.poll_move(up, down, scratch, context);
        if std::mem::take(&mut self.up.is_active) | std::mem::take(&mut self.down.is_active) {
            self.last = Instant::now();
        }
        let said_goodbye = self.up.is_closed() && self.down.is_closed();
        let gone = |ending: Option<Ending>, otherwise: Cause| {
            let natural = if said_goodbye {
                Cause::Finished
            } else {
                otherwise
            };
            ending.map_or(natural, |ending| ending.cause)
        };
        match (said, answered) {
            (_, Poll::Ready(Err(Failed::Writing))) | (Poll::Ready(Err(Failed::Reading)), _) => {
                Some(gone(self.ending, Cause::ClientGone))
            }
            (_, Poll::Ready(Err(Failed::Reading))) => Some(gone(self.ending, Cause::UpstreamGone)),
            // What the upstream said last may still be there to be read.
            (Poll::Ready(Err(Failed::Writing)), Poll::Pending) => {
                self.wait_for_last_words(gone(self.ending, Cause::UpstreamGone))
            }
            // The client has heard everything.
            (_, Poll::Ready(Ok(()))) => {
                let natural = match self.down.is_closed() {
                    true => Cause::Finished,
                    false => Cause::UpstreamGone,
                };
                Some(self.ending.map_or(natural, |ending| ending.cause))
            }
            // A client that said goodbye waits for the answer; one that did not is gone.
            (Poll::Ready(Ok(())), Poll::Pending) => {
                if self.ending.is_none() && !self.up.is_closed() {
                    return Some(Cause::ClientGone);
                }
                self.wait_for_last_words(Cause::Finished)
            }
            (Poll::Pending, Poll::Pending) => None,
        }
    }

    fn wait_for_last_words(&mut self, cause: Cause) -> Option<Cause> {
        self.grace
            .get_or_insert_with(|| (Instant::now() + GRACE, cause));
        None
    }

    /// When there is something to do, though nobody says anything.
    fn due(&self, limits: &Limits) -> Instant {
        let never = Instant::now() + Duration::from_secs(24 * 60 * 60);
        let open = self.ending.is_none();
        [
            self.grace.map(|(until, _)| until),
            self.idle_at(limits).filter(|_| open),
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

    fn stalled_at(&self, limits: &Limits) -> Option<Instant> {
        self.down.stuck_since.map(|since| since + limits.stalled)
    }

    /// Some cause if the tunnel must be broken off; else it begins to end, if it has not yet.
    fn time_is_over(&mut self, limits: &Limits) -> Option<Cause> {
        let now = Instant::now();
        let is_over = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if let Some((until, cause)) = self.grace
            && until <= now
        {
            return Some(cause);
        }
        if is_over(self.stalled_at(limits)) {
            return Some(self.ending.map_or(Cause::Stalled, |ending| ending.cause));
        }
        if self.ending.is_none() {
            if is_over(limits.deadline) {
                self.end(Ending::TIME_LIMIT);
            } else if is_over(self.idle_at(limits)) {
                self.end(Ending::IDLE);
            }
        }
        None
    }
}
