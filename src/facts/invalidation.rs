//! Cache invalidation around a write.
//!
//! Facts that a write may change are invalidated before it is sent, so that what is loaded
//! meanwhile is not cached, and again when the head of its response arrives or the request ends in
//! any other way, since only then every reader sees what was written. What an upstream writes after
//! its response is found when the lifetime of a fact ends.

use std::sync::Arc;

use tokio::time::timeout;

use super::{Facts, Shelf};

/// How long a response waits for the other replicas to be notified. A choice: the default of
/// `store.timeout`.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(100);

/// Facts that are invalidated when the write ends, also if its request is dropped.
#[derive(Debug)]
pub struct Touched {
    shelf: Option<Arc<Shelf>>,
    resources: Vec<(Arc<str>, String)>,
}

impl Touched {
    /// A request that changes no facts.
    pub const fn nothing() -> Self {
        Self {
            shelf: None,
            resources: Vec::new(),
        }
    }

    /// A write that may change the facts of these resources.
    pub fn new(facts: &Facts, resources: Vec<(Arc<str>, String)>) -> Self {
        Self {
            shelf: (!resources.is_empty()).then(|| facts.shelf().clone()),
            resources,
        }
    }

    /// Whether any fact may change.
    pub fn is_something(&self) -> bool {
        self.shelf.is_some()
    }

    /// Invalidates before the write is sent.
    pub async fn begin(&self) {
        if let Some(shelf) = &self.shelf {
            shelf.invalidate_locally(&self.resources);
            // If this is cut short, the invalidation at the end repeats it.
            let _ = timeout(PATIENCE, shelf.invalidate_remotely(&self.resources)).await;
        }
    }

    /// Invalidates after the write. The other replicas have been notified when this returns, if the
    /// store is reachable.
    pub async fn end(mut self) {
        if let Some(shelf) = self.shelf.take() {
            shelf.invalidate_locally(&self.resources);
            let resources = std::mem::take(&mut self.resources);
            let background = shelf.clone();
            match shelf.runtime() {
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

impl Drop for Touched {
    /// The request was dropped: whether it changed anything is not known.
    fn drop(&mut self) {
        if let Some(shelf) = self.shelf.take() {
            shelf.invalidate_locally(&self.resources);
            let resources = std::mem::take(&mut self.resources);
            if let Some(runtime) = shelf.runtime().cloned() {
                runtime.spawn(async move { shelf.invalidate_remotely(&resources).await });
            }
        }
    }
}
