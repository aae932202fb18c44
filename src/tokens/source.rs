//! The published keys of one issuer, as requests use them: the last good key set, and the key ids
//! that are known not to be in it. It decides whether a token's key is available, proven absent, or
//! cannot be known yet; how old keys may get; and how many requests may wait, and for how long.
//!
//! Nothing in a token changes the keys. An invented `kid` costs one entry in a bounded, expiring
//! cache of absent key ids, and at most its share of one fetch per cool-down.

#![allow(
    clippy::disallowed_types,
    reason = "the fetching task takes the lock of the status; requests read the keys without one"
)]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::Algorithm;
use prometheus::IntGauge;
use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::key::Key;
use super::keys::KeySet;
use super::metrics::{KeyMetrics, Lookup, SourceMetrics};
use super::refetch::{Progress, Refetch};
use super::verified::Origin;
use crate::denial::Denial;
use crate::policy::tokens::Publication;
use crate::secrets::digest::{self, Digest};

/// The maximum age of keys in seconds while their server does not answer. A day is time enough to
/// notice, and bounds how long a withdrawn key works.
const LONGEST_AGE: i64 = 24 * 60 * 60;

/// How long a `kid` that a fetch did not find is refused without another fetch. A choice: it delays
/// an issuer that signs before it publishes, and limits the fetches that invented ids cause.
const ABSENT_FOR: Duration = Duration::from_secs(10);

/// The capacity of the cache of absent key ids. An evicted one costs another wait, and nothing
/// else.
const ABSENT_KIDS: usize = 4096;

/// How many requests may wait for keys of one source. Further ones are asked to retry in a second.
const SLOTS: usize = 1024;

/// How long a request may wait for keys: the cool-down, so that the next fetch falls within it.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(1);

/// One URL where an issuer publishes keys, and the keys that were last found there.
pub struct Source {
    issuer: String,
    publication: Publication,
    kept: ArcSwapOption<Kept>,
    absent: Cache<Digest, Instant>,
    refetch: Arc<Refetch>,
    slots: Semaphore,
    status: Mutex<SourceStatus>,
    metrics: SourceMetrics,
}

/// A key set, and when it was fetched, in Unix seconds.
struct Kept {
    keys: KeySet,
    fetched: i64,
}

/// The state of fetching.
#[derive(Clone, Debug, Default)]
pub struct SourceStatus {
    /// Why the last attempt failed; `None` after a success.
    pub error: Option<String>,
    /// Failures since the last success.
    pub failures: u32,
    /// Whether a set without keys was found, and no keys ever were: the issuer signs with a secret.
    pub has_none: bool,
}

/// A key that is not available yet.
pub(super) struct Missing {
    pub(super) source: Arc<Source>,
    pub(super) kid: Option<String>,
}

/// The result of waiting for a key.
pub(super) enum Settled {
    /// The key is available.
    Appeared,
    /// It is not published.
    Absent,
    /// Not known, for this reason.
    Unknown(&'static str),
}

/// A slot among the waiting requests.
struct Slot<'a> {
    _permit: SemaphorePermit<'a>,
    waiting: &'a IntGauge,
}

impl Source {
    pub(super) fn new(issuer: &str, publication: &Publication, metrics: &KeyMetrics) -> Self {
        Self {
            issuer: issuer.to_owned(),
            publication: publication.clone(),
            kept: ArcSwapOption::empty(),
            absent: Cache::new(ABSENT_KIDS),
            refetch: Arc::default(),
            slots: Semaphore::new(SLOTS),
            status: Mutex::default(),
            metrics: metrics.source(issuer),
        }
    }

    /// The `iss` whose keys these are.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The URL of the keys or of the discovery document.
    pub fn publication(&self) -> &Publication {
        &self.publication
    }

    /// The state of fetching.
    pub fn status(&self) -> SourceStatus {
        let status = self.status.lock();
        status.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there are keys, of any age.
    pub fn has_keys(&self) -> bool {
        self.kept.load().is_some()
    }

    /// Seconds since the keys were fetched; `None` while there are none.
    pub fn age(&self, now: i64) -> Option<i64> {
        let kept = self.kept.load();
        kept.as_ref().map(|kept| kept.age(now))
    }

    pub(super) fn refetch(&self) -> &Arc<Refetch> {
        &self.refetch
    }

    pub(super) fn metrics(&self) -> &SourceMetrics {
        &self.metrics
    }

    // For requests.

    /// The key for a token, with the version of its set, or why no key matches. `None` if that
    /// cannot be known yet.
    pub(super) fn select(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        now: i64,
    ) -> Option<Result<(Arc<Key>, Digest), Denial>> {
        let kept = self.kept.load();
        let kept = kept.as_ref().filter(|kept| kept.is_usable(now))?;
        if let Some(kid) = kid.filter(|kid| !kept.keys.names(kid)) {
            if !self.is_absent(kid) {
                return None;
            }
            self.metrics.looked_up(Lookup::Remembered);
        }
        let selected = kept.keys.select(kid, algorithm);
        Some(selected.map(|key| (Arc::clone(key), *kept.keys.version())))
    }

    /// Whether the same key would be chosen for a verified token again. An equal version decides at
    /// once; after a rotation the choice is repeated.
    pub(super) fn still_selects(&self, origin: &Origin, now: i64) -> bool {
        let kept = self.kept.load();
        kept.as_ref()
            .is_some_and(|kept| kept.is_usable(now) && kept.keys.still_selects(origin))
    }

    fn is_absent(&self, kid: &str) -> bool {
        let until = self.absent.get(&digest::of(kid.as_bytes()));
        until.is_some_and(|until| Instant::now() < until)
    }

    /// The number of absent key ids.
    #[cfg(test)]
    pub(super) fn absent_kids(&self) -> usize {
        self.absent.len()
    }

    // For fetches.

    /// Takes over keys that were fetched at this time. Returns whether they differ from the
    /// previous ones.
    pub(super) fn receive(&self, keys: KeySet, fetched: i64) -> bool {
        self.set_status(SourceStatus::default());
        let is_new = self
            .kept
            .load()
            .as_ref()
            .is_none_or(|kept| kept.keys.version() != keys.version());
        self.kept.store(Some(Arc::new(Kept { keys, fetched })));
        is_new
    }

    /// Takes over keys that another process fetched at this time, unless there are some. Returns
    /// whether it did.
    pub(super) fn restore(&self, keys: KeySet, fetched: i64) -> bool {
        let restored = Arc::new(Kept { keys, fetched });
        // A fetch may end right now; its keys have priority.
        let before = self
            .kept
            .rcu(|kept| Some(kept.clone().unwrap_or_else(|| Arc::clone(&restored))));
        self.refetch.nudge();
        before.is_none()
    }

    /// Notes a failed attempt; `is_empty` if it found a set without keys. Existing keys stay.
    /// Returns the number of failures before it.
    pub(super) fn fail(&self, error: String, is_empty: bool) -> u32 {
        let before = self.status();
        self.set_status(SourceStatus {
            error: Some(error),
            failures: before.failures.saturating_add(1),
            // A fetch that failed says nothing of the set that was found before.
            has_none: !self.has_keys() && (is_empty || before.has_none),
        });
        before.failures
    }

    fn set_status(&self, status: SourceStatus) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

impl Kept {
    /// In seconds. A clock that was set back makes keys look new, but the background task fetches
    /// them all the same.
    fn age(&self, now: i64) -> i64 {
        now.saturating_sub(self.fetched).max(0)
    }

    fn is_usable(&self, now: i64) -> bool {
        self.age(now) <= LONGEST_AGE
    }
}

/// Whether keys that were fetched at this time may be used.
pub(super) fn is_usable(fetched: i64, now: i64) -> bool {
    now.saturating_sub(fetched) <= LONGEST_AGE
}

/// Until when keys that were fetched at this time may be used.
pub(super) fn usable_until(fetched: i64) -> i64 {
    fetched.saturating_add(LONGEST_AGE)
}

impl Missing {
    /// Waits until the key is available or known to be absent, at most until `deadline`.
    pub(super) async fn settle(&self, clock: fn() -> i64, deadline: Instant) -> Settled {
        let source = &*self.source;
        // A request without a slot also requests the fetch: there is one for all.
        let mut ticket = source.refetch.request();
        let Some(_slot) = Slot::take(source) else {
            source.metrics.looked_up(Lookup::Full);
            return Settled::Unknown("too many requests wait for keys");
        };
        loop {
            let progress = ticket.progress();
            if !self.is_open(clock()) {
                source.metrics.looked_up(Lookup::Appeared);
                return Settled::Appeared;
            }
            match progress {
                Progress::Pending => {}
                Progress::Good => {
                    self.remember_absent();
                    source.metrics.looked_up(Lookup::Absent);
                    return Settled::Absent;
                }
                Progress::Failed => {
                    source.metrics.looked_up(Lookup::Failed);
                    return Settled::Unknown("the keys could not be fetched");
                }
            }
            if timeout_at(deadline, ticket.changed()).await.is_err() {
                source.metrics.looked_up(Lookup::TimedOut);
                return Settled::Unknown("the keys were not fetched in time");
            }
        }
    }

    /// Whether it is still unknown.
    fn is_open(&self, now: i64) -> bool {
        let kept = self.source.kept.load();
        let Some(kept) = kept.as_ref().filter(|kept| kept.is_usable(now)) else {
            return true;
        };
        self.kid.as_deref().is_some_and(|kid| !kept.keys.names(kid))
    }

    pub(super) fn remember_absent(&self) {
        if let Some(kid) = &self.kid {
            let until = Instant::now() + ABSENT_FOR;
            let name = digest::of(kid.as_bytes());
            self.source.absent.insert(name, until);
        }
    }
}

impl<'a> Slot<'a> {
    fn take(source: &'a Source) -> Option<Self> {
        let permit = source.slots.try_acquire().ok()?;
        let waiting = source.metrics.waiting();
        waiting.inc();
        Some(Self {
            _permit: permit,
            waiting,
        })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.waiting.dec();
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.refetch.wake();
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kept = self.kept.load();
        f.debug_struct("Source")
            .field("issuer", &self.issuer)
            .field("publication", &self.publication)
            .field("keys", &kept.as_ref().map(|kept| &kept.keys))
            .finish_non_exhaustive()
    }
}
