//! Keys that live behind a URL, kept fresh in the background and read without waiting.
//!
//! Decides:  when to ask an issuer's server again. Good keys stay when it fails: a server that is down is not a bad token.
//! Trusts:   `side_call` for who answers, `keys` for what may be used of the answer.
//! Not here: HTTP and TLS (`side_call`), what a token gets meanwhile (`issuer`).
//!
//! Snapshots of the configuration hold a [`Source`] per URL; [`KeySources`] only knows them weakly, so a source ends with
//! the last snapshot that names it, and a reload that keeps the URL keeps the keys.

#![allow(
    clippy::disallowed_types,
    reason = "the fetching task and reloads take these locks; requests read the keys without one"
)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::keys::KeySet;
use crate::config::checked::JwksUrl;
use crate::side_call::SideCalls;

/// How old keys may get before they are asked for again. Supabase lets its answer be kept for 10 minutes; half of it.
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// The first pause after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The sources of all snapshots, one per URL, process-wide.
#[derive(Debug, Default)]
pub struct KeySources {
    known: Mutex<Known>,
    /// Rung when a source appears.
    appeared: Notify,
}

#[derive(Debug, Default)]
struct Known {
    sources: HashMap<JwksUrl, Weak<Source>>,
    /// Those that nobody fetches yet.
    waiting: Vec<Weak<Source>>,
}

/// One URL and the keys that were last found there.
pub struct Source {
    url: JwksUrl,
    keys: ArcSwapOption<KeySet>,
    status: Mutex<SourceStatus>,
}

/// How fetching goes, for the admin listener and metrics.
#[derive(Clone, Debug, Default)]
pub struct SourceStatus {
    /// When keys were last received.
    pub fetched: Option<Instant>,
    /// Why the last attempt failed; `None` after a good one.
    pub error: Option<String>,
    /// Failures since the last good attempt.
    pub failures: u32,
}

impl KeySources {
    /// No sources yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The source of `url`. A new one is fetched as soon as [`refresh_forever`](Self::refresh_forever) runs.
    pub fn get_or_insert(&self, url: &JwksUrl) -> Arc<Source> {
        let mut known = lock(&self.known);
        known.sources.retain(|_, source| source.strong_count() > 0);
        if let Some(source) = known.sources.get(url).and_then(Weak::upgrade) {
            return source;
        }
        let source = Arc::new(Source::new(url.clone()));
        known.sources.insert(url.clone(), Arc::downgrade(&source));
        known.waiting.push(Arc::downgrade(&source));
        drop(known);
        self.appeared.notify_one();
        source
    }

    /// The sources that some snapshot uses.
    pub fn live(&self) -> Vec<Arc<Source>> {
        lock(&self.known)
            .sources
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Keeps every source fresh until dropped: one task each, so that a slow server delays no other.
    pub async fn refresh_forever(self: Arc<Self>, calls: Arc<SideCalls>) {
        let mut tasks = JoinSet::new();
        loop {
            let waiting = std::mem::take(&mut lock(&self.known).waiting);
            for source in waiting {
                tasks.spawn(keep_fresh(source, Arc::clone(&calls)));
            }
            tokio::select! {
                () = self.appeared.notified() => {}
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a task that fetches keys ended");
                    }
                }
            }
        }
    }
}

/// Fetches for as long as somebody holds the source.
async fn keep_fresh(source: Weak<Source>, calls: Arc<SideCalls>) {
    while let Some(source) = source.upgrade() {
        let pause = source.refresh(&calls).await;
        drop(source); // asleep, this task must not be what keeps it alive
        tokio::time::sleep(pause).await;
    }
}

impl Source {
    fn new(url: JwksUrl) -> Self {
        Self {
            url,
            keys: ArcSwapOption::empty(),
            status: Mutex::default(),
        }
    }

    /// Where the keys come from.
    pub fn url(&self) -> &JwksUrl {
        &self.url
    }

    /// How fetching goes.
    pub fn status(&self) -> SourceStatus {
        lock(&self.status).clone()
    }

    /// Whether keys have ever been received.
    pub fn has_keys(&self) -> bool {
        self.keys.load().is_some()
    }

    /// The keys now, if they were ever received.
    pub(super) fn keys(&self) -> Guard<Option<Arc<KeySet>>> {
        self.keys.load()
    }

    /// Asks the server once. Gives the pause until the next time.
    async fn refresh(&self, calls: &SideCalls) -> Duration {
        let answer = calls
            .get(&self.url)
            .await
            .map_err(|error| error.to_string());
        self.receive(answer.and_then(|document| KeySet::parse(&document)))
    }

    /// Takes the outcome of an attempt over. Keys of the same content are left in place.
    pub(super) fn receive(&self, outcome: Result<KeySet, String>) -> Duration {
        let mut status = lock(&self.status);
        match outcome {
            Ok(keys) => {
                *status = SourceStatus {
                    fetched: Some(Instant::now()),
                    error: None,
                    failures: 0,
                };
                let is_new = self
                    .keys
                    .load()
                    .as_ref()
                    .is_none_or(|known| known.version() != keys.version());
                if is_new {
                    tracing::info!(host = self.url.host, keys = ?keys, "received keys");
                    self.keys.store(Some(Arc::new(keys)));
                }
                REFRESH
            }
            Err(error) => {
                tracing::warn!(host = self.url.host, error, "keys were not received");
                let pause = pause_after(status.failures);
                status.failures = status.failures.saturating_add(1);
                status.error = Some(error);
                pause
            }
        }
    }
}

/// 1, 2, 4, … seconds, at most 30, after so many failures before this one.
fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << failures.min(5))
        .min(LONGEST_PAUSE)
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("url", &self.url)
            .field("keys", &self.keys)
            .finish()
    }
}

/// No code panics while it holds one of these locks, so a poisoned one is as good as new.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
