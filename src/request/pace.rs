//! The pace of a request body: 408 `body_timeout` if its client stops, or sends too slowly.
//!
//! Only the time in which the gateway waited for the client counts: an upstream that takes its time
//! makes no client slow.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};

use crate::clock;
use crate::policy::listen::BodyPace;

/// Follows how fast a body arrives.
#[derive(Debug)]
pub(crate) struct Pace {
    limits: BodyPace,
    received: u64,
    /// How long the client was waited for until the last part arrived.
    waited: Duration,
    /// Since when it is waited for now.
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(crate) fn new(limits: BodyPace) -> Self {
        Self {
            limits,
            received: 0,
            waited: Duration::ZERO,
            since: None,
            timer: None,
        }
    }

    /// Notes that so many bytes arrived at `now`.
    pub(crate) fn arrived(&mut self, bytes: usize, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
            self.timer = None;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.received = self.received.saturating_add(bytes);
    }

    /// How many bytes arrived.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// From now on the client may send nothing for `idle`, and as slowly as it likes.
    pub(crate) fn relax(&mut self, idle: Duration) {
        self.limits.idle = self.limits.idle.max(idle);
        self.limits.rate = 0;
    }

    /// Called when nothing has arrived. Ready once the client is late.
    pub(crate) fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(clock::now);
        let due = self.due(since);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(due.into())));
        if timer.deadline() != due.into() {
            timer.as_mut().reset(due.into());
        }
        timer.as_mut().poll(context)
    }

    /// When the client will be late if nothing arrives.
    fn due(&self, since: Instant) -> Instant {
        let BodyPace { idle, rate, grace } = self.limits;
        let Some(earned) = self.received.saturating_mul(1000).checked_div(rate) else {
            return since + idle;
        };
        let allowed = grace.saturating_add(Duration::from_millis(earned));
        since + idle.min(allowed.saturating_sub(self.waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BodyPace = BodyPace {
        idle: Duration::from_secs(30),
        rate: 1024,
        grace: Duration::from_secs(10),
    };

    /// How long a client may go on sending nothing, which sent so many bytes after it was waited
    /// for so many seconds.
    fn left(limits: BodyPace, sent: &[(u64, usize)]) -> Duration {
        let (mut pace, mut now) = (Pace::new(limits), clock::now());
        for (seconds, bytes) in sent {
            pace.since = Some(now);
            now += Duration::from_secs(*seconds);
            pace.arrived(*bytes, now);
        }
        pace.due(now) - now
    }

    #[test]
    fn a_client_must_send_at_the_rate_after_the_grace_period() {
        let secs = Duration::from_secs;
        assert_eq!(left(LIMITS, &[]), secs(10));
        assert_eq!(left(LIMITS, &[(8, 1)]), secs(2));
        assert_eq!(left(LIMITS, &[(8, 2048)]), secs(4));
        assert_eq!(left(LIMITS, &[(8, 1), (3, 1)]), Duration::ZERO);
        assert_eq!(left(LIMITS, &[(0, 1 << 20)]), secs(30), "but no pause");
        let any = BodyPace { rate: 0, ..LIMITS };
        assert_eq!(left(any, &[(29, 1), (29, 1)]), secs(30));
    }
}
