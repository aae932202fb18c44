//! Rates of token buckets; `store::limit` has the buckets.

use std::num::NonZeroU32;
use std::time::Duration;

/// The rate of a token bucket.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Rate {
    /// How many events may come at once.
    pub burst: NonZeroU32,
    /// The time in which one more is allowed.
    pub per: Duration,
}

impl Rate {
    /// `count` events in `time`, all of which may come at once.
    pub fn new(count: NonZeroU32, time: Duration) -> Self {
        Self {
            burst: count,
            per: (time / count.get()).max(Duration::from_micros(1)),
        }
    }

    /// Half the rate, for a replica that does not know how many events the others allowed. The
    /// burst is at least one.
    #[must_use]
    pub fn halved(self) -> Self {
        Self {
            burst: NonZeroU32::new(self.burst.get() / 2).unwrap_or(NonZeroU32::MIN),
            per: self.per.saturating_mul(2),
        }
    }

    /// The same rate, with a burst so many times as large.
    #[must_use]
    pub fn over(self, times: NonZeroU32) -> Self {
        Self {
            burst: self.burst.saturating_mul(times),
            ..self
        }
    }

    /// The rate multiplied by `factor`.
    #[must_use]
    pub fn times(self, factor: NonZeroU32) -> Self {
        Self {
            burst: self.burst.saturating_mul(factor),
            per: (self.per / factor.get()).max(Duration::from_micros(1)),
        }
    }
}
