//! The state that the workers of one process share.
//!
//! A request reads it without a global lock: the caches of tokens and sessions and the list of
//! revocations lock one shard, labelled counters one map, each for a lookup.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, MutexGuard, watch};

use crate::auth::snapshot::{CurrentSnapshot, Shared, Snapshot};
use crate::database::Database;
use crate::facts::schema::QueryStatus;
use crate::facts::trigger_coverage::WatchedQuery;
use crate::gateway::metrics::Metrics;
use crate::log::Log;
use crate::revocation::Revocations;
use crate::sign_in;
use crate::store::Store;

/// The state that all workers, the admin listener and reloads share.
#[derive(Debug)]
pub struct Process {
    current: Arc<CurrentSnapshot>,
    shared: Shared,
    sign_in: Arc<sign_in::Context>,
    metrics: Arc<Metrics>,
    log: Log,
    queries: watch::Sender<QueryStatus>,
    draining: AtomicBool,
    reloading: Mutex<()>,
    max_connections: usize,
}

impl Process {
    /// Puts the first snapshot, which was built from `shared`, into force, for so many client
    /// connections.
    pub(crate) fn new(
        snapshot: Snapshot,
        shared: Shared,
        sign_in: sign_in::Context,
        metrics: Arc<Metrics>,
        log: Log,
        max_connections: usize,
    ) -> Self {
        Self {
            current: Arc::new(CurrentSnapshot::new(snapshot)),
            shared,
            sign_in: Arc::new(sign_in),
            metrics,
            log,
            queries: watch::Sender::new(QueryStatus::Unchecked),
            draining: AtomicBool::new(false),
            reloading: Mutex::new(()),
            max_connections,
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.get()
    }

    /// The cell of the snapshot in force, for those who wait for another one.
    pub(crate) fn current(&self) -> &Arc<CurrentSnapshot> {
        &self.current
    }

    /// Puts another configuration into force. Requests that are open keep theirs.
    pub(crate) fn replace(&self, snapshot: Snapshot) {
        self.shared.sessions.configure(snapshot.config());
        self.shared
            .facts
            .set_queries(WatchedQuery::all(snapshot.config()));
        self.current.replace(snapshot);
    }

    /// Locks reloads: held while a configuration is read and put into force. Blocks, so it must not
    /// be called on a thread of the runtime.
    pub(crate) fn reloading(&self) -> MutexGuard<'_, ()> {
        self.reloading.blocking_lock()
    }

    /// The state that outlives a configuration.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn sign_in(&self) -> &Arc<sign_in::Context> {
        &self.sign_in
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(crate) fn revocations(&self) -> &Arc<Revocations> {
        &self.shared.revocations
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.sign_in.store
    }

    pub(crate) fn database(&self) -> Option<&Database> {
        self.sign_in.database.as_ref()
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// How many client connections there may be: `connections.max`, or fewer if the process has too
    /// few file descriptors.
    pub(crate) fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Whether the database accepts the configured queries.
    pub(crate) fn queries(&self) -> QueryStatus {
        *self.queries.borrow()
    }

    /// Notes the result of checking the queries. Once they fit, that stays, even if a later reload
    /// could not check them: replicas in service must not all become unready together. A query that
    /// does not fit then is refused where its facts are needed.
    pub(crate) fn found_queries(&self, found: QueryStatus) {
        self.queries.send_if_modified(|known| {
            let learns = *known != QueryStatus::Fit;
            if learns {
                *known = found;
            }
            learns
        });
    }

    /// Begins to drain: readiness fails, and answers close their connections.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the process is draining.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
