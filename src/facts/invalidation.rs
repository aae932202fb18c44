//! Cache invalidation around a write.
//!
//! Facts that a write may change are invalidated before it is sent, so that what is loaded
//! meanwhile is not cached, and again when the head of its response arrives or the request ends in
//! any other way, since only then every reader sees what was written. What an upstream writes after
//! its response is found when the lifetime of a fact ends.

use std::sync::Arc;

use tokio::time::timeout;

use super::Facts;
use super::cache::FactCache;

/// How long a response waits for the other replicas to be notified. A choice: the default of
/// `store.timeout`.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(100);

/// Facts that are invalidated when the write ends, also if its request is dropped.
#[derive(Debug)]
pub struct Invalidation {
    cache: Option<Arc<FactCache>>,
    resources: Vec<(Arc<str>, String)>,
}

impl Invalidation {
    /// A request that changes no facts.
    pub const fn nothing() -> Self {
        Self {
            cache: None,
            resources: Vec::new(),
        }
    }

    /// A write that may change the facts of these resources.
    pub fn new(facts: &Facts, resources: Vec<(Arc<str>, String)>) -> Self {
        Self {
            cache: (!resources.is_empty()).then(|| facts.cache().clone()),
            resources,
        }
    }

    /// Whether any fact may change.
    pub fn is_something(&self) -> bool {
        self.cache.is_some()
    }

    /// Invalidates before the write is sent.
    pub async fn begin(&self) {
        if let Some(cache) = &self.cache {
            cache.invalidate_locally(&self.resources);
            // If this is cut short, the invalidation at the end repeats it.
            let _ = timeout(PATIENCE, cache.invalidate_remotely(&self.resources)).await;
        }
    }

    /// Invalidates after the write. The other replicas have been notified when this returns, if the
    /// store is reachable.
    pub async fn end(mut self) {
        if let Some(cache) = self.cache.take() {
            cache.invalidate_locally(&self.resources);
            let resources = std::mem::take(&mut self.resources);
            let background = cache.clone();
            match cache.runtime() {
                // In the background, so that it completes even if the client disconnects now.
                Some(runtime) => {
                    let task = runtime
                        .spawn(async move { background.invalidate_remotely(&resources).await });
                    let _ = timeout(PATIENCE, task).await;
                }
                None => background.invalidate_remotely(&resources).await,
            }
        }
    }
}

impl Drop for Invalidation {
    /// The request was dropped: whether it changed anything is not known.
    fn drop(&mut self) {
        if let Some(cache) = self.cache.take() {
            cache.invalidate_locally(&self.resources);
            let resources = std::mem::take(&mut self.resources);
            if let Some(runtime) = cache.runtime().cloned() {
                runtime.spawn(async move { cache.invalidate_remotely(&resources).await });
            }
        }
    }
}
