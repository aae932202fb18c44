//! How many connections each worker has, and how many there may be: of all clients and of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::metrics::ListenMetrics;
use super::shares::{Share, Shares};
use crate::clock;

/// How long a lack of descriptors counts. A choice: one that was freed is soon taken.
const EXHAUSTED: Duration = Duration::from_secs(2);

/// How many connections each worker has.
#[derive(Debug)]
pub(super) struct Load {
    counts: Vec<AtomicUsize>,
    /// How many connections there may be.
    max: usize,
    /// When this was created; [`Self::exhausted_at`] counts from here.
    created: Instant,
    /// When the system last had no descriptor for a connection, in milliseconds after
    /// [`Self::created`], plus one; 0 is never.
    exhausted_at: AtomicU64,
    pub(super) slots: Arc<Semaphore>,
    pub(super) shares: Arc<Shares>,
    /// How many idle connections are ended at once when all are taken.
    pub(super) shed_at_once: usize,
}

/// The slot of an open connection; dropping it frees the slot.
pub(super) struct ConnectionSlot {
    load: Arc<Load>,
    worker: usize,
    pub(super) metrics: Arc<ListenMetrics>,
    _permit: OwnedSemaphorePermit,
    _share: Share,
}

impl Load {
    /// No connections yet of so many workers; at most `max` at a time.
    pub(super) fn new(workers: usize, max: usize) -> Self {
        Self {
            counts: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            max,
            created: clock::coarse_now(),
            exhausted_at: AtomicU64::new(0),
            slots: Arc::new(Semaphore::new(max)),
            shares: Shares::new(max),
            // One of many: a client that does not confirm the end of its connection delays it, and
            // new connections must not wait for each of them.
            shed_at_once: (max / 100).clamp(1, 16),
        }
    }

    pub(super) fn total(&self) -> usize {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Notes that the system had no descriptor for a connection.
    pub(super) fn note_exhausted(&self) {
        let after = self.age().as_millis();
        let after = u64::try_from(after).unwrap_or(u64::MAX - 1) + 1;
        self.exhausted_at.store(after, Ordering::Relaxed);
    }

    /// Whether the system had no descriptor for a connection a moment ago.
    fn is_exhausted(&self) -> bool {
        let Some(at) = self.exhausted_at.load(Ordering::Relaxed).checked_sub(1) else {
            return false;
        };
        self.age().saturating_sub(Duration::from_millis(at)) <= EXHAUSTED
    }

    fn age(&self) -> Duration {
        clock::coarse_now().saturating_duration_since(self.created)
    }

    /// How many connections with requests a worker may have before there are too few for others;
    /// `None` while at least a quarter of all connections is free.
    pub(super) fn scarce(&self, open: impl FnOnce() -> usize) -> Option<usize> {
        // Without descriptors, there may be no more connections than there are.
        if self.is_exhausted() {
            return Some(open());
        }
        let is_scarce = self.slots.available_permits() < self.max / 4;
        is_scarce.then(|| self.max / self.counts.len().max(1))
    }

    /// The worker with the fewest connections; `own` if there is a tie.
    pub(super) fn least(&self, own: usize) -> usize {
        let count = |worker: usize| {
            self.counts
                .get(worker)
                .map_or(usize::MAX, |count| count.load(Ordering::Relaxed))
        };
        let fewest = (0..self.counts.len())
            .min_by_key(|worker| count(*worker))
            .unwrap_or(own);
        if count(own) <= count(fewest) {
            own
        } else {
            fewest
        }
    }
}

impl ConnectionSlot {
    pub(super) fn take(
        load: Arc<Load>,
        worker: usize,
        metrics: Arc<ListenMetrics>,
        permit: OwnedSemaphorePermit,
        share: Share,
    ) -> Self {
        if let Some(count) = load.counts.get(worker) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        metrics.connections.inc();
        Self {
            load,
            worker,
            metrics,
            _permit: permit,
            _share: share,
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        if let Some(count) = self.load.counts.get(self.worker) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.metrics.connections.dec();
    }
}
