//! The clock by which a worker times its connections.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// A worker's clock: milliseconds since the worker started, as of its last poll. Reading it costs
/// nothing. It does not advance while the worker is busy, so that a client is not blamed for bytes
/// that the worker had no time to read.
#[derive(Clone, Debug, Default)]
pub(crate) struct PollClock(Rc<Cell<u64>>);

impl PollClock {
    /// Advances the clock by one poll.
    pub(crate) fn advance(&self) {
        self.0.set(self.0.get() + POLL_MILLIS);
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.get()
    }
}

/// How often a worker polls its connections. A tenth of a second is a choice, not a measurement.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(POLL_MILLIS);

const POLL_MILLIS: u64 = 100;
