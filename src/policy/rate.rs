//! How often something may happen.
//!
//! Decides: how a count and a period become the interval of a bucket. Trusts: `config::check`. Not here: the buckets (`store::limit`).

use std::num::NonZeroU32;
use std::time::Duration;

/// How many may come, and how fast.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Rate {
    /// How many may come at once.
    pub burst: NonZeroU32,
    /// In which time one place comes free.
    pub per: Duration,
}

impl Rate {
    /// `count` in `time`, all of which may come at once.
    pub fn new(count: NonZeroU32, time: Duration) -> Self {
        Self {
            burst: count,
            per: (time / count.get()).max(Duration::from_micros(1)),
        }
    }

    /// Half of it, for a replica that cannot ask how much the others let in. One at once is the least.
    #[must_use]
    pub fn halved(self) -> Self {
        Self {
            burst: NonZeroU32::new(self.burst.get() / 2).unwrap_or(NonZeroU32::MIN),
            per: self.per.saturating_mul(2),
        }
    }

    /// So many times as many, as often.
    #[must_use]
    pub fn times(self, factor: NonZeroU32) -> Self {
        Self {
            burst: self.burst.saturating_mul(factor),
            per: (self.per / factor.get()).max(Duration::from_micros(1)),
        }
    }
}
