//! Metrics of the throttle. All series exist from the start, at zero, and none identifies a user.

use prometheus::{IntCounter, IntGauge};

use super::attempt::{Attempt, Limit};
use crate::metrics::{Counters, metrics};

metrics! {
    /// Metrics of the throttle.
    pub struct ThrottleMetrics {
        refused: Counters<(Attempt, Limit)> = "sign_in_throttled_total"["attempt", "limit"],
            "Refused sign-in attempts, by attempt and limit: address, account (of one address), under_way (concurrent refreshes of one address) or waiting.";
        pub(super) delayed: IntCounter = "sign_in_delayed_total",
            "Attempts that were delayed because their account failed often, from any address.";
        pub(super) waiting: IntGauge = "sign_in_waiting",
            "Delayed attempts and held refusals that wait now.";
        pub(super) local_only: IntCounter = "sign_in_throttled_alone_total",
            "Attempts counted by this replica alone, at half the rates, because the store was unreachable.";
    }
}

impl ThrottleMetrics {
    /// Counts a refusal.
    pub(super) fn refused(&self, attempt: Attempt, limit: Limit) {
        self.refused.inc((attempt, limit));
    }
}
