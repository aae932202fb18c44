//! Metrics of published keys, by issuer. Issuers come from the configuration, so the number of
//! series is bounded.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::metrics::{Counters, labels, metrics};

metrics! {
    /// Metrics of published keys.
    #[derive(Clone)]
    pub struct KeyMetrics {
        fetches: IntCounterVec = "jwks_fetches_total"["issuer", "result"],
            "Key fetches by issuer and result: good, connect, exchange, status, deadline or content.";
        lookups: IntCounterVec = "jwks_lookups_total"["issuer", "outcome"],
            "Tokens whose key was not cached, by issuer and outcome: appeared (fetched while the request waited), absent (not in the fetched key set), remembered (absent from a recent fetch), failed, timed_out or full.";
        waiting: IntGaugeVec = "jwks_waiting"["issuer"],
            "Requests waiting for a key fetch, by issuer.";
        age: IntGaugeVec = "jwks_age_seconds"["issuer"],
            "Age of the key set by issuer; absent until the first successful fetch. A key set older than 86400 is not used.";
    }
}

/// The series of one issuer.
#[derive(Debug)]
pub(super) struct SourceMetrics {
    fetches: Counters<FetchResult>,
    lookups: Counters<Lookup>,
    waiting: IntGauge,
}

labels! {
    /// Result of a key fetch.
    pub(super) enum FetchResult {
        /// A key set was received.
        Good = "good",
        /// No connection.
        Connect = "connect",
        /// The exchange broke off, or the response was too long.
        Exchange = "exchange",
        /// A status other than 200.
        Status = "status",
        /// No complete response before the deadline.
        Deadline = "deadline",
        /// The response is not a usable key set.
        Content = "content",
    }

    /// Outcome for a token whose key was not cached.
    pub(super) enum Lookup {
        /// A fetch returned the key while the request waited.
        Appeared = "appeared",
        /// The fetched key set does not contain it.
        Absent = "absent",
        /// A recent fetch did not contain it.
        Remembered = "remembered",
        /// The fetch failed.
        Failed = "failed",
        /// No fetch ended in time.
        TimedOut = "timed_out",
        /// Too many requests were waiting already.
        Full = "full",
    }
}

impl KeyMetrics {
    /// Metrics in a registry that nothing exports, for tests and benchmarks.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn unexported() -> prometheus::Result<Self> {
        Self::new(&Registry::new())
    }

    /// The series of one issuer, which exist from now on.
    pub(super) fn source(&self, issuer: &str) -> SourceMetrics {
        SourceMetrics {
            fetches: Counters::of(&self.fetches, &[issuer]),
            lookups: Counters::of(&self.lookups, &[issuer]),
            waiting: self.waiting.with_label_values(&[issuer]),
        }
    }

    /// Sets the age of an issuer's key set.
    pub(crate) fn set_age(&self, issuer: &str, seconds: i64) {
        self.age.with_label_values(&[issuer]).set(seconds);
    }

    /// Drops the series of an issuer that is no longer configured.
    pub(crate) fn forget(&self, issuer: &str) {
        Counters::<FetchResult>::forget(&self.fetches, &[issuer]);
        Counters::<Lookup>::forget(&self.lookups, &[issuer]);
        let _ = self.waiting.remove_label_values(&[issuer]);
        let _ = self.age.remove_label_values(&[issuer]);
    }
}

impl SourceMetrics {
    pub(super) fn fetched(&self, result: FetchResult) {
        self.fetches.inc(result);
    }

    pub(super) fn looked_up(&self, outcome: Lookup) {
        self.lookups.inc(outcome);
    }

    pub(super) fn waiting(&self) -> &IntGauge {
        &self.waiting
    }
}
