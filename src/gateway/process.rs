//! What the workers of one process share.
//!
//! Decides: nothing. Trusts: `server`, which puts it together. Not here: anything that only one worker or one request needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::auth::snapshot::Snapshot;
use crate::database::Database;
use crate::facts::schema::Queries;
use crate::facts::trigger_coverage::Asked;
use crate::gateway::metrics::Metrics;
use crate::log::Log;
use crate::revocation::Revocations;
use crate::sessions::Sessions;
use crate::sign_in::throttle::Throttle;
use crate::sign_in::{IdentityServer, Later, Refresh};
use crate::store::Store;
use crate::tokens::{KeySources, VerifiedCache};

/// Shared state. A request reads it without a global lock: the caches of tokens and sessions and the list of revocations lock one shard, labelled counters one
/// map, each for a look-up.
#[derive(Debug)]
pub struct Process {
    snapshot: ArcSwap<Snapshot>,
    generation: watch::Sender<u64>,
    metrics: Arc<Metrics>,
    token_cache: Arc<VerifiedCache>,
    key_sources: Arc<KeySources>,
    revocations: Arc<Revocations>,
    sessions: Arc<Sessions>,
    store: Arc<dyn Store>,
    database: Option<Database>,
    identity: Option<IdentityServer>,
    refresh: Option<Refresh>,
    throttle: Arc<Throttle>,
    later: Later,
    log: Log,
    queries: watch::Sender<Queries>,
    draining: AtomicBool,
    reloading: Mutex<()>,
}

impl Process {
    /// Puts the shared state together.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is one thing that workers share; a struct of them would be this one again"
    )]
    pub fn new(
        snapshot: Snapshot,
        metrics: Arc<Metrics>,
        token_cache: Arc<VerifiedCache>,
        key_sources: Arc<KeySources>,
        revocations: Arc<Revocations>,
        sessions: Arc<Sessions>,
        store: Arc<dyn Store>,
        database: Option<Database>,
        identity: Option<IdentityServer>,
        refresh: Option<Refresh>,
        throttle: Arc<Throttle>,
        later: Later,
        log: Log,
    ) -> Self {
        Self {
            generation: watch::Sender::new(snapshot.generation()),
            snapshot: ArcSwap::from_pointee(snapshot),
            metrics,
            token_cache,
            key_sources,
            revocations,
            sessions,
            store,
            database,
            identity,
            refresh,
            throttle,
            later,
            log,
            queries: watch::Sender::new(Queries::Unasked),
            draining: AtomicBool::new(false),
            reloading: Mutex::new(()),
        }
    }

    /// The configuration in force. A request takes it once.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts another configuration into force. Requests that run keep theirs.
    pub fn replace(&self, snapshot: Snapshot) {
        let generation = snapshot.generation();
        self.sessions.configure(snapshot.config());
        let shelf = snapshot.chain().facts().shelf();
        shelf.asks(Asked::all(snapshot.config()));
        self.snapshot.store(Arc::new(snapshot));
        self.generation.send_replace(generation);
    }

    /// Changes when another configuration is in force: what was let in by the one before asks again.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Held while a configuration is read and put into force. Blocks, so not for a runtime's own threads.
    pub fn reloading(&self) -> MutexGuard<'_, ()> {
        self.reloading.blocking_lock()
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Verified tokens.
    pub fn token_cache(&self) -> &Arc<VerifiedCache> {
        &self.token_cache
    }

    /// Fetched keys.
    pub fn key_sources(&self) -> &Arc<KeySources> {
        &self.key_sources
    }

    /// What is revoked.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Who is signed in.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// What is shared with other replicas.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The operator's database, if there is one.
    pub fn database(&self) -> Option<&Database> {
        self.database.as_ref()
    }

    /// The identity server, if there is one.
    pub fn identity(&self) -> Option<&IdentityServer> {
        self.identity.as_ref()
    }

    /// Refreshes at the identity server, if there is one.
    pub fn refresh(&self) -> Option<&Refresh> {
        self.refresh.as_ref()
    }

    /// How often somebody may try to sign in.
    pub fn throttle(&self) -> &Arc<Throttle> {
        &self.throttle
    }

    /// What the identity server is told behind answers.
    pub fn later(&self) -> &Later {
        &self.later
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Whether the database understands what it is asked.
    pub fn queries(&self) -> Queries {
        *self.queries.borrow()
    }

    /// Notes what was found out about the queries. That they fit is never unlearned, not even by a reload that could not ask: replicas in
    /// service must not leave together. What does not fit then is refused where its facts are needed.
    pub fn found_queries(&self, found: Queries) {
        self.queries.send_if_modified(|known| {
            let learns = *known != Queries::Fit;
            if learns {
                *known = found;
            }
            learns
        });
    }

    /// Begins the end: readiness fails, answers close their connections.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the process is ending.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
