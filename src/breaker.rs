//! The breaker: whether a server that this process depends on is asked at all, so that one that does not answer costs nobody a wait.
//!
//! Decides: when it opens (failures in a row, or because somebody bars it) and since when the server has been away.
//! Trusts: whoever watches the server to close it. Not here: how the server is asked.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Failures in a row that open one. A single one may be a hiccup, and a process that was itself paused sees two; three is a choice.
pub(crate) const FAILURES: u32 = 3;

/// Whether a server answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outage {
    /// It answers.
    Reachable,
    /// It does not, and did before.
    Away {
        /// When it was last known to answer.
        since: Instant,
    },
    /// It has not answered since this process started.
    NeverSeen,
}

/// Why a server is not asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shut {
    /// It did not answer.
    Open,
    /// It answers, and is not to be used all the same, such as a store that may lose records.
    Barred,
}

/// Begins open: nothing is known of the server yet. Only [`Breaker::close`] closes it.
#[derive(Debug)]
pub(crate) struct Breaker {
    start: Instant,
    state: AtomicU8,
    failures: AtomicU32,
    /// When it last answered and was used, in microseconds after `start`, and one more; 0 is never.
    answered: AtomicU64,
}

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
/// Open because somebody said so.
const BARRED: u8 = 2;

impl Breaker {
    /// Open, with a server that was never seen.
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            state: AtomicU8::new(OPEN),
            failures: AtomicU32::new(0),
            answered: AtomicU64::new(0),
        }
    }

    /// Whether the server may be asked.
    ///
    /// # Errors
    ///
    /// It may not, because of this.
    pub(crate) fn permits(&self) -> Result<(), Shut> {
        match self.state.load(Ordering::Relaxed) {
            CLOSED => Ok(()),
            BARRED => Err(Shut::Barred),
            _ => Err(Shut::Open),
        }
    }

    /// It answered. While the breaker is open that means nothing: a server that is not used is away.
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

    /// It did not answer. Whether that opened the breaker.
    pub(crate) fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        failures >= FAILURES && self.opens(OPEN)
    }

    /// It is not to be used, whatever it answers. Whether that opened the breaker.
    pub(crate) fn bar(&self) -> bool {
        self.state.swap(BARRED, Ordering::Relaxed) == CLOSED
    }

    /// It answers, and may be used. Whether the breaker was open.
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

    /// Since when the server is away.
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
    fn it_opens_after_failures_in_a_row_and_closes_only_when_told() {
        let start = crate::clock::now();
        let breaker = Breaker::new(start);
        assert_eq!(breaker.permits(), Err(Shut::Open));
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
        // An answer that was under way is no reason to ask again.
        breaker.answered(seconds(start, 3));
        assert_eq!(breaker.permits(), Err(Shut::Open));
        let since = seconds(start, 2);
        assert_eq!(breaker.outage(), Outage::Away { since });
        assert!(breaker.close(seconds(start, 9)));
        assert!(!breaker.close(seconds(start, 9)));
        assert_eq!(breaker.permits(), Ok(()));
    }

    #[test]
    fn a_server_that_is_barred_is_not_asked() {
        let start = crate::clock::now();
        let breaker = Breaker::new(start);
        assert!(!breaker.bar());
        assert_eq!(breaker.permits(), Err(Shut::Barred));
        assert_eq!(breaker.outage(), Outage::NeverSeen);
        breaker.close(start);
        assert!(breaker.bar());
        for _ in 0..=FAILURES {
            breaker.failed();
        }
        assert_eq!(breaker.permits(), Err(Shut::Barred));
    }
}
