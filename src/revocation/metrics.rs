//! Metrics of the revocation list. The delay is measured between the clocks of two replicas.

use prometheus::{Histogram, IntCounter, IntGauge};

use super::replica::Cause;
use super::target::Kind;
use crate::metrics::{Counters, Gauges, labels, metrics};

/// Seconds; the promised maximum (1) is one of them.
const LAG_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0,
];

metrics! {
    /// Metrics of the revocation list.
    pub struct RevocationMetrics {
        /// From the revocation, by the clock of the replica that received it, to its enforcement
        /// here.
        pub(super) lag: Histogram = "revocation_lag_seconds" in LAG_BUCKETS,
            "Time from a revocation on any replica to its enforcement on this one.";
        entries: Gauges<Kind> = "revocations"["kind"],
            "Entries of the revocation list, by kind: token, session, subject, issuer or bucket. Any bucket also refuses users who were not revoked.";
        pub(super) capacity: IntGauge = "revocations_capacity",
            "`revocations.capacity`: more entries than that are merged into wider ones.";
        pub(super) nearly_full: IntGauge = "revocations_nearly_full",
            "1 from three quarters of `revocations.capacity` on, until half of it.";
        pub(super) coarsened: IntCounter = "revocations_coarsened_total",
            "Entries merged into a wider one because the list was full.";
        pub(super) overfull: IntGauge = "revocations_overfull",
            "1 while the list exceeds `revocations.capacity` and nothing can be coarsened.";
        pub(super) queued: IntGauge = "revocations_queued",
            "Revocations enforced here that are not stored yet.";
        pub(super) shortened: IntCounter = "revocations_shortened_total",
            "Entries kept for one token lifetime only, since the identity server confirmed the logout.";
        pub(super) complete: IntGauge = "revocations_complete",
            "1 while the list has every stored revocation.";
        reloads: Counters<Cause> = "revocation_reloads_total"["cause"],
            "Reads of the whole revocation log, by cause: start, epoch, backwards or count.";
        pub(super) written_back: IntCounter = "revocations_written_back_total",
            "Entries that were missing in the store and were written back.";
        webhook_events: Counters<WebhookResult> = "webhook_events_total"["result"],
            "Webhook events of the identity server, by result: revoked, ignored or refused.";
    }
}

labels! {
    /// Result of a webhook event of the identity server.
    pub enum WebhookResult {
        /// A subject was revoked.
        Revoked = "revoked",
        /// The event does not end a session.
        Ignored = "ignored",
        /// The signature is wrong, the event too old, or the body unreadable.
        Refused = "refused",
    }
}

impl RevocationMetrics {
    /// Sets the number of entries of each kind, in the order of [`Kind::ALL`].
    pub(super) fn count(&self, entries: [usize; Kind::ALL.len()]) {
        for (kind, count) in Kind::ALL.into_iter().zip(entries) {
            self.entries
                .set(kind, i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts a read of the whole log.
    pub(super) fn reloaded(&self, cause: Cause) {
        self.reloads.inc(cause);
    }

    /// Counts a webhook event.
    pub(crate) fn webhook(&self, result: WebhookResult) {
        self.webhook_events.inc(result);
    }
}
