//! The budget: how long a verdict may take.
//!
//! Decides: until when the lookups of one request may wait. Trusts: the clock. Not here: what is answered when it is spent (`outage`).
//!
//! It begins when the caller is proven. What that waits for has a limit of its own: the keys of an issuer, which are fetched when they were
//! changed and not for each request, are worth waiting for longer than a verdict may take.

use std::time::{Duration, Instant};

/// The time that is left to one request. Handed down to every lookup.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    deadline: Instant,
}

impl Budget {
    /// This long from `begin`.
    pub fn begin(begin: Instant, length: Duration) -> Self {
        Self {
            deadline: begin + length,
        }
    }

    /// When it is spent.
    pub const fn deadline(self) -> Instant {
        self.deadline
    }
}
