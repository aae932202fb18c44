//! All sources of published keys, process-wide, each with a task that keeps it fresh.
//!
//! Snapshots of the configuration hold a [`Source`] per URL; [`KeySources`] references them weakly.
//! So a source ends with the last snapshot that names it, and a reload that keeps the URL keeps the
//! keys.

#![allow(
    clippy::disallowed_types,
    reason = "the fetching task and reloads take this lock; requests read the keys without one"
)]

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::fetch::keep_fresh;
use super::metrics::KeyMetrics;
use super::refetch::COOL_DOWN;
use super::source::Source;
use crate::panics::catch_panic;
use crate::policy::tokens::Publication;
use crate::tokens::fetch_context::FetchContext;

/// The sources of all snapshots.
#[derive(Debug)]
pub struct KeySources {
    known: Mutex<Known>,
    /// Notified when a source is added.
    appeared: Notify,
    metrics: KeyMetrics,
}

#[derive(Debug, Default)]
struct Known {
    /// By issuer and URL: two issuers may publish at one URL, and are counted apart.
    sources: HashMap<(String, Publication), Weak<Source>>,
    /// Sources without a task yet.
    waiting: Vec<Weak<Source>>,
}

/// Restarts after a panic, which is a defect, but must not let the keys of an issuer expire.
async fn keep_fresh_forever(source: Weak<Source>, context: FetchContext) {
    loop {
        let keeping = pin!(keep_fresh(source.clone(), context.clone()));
        match catch_panic(keeping).await {
            Ok(()) => return,
            Err(error) => tracing::error!(error, "key fetch task panicked; restarting"),
        }
        sleep(COOL_DOWN).await;
    }
}

impl KeySources {
    /// No sources yet; `metrics` counts their fetches.
    pub fn new(metrics: KeyMetrics) -> Self {
        Self {
            known: Mutex::default(),
            appeared: Notify::new(),
            metrics,
        }
    }

    /// The source of an issuer's keys. A new one is fetched as soon as
    /// [`refresh_forever`](Self::refresh_forever) runs.
    pub fn get_or_insert(&self, issuer: &str, publication: &Publication) -> Arc<Source> {
        let mut known = self.known();
        known.sources.retain(|_, source| source.strong_count() > 0);
        let name = (issuer.to_owned(), publication.clone());
        if let Some(source) = known.sources.get(&name).and_then(Weak::upgrade) {
            return source;
        }
        let source = Arc::new(Source::new(issuer, publication, &self.metrics));
        known.sources.insert(name, Arc::downgrade(&source));
        known.waiting.push(Arc::downgrade(&source));
        drop(known);
        self.appeared.notify_one();
        source
    }

    /// Keeps every source fresh until dropped: one task each, so that a slow server delays no
    /// other.
    pub async fn refresh_forever(self: Arc<Self>, context: FetchContext) {
        let mut tasks = JoinSet::new();
        loop {
            let waiting = std::mem::take(&mut self.known().waiting);
            for source in waiting {
                tasks.spawn(keep_fresh_forever(source, context.clone()));
            }
            tokio::select! {
                () = self.appeared.notified() => {}
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// No code panics under the lock, so a poisoned one is consistent.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
