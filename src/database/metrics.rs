//! Metrics of the database. All series exist from the start, at zero.

use std::time::Duration;

use prometheus::{IntGauge, Registry};

use super::statement::DatabaseError;
use crate::log::LogThrottle;
use crate::metrics::{Histograms, labels, metrics};

/// Seconds. A lookup by key in the same data centre takes a third of a millisecond; a request has
/// fifty.
const BUCKETS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

labels! {
    /// What became of a call.
    enum Outcome {
        Ok = "ok",
        Away = "away",
        Deadline = "deadline",
        Refused = "refused",
    }
}

metrics! {
    /// The rows of the table.
    struct Table {
        seconds: Histograms<Outcome> = "database_call_seconds"["outcome"] in BUCKETS,
            "Duration of database round trips, including the wait for a connection, by outcome: ok, away, deadline or refused.";
        up: IntGauge = "database_up",
            "1 while the database answers; 0 also if none is configured.";
    }
}

/// Metrics of database calls, and how often their failures are logged.
#[derive(Debug)]
pub struct DatabaseMetrics {
    table: Table,
    log: LogThrottle,
}

impl DatabaseMetrics {
    /// Registers all metrics.
    ///
    /// # Errors
    ///
    /// Two metrics have the same name, which a test would have found.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            table: Table::new(registry)?,
            log: LogThrottle::new(),
        })
    }

    pub(super) fn took(&self, time: Duration, error: Option<&DatabaseError>) {
        let outcome = match error {
            None => Outcome::Ok,
            Some(DatabaseError::Deadline) => Outcome::Deadline,
            Some(DatabaseError::Refused(_)) => Outcome::Refused,
            Some(DatabaseError::Away) => Outcome::Away,
            // No call was made.
            Some(DatabaseError::Busy) => return,
        };
        self.table.seconds.observe(outcome, time.as_secs_f64());
    }

    pub(super) fn refused(&self, error: &DatabaseError) {
        self.took(Duration::ZERO, Some(error));
    }

    pub(super) fn is_up(&self, is_up: bool) {
        self.table.up.set(is_up.into());
    }

    pub(super) fn may_log(&self, now: i64) -> bool {
        self.log.may_log(now)
    }
}
