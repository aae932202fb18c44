//! What is counted about published keys, per issuer. Issuers are those of the configuration, so that labels are bounded.
//!
//! Decides: names and labels. Trusts: `fetch` and `source`, for what happened. Not here: serving them (`metrics`).

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// The families.
#[derive(Clone, Debug)]
pub struct KeyMetrics {
    fetches: IntCounterVec,
    lookups: IntCounterVec,
    waiting: IntGaugeVec,
    age: IntGaugeVec,
}

/// The series of one issuer.
#[derive(Debug)]
pub(super) struct SourceMetrics {
    fetches: [IntCounter; FetchResult::ALL.len()],
    lookups: [IntCounter; Lookup::ALL.len()],
    waiting: IntGauge,
}

/// How an attempt to fetch keys ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FetchResult {
    /// Keys came.
    Good,
    /// No connection.
    Connect,
    /// The exchange broke off, or was too long.
    Exchange,
    /// Another status than 200.
    Status,
    /// Too slow.
    Deadline,
    /// What came cannot be used.
    Content,
}

impl FetchResult {
    const ALL: [Self; 6] = [
        Self::Good,
        Self::Connect,
        Self::Exchange,
        Self::Status,
        Self::Deadline,
        Self::Content,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Connect => "connect",
            Self::Exchange => "exchange",
            Self::Status => "status",
            Self::Deadline => "deadline",
            Self::Content => "content",
        }
    }
}

/// What became of a token whose key was not at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// A fetch brought the key, while the request waited.
    Appeared,
    /// A fetch did not bring it.
    Absent,
    /// A fetch did not bring it a short while ago.
    Remembered,
    /// The fetch failed.
    Failed,
    /// No fetch ended in time.
    TimedOut,
    /// Too many requests waited already.
    Full,
}

impl Lookup {
    const ALL: [Self; 6] = [
        Self::Appeared,
        Self::Absent,
        Self::Remembered,
        Self::Failed,
        Self::TimedOut,
        Self::Full,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Appeared => "appeared",
            Self::Absent => "absent",
            Self::Remembered => "remembered",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Full => "full",
        }
    }
}

impl KeyMetrics {
    /// Families that nobody serves yet.
    ///
    /// # Errors
    ///
    /// A name that Prometheus does not allow, which a test would have found.
    pub fn new() -> prometheus::Result<Self> {
        let issuer = &["issuer"];
        Ok(Self {
            fetches: IntCounterVec::new(
                Opts::new(
                    "jwks_fetches_total",
                    "Attempts to fetch an issuer's keys, by result: good, connect, exchange, status, deadline or content.",
                ),
                &["issuer", "result"],
            )?,
            lookups: IntCounterVec::new(
                Opts::new(
                    "jwks_lookups_total",
                    "Tokens whose key was not at hand, by outcome: appeared, absent, remembered (absent a moment ago), failed, timed_out or full.",
                ),
                &["issuer", "outcome"],
            )?,
            waiting: IntGaugeVec::new(
                Opts::new("jwks_waiting", "Requests that wait for an issuer's keys."),
                issuer,
            )?,
            age: IntGaugeVec::new(
                Opts::new(
                    "jwks_age_seconds",
                    "Time since an issuer's keys were fetched; absent until they were. Over 86400 they are not used.",
                ),
                issuer,
            )?,
        })
    }

    /// Adds the families to a registry.
    ///
    /// # Errors
    ///
    /// Two families of one name, which a test would have found.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.fetches.clone()))?;
        registry.register(Box::new(self.lookups.clone()))?;
        registry.register(Box::new(self.waiting.clone()))?;
        registry.register(Box::new(self.age.clone()))
    }

    /// The series of one issuer, from zero: one that appears with its first event hides that event from `rate`.
    pub(super) fn source(&self, issuer: &str) -> SourceMetrics {
        SourceMetrics {
            fetches: FetchResult::ALL
                .map(|result| self.fetches.with_label_values(&[issuer, result.as_str()])),
            lookups: Lookup::ALL
                .map(|outcome| self.lookups.with_label_values(&[issuer, outcome.as_str()])),
            waiting: self.waiting.with_label_values(&[issuer]),
        }
    }

    /// Notes how old an issuer's keys are.
    pub fn set_age(&self, issuer: &str, seconds: i64) {
        self.age.with_label_values(&[issuer]).set(seconds);
    }

    /// Ends the series of an issuer that is not configured any more.
    pub fn forget(&self, issuer: &str) {
        for result in FetchResult::ALL {
            let _ = self.fetches.remove_label_values(&[issuer, result.as_str()]);
        }
        for outcome in Lookup::ALL {
            let _ = self
                .lookups
                .remove_label_values(&[issuer, outcome.as_str()]);
        }
        let _ = self.waiting.remove_label_values(&[issuer]);
        let _ = self.age.remove_label_values(&[issuer]);
    }
}

impl SourceMetrics {
    pub(super) fn fetched(&self, result: FetchResult) {
        if let Some(counter) = self.fetches.get(result as usize) {
            counter.inc();
        }
    }

    pub(super) fn looked_up(&self, outcome: Lookup) {
        if let Some(counter) = self.lookups.get(outcome as usize) {
            counter.inc();
        }
    }

    pub(super) fn waiting(&self) -> &IntGauge {
        &self.waiting
    }
}
