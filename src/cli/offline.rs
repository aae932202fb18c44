//! A snapshot in a process without sockets, for `check` and `test`. In place of the store that
//! replicas share there is memory.

use std::sync::Arc;

use crate::auth::snapshot::{Shared, Snapshot};
use crate::clock;
use crate::config::Loaded;
use crate::facts::{FactCache, WriterKey};
use crate::gateway::metrics::Metrics;
use crate::revocation::{Follower, Revocations};
use crate::server::reload;
use crate::sessions::Sessions;
use crate::store::{Memory, Store};
use crate::tokens::{KeySources, VerifiedCache};

/// Builds the snapshot of a configuration, and the follower that completes its list of revocations.
/// The store has room for `records`. Must be called inside a runtime.
///
/// # Errors
///
/// The configuration cannot be built.
pub fn snapshot(loaded: Loaded, records: usize) -> anyhow::Result<(Snapshot, Follower)> {
    let store: Arc<dyn Store> = Arc::new(Memory::new(records, clock::unix_now));
    let metrics = Metrics::new()?;
    let (revocations, follower) = Revocations::new(store.clone(), 1, metrics.revocations.clone());
    let sessions = Sessions::new(
        &loaded.config,
        store.clone(),
        revocations.clone(),
        None,
        metrics.sessions.clone(),
        clock::unix_millis,
    )?;
    let shared = Shared {
        token_cache: Arc::new(VerifiedCache::new(loaded.config.token_cache)),
        refused_tokens: Arc::default(),
        key_sources: Arc::new(KeySources::new(metrics.keys().clone())),
        revocations,
        sessions,
        facts: FactCache::new(
            store,
            false,
            None,
            metrics.facts.clone(),
            WriterKey::new(&loaded.config.keys)?,
        ),
        body_memory: Arc::default(),
        requests: metrics.requests.clone(),
    };
    let snapshot = reload::build(loaded.config, loaded.digest, 1, &shared)?;
    Ok((snapshot, follower))
}
