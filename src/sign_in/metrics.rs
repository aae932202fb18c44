//! What is counted about the identity server. All series are there from the start, at zero.
//!
//! Decides: names and labels. Trusts: whoever counts, for what happened. Not here: what a number means.

use std::collections::HashMap;
use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use super::operation::Operation;

/// Seconds; a password takes about 0.2, the deadline is 5.
const BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// How a call ended; a label.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Outcome {
    /// It did what it was asked (1xx to 3xx).
    Good,
    /// It refused (4xx).
    Refused,
    /// It has been asked too often (429).
    Limited,
    /// It failed (5xx).
    Failed,
    /// Too many calls were under way; not sent.
    Busy,
    /// Not reachable; not sent.
    Away,
    /// Sent, and the connection broke before a whole answer.
    Unknown,
    /// Too slow.
    Deadline,
}

impl Outcome {
    const ALL: [Self; 8] = [
        Self::Good,
        Self::Refused,
        Self::Limited,
        Self::Failed,
        Self::Busy,
        Self::Away,
        Self::Unknown,
        Self::Deadline,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Failed => "failed",
            Self::Busy => "busy",
            Self::Away => "away",
            Self::Unknown => "unknown",
            Self::Deadline => "deadline",
        }
    }
}

/// Counts about the identity server.
#[derive(Debug)]
pub struct IdentityMetrics {
    calls: HashMap<(Operation, Outcome), IntCounter>,
    seconds: Vec<(Operation, Histogram)>,
    /// Calls under way.
    pub(super) running: IntGauge,
    /// Calls that wait for one of those to end.
    pub(super) waiting: IntGauge,
    /// Whether it is asked at all.
    pub(super) up: IntGauge,
}

impl IdentityMetrics {
    /// Registers everything.
    ///
    /// # Errors
    ///
    /// Two metrics of the same name, which a test would have found.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let calls = IntCounterVec::new(
            Opts::new(
                "identity_calls_total",
                "Calls to the identity server, by call and outcome: good, refused, limited, failed, busy, away, unknown or deadline.",
            ),
            &["call", "outcome"],
        )?;
        registry.register(Box::new(calls.clone()))?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "identity_call_seconds",
                "Time a call to the identity server took, the wait for its turn included.",
            )
            .buckets(BUCKETS.to_vec()),
            &["call"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let each = |operation: &Operation| {
            let word = operation.as_str();
            Outcome::ALL.map(|outcome| {
                let counter = calls.with_label_values(&[word, outcome.as_str()]);
                ((*operation, outcome), counter)
            })
        };
        Ok(Self {
            calls: Operation::ALL.iter().flat_map(each).collect(),
            seconds: Operation::ALL
                .iter()
                .map(|operation| (*operation, seconds.with_label_values(&[operation.as_str()])))
                .collect(),
            running: gauge(
                "identity_calls_running",
                "Calls to the identity server that are under way.",
            )?,
            waiting: gauge(
                "identity_calls_waiting",
                "Calls that wait until fewer are under way.",
            )?,
            up: gauge(
                "identity_up",
                "Whether the identity server is asked; 0 while its breaker is open, or without one.",
            )?,
        })
    }

    pub(super) fn called(&self, operation: Operation, outcome: Outcome, took: Duration) {
        if let Some(counter) = self.calls.get(&(operation, outcome)) {
            counter.inc();
        }
        if let Some((_, histogram)) = self.seconds.iter().find(|(one, _)| *one == operation) {
            histogram.observe(took.as_secs_f64());
        }
    }
}
