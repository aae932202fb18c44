//! What is counted about the throttle. All series are there from the start, at zero, and none says who.
//!
//! Decides: names and labels. Trusts: the throttle, for what it did. Not here: the limits.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::attempt::{Attempt, Limit};

/// Counts about the throttle.
#[derive(Debug)]
pub struct ThrottleMetrics {
    refused: IntCounterVec,
    pub(super) delayed: IntCounter,
    pub(super) waiting: IntGauge,
    pub(super) local_only: IntCounter,
}

impl ThrottleMetrics {
    /// Registers everything.
    ///
    /// # Errors
    ///
    /// Two metrics of the same name, which a test would have found.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let refused = IntCounterVec::new(
            Opts::new(
                "sign_in_throttled_total",
                "Attempts to sign in that were refused, by attempt and limit: address, account (of one address), under_way (refreshes of one address) or waiting.",
            ),
            &["attempt", "limit"],
        )?;
        registry.register(Box::new(refused.clone()))?;
        for attempt in Attempt::ALL {
            for limit in Limit::ALL {
                refused.with_label_values(&[attempt.as_str(), limit.as_str()]);
            }
        }
        let delayed = IntCounter::new(
            "sign_in_delayed_total",
            "Attempts that had to wait, because their account failed often from anywhere.",
        )?;
        registry.register(Box::new(delayed.clone()))?;
        let waiting = IntGauge::new(
            "sign_in_waiting",
            "Attempts that wait now, and refusals that are held.",
        )?;
        registry.register(Box::new(waiting.clone()))?;
        let local_only = IntCounter::new(
            "sign_in_throttled_alone_total",
            "Attempts judged by this replica alone, at half the rates, because the store could not be asked.",
        )?;
        registry.register(Box::new(local_only.clone()))?;
        Ok(Self {
            refused,
            delayed,
            waiting,
            local_only,
        })
    }

    pub(super) fn refused(&self, attempt: Attempt, limit: Limit) {
        self.refused
            .with_label_values(&[attempt.as_str(), limit.as_str()])
            .inc();
    }
}
