//! The clock by which a worker times its connections.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// A worker's clock: milliseconds since it began, as of its last look. Costs nothing to read. It
/// stands still while the worker does: a client whose bytes nobody took was not slow.
#[derive(Clone, Debug, Default)]
pub(crate) struct PollClock(Rc<Cell<u64>>);

impl PollClock {
    /// Another look is due.
    pub(crate) fn advance(&self) {
        self.0.set(self.0.get() + POLL_MILLIS);
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.get()
    }
}

/// How often a worker looks at its connections. A tenth of a second is a choice, not a measurement.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(POLL_MILLIS);

const POLL_MILLIS: u64 = 100;
