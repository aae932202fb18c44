//! Metrics of the identity server. All series exist from the start, at zero.

use std::time::Duration;

use prometheus::IntGauge;

use super::operation::Operation;
use crate::metrics::{Counters, Histograms, labels, metrics};

/// Seconds; a password takes about 0.2, the deadline is 5.
const BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

metrics! {
    /// Metrics of calls to the identity server.
    pub struct IdentityMetrics {
        calls: Counters<(Operation, Outcome)> = "identity_calls_total"["call", "outcome"],
            "Calls to the identity server, by call and outcome: good, refused, limited, failed, busy, away, unknown or deadline.";
        seconds: Histograms<Operation> = "identity_call_seconds"["call"] in BUCKETS,
            "Duration of a call to the identity server, including the wait for a concurrency slot, by call.";
        pub(super) running: IntGauge = "identity_calls_running",
            "Calls to the identity server in progress.";
        pub(super) waiting: IntGauge = "identity_calls_waiting",
            "Calls that wait for a concurrency slot.";
        pub(super) up: IntGauge = "identity_up",
            "1 while the identity server is called; 0 while its circuit breaker is open, or if none is configured.";
    }
}

labels! {
    /// How a call ended.
    pub(super) enum Outcome {
        /// The server did what it was asked (1xx to 3xx).
        Good = "good",
        /// The server refused (4xx).
        Refused = "refused",
        /// The server received too many calls (429).
        Limited = "limited",
        /// The server failed (5xx).
        Failed = "failed",
        /// Too many calls were in progress; not sent.
        Busy = "busy",
        /// The server is unreachable; not sent.
        Away = "away",
        /// Sent, and the connection broke before the whole answer.
        Unknown = "unknown",
        /// The deadline passed.
        Deadline = "deadline",
    }
}

impl IdentityMetrics {
    /// Counts a call that ended.
    pub(super) fn called(&self, operation: Operation, outcome: Outcome, took: Duration) {
        self.calls.inc((operation, outcome));
        self.seconds.observe(operation, took.as_secs_f64());
    }
}
