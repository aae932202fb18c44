//! A WebSocket between client and upstream.
//!
//! Decides: when a tunnel ends, and what is told to whom. Trusts: the handshake, which both sides have finished. Not here: what is said
//! inside; messages are passed on byte for byte, and on a route that judges them (`messages`) only once that is done.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};

use super::ending::Ending;
use super::frames;
use super::messages::Messages;
use super::pipe::{Failed, Pipe, Waits};
use super::registry::{Live, Streams};
use super::scratch::Scratch;
use crate::auth::StreamAuthorization;
use crate::denial::Denial;
use crate::record::End;
use crate::record::stream::{Cause, Kind};
use crate::record::trail::Trail;
use crate::upstream::Switched;

/// How long last words may take: for a frame under way to end, for the other side to answer a goodbye. A second is a choice.
const GRACE: Duration = Duration::from_secs(1);

/// How long a tunnel may take for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Silence in both directions.
    pub(crate) idle: Option<Duration>,
    /// Everything.
    pub(crate) deadline: Option<Instant>,
    /// For a client that does not take what is sent to it.
    pub(crate) stalled: Duration,
}

/// A tunnel whose 101 is on its way to the client.
#[derive(Debug)]
pub(crate) struct Opening {
    /// The upstream's end.
    pub(crate) upstream: Switched,
    /// What is judged again while it is open.
    pub(crate) standing: StreamAuthorization,
    /// Its limits.
    pub(crate) limits: Limits,
    /// Up to how many bytes of a message are held to be judged, if messages are.
    pub(crate) judged: Option<usize>,
}

/// A tunnel. Its record ends with it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    upstream: Switched,
    limits: Limits,
    judged: Option<usize>,
    live: Live,
    trail: Trail,
}

impl Tunnel {
    /// Enters the tunnel among the live streams.
    pub(crate) fn begin(opening: Opening, streams: &Rc<Streams>, trail: Trail) -> Box<Self> {
        let Opening {
            upstream,
            standing,
            limits,
            judged,
        } = opening;
        let live = streams.begin(Kind::Websocket, standing);
        Box::new(Self {
            upstream,
            limits,
            judged,
            live,
            trail,
        })
    }

    /// Passes messages on to the end. `unread` is what the client has said already.
    pub(crate) async fn run<C>(self: Box<Self>, mut client: C, unread: Bytes)
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let Self {
            mut upstream,
            limits,
            judged,
            live,
            mut trail,
        } = *self;
        let up = match judged {
            None => Pipe::new(unread),
            Some(limit) => {
                let messages = Messages::new(limit, live.standing().needs_token());
                Pipe::judged(&unread, messages)
            }
        };
        let mut talk = Talk {
            up,
            down: Pipe::new(std::mem::take(&mut upstream.unread)),
            ending: None,
            last: Instant::now(),
            grace: None,
            judging: None,
        };
        let cause = talk
            .run(
                &mut upstream.stream,
                &mut client,
                &live,
                &limits,
                &mut trail,
            )
            .await;
        live.ends_by(cause);
        trail.end = match cause {
            Cause::Finished => End::Complete,
            Cause::ClientGone => End::ClientGone,
            Cause::UpstreamGone => End::UpstreamFailed,
            Cause::Idle
            | Cause::TimeLimit
            | Cause::Stalled
            | Cause::Drained
            | Cause::Expired
            | Cause::Revoked
            | Cause::Denied => End::Ended,
        };
        trail.stream = Some((live.kind(), cause));
        drop((upstream, live, trail));
        if !matches!(cause, Cause::ClientGone | Cause::Stalled) {
            let awaits_answer = talk.ending.is_some();
            let _ = timeout(GRACE, leave(&mut client, awaits_answer, &mut talk.up)).await;
        }
    }
}

/// Says that nothing more comes, behind the answer to our goodbye if there was one, and takes what is still under way: a socket that is
/// closed over unread bytes is reset, and its peer may lose what it has not read yet.
async fn leave<C>(client: &mut C, awaits_answer: bool, said: &mut Pipe)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = [0; 1024];
    let mut is_shut = false;
    poll_fn(|context| {
        loop {
            if !is_shut && (!awaits_answer || said.is_closed()) {
                is_shut = Pin::new(&mut *client).poll_shutdown(context).is_ready();
            }
            let mut buffer = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *client).poll_read(context, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    said.overhear(buffer.filled());
                }
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// Both directions.
struct Talk {
    up: Pipe,
    down: Pipe,
    ending: Option<Ending>,
    /// When something was last said.
    last: Instant,
    /// When waiting for last words is over, and why it ends then.
    grace: Option<(Instant, Cause)>,
    /// Whether the token that the client just said is good.
    judging: Option<Judging>,
}

type Judging = Pin<Box<dyn Future<Output = Result<StreamAuthorization, Denial>>>>;

impl Talk {
    async fn run<U, D>(
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
