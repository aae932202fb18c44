//! Invalidations that wait to be sent to the other replicas.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::facts::cache::FactCache;

/// How many invalidations may wait for the other replicas before they are told to drop everything.
const MAX_WAITING: usize = 50_000;

/// How many of them are sent at once. A choice: Redis takes that many writes in a few milliseconds.
const CHUNK: usize = 1000;

/// Invalidations that the other replicas have not received.
#[derive(Default)]
pub(super) struct Outbox {
    resources: HashSet<(Arc<str>, String)>,
    /// Too many to name, or unknown.
    is_everything: bool,
    sending: Option<JoinHandle<()>>,
}

impl Outbox {
    pub(super) fn add(&mut self, resource: (Arc<str>, String)) {
        self.resources.insert(resource);
        if self.resources.len() > MAX_WAITING {
            self.add_everything();
        }
    }

    pub(super) fn add_everything(&mut self) {
        self.resources = HashSet::new();
        self.is_everything = true;
    }

    /// Sends what waits, in one task at a time.
    pub(super) fn send(&mut self, cache: &Arc<FactCache>) {
        if self.sending.is_some() || self.resources.is_empty() && !self.is_everything {
            return;
        }
        let is_everything = std::mem::take(&mut self.is_everything);
        let mut resources = std::mem::take(&mut self.resources);
        if is_everything {
            // That includes them.
            resources.clear();
        }
        let cache = cache.clone();
        self.sending = Some(tokio::spawn(async move {
            if is_everything {
                cache.invalidate_everything_remotely().await;
            }
            let resources = Vec::from_iter(resources);
            for chunk in resources.chunks(CHUNK) {
                cache.invalidate_remotely(chunk, None).await;
            }
        }));
    }

    /// Resolves once when the task ends; never if there is none.
    pub(super) async fn sent(&mut self) {
        match &mut self.sending {
            Some(task) => {
                let _ = task.await;
                self.sending = None;
            }
            None => std::future::pending().await,
        }
    }
}
