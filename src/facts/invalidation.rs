//! Cache invalidation around a write.
//!
//! Facts that a write may change are invalidated before it is sent, so that what is loaded
//! meanwhile is not cached, and again when the head of its response arrives or the request ends in
//! any other way, since only then every reader sees what was written. What an upstream writes after
//! its response is found when the lifetime of a fact ends.
//!
//! During an outage of the database an invalidated fact keeps its value for degraded reads of the
//! caller whose writes invalidated it: they know what they wrote, and must not lock themselves out.
//! For everybody else it is gone, and for them, too, if anything else invalidated it.

use std::sync::Arc;

use tokio::time::timeout;

use super::Facts;
use super::cache::FactCache;
use super::sources::{CALLER, MEMBERSHIPS_OF_CALLER};
use super::writer::Writer;

/// How long a response waits for the other replicas to be notified. A choice: the default of
/// `store.timeout`.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(100);

/// Facts that are invalidated when the write ends, also if its request is dropped.
#[derive(Debug)]
pub struct Invalidation(Option<Box<Affected>>);

/// What a write may change.
#[derive(Debug)]
struct Affected {
    cache: Arc<FactCache>,
    resources: Vec<(Arc<str>, String)>,
    writer: Option<Writer>,
}

impl Invalidation {
    /// A request that changes no facts.
    pub const fn nothing() -> Self {
        Self(None)
    }

    /// A write of this caller (issuer and subject) that may change the facts of these resources.
    pub fn new(
        facts: &Facts,
        resources: Vec<(Arc<str>, String)>,
        caller: Option<(&str, &str)>,
    ) -> Self {
        let affected = (!resources.is_empty()).then(|| {
            let cache = facts.cache().clone();
            let writer = caller.map(|caller| cache.writer(caller));
            Box::new(Affected {
                cache,
                resources,
                writer,
            })
        });
        Self(affected)
    }

    /// Whether any fact may change.
    pub fn is_something(&self) -> bool {
        self.0.is_some()
    }

    /// Invalidates before the write is sent.
    pub async fn begin(&self) {
        if let Some(affected) = &self.0 {
            affected.locally();
            // If this is cut short, the invalidation at the end repeats it.
            let _ = timeout(PATIENCE, affected.remotely()).await;
        }
    }

    /// Invalidates after the write. The other replicas have been notified when this returns, if the
    /// store is reachable.
    pub async fn end(mut self) {
        if let Some(affected) = self.0.take() {
            affected.locally();
            match affected.cache.runtime().cloned() {
                // In the background, so that it completes even if the client disconnects now.
                Some(runtime) => {
                    let task = runtime.spawn(async move { affected.remotely().await });
                    let _ = timeout(PATIENCE, task).await;
                }
                None => affected.remotely().await,
            }
        }
    }
}

/// Invalidates what is known of a caller whose row may just have been inserted. The other replicas
/// have been notified when this returns, if the store is reachable.
pub async fn invalidate_caller(cache: &Arc<FactCache>, subject: &str) {
    let of_caller = |name: &str| (Arc::from(name), subject.to_owned());
    let affected = Affected {
        cache: cache.clone(),
        resources: [CALLER, MEMBERSHIPS_OF_CALLER].map(of_caller).to_vec(),
        writer: None,
    };
    Invalidation(Some(Box::new(affected))).end().await;
}

impl Affected {
    fn locally(&self) {
        self.cache.invalidate_locally(&self.resources, self.writer);
    }

    async fn remotely(&self) {
        let invalidating = self.cache.invalidate_remotely(&self.resources, self.writer);
        invalidating.await;
    }
}

impl Drop for Invalidation {
    /// The request was dropped: whether it changed anything is not known.
    fn drop(&mut self) {
        if let Some(affected) = self.0.take() {
            affected.locally();
            if let Some(runtime) = affected.cache.runtime().cloned() {
                runtime.spawn(async move { affected.remotely().await });
            }
        }
    }
}
