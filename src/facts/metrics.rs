//! Metrics of facts. All series exist from the start, at zero, except those per table.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge, IntGaugeVec};

use super::trigger_coverage::TableCoverage;
use crate::metrics::{Counters, labels, metrics};

labels! {
    /// Where a fact was found.
    pub(super) enum Tier {
        /// In the memory of this process.
        Memory = "memory",
        /// In the store.
        Store = "store",
        /// In the database.
        Database = "database",
        /// In the configuration.
        Configured = "written",
        /// In the memory of this process, older than its lifetime, because a lookup was not
        /// possible.
        Stale = "old",
        /// Not found.
        Failed = "failed",
    }

    /// What became of an id that an upstream's answer named.
    pub(super) enum Learned {
        /// Its owner is in the store.
        Bound = "bound",
        /// Its owner is kept here until the store takes it.
        Kept = "kept",
        /// Its owner is not known.
        Failed = "failed",
    }
}

metrics! {
    /// Counters of fact lookups and invalidations.
    pub struct FactMetrics {
        lookups: Counters<Tier> = "facts_lookups_total"["tier"],
            "Facts that requests needed, by where they were found: memory, store, database, written (in the configuration), old (past their lifetime, during an outage), failed.";
        trips: Histogram = "facts_round_trips" in &[0.0, 1.0, 2.0, 3.0, 4.0],
            "Round trips to the store and the database that a request waited for.";
        ages: Histogram = "facts_age_seconds"
            in &[0.1, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 1800.0, 3600.0],
            "Age of the facts that requests were authorized by.";
        invalidations: IntCounter = "facts_raises_total",
            "Facts that a write or a notification invalidated in this process.";
        invalidations_not_propagated: IntCounter = "facts_raises_untold_total",
            "Invalidated facts that could not be propagated through the store; other replicas keep them until their lifetime ends.";
        invalidations_received: IntCounter = "facts_raises_heard_total",
            "Messages of other replicas about invalidated facts.";
        notifications: IntCounter = "facts_notifications_total",
            "Notifications from the database about changed rows.";
        listening: IntGauge = "facts_listening",
            "1 while the database reports every change of a row that facts are read from; 0 also if no notifications are configured.";
        covered: IntGaugeVec = "facts_table_told"["table", "kind"],
            "1 if triggers report every change of a table that facts of a resource type (kind) are read from, 0 if not, as of the last check. A function in place of a table is 0.";
        learned: Counters<Learned> = "facts_learned_total"["outcome"],
            "Resource ids learned from upstream responses, by outcome: bound, kept (in this process until the store takes it) or failed.";
        learned_waiting: IntGauge = "facts_learned_unstored",
            "Learned owners that are kept in this process until the store takes them.";
    }
}

impl FactMetrics {
    pub(super) fn found(&self, tier: Tier) {
        self.lookups.inc(tier);
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

    pub(super) fn learned(&self, outcome: Learned) {
        self.learned.inc(outcome);
    }

    pub(super) fn learned_waiting(&self, waiting: i64) {
        self.learned_waiting.set(waiting);
    }
}
