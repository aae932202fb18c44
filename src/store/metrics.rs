//! Metrics of the store. All series exist from the start, at zero.

use std::time::Duration;

use prometheus::{IntCounter, IntGauge};

use super::contract::{Kind, Unreachable};
use crate::metrics::{Counters, Histograms, labels, metrics};

/// Seconds; Redis on the same network takes a tenth of a millisecond, and its deadline is a hundred
/// milliseconds.
const BUCKETS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

metrics! {
    /// Metrics of the store.
    pub struct StoreMetrics {
        seconds: Histograms<(Command, Outcome)> = "store_command_seconds"["command", "outcome"] in BUCKETS,
            "Duration of a Redis command, by command and outcome: ok or failed.";
        unreachable: Counters<Unreachable> = "store_unreachable_total"["reason"],
            "Store calls without an answer, by reason.";
        tampered: Counters<Kind> = "store_tampered_total"["kind"],
            "Stored records that failed authentication, so another party wrote or changed them: a security event.";
        up: IntGauge = "store_up",
            "1 while the store answers; always 1 without Redis.";
        breaker_open: IntGauge = "store_breaker_open",
            "1 while the circuit breaker is open: Redis gets no calls but probes.";
        evicting: IntGauge = "store_evicting",
            "1 if Redis may evict records (`maxmemory-policy` is not `noeviction`) or does not report its policy.";
        reconnects: IntCounter = "store_reconnects_total",
            "Reconnects to Redis.";
    }
}

labels! {
    /// A Redis command, as a label.
    pub(super) enum Command {
        /// Reads a record.
        Get = "get",
        /// Writes a record.
        Put = "put",
        /// Reads a record with its version.
        Read = "read",
        /// Replaces a record if its version is unchanged.
        Swap = "swap",
        /// Removes a record.
        Remove = "remove",
        /// Takes tokens from rate-limit buckets.
        Admit = "admit",
        /// Appends to the log.
        Append = "append",
        /// Reads the log's position.
        Position = "position",
        /// Reads a page of the log.
        Page = "page",
        /// Publishes a message to other processes.
        Publish = "tell",
        /// Checks that Redis answers.
        Probe = "probe",
    }

    /// Outcome of a Redis command.
    enum Outcome {
        Ok = "ok",
        Failed = "failed",
    }
}

impl StoreMetrics {
    /// Sets whether the store answers.
    pub(super) fn set_up(&self, up: bool) {
        self.up.set(i64::from(up));
        self.breaker_open.set(i64::from(!up));
    }

    /// Sets whether Redis may evict records.
    pub(super) fn set_evicting(&self, evicting: bool) {
        self.evicting.set(i64::from(evicting));
    }

    /// Observes a command that was sent.
    pub(super) fn took(&self, command: Command, time: Duration, is_ok: bool) {
        let outcome = if is_ok { Outcome::Ok } else { Outcome::Failed };
        self.seconds.observe((command, outcome), time.as_secs_f64());
    }

    /// Counts a call without an answer.
    pub(super) fn unreachable(&self, reason: Unreachable) {
        self.unreachable.inc(reason);
    }

    /// Counts a record that failed authentication.
    pub(super) fn tampered(&self, kind: Kind) {
        self.tampered.inc(kind);
    }

    /// Counts a reconnect.
    pub(super) fn reconnected(&self) {
        self.reconnects.inc();
    }
}
