//! Metrics of the database. All series exist from the start, at zero.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntGauge, Registry};

use super::statement::DatabaseError;
use crate::log::LogThrottle;

/// Seconds. A lookup by key in the same data centre takes a third of a millisecond; a request has
/// fifty.
const BUCKETS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

const OUTCOMES: [&str; 4] = ["ok", "away", "deadline", "refused"];

/// Counters of database calls.
#[derive(Debug)]
pub struct DatabaseMetrics {
    seconds: Vec<(&'static str, Histogram)>,
    up: IntGauge,
    told: LogThrottle,
}

impl DatabaseMetrics {
    /// Registers all metrics.
    ///
    /// # Errors
    ///
    /// Two metrics have the same name, which a test would have found.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "database_call_seconds",
                "Duration of database round trips, including the wait for a connection, by outcome: ok, away, deadline or refused.",
            )
            .buckets(BUCKETS.to_vec()),
            &["outcome"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let up = IntGauge::new(
            "database_up",
            "1 while the database answers; 0 also if none is configured.",
        )?;
        registry.register(Box::new(up.clone()))?;
        Ok(Self {
            seconds: OUTCOMES
                .iter()
                .map(|outcome| (*outcome, seconds.with_label_values(&[*outcome])))
                .collect(),
            up,
            told: LogThrottle::new(),
        })
    }

    pub(super) fn took(&self, time: Duration, error: Option<&DatabaseError>) {
        let outcome = error.map_or("ok", DatabaseError::as_str);
        if let Some((_, histogram)) = self.seconds.iter().find(|(name, _)| *name == outcome) {
            histogram.observe(time.as_secs_f64());
        }
    }

    pub(super) fn refused(&self, error: &DatabaseError) {
        self.took(Duration::ZERO, Some(error));
    }

    pub(super) fn is_up(&self, is_up: bool) {
        self.up.set(is_up.into());
    }

    pub(super) fn may_log(&self, now: i64) -> bool {
        self.told.may_log(now)
    }
}
