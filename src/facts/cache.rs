//! The shelf: facts of this process, and how one that is missing or too old is come by: memory, then the store, then the database.
//!
//! Decides:  how old a fact may be for what a request wants; who loads it, and who waits for somebody else's load.
//! Trusts:   `versions` for what was overtaken, the store's seal for who wrote a record, clocks of replicas to a second.
//! Not here: which facts a request needs (`facts`), and what they allow.
//!
//! A load runs in the background and is never cut short by a request that leaves, since others may wait for it. Its facts are remembered
//! only if nothing was raised since it began; whoever waits for it takes them all the same only if they do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as MapEntry;
use futures_util::future::join_all;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::fact::Fact;
use super::metrics::{FactMetrics, Tier};
use super::source::Source;
use super::trigger_coverage::Asked;
use super::versions::{Moment, Place, Versions};
use crate::clock;
use crate::database::{Database, DatabaseError};
use crate::policy::outage::AccessClass;
use crate::store::{Kind, Store, Swap, Version};

/// How many facts are remembered. A choice.
const CAPACITY: usize = 200_000;

/// Age limits (design, promise 3).
const READ: Duration = Duration::from_secs(30);
const READ_LISTENING: Duration = Duration::from_secs(60 * 60);
const WRITE: Duration = Duration::from_secs(5);
/// How long the store keeps a fact. Much shorter than it may be believed: whoever asks for ids at random fills the store with what is not there,
/// and what is there must not be kept for longer, or a replica that looks for it would take another time.
const STORED: Duration = Duration::from_secs(60);
const STORED_LISTENING: Duration = Duration::from_secs(5 * 60);
/// For reads during an outage.
const OLD: Duration = Duration::from_secs(5 * 60);

/// How long the store may take before the database is asked in its place. A choice.
const STORE_PATIENCE: Duration = Duration::from_millis(10);

/// How much the clocks of two replicas may differ.
const SKEW: i64 = 1000;

/// What says to other replicas that anything may be worthless: no message about places has this length.
const EVERYTHING: &[u8] = b"*";

/// How long the store keeps what says that a fact was overtaken: longer than any load takes.
const OVERTAKEN: i64 = 60;

/// What the facts of all workers share.
pub struct Shelf {
    remembered: Cache<Key, Arc<Entry>>,
    flights: DashMap<(Key, Age), Flight>,
    versions: Versions,
    store: Arc<dyn Store>,
    /// Whether anybody else reads the store.
    is_shared: bool,
    database: Option<Database>,
    /// Where loads run; `None` where nothing is ever loaded.
    runtime: Option<Handle>,
    listening: watch::Sender<Option<Instant>>,
    /// The queries in force, whose changes must be told of.
    asked: watch::Sender<Arc<[Asked]>>,
    metrics: Arc<FactMetrics>,
    /// What ages are measured by.
    clock: fn() -> Instant,
}

/// What a fact is about.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    mark: u64,
    id: Box<str>,
}

/// A remembered fact.
#[derive(Debug)]
pub(super) struct Entry {
    pub fact: Fact,
    place: Place,
    /// When its load began.
    since: Moment,
    loaded: Instant,
}

/// How old a fact may be.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Age {
    Read,
    Write,
    /// Looked up for this request.
    Fresh,
}

impl Age {
    pub(super) const fn of(class: AccessClass) -> Self {
        match class {
            AccessClass::Public | AccessClass::Read | AccessClass::Signed => Self::Read,
            AccessClass::Write | AccessClass::SignIn => Self::Write,
            AccessClass::Admin => Self::Fresh,
        }
    }
}

/// A load that is under way.
#[derive(Clone, Debug)]
struct Flight {
    since: Moment,
    outcome: watch::Receiver<Option<Outcome>>,
}

type Outcome = Result<Landed, Lost>;

/// What a load found.
#[derive(Clone, Debug)]
struct Landed {
    entry: Arc<Entry>,
    tier: Tier,
    trips: u8,
}

/// Why a fact is not known. Never "absent".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lost {
    /// It cannot be asked for.
    Away,
    /// It was not there in time.
    Late,
    /// The database refused, or what it gave makes no sense.
    Unreadable,
}

impl Lost {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Away => "the database is away",
            Self::Late => "the database is too slow",
            Self::Unreadable => "the database refused the query, or its rows make no sense",
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
            mark: self.source.mark,
            id: self.id.as_str().into(),
        }
    }

    fn place(&self) -> Place {
        Place::of(&self.source.name, &self.id)
    }
}

/// One load of a task.
struct Task {
    wanted: Wanted,
    key: Key,
    place: Place,
    tell: watch::Sender<Option<Outcome>>,
}

/// A fact in the store.
#[derive(Debug, Deserialize, Serialize)]
struct Stored {
    mark: u64,
    /// When its load began, in Unix milliseconds.
    loaded: i64,
    /// `None` says that it was overtaken.
    fact: Option<Fact>,
}

impl Shelf {
    /// An empty shelf. Loads run where this is called.
    pub fn new(
        store: Arc<dyn Store>,
        is_shared: bool,
        database: Option<Database>,
        metrics: Arc<FactMetrics>,
    ) -> Arc<Self> {
        Self::timed(store, is_shared, database, metrics, clock::now)
    }

    /// The same, with ages measured by another clock. Deadlines are kept by the real one.
    pub fn timed(
        store: Arc<dyn Store>,
        is_shared: bool,
        database: Option<Database>,
        metrics: Arc<FactMetrics>,
        clock: fn() -> Instant,
    ) -> Arc<Self> {
        Arc::new(Self {
            remembered: Cache::new(CAPACITY),
            flights: DashMap::new(),
            versions: Versions::new(),
            store,
            is_shared,
            database,
            runtime: Handle::try_current().ok(),
            listening: watch::Sender::new(None),
            asked: watch::Sender::new(Arc::default()),
            metrics,
            clock,
        })
    }

    pub(super) fn metrics(&self) -> &FactMetrics {
        &self.metrics
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(super) fn runtime(&self) -> Option<&Handle> {
        self.runtime.as_ref()
    }

    pub(super) fn database(&self) -> Option<&Database> {
        self.database.as_ref()
    }

    /// These queries are in force from now on. If they are others than before, nothing is proven of them yet.
    pub fn asks(&self, asked: Vec<Asked>) {
        self.asked.send_if_modified(|known| {
            let is_other = **known != *asked;
            if is_other {
                self.listens(false);
                *known = asked.into();
            }
            is_other
        });
    }

    pub(super) fn asked(&self) -> watch::Receiver<Arc<[Asked]>> {
        self.asked.subscribe()
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listening.borrow().is_some()
    }

    /// Whether every change of a row is heard of from here on.
    pub(super) fn listens(&self, is_so: bool) {
        self.metrics.is_listening(is_so);
        let since = is_so.then(|| (self.clock)());
        // What was loaded before keeps its short age: what changed meanwhile was not heard of.
        self.listening.send_replace(since);
    }

    /// A remembered fact that is young enough for a request that began then.
    fn remembered(&self, key: &Key, age: Age, now: Instant) -> Option<Arc<Entry>> {
        let entry = self.remembered.get(key)?;
        if !self.versions.is_current(entry.place, entry.since) {
            return None;
        }
        (now.saturating_duration_since(entry.loaded) < self.limit(age, entry.loaded))
            .then_some(entry)
    }

    fn limit(&self, age: Age, loaded: Instant) -> Duration {
        match age {
            Age::Fresh => Duration::ZERO,
            Age::Write => WRITE,
            Age::Read => match *self.listening.borrow() {
                Some(since) if since < loaded => READ_LISTENING,
                Some(_) | None => READ,
            },
        }
    }

    /// Remembered facts for a read during an outage; all of them, or none.
    pub(super) fn old(&self, wanted: &[Wanted]) -> Option<Vec<Arc<Entry>>> {
        let now = (self.clock)();
        let entry = |wanted: &Wanted| {
            if let Some(fact) = wanted.source.written(&wanted.id) {
                return Some(self.written(wanted, fact));
            }
            let entry = self.remembered.get(&wanted.key())?;
            let is_good = self.versions.is_current(entry.place, entry.since)
                && now.saturating_duration_since(entry.loaded) < OLD;
            is_good.then_some(entry)
        };
        let entries: Vec<_> = wanted.iter().map(entry).collect::<Option<_>>()?;
        for entry in &entries {
            self.metrics.found(Tier::Old);
            self.metrics
                .age(now.saturating_duration_since(entry.loaded));
        }
        Some(entries)
    }

    fn written(&self, wanted: &Wanted, fact: Fact) -> Arc<Entry> {
        Arc::new(Entry {
            fact,
            place: wanted.place(),
            since: self.versions.now(),
            loaded: (self.clock)(),
        })
    }

    /// All of these facts, young enough, before the deadline; and how many round trips that took.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        wanted: &[Wanted],
        age: Age,
        deadline: Instant,
    ) -> Result<(Vec<Arc<Entry>>, u8), Lost> {
        let now = (self.clock)();
        let mut found: Vec<Option<Arc<Entry>>> = Vec::with_capacity(wanted.len());
        let mut missing = Vec::new();
        for (index, one) in wanted.iter().enumerate() {
            let entry = match one.source.written(&one.id) {
                Some(fact) => Some((self.written(one, fact), Tier::Written)),
                None => self
                    .remembered(&one.key(), age, now)
                    .map(|entry| (entry, Tier::Memory)),
            };
            match &entry {
                Some((entry, tier)) => {
                    self.metrics.found(*tier);
                    self.metrics
                        .age(now.saturating_duration_since(entry.loaded));
                }
                None => missing.push(index),
            }
            found.push(entry.map(|(entry, _)| entry));
        }
        let mut trips = 0;
        if !missing.is_empty() {
            let asked: Vec<&Wanted> = missing
                .iter()
                .filter_map(|&index| wanted.get(index))
                .collect();
            let landed = self.load(&asked, age, deadline).await?;
            for (index, landed) in missing.into_iter().zip(landed) {
                trips = trips.max(landed.trips);
                if let Some(place) = found.get_mut(index) {
                    *place = Some(landed.entry);
                }
            }
        }
        let found: Option<Vec<_>> = found.into_iter().collect();
        found.map(|found| (found, trips)).ok_or(Lost::Away)
    }

    /// Waits for loads, those of others and its own.
    async fn load(
        self: &Arc<Self>,
        wanted: &[&Wanted],
        age: Age,
        deadline: Instant,
    ) -> Result<Vec<Landed>, Lost> {
        let mut waits = Vec::with_capacity(wanted.len());
        let mut own: Vec<Task> = Vec::new();
        let mut seen: HashMap<Key, watch::Receiver<Option<Outcome>>> = HashMap::new();
        let since = self.versions.now();
        for one in wanted {
            let (key, place) = (one.key(), one.place());
            if let Some(known) = seen.get(&key) {
                waits.push(known.clone());
                continue;
            }
            let mut task = |outcome: &mut Option<watch::Receiver<_>>| {
                let (tell, heard) = watch::channel(None);
                *outcome = Some(heard.clone());
                own.push(Task {
                    wanted: (*one).clone(),
                    key: key.clone(),
                    place,
                    tell,
                });
                heard
            };
            let mut heard = None;
            if age == Age::Fresh {
                // Nobody else's load began after this request did.
                task(&mut heard);
            } else {
                match self.flights.entry((key.clone(), age)) {
                    MapEntry::Occupied(mut flight) => {
                        let known = flight.get();
                        let is_good = self.versions.is_current(place, known.since)
                            && known.outcome.has_changed().is_ok();
                        if is_good {
                            heard = Some(known.outcome.clone());
                        } else {
                            let outcome = task(&mut heard);
                            flight.insert(Flight { since, outcome });
                        }
                    }
                    MapEntry::Vacant(vacant) => {
                        let outcome = task(&mut heard);
                        vacant.insert(Flight { since, outcome });
                    }
                }
            }
            let heard = heard.ok_or(Lost::Away)?;
            seen.insert(key, heard.clone());
            waits.push(heard);
        }
        if !own.is_empty() {
            let runtime = self.runtime.as_ref().ok_or(Lost::Away)?;
            runtime.spawn(self.clone().fly(own, age, since, deadline));
        }
        let landed = join_all(waits.iter_mut().map(|wait| wait.wait_for(Option::is_some)));
        let within = tokio::time::Instant::from_std(deadline);
        let landed = tokio::time::timeout_at(within, landed)
            .await
            .map_err(|_| Lost::Late);
        let outcome = landed.and_then(|landed| {
            landed
                .into_iter()
                .map(|outcome| match outcome.as_deref() {
                    Ok(Some(outcome)) => outcome.clone(),
                    // The task ended without a word.
                    Ok(None) | Err(_) => Err(Lost::Away),
                })
                .collect::<Result<Vec<Landed>, Lost>>()
        });
        match &outcome {
            Ok(landed) => {
                let now = (self.clock)();
                for landed in landed {
                    self.metrics.found(landed.tier);
                    self.metrics
                        .age(now.saturating_duration_since(landed.entry.loaded));
                }
            }
            Err(_) => {
                for _ in wanted {
                    self.metrics.found(Tier::Failed);
                }
            }
        }
        outcome
    }

    /// Loads, and tells whoever waits.
    async fn fly(self: Arc<Self>, tasks: Vec<Task>, age: Age, since: Moment, deadline: Instant) {
        let (mut left, mut trips) = (Vec::new(), 0);
        if self.is_shared && age != Age::Fresh {
            trips += 1;
            let names: Vec<Vec<u8>> = tasks.iter().map(|task| name(&task.wanted)).collect();
            let reads = names
                .iter()
                .map(|name| timeout(STORE_PATIENCE, self.store.read(Kind::Fact, name)));
            for (task, read) in tasks.into_iter().zip(join_all(reads).await) {
                let Ok(Ok((value, version))) = read else {
                    left.push((task, None));
                    continue;
                };
                match value.and_then(|value| self.stored(&task, &value, age, since)) {
                    Some(entry) => self.land(task, age, since, Ok((entry, Tier::Store)), trips),
                    None => left.push((task, Some(version))),
                }
            }
        } else {
            left.extend(tasks.into_iter().map(|task| (task, None)));
        }
        if left.is_empty() {
            return;
        }
        self.ask(left, age, since, deadline, trips + 1).await;
    }

    /// A stored fact, if it may be used.
    fn stored(&self, task: &Task, value: &[u8], age: Age, since: Moment) -> Option<Entry> {
        let stored: Stored = serde_json::from_slice(value).ok()?;
        let fact = stored.fact.filter(|_| stored.mark == task.key.mark)?;
        // A net below the store, which was told of what overtook it, but may have lost that.
        let raised = self.versions.raised_when(task.place);
        if raised != 0 && stored.loaded <= raised.saturating_add(SKEW) {
            return None;
        }
        let old = clock::unix_millis().saturating_sub(stored.loaded).max(0);
        let loaded =
            (self.clock)().checked_sub(Duration::from_millis(u64::try_from(old).unwrap_or(0)))?;
        let entry = Entry {
            fact,
            place: task.place,
            since,
            loaded,
        };
        ((self.clock)().saturating_duration_since(loaded) < self.limit(age, loaded))
            .then_some(entry)
    }

    /// Asks the database for all of these at once.
    async fn ask(
        self: &Arc<Self>,
        tasks: Vec<(Task, Option<Version>)>,
        age: Age,
        since: Moment,
        deadline: Instant,
        trips: u8,
    ) {
        let (loaded, when) = ((self.clock)(), clock::unix_millis());
        let entry = |fact: Fact, place: Place| Entry {
            fact,
            place,
            since,
            loaded,
        };
        let mut asked = Vec::with_capacity(tasks.len());
        let mut statements = Vec::with_capacity(tasks.len());
        for (task, version) in tasks {
            match task.wanted.source.statement(&task.wanted.id) {
                Ok(statement) => {
                    statements.push(statement);
                    asked.push((task, version));
                }
                Err(fact) => {
                    let entry = entry(fact, task.place);
                    self.land(task, age, since, Ok((entry, Tier::Written)), 0);
                }
            }
        }
        if asked.is_empty() {
            return;
        }
        let rows = match &self.database {
            Some(database) => database.query_all(statements, deadline).await,
            None => Err(DatabaseError::Away),
        };
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                let lost = match error {
                    DatabaseError::Away => Lost::Away,
                    DatabaseError::Deadline | DatabaseError::Busy => Lost::Late,
                    DatabaseError::Refused(_) => Lost::Unreadable,
                };
                for (task, _) in asked {
                    self.land(task, age, since, Err(lost), trips);
                }
                return;
            }
        };
        for ((task, version), rows) in asked.into_iter().zip(rows) {
            let wanted = task.wanted.clone();
            let read = match wanted.source.read(&wanted.id, &rows) {
                Ok(read) => read,
                Err(_) => {
                    tracing::error!(
                        fact = &*wanted.source.name,
                        "rows of the database make no sense: several for one id, or a value of another type"
                    );
                    self.land(task, age, since, Err(Lost::Unreadable), trips);
                    continue;
                }
            };
            if let Some((source, id, fact)) = read.within {
                let outer = Wanted { source, id };
                let place = outer.place();
                self.remember(outer.key(), Arc::new(entry(fact.clone(), place)));
                self.write_back(outer, fact, None, when);
            }
            self.write_back(wanted, read.fact.clone(), version, when);
            let entry = entry(read.fact, task.place);
            self.land(task, age, since, Ok((entry, Tier::Database)), trips);
        }
    }

    /// Remembers what a load found, and tells whoever waits for it.
    fn land(
        &self,
        task: Task,
        age: Age,
        since: Moment,
        outcome: Result<(Entry, Tier), Lost>,
        trips: u8,
    ) {
        let outcome = outcome.map(|(entry, tier)| Landed {
            entry: Arc::new(entry),
            tier,
            trips,
        });
        if let Ok(landed) = &outcome {
            self.remember(task.key.clone(), landed.entry.clone());
        }
        // Unless somebody has begun another one since.
        self.flights
            .remove_if(&(task.key, age), |_, flight| flight.since == since);
        task.tell.send_replace(Some(outcome));
    }

    fn remember(&self, key: Key, entry: Arc<Entry>) {
        if !self.versions.is_current(entry.place, entry.since) {
            return;
        }
        // An older load that ends later must not take the place of a newer one.
        let is_newer = self
            .remembered
            .peek(&key)
            .is_none_or(|known| known.loaded <= entry.loaded);
        if is_newer {
            self.remembered.insert(key, entry);
        }
    }

    /// Puts a fact into the store, off the way of any request, unless somebody overtook it there.
    fn write_back(
        self: &Arc<Self>,
        wanted: Wanted,
        fact: Fact,
        version: Option<Version>,
        when: i64,
    ) {
        let Some(runtime) = self.runtime.as_ref().filter(|_| self.is_shared) else {
            return;
        };
        let shelf = self.clone();
        runtime.spawn(async move {
            let stored = Stored {
                mark: wanted.source.mark,
                loaded: when,
                fact: Some(fact),
            };
            let (name, Ok(value)) = (name(&wanted), serde_json::to_vec(&stored)) else {
                return;
            };
            let version = match version {
                Some(version) => version,
                // It was not read before the load began, so only what was there before may be replaced, and only by what is newer.
                None => match shelf.store.read(Kind::Fact, &name).await {
                    Ok((known, version)) => {
                        let overtakes = known.is_some_and(|known| {
                            serde_json::from_slice::<Stored>(&known)
                                .is_ok_and(|known| known.loaded.saturating_add(SKEW) >= when)
                        });
                        if overtakes {
                            return;
                        }
                        version
                    }
                    Err(_) => return,
                },
            };
            let keep = match *shelf.listening.borrow() {
                Some(_) => STORED_LISTENING,
                None => STORED,
            };
            let keep = i64::try_from(keep.as_millis()).unwrap_or(0);
            let expires = when.saturating_add(keep);
            // Of replicas that load the same, the first one's is as good.
            let _: Result<Swap, _> = shelf
                .store
                .swap(Kind::Fact, &name, &version, &value, expires)
                .await;
        });
    }

    /// Makes facts worthless here: those about these things, by the names and ids that replicas share.
    pub(super) fn raise_here(&self, things: &[(Arc<str>, String)]) {
        let when = clock::unix_millis();
        for (name, id) in things {
            self.metrics.raised();
            self.versions.raise(Place::of(name, id), when);
        }
    }

    /// Makes facts worthless in the store, and tells the other replicas.
    pub(super) async fn raise_elsewhere(&self, things: &[(Arc<str>, String)]) {
        if !self.is_shared || things.is_empty() {
            return;
        }
        let stored = Stored {
            mark: 0,
            loaded: clock::unix_millis(),
            fact: None,
        };
        let Ok(value) = serde_json::to_vec(&stored) else {
            return;
        };
        let expires = clock::unix_now().saturating_add(OVERTAKEN);
        let names: Vec<Vec<u8>> = things.iter().map(|(kind, id)| named(kind, id)).collect();
        let puts = join_all(
            names
                .iter()
                .map(|name| self.store.put(Kind::Fact, name, &value, expires)),
        )
        .await;
        // Behind the records, so that nobody who hears of it reads what was there before.
        let message: Vec<u8> = things
            .iter()
            .flat_map(|(kind, id)| Place::of(kind, id).number().to_be_bytes())
            .collect();
        let told = self.store.publish(&message).await;
        let untold = puts.iter().filter(|put| put.is_err()).count();
        for _ in 0..untold.max(usize::from(told.is_err())) {
            self.metrics.untold();
        }
    }

    /// Tells the other replicas that any fact may be worthless.
    pub(super) async fn tell_everything(&self) {
        if self.is_shared && self.store.publish(EVERYTHING).await.is_err() {
            self.metrics.untold();
        }
    }

    /// What another replica said.
    pub(super) fn heard(&self, message: &[u8]) {
        let when = clock::unix_millis();
        self.metrics.heard();
        if message == EVERYTHING {
            return self.versions.raise_all(when);
        }
        for pair in message.chunks_exact(2) {
            if let Ok(number) = <[u8; 2]>::try_from(pair) {
                self.versions
                    .raise(Place::from_number(u16::from_be_bytes(number)), when);
            }
        }
    }

    /// What was said before was not heard. What the store has is as good as for any process that has just started.
    pub(super) fn began(&self) {
        self.versions.raise_all(0);
    }

    /// Something may have been missed that was said. What the store has from before is worth as little.
    pub(super) fn missed(&self) {
        self.versions.raise_all(clock::unix_millis());
    }
}

fn name(wanted: &Wanted) -> Vec<u8> {
    named(&wanted.source.name, &wanted.id)
}

fn named(kind: &str, id: &str) -> Vec<u8> {
    format!("{kind}\0{id}").into_bytes()
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf")
            .field("remembered", &self.remembered.len())
            .field("flights", &self.flights.len())
            .finish_non_exhaustive()
    }
}
