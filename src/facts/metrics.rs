//! Metrics of facts. All series exist from the start, at zero, except those per table.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::trigger_coverage::TableCoverage;

/// Where a fact was found; a label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tier {
    /// In the memory of this process.
    Memory,
    /// In the store.
    Store,
    /// In the database.
    Database,
    /// In the configuration.
    Configured,
    /// In the memory of this process, older than its lifetime, because a lookup was not possible.
    Stale,
    /// Not found.
    Failed,
}

impl Tier {
    const ALL: [Self; 6] = [
        Self::Memory,
        Self::Store,
        Self::Database,
        Self::Configured,
        Self::Stale,
        Self::Failed,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Store => "store",
            Self::Database => "database",
            Self::Configured => "written",
            Self::Stale => "old",
            Self::Failed => "failed",
        }
    }
}

/// Counters of fact lookups and invalidations.
#[derive(Debug)]
pub struct FactMetrics {
    lookups: Vec<(Tier, IntCounter)>,
    trips: Histogram,
    ages: Histogram,
    invalidations: IntCounter,
    invalidations_not_propagated: IntCounter,
    invalidations_received: IntCounter,
    notifications: IntCounter,
    listening: IntGauge,
    covered: IntGaugeVec,
    learned: IntCounterVec,
}

impl FactMetrics {
    /// Registers all metrics.
    ///
    /// # Errors
    ///
    /// Two metrics have the same name, which a test would have found.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let lookups = IntCounterVec::new(
            Opts::new(
                "facts_lookups_total",
                "Facts that requests needed, by where they were found: memory, store, database, written (in the configuration), old (past their lifetime, during an outage), failed.",
            ),
            &["tier"],
        )?;
        registry.register(Box::new(lookups.clone()))?;
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let histogram =
                Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let learned = IntCounterVec::new(
            Opts::new(
                "facts_learned_total",
                "Resource ids learned from upstream responses, by outcome: bound or failed.",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(learned.clone()))?;
        for outcome in ["bound", "failed"] {
            learned.with_label_values(&[outcome]);
        }
        let listening = IntGauge::new(
            "facts_listening",
            "1 while the database reports every change of a row that facts are read from; 0 also if no notifications are configured.",
        )?;
        registry.register(Box::new(listening.clone()))?;
        // One series per table and resource type in the operator's queries.
        let covered = IntGaugeVec::new(
            Opts::new(
                "facts_table_told",
                "1 if triggers report every change of a table that facts of a resource type (kind) are read from, 0 if not, as of the last check. A function in place of a table is 0.",
            ),
            &["table", "kind"],
        )?;
        registry.register(Box::new(covered.clone()))?;
        Ok(Self {
            lookups: Tier::ALL
                .iter()
                .map(|tier| (*tier, lookups.with_label_values(&[tier.as_str()])))
                .collect(),
            trips: histogram(
                "facts_round_trips",
                "Round trips to the store and the database that a request waited for.",
                &[0.0, 1.0, 2.0, 3.0, 4.0],
            )?,
            ages: histogram(
                "facts_age_seconds",
                "Age of the facts that requests were authorized by.",
                &[0.1, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 1800.0, 3600.0],
            )?,
            invalidations: counter(
                "facts_raises_total",
                "Facts that a write or a notification invalidated in this process.",
            )?,
            invalidations_not_propagated: counter(
                "facts_raises_untold_total",
                "Invalidated facts that could not be propagated through the store; other replicas keep them until their lifetime ends.",
            )?,
            invalidations_received: counter(
                "facts_raises_heard_total",
                "Messages of other replicas about invalidated facts.",
            )?,
            notifications: counter(
                "facts_notifications_total",
                "Notifications from the database about changed rows.",
            )?,
            listening,
            covered,
            learned,
        })
    }

    pub(super) fn found(&self, tier: Tier) {
        if let Some((_, counter)) = self.lookups.iter().find(|(name, _)| *name == tier) {
            counter.inc();
        }
    }

    pub(super) fn trips(&self, trips: u8) {
        self.trips.observe(f64::from(trips));
    }

    pub(super) fn age(&self, age: Duration) {
        self.ages.observe(age.as_secs_f64());
    }

    pub(super) fn invalidated(&self) {
        self.invalidations.inc();
    }

    pub(super) fn not_propagated(&self) {
        self.invalidations_not_propagated.inc();
    }

    pub(super) fn received(&self) {
        self.invalidations_received.inc();
    }

    pub(super) fn notified(&self) {
        self.notifications.inc();
    }

    pub(super) fn is_listening(&self, is_listening: bool) {
        self.listening.set(is_listening.into());
    }

    /// Replaces the coverage of all tables.
    pub(super) fn coverage(&self, all: &[TableCoverage]) {
        self.covered.reset();
        for table in all {
            self.covered
                .with_label_values(&[&table.table, &table.kind])
                .set(table.missing.is_none().into());
        }
    }

    pub(super) fn learned(&self, is_bound: bool) {
        let outcome = if is_bound { "bound" } else { "failed" };
        self.learned.with_label_values(&[outcome]).inc();
    }
}
