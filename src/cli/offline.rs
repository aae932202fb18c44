//! A map made ready for judging in a process that serves nobody.
//!
//! Decides: nothing; in the place of what replicas share there is memory that ends with the process. Trusts: the checked configuration. Not
//! here: what is done with it (`check`, `test`).

use std::sync::Arc;

use crate::auth::snapshot::{Shared, Snapshot};
use crate::clock;
use crate::config::Loaded;
use crate::facts::Shelf;
use crate::gateway::metrics::Metrics;
use crate::revocation::{Follower, Revocations};
use crate::server::reload;
use crate::sessions::Sessions;
use crate::store::{Memory, Store};
use crate::tokens::{KeySources, VerifiedCache};

/// What a configuration means, and who makes its list of revocations complete. Room for `records` in the store. To be called inside a runtime.
///
/// # Errors
///
/// It cannot be put into force.
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
        key_sources: Arc::new(KeySources::new(metrics.keys().clone())),
        revocations,
        sessions,
        facts: Shelf::new(store, false, None, metrics.facts.clone()),
        requests: metrics.requests.clone(),
    };
    let snapshot = reload::build(loaded.config, loaded.digest, 1, &shared)?;
    Ok((snapshot, follower))
}
