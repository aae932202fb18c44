//! What is counted about facts. All series are there from the start, at zero.
//!
//! Decides: names and labels. Trusts: nothing. Not here: what a number means for a request (`outage`).

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::trigger_coverage::Told;

/// Where a fact was found; a label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tier {
    /// In this process.
    Memory,
    /// In the store.
    Store,
    /// In the database.
    Database,
    /// In the configuration.
    Written,
    /// In this process, older than it should be, since it could not be looked up.
    Old,
    /// Nowhere.
    Failed,
}

impl Tier {
    const ALL: [Self; 6] = [
        Self::Memory,
        Self::Store,
        Self::Database,
        Self::Written,
        Self::Old,
        Self::Failed,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Store => "store",
            Self::Database => "database",
            Self::Written => "written",
            Self::Old => "old",
            Self::Failed => "failed",
        }
    }
}

/// Counts about facts.
#[derive(Debug)]
pub struct FactMetrics {
    lookups: Vec<(Tier, IntCounter)>,
    trips: Histogram,
    ages: Histogram,
    raises: IntCounter,
    raises_untold: IntCounter,
    raises_heard: IntCounter,
    notifications: IntCounter,
    listening: IntGauge,
    told: IntGaugeVec,
    learned: IntCounterVec,
}

impl FactMetrics {
    /// Registers everything.
    ///
    /// # Errors
    ///
    /// Two metrics of the same name, which a test would have found.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let lookups = IntCounterVec::new(
            Opts::new(
                "facts_lookups_total",
                "Facts that requests needed, by where they were found: memory, store, database, written (in the configuration), old (older than they should be, during an outage), failed.",
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
                "Ids that answers taught, by outcome: bound or failed.",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(learned.clone()))?;
        for outcome in ["bound", "failed"] {
            learned.with_label_values(&[outcome]);
        }
        let listening = IntGauge::new(
            "facts_listening",
            "1 while every change of a fact is heard of from the database; 0 also if no notifications are configured.",
        )?;
        registry.register(Box::new(listening.clone()))?;
        // As many series as there are tables in the operator's queries.
        let told = IntGaugeVec::new(
            Opts::new(
                "facts_table_told",
                "1 if triggers tell of every change of a table that facts of a kind are read from, 0 if not; by table and kind, when it was last looked at.",
            ),
            &["table", "kind"],
        )?;
        registry.register(Box::new(told.clone()))?;
        Ok(Self {
            lookups: Tier::ALL
                .iter()
                .map(|tier| (*tier, lookups.with_label_values(&[tier.as_str()])))
                .collect(),
            trips: histogram(
                "facts_round_trips",
                "Round trips to the store and the database that one request waited for.",
                &[0.0, 1.0, 2.0, 3.0, 4.0],
            )?,
            ages: histogram(
                "facts_age_seconds",
                "Age of the facts that were judged by.",
                &[0.1, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 1800.0, 3600.0],
            )?,
            raises: counter(
                "facts_raises_total",
                "Facts that a write or a notification made worthless here.",
            )?,
            raises_untold: counter(
                "facts_raises_untold_total",
                "Facts whose worthlessness the store could not be told: other replicas find out by age.",
            )?,
            raises_heard: counter(
                "facts_raises_heard_total",
                "Messages of other replicas about worthless facts.",
            )?,
            notifications: counter(
                "facts_notifications_total",
                "Notifications of the database about changed rows.",
            )?,
            listening,
            told,
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

    pub(super) fn raised(&self) {
        self.raises.inc();
    }

    pub(super) fn untold(&self) {
        self.raises_untold.inc();
    }

    pub(super) fn heard(&self) {
        self.raises_heard.inc();
    }

    pub(super) fn notified(&self) {
        self.notifications.inc();
    }

    pub(super) fn is_listening(&self, is_listening: bool) {
        self.listening.set(is_listening.into());
    }

    /// What is told of each table now.
    pub(super) fn told(&self, all: &[Told]) {
        self.told.reset();
        for told in all {
            self.told
                .with_label_values(&[&told.table, &told.kind])
                .set(told.missing.is_none().into());
        }
    }

    pub(super) fn learned(&self, is_bound: bool) {
        let outcome = if is_bound { "bound" } else { "failed" };
        self.learned.with_label_values(&[outcome]).inc();
    }
}
