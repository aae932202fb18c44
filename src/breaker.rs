//! Circuit breaker: stops calls to a dependency that does not answer, so that no request waits for
//! it, and keeps since when it has been unreachable. Whoever probes the dependency closes it.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Consecutive failures that open a breaker. A single one may be a glitch, and a process that was
/// itself paused sees two; three is a choice.
pub(crate) const FAILURES: u32 = 3;

/// Whether a dependency answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outage {
    /// It answers.
    Reachable,
    /// It does not, but did before.
    Away {
        /// When it was last known to answer.
        since: Instant,
    },
    /// It has not answered since this process started, or since this machine was suspended.
    NeverSeen,
}

/// Why no call is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CallRefused {
    /// The dependency did not answer.
    Open,
    /// It answers, but must not be used, such as a store that may lose records.
    Barred,
}

/// Starts open, since nothing is known of the dependency yet. Only [`Breaker::close`] closes it.
#[derive(Debug)]
pub(crate) struct Breaker {
    start: Instant,
    state: AtomicU8,
    failures: AtomicU32,
    /// When the dependency last answered while in use, in microseconds after `start`, plus one; 0
    /// is never.
    answered: AtomicU64,
}

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
/// Opened by [`Breaker::bar`].
const BARRED: u8 = 2;

impl Breaker {
    /// An open breaker for a dependency that was never reached.
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            state: AtomicU8::new(OPEN),
            failures: AtomicU32::new(0),
            answered: AtomicU64::new(0),
        }
    }

    /// Whether a call may be made.
    ///
    /// # Errors
    ///
    /// The reason why it may not.
    pub(crate) fn permits(&self) -> Result<(), CallRefused> {
        match self.state.load(Ordering::Relaxed) {
            CLOSED => Ok(()),
            BARRED => Err(CallRefused::Barred),
            _ => Err(CallRefused::Open),
        }
    }

    /// Notes an answer. An open breaker ignores it: a dependency that is not in use stays
    /// unreachable.
    pub(crate) fn answered(&self, now: Instant) {
        if !self.is_open() {
            self.note(now);
        }
    }

    fn note(&self, now: Instant) {
        self.failures.store(0, Ordering::Relaxed);
        let after = now.saturating_duration_since(self.start);
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX - 1) + 1;
        self.answered.fetch_max(micros, Ordering::Relaxed);
    }

    /// Notes a failure. Returns whether this opened the breaker.
    pub(crate) fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        failures >= FAILURES && self.opens(OPEN)
    }

    /// Opens the breaker at once: the dependency is known to be unusable. Returns whether this
    /// opened it.
    pub(crate) fn trip(&self) -> bool {
        self.opens(OPEN)
    }

    /// Opens the breaker whatever the dependency answers. Returns whether it was closed.
    pub(crate) fn bar(&self) -> bool {
        self.state.swap(BARRED, Ordering::Relaxed) == CLOSED
    }

    /// Closes the breaker: the dependency answers and may be used. Returns whether it was open.
    pub(crate) fn close(&self, now: Instant) -> bool {
        self.note(now);
        self.state.swap(CLOSED, Ordering::Relaxed) != CLOSED
    }

    fn opens(&self, state: u8) -> bool {
        self.state
            .compare_exchange(CLOSED, state, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether it is open.
    pub(crate) fn is_open(&self) -> bool {
        self.state.load(Ordering::Relaxed) != CLOSED
    }

    /// Since when the dependency has been unreachable.
    pub(crate) fn outage(&self) -> Outage {
        let answered = self.answered.load(Ordering::Relaxed);
        if !self.is_open() {
            return Outage::Reachable;
        }
        match answered.checked_sub(1) {
            None => Outage::NeverSeen,
            Some(micros) => Outage::Away {
                since: self.start + Duration::from_micros(micros),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn it_opens_after_consecutive_failures_and_closes_only_by_close() {
        let start = crate::clock::now();
        let breaker = Breaker::new(start);
        assert_eq!(breaker.permits(), Err(CallRefused::Open));
        assert_eq!(breaker.outage(), Outage::NeverSeen);
        assert!(breaker.close(seconds(start, 1)));
        assert_eq!(breaker.outage(), Outage::Reachable);

        for _ in 0..10 {
            assert!(!breaker.failed());
            breaker.answered(seconds(start, 2));
        }
        let opened: Vec<bool> = (0..FAILURES).map(|_| breaker.failed()).collect();
        assert_eq!(opened, [false, false, true]);
        assert!(!breaker.failed(), "it is open already");
        // A late answer does not close the breaker.
        breaker.answered(seconds(start, 3));
        assert_eq!(breaker.permits(), Err(CallRefused::Open));
        let since = seconds(start, 2);
        assert_eq!(breaker.outage(), Outage::Away { since });
        assert!(breaker.close(seconds(start, 9)));
        assert!(!breaker.close(seconds(start, 9)));
        assert_eq!(breaker.permits(), Ok(()));
    }

    #[test]
    fn a_barred_server_gets_no_calls() {
        let start = crate::clock::now();
        let breaker = Breaker::new(start);
        assert!(!breaker.bar());
        assert_eq!(breaker.permits(), Err(CallRefused::Barred));
        assert_eq!(breaker.outage(), Outage::NeverSeen);
        breaker.close(start);
        assert!(breaker.bar());
        for _ in 0..=FAILURES {
            breaker.failed();
        }
        assert_eq!(breaker.permits(), Err(CallRefused::Barred));
    }
}
