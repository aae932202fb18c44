//! The time budget of a decision: how long the lookups of one request may wait.
//!
//! It starts when the caller has been authenticated. Waiting for an issuer's keys is limited
//! separately: they are fetched when they have changed and not for each request, and may take
//! longer than a decision.

use std::time::{Duration, Instant};

/// The time left for one request, passed to every lookup.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    deadline: Instant,
}

impl Budget {
    /// A budget of this length from `begin`.
    pub fn begin(begin: Instant, length: Duration) -> Self {
        Self {
            deadline: begin + length,
        }
    }

    /// The end of the budget.
    pub const fn deadline(self) -> Instant {
        self.deadline
    }
}
