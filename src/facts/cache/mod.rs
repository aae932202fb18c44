//! The fact cache: memory, then Redis, then the database.
//!
//! Decides:  how long a fact may be used for each class of access, and which cached facts an
//!           invalidation makes stale.
//! Trusts:   `versions` for which facts are stale, the store's seal for who wrote a record, and the
//!           clocks of replicas to within a second.
//! Not here: which facts a request needs, and what they allow. [`load`] coalesces loads, [`shares`]
//!           limits those of one caller, [`fetch`] reads the store and the database, [`shared`]
//!           exchanges facts and invalidations with other replicas.

mod fetch;
mod load;
mod shared;
mod shares;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::watch;

use self::load::PendingLoad;
use self::shares::{Requester, Shares};
use super::fact::Fact;
use super::learned::bindings::Bindings;
use super::lookup::LookupContext;
use super::metrics::{FactMetrics, Tier};
use super::source::{FactKind, Source};
use super::trigger_coverage::WatchedQuery;
use super::versions::{Slot, Stamp, Versions};
use super::writer::{Writer, WriterKey};
use crate::clock;
use crate::database::Database;
use crate::policy::outage::AccessClass;
use crate::policy::rate::Rate;
use crate::store::{Bucket, Buckets, Draw, Store};

/// How many facts are cached. A choice.
const CAPACITY: usize = 200_000;

/// How many of the facts about resources that one caller's requests load are cached in an hour,
/// which no entry outlives; the burst comes on top. So one caller who asks for one id after another
/// holds a tenth of the cache at most. The others are loaded and not kept, whether or not the
/// resource exists: response times must not tell that apart. A choice.
const CACHED_PER_CALLER: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

/// Lifetimes (design, promise 3).
const READ: Duration = Duration::from_secs(30);
const READ_LISTENING: Duration = Duration::from_secs(60 * 60);
const WRITE: Duration = Duration::from_secs(5);
/// Of the fact that a caller has no row, whoever needs it: the row of a new account may be inserted
/// at any moment, by somebody who does not report it.
const NO_ROW: Duration = Duration::from_secs(1);
/// For reads during an outage.
const READ_IN_OUTAGE: Duration = Duration::from_secs(5 * 60);

/// The facts that all workers share.
pub struct FactCache {
    cached: Cache<Key, Arc<CachedFact>>,
    pending: DashMap<(Key, MaxAge), PendingLoad>,
    versions: Versions,
    shares: Arc<Shares>,
    /// What callers may still have cached; see [`CACHED_PER_CALLER`].
    allowances: Buckets,
    store: Arc<dyn Store>,
    /// The owners of learned resources.
    bindings: Arc<Bindings>,
    /// Whether other replicas use the same store.
    is_shared: bool,
    database: Option<Database>,
    /// Where loads run; `None` where nothing is ever loaded.
    runtime: Option<Handle>,
    listening: watch::Sender<Option<Listening>>,
    /// The queries in force, whose changes must be reported.
    queries: watch::Sender<Arc<[WatchedQuery]>>,
    metrics: Arc<FactMetrics>,
    writers: WriterKey,
    /// Measures ages.
    clock: fn() -> Instant,
}

/// Exists while the database reports every change of a row.
#[derive(Clone, Debug)]
struct Listening {
    since: Instant,
    /// Facts that may change without a change of a row, such as by a clock. They keep the lifetime
    /// that facts have without notifications.
    unstable: BTreeSet<String>,
}

/// Identifies a fact: its source and the id.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    fingerprint: u64,
    id: Box<str>,
}

/// A fact in the cache.
#[derive(Debug)]
pub(super) struct CachedFact {
    pub fact: Fact,
    slot: Slot,
    /// From before its load began.
    stamp: Stamp,
    loaded: Instant,
}

/// How old a fact may be.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum MaxAge {
    Read,
    Write,
    /// Loaded for this request.
    Fresh,
}

impl MaxAge {
    pub(super) const fn of(class: AccessClass) -> Self {
        match class {
            AccessClass::Public | AccessClass::Read | AccessClass::Signed => Self::Read,
            AccessClass::Write | AccessClass::SignIn => Self::Write,
            AccessClass::Admin => Self::Fresh,
        }
    }
}

/// Why a fact is not known. Never means that a row is absent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LookupError {
    /// The database cannot be reached.
    Away,
    /// The database did not answer in time.
    Late,
    /// No connection of the pool became free in time.
    Busy,
    /// Too many requests of the caller wait.
    Crowded,
    /// The database refused the query, or its rows are invalid.
    Unreadable,
}

impl LookupError {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Away => "the database cannot be reached",
            Self::Late => "the database did not answer in time",
            Self::Busy => "no connection to the database became free in time",
            Self::Crowded => "too many requests of the caller wait for the database",
            Self::Unreadable => "the database refused the query, or its rows are invalid",
        }
    }
}

/// A fact that a request needs.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub source: Arc<Source>,
    pub id: String,
}

impl Wanted {
    fn key(&self) -> Key {
        Key {
            fingerprint: self.source.fingerprint,
            id: self.id.as_str().into(),
        }
    }

    fn slot(&self) -> Slot {
        Slot::of(&self.source.name, &self.id)
    }

    /// The name of its record in the store.
    fn record_name(&self) -> Vec<u8> {
        shared::record_name(&self.source.name, &self.id)
    }
}

impl FactCache {
    /// Creates an empty cache. Its loads run on the current runtime.
    pub fn new(
        store: Arc<dyn Store>,
        is_shared: bool,
        database: Option<Database>,
        metrics: Arc<FactMetrics>,
        writers: WriterKey,
    ) -> Arc<Self> {
        Self::timed(store, is_shared, database, metrics, writers, clock::now)
    }

    /// Creates an empty cache that measures ages with another clock. Deadlines follow the real one.
    pub fn timed(
        store: Arc<dyn Store>,
        is_shared: bool,
        database: Option<Database>,
        metrics: Arc<FactMetrics>,
        writers: WriterKey,
        clock: fn() -> Instant,
    ) -> Arc<Self> {
        Arc::new(Self {
            cached: Cache::new(CAPACITY),
            pending: DashMap::new(),
            versions: Versions::new(),
            shares: Shares::new(database.as_ref().map(Database::caller_share)),
            allowances: Buckets::default(),
            bindings: Bindings::new(store.clone(), metrics.clone(), clock),
            store,
            is_shared,
            database,
            runtime: Handle::try_current().ok(),
            listening: watch::Sender::new(None),
            queries: watch::Sender::new(Arc::default()),
            metrics,
            writers,
            clock,
        })
    }

    /// Changes with every invalidation.
    pub(super) fn version(&self) -> Stamp {
        self.versions.now()
    }

    pub(super) fn metrics(&self) -> &FactMetrics {
        &self.metrics
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(super) fn bindings(&self) -> &Arc<Bindings> {
        &self.bindings
    }

    pub(super) fn runtime(&self) -> Option<&Handle> {
        self.runtime.as_ref()
    }

    pub(super) fn database(&self) -> Option<&Database> {
        self.database.as_ref()
    }

    /// Replaces the queries in force. If they differ, their coverage must be verified again.
    pub fn set_queries(&self, queries: Vec<WatchedQuery>) {
        self.queries.send_if_modified(|known| {
            let differs = **known != *queries;
            if differs {
                self.stop_listening();
                *known = queries.into();
            }
            differs
        });
    }

    pub(super) fn queries(&self) -> watch::Receiver<Arc<[WatchedQuery]>> {
        self.queries.subscribe()
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listening.borrow().is_some()
    }

    /// From now on the database reports every change of a row. Facts of `unstable` may change
    /// without one.
    pub(super) fn listen(&self, unstable: BTreeSet<String>) {
        self.metrics.is_listening(true);
        self.listening.send_if_modified(|known| {
            let differs = known
                .as_ref()
                .is_none_or(|known| known.unstable != unstable);
            if differs {
                // Facts loaded before keep the short lifetime: their changes may have been missed.
                let since = (self.clock)();
                *known = Some(Listening { since, unstable });
            }
            differs
        });
    }

    /// Some change of a row may not be reported from now on.
    pub(super) fn stop_listening(&self) {
        self.metrics.is_listening(false);
        self.listening.send_replace(None);
    }

    /// A caller (issuer and subject) whose write invalidates facts.
    pub(super) fn writer(&self, caller: (&str, &str)) -> Writer {
        self.writers.writer(caller)
    }

    /// A cached fact that is young enough and not stale.
    fn cached(&self, wanted: &Wanted, age: MaxAge, now: Instant) -> Option<Arc<CachedFact>> {
        let entry = self.cached.get(&wanted.key())?;
        let is_current = self.versions.is_current(entry.slot, entry.stamp);
        let lifetime = self.lifetime(&wanted.source, age, entry.loaded);
        let lifetime = lifetime.min(longest(&entry.fact));
        (is_current && now.saturating_duration_since(entry.loaded) < lifetime).then_some(entry)
    }

    /// A cached fact for a read during an outage. Writes of the caller itself do not make it stale.
    fn kept(
        &self,
        wanted: &Wanted,
        writer: Option<Writer>,
        now: Instant,
    ) -> Option<Arc<CachedFact>> {
        let entry = self.cached.get(&wanted.key())?;
        let (slot, stamp) = (entry.slot, entry.stamp);
        let is_current = match writer {
            Some(writer) => self.versions.is_current_for(writer, slot, stamp),
            None => self.versions.is_current(slot, stamp),
        };
        let age = now.saturating_duration_since(entry.loaded);
        let lifetime = READ_IN_OUTAGE.min(longest(&entry.fact));
        (is_current && age < lifetime).then_some(entry)
    }

    fn lifetime(&self, source: &Source, age: MaxAge, loaded: Instant) -> Duration {
        match age {
            MaxAge::Fresh => Duration::ZERO,
            MaxAge::Write => WRITE,
            MaxAge::Read => match &*self.listening.borrow() {
                Some(listening)
                    if listening.since < loaded
                        && !listening.unstable.contains(&*source.resource_type) =>
                {
                    READ_LISTENING
                }
                Some(_) | None => READ,
            },
        }
    }

    /// Cached facts for a read of this caller during an outage: all of them, or `None`.
    pub(super) fn stale(
        &self,
        wanted: &[Wanted],
        caller: Option<(&str, &str)>,
    ) -> Option<Vec<Arc<CachedFact>>> {
        let now = (self.clock)();
        let writer = caller.map(|caller| self.writer(caller));
        let entry = |wanted: &Wanted| match wanted.source.configured(&wanted.id) {
            Some(fact) => Some(self.configured(wanted, fact)),
            None => self.kept(wanted, writer, now),
        };
        let entries: Vec<_> = wanted.iter().map(entry).collect::<Option<_>>()?;
        for entry in &entries {
            self.count(entry, Tier::Stale, now);
        }
        Some(entries)
    }

    /// A fact of the configuration, which is never cached.
    fn configured(&self, wanted: &Wanted, fact: Fact) -> Arc<CachedFact> {
        Arc::new(CachedFact {
            fact,
            slot: wanted.slot(),
            stamp: self.versions.now(),
            loaded: (self.clock)(),
        })
    }

    fn count(&self, entry: &CachedFact, tier: Tier, now: Instant) {
        self.metrics.found(tier);
        self.metrics
            .age(now.saturating_duration_since(entry.loaded));
    }

    /// All wanted facts, before the deadline, and how many round trips they took.
    pub(super) async fn get(
        self: &Arc<Self>,
        wanted: &[Wanted],
        asking: LookupContext<'_>,
    ) -> Result<(Vec<Arc<CachedFact>>, u8), LookupError> {
        let age = MaxAge::of(asking.class);
        let now = (self.clock)();
        let mut found: Vec<Option<Arc<CachedFact>>> = Vec::with_capacity(wanted.len());
        let mut missing = Vec::new();
        for one in wanted {
            let entry = match one.source.configured(&one.id) {
                Some(fact) => Some((self.configured(one, fact), Tier::Configured)),
                None => self
                    .cached(one, age, now)
                    .map(|entry| (entry, Tier::Memory)),
            };
            match &entry {
                Some((entry, tier)) => self.count(entry, *tier, now),
                None => missing.push(one),
            }
            found.push(entry.map(|(entry, _)| entry));
        }
        let mut trips = 0;
        if !missing.is_empty() {
            let loaded = self.load(&missing, age, asking).await?;
            let empty = found.iter_mut().filter(|entry| entry.is_none());
            for (entry, loaded) in empty.zip(loaded) {
                trips = trips.max(loaded.trips);
                *entry = Some(loaded.entry);
            }
        }
        let found: Option<Vec<_>> = found.into_iter().collect();
        let mut found = found.ok_or(LookupError::Away)?;
        if let Some(index) = found.iter().position(|entry| is_doubtful(entry, asking))
            && let (Some(one), Some(entry)) = (wanted.get(index), found.get_mut(index))
        {
            // Boxed, since it is rare.
            let again = Box::pin(self.load(&[one], MaxAge::Fresh, asking)).await?;
            for loaded in again {
                trips = trips.saturating_add(loaded.trips);
                *entry = loaded.entry;
            }
        }
        Ok((found, trips))
    }

    /// Whether a fact that this caller's request loaded is cached. One that replaces an older one
    /// takes no more memory.
    fn may_cache(&self, source: &Source, key: &Key, requester: Requester) -> bool {
        // There is one of each for a caller.
        if source.about != FactKind::Row || self.cached.peek(key).is_some() {
            return true;
        }
        let Some(name) = requester.bytes() else {
            return true;
        };
        let bucket = Bucket {
            name: &name,
            rate: Rate::new(CACHED_PER_CALLER, READ_LISTENING),
            draw: Draw::Take,
        };
        let levels = self.allowances.admit(&[bucket]);
        levels.iter().all(|level| level.is_admitted)
    }

    /// Caches a fact, unless it became stale while it was loaded.
    fn insert(&self, key: Key, entry: Arc<CachedFact>) {
        if !self.versions.is_current(entry.slot, entry.stamp) {
            return;
        }
        // A slow load must not replace the result of a newer one.
        let is_newer = self
            .cached
            .peek(&key)
            .is_none_or(|known| known.loaded <= entry.loaded);
        if is_newer {
            self.cached.insert(key, entry);
        }
    }
}

/// Whether a caller is said to have no row, by a fact that was loaded before the caller's token was
/// first seen here: whoever has just signed in has one now, and the message that it was inserted
/// may still be on its way.
fn is_doubtful(entry: &CachedFact, asking: LookupContext<'_>) -> bool {
    match entry.fact {
        Fact::CallerAbsent => asking.row_since.is_some_and(|since| entry.loaded < since),
        Fact::Caller(_) | Fact::Memberships(_) | Fact::Row(_) => false,
    }
}

/// The upper bound of a fact's lifetime by what it says.
const fn longest(fact: &Fact) -> Duration {
    match fact {
        Fact::CallerAbsent => NO_ROW,
        Fact::Caller(_) | Fact::Memberships(_) | Fact::Row(_) => Duration::MAX,
    }
}

impl std::fmt::Debug for FactCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FactCache")
            .field("cached", &self.cached.len())
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::source::Source;
    use crate::policy::resources::ParamType;
    use crate::store::Memory;

    #[test]
    fn facts_of_an_unstable_query_keep_the_short_lifetime() {
        let metrics = FactMetrics::new(&prometheus::Registry::new()).map(Arc::new);
        let metrics = metrics.unwrap_or_else(|error| unreachable!("{error}"));
        let store = Arc::new(Memory::new(10, clock::unix_now));
        let writers = WriterKey::new(&[]).unwrap_or_else(|error| unreachable!("{error}"));
        let cache = FactCache::new(store, false, None, metrics, writers);
        let lent = Source::for_test("in place of lent", "lent", ParamType::Uuid);
        let owned = Source::for_test("owned", "owned", ParamType::Uuid);
        let lifetime = |source, loaded| cache.lifetime(source, MaxAge::Read, loaded);
        let soon = || clock::now() + Duration::from_secs(1);
        assert_eq!(lifetime(&owned, soon()), READ);
        cache.listen(BTreeSet::from(["lent".to_owned()]));
        assert_eq!(lifetime(&owned, soon()), READ_LISTENING);
        assert_eq!(lifetime(&lent, soon()), READ);
        assert_eq!(cache.lifetime(&owned, MaxAge::Write, soon()), WRITE);
        // Verifying the same again changes nothing. Another set of unstable queries shortens what
        // was loaded before, which may have come from a query that was unstable already.
        let before = clock::now();
        cache.listen(BTreeSet::from(["lent".to_owned()]));
        assert_eq!(lifetime(&owned, before), READ_LISTENING);
        cache.listen(BTreeSet::from(["owned".to_owned()]));
        assert_eq!(lifetime(&owned, soon()), READ);
        assert_eq!(lifetime(&lent, before), READ);
        assert_eq!(lifetime(&lent, soon()), READ_LISTENING);
        cache.stop_listening();
        assert_eq!(lifetime(&lent, soon()), READ);
    }
}
