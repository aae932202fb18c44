//! What an issuer publishes, as requests see it: the last good keys, and which names of keys are known not to be among them.
//!
//! Decides:  whether a token's key is there, is proven absent, or cannot be known yet; how old keys may get; how many requests may wait, and how
//!           long.
//! Trusts:   `fetch` to bring keys, `demand` for which fetch proves what.
//! Not here: what a token gets (`issuer`, `verify`).
//!
//! Nothing that a token says changes the keys. An invented `kid` costs one place in a bounded, expiring memory of absent names, and at most its
//! share of one fetch per cool-down.

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

use super::Origin;
use super::key::Key;
use super::keys::KeySet;
use super::metrics::{KeyMetrics, Lookup, SourceMetrics};
use super::refetch::{Demand, Progress};
use crate::denial::Denial;
use crate::policy::tokens::Publication;
use crate::secrets::digest::{self, Digest};

/// How old keys may get, in seconds, while their server does not answer. A day is time enough to notice, and bounds how long a key works that its
/// issuer withdrew.
const LONGEST_AGE: i64 = 24 * 60 * 60;

/// How long a `kid` that a fetch did not find is refused without another fetch. A choice: an issuer that signs before it publishes is believed
/// again after it, and an invented `kid` costs a fetch only so often.
const ABSENT_FOR: Duration = Duration::from_secs(10);

/// How many absent names are remembered. What is pushed out costs waiting again, and nothing else.
const ABSENT_NAMES: usize = 4096;

/// How many requests may wait for keys of one source. The next one is told to come again in a second.
const PLACES: usize = 1024;

/// How long a request may wait for keys. The cool-down, so that the next fetch lies within.
pub(super) const HOLD: Duration = Duration::from_secs(1);

/// One place where an issuer publishes keys, and those that were last found there.
pub struct Source {
    issuer: String,
    publication: Publication,
    kept: ArcSwapOption<Kept>,
    absent: Cache<Digest, Instant>,
    demand: Arc<Demand>,
    places: Semaphore,
    status: Mutex<SourceStatus>,
    metrics: SourceMetrics,
}

/// Keys, and when they were fetched, in Unix seconds.
struct Kept {
    keys: KeySet,
    fetched: i64,
}

/// How fetching goes.
#[derive(Clone, Debug, Default)]
pub struct SourceStatus {
    /// Why the last attempt failed; `None` after a good one.
    pub error: Option<String>,
    /// Failures since the last good attempt.
    pub failures: u32,
}

/// A key that could not be looked for yet.
pub(super) struct Missing {
    pub(super) source: Arc<Source>,
    pub(super) kid: Option<String>,
}

/// What is known about a key after waiting for it.
pub(super) enum Settled {
    /// It is there.
    Appeared,
    /// It is not published.
    Absent,
    /// Nothing, for this reason.
    Unknown(&'static str),
}

/// A place among the requests that wait.
struct Place<'a> {
    _permit: SemaphorePermit<'a>,
    waiting: &'a IntGauge,
}

impl Source {
    pub(super) fn new(issuer: &str, publication: &Publication, metrics: &KeyMetrics) -> Self {
        Self {
            issuer: issuer.to_owned(),
            publication: publication.clone(),
            kept: ArcSwapOption::empty(),
            absent: Cache::new(ABSENT_NAMES),
            demand: Arc::default(),
            places: Semaphore::new(PLACES),
            status: Mutex::default(),
            metrics: metrics.source(issuer),
        }
    }

    /// Whose keys they are.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where they come from.
    pub fn publication(&self) -> &Publication {
        &self.publication
    }

    /// How fetching goes.
    pub fn status(&self) -> SourceStatus {
        let status = self.status.lock();
        status.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there are keys, of whatever age.
    pub fn has_keys(&self) -> bool {
        self.kept.load().is_some()
    }

    /// Seconds since the keys were fetched; `None` while there are none.
    pub fn age(&self, now: i64) -> Option<i64> {
        let kept = self.kept.load();
        kept.as_ref().map(|kept| kept.age(now))
    }

    pub(super) fn demand(&self) -> &Arc<Demand> {
        &self.demand
    }

    pub(super) fn metrics(&self) -> &SourceMetrics {
        &self.metrics
    }

    // What requests ask.

    /// The key for a token, with the version of its set, or why none can be meant. `None` if that cannot be known yet.
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

    /// Whether a token that was verified before would be checked with the same key again. The same version answers at once; after a rotation
    /// the choice is made anew.
    pub(super) fn still_selects(&self, origin: &Origin, now: i64) -> bool {
        let kept = self.kept.load();
        kept.as_ref()
            .is_some_and(|kept| kept.is_usable(now) && kept.keys.still_selects(origin))
    }

    fn is_absent(&self, kid: &str) -> bool {
        let until = self.absent.get(&digest::of(kid.as_bytes()));
        until.is_some_and(|until| Instant::now() < until)
    }

    /// How many absent names are remembered.
    #[cfg(test)]
    pub(super) fn absent_names(&self) -> usize {
        self.absent.len()
    }

    // What fetches bring.

    /// Takes keys over that were fetched at this time. Whether they are others than before.
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

    /// Takes keys over that were fetched at this time by another process, unless there are some. Whether it did.
    pub(super) fn restore(&self, keys: KeySet, fetched: i64) -> bool {
        let restored = Arc::new(Kept { keys, fetched });
        // A fetch may end right now; what it brings stays.
        let before = self
            .kept
            .rcu(|kept| Some(kept.clone().unwrap_or_else(|| Arc::clone(&restored))));
        self.demand.nudge();
        before.is_none()
    }

    /// Takes over that an attempt failed. Keys that are there stay. Gives how many failed before it.
    pub(super) fn fail(&self, error: String) -> u32 {
        let before = self.status().failures;
        self.set_status(SourceStatus {
            error: Some(error),
            failures: before.saturating_add(1),
        });
        before
    }

    fn set_status(&self, status: SourceStatus) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

impl Kept {
    /// In seconds. A clock that was set back makes keys new, and the background task fetches them all the same.
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
    /// Waits until the key is there or is known not to be, at most until `deadline`.
    pub(super) async fn settle(&self, clock: fn() -> i64, deadline: Instant) -> Settled {
        let source = &*self.source;
        // Even who finds no place asks for a fetch: it is one for all.
        let mut wish = source.demand.wish();
        let Some(_place) = Place::take(source) else {
            source.metrics.looked_up(Lookup::Full);
            return Settled::Unknown("too many requests wait for keys");
        };
        loop {
            let progress = wish.progress();
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
            if timeout_at(deadline, wish.changed()).await.is_err() {
                source.metrics.looked_up(Lookup::TimedOut);
                return Settled::Unknown("the keys were not fetched in time");
            }
        }
    }

    /// Whether it still cannot be known.
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

impl<'a> Place<'a> {
    fn take(source: &'a Source) -> Option<Self> {
        let permit = source.places.try_acquire().ok()?;
        let waiting = source.metrics.waiting();
        waiting.inc();
        Some(Self {
            _permit: permit,
            waiting,
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.dec();
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.demand.ring();
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
