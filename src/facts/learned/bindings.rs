//! The bindings of learned resources: in the store, and here while the store is away.
//!
//! Decides:  which owner a resource has while the store cannot be asked: the one that it had when
//!           the store last answered, or the one that the store has yet to learn.
//! Trusts:   the upstream not to reuse ids. A resource never changes its owner.
//! Not here: whether the failure matrix allows the request (`policy::outage`).
//!
//! A binding that could not be stored is retried until the store has it, or has another owner of
//! the id: then that one counts. One that was bound here and that the store has lost is stored
//! again. What waits is lost if this process ends first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout_at};

use super::super::lookup::LookupContext;
use super::super::metrics::{FactMetrics, Learned};
use crate::breaker::Outage;
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::log::LogThrottle;
use crate::policy::outage::AccessClass;
use crate::store::{Kind, Store, Swap};

/// How many bindings are remembered for an outage. A choice; with long names some ten megabytes.
const CAPACITY: usize = 50_000;

/// How many bindings may wait for the store. A choice: an outage is noticed within a second, and
/// from then on none is learned.
const WAITING: usize = 10_000;

/// How long a binding that was made elsewhere, so that its end is not known here, is used without
/// the store. A choice.
const WITHOUT_END: Duration = Duration::from_secs(60 * 60);

/// The first pause between two attempts to store a binding; each further one doubles.
const FIRST: Duration = Duration::from_millis(250);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(1);

/// How often a compare-and-set is tried while others change the record.
const ATTEMPTS: usize = 3;

/// The owner of a learned resource.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Binding {
    /// The issuer of the subject.
    pub issuer: String,
    /// The owner's subject.
    pub subject: String,
}

/// Why an id was not bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BindError {
    /// It already belongs to somebody else.
    Taken,
    /// The store did not take the record, and too many wait for it.
    Unkept,
}

type Name = Vec<u8>;

/// Who owns which learned resource.
pub(in crate::facts) struct Bindings {
    store: Arc<dyn Store>,
    /// Stores what waits; `None` where nothing is ever learned.
    runtime: Option<Handle>,
    metrics: Arc<FactMetrics>,
    clock: fn() -> Instant,
    /// Bindings that the store had when it last answered. Only their owners fill it.
    remembered: Cache<Name, Arc<Remembered>>,
    /// Bindings that the store does not have yet.
    waiting: DashMap<Name, Record>,
    unstored: LogThrottle,
    displaced: LogThrottle,
}

#[derive(Debug)]
struct Remembered {
    owner: Binding,
    /// In Unix milliseconds; `None` if it was bound elsewhere.
    expires: Option<i64>,
    /// When the store last had it.
    confirmed: Instant,
}

#[derive(Clone, Debug)]
struct Record {
    owner: Binding,
    /// In Unix milliseconds.
    expires: i64,
}

impl Remembered {
    fn is_over(&self) -> bool {
        let now = clock::unix_millis();
        self.expires.is_some_and(|end| end <= now)
    }
}

impl Bindings {
    pub(in crate::facts) fn new(
        store: Arc<dyn Store>,
        metrics: Arc<FactMetrics>,
        clock: fn() -> Instant,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            runtime: Handle::try_current().ok(),
            metrics,
            clock,
            remembered: Cache::new(CAPACITY),
            waiting: DashMap::new(),
            unstored: LogThrottle::new(),
            displaced: LogThrottle::new(),
        })
    }

    /// Whether another binding can be stored now, or at least kept until it can.
    pub(super) fn has_room(&self) -> bool {
        self.store.outage() == Outage::Reachable && self.waiting.len() < WAITING
    }

    /// The owner of a resource, and whether that took a round trip to the store.
    pub(super) async fn find(
        self: &Arc<Self>,
        name: Name,
        asking: LookupContext<'_>,
    ) -> Result<(Option<Binding>, bool), Denial> {
        if let Some(record) = self.waiting.get(&name) {
            return Ok((Some(record.owner.clone()), false));
        }
        let known = self.remembered.get(&name);
        let usable = known.as_ref().filter(|known| self.is_usable(known, asking));
        let deadline = match usable {
            None => asking.deadline,
            // So that a store that does not answer leaves some of the budget.
            Some(_) => {
                let now = clock::now();
                now + asking.deadline.saturating_duration_since(now) / 2
            }
        };
        let read = timeout_at(deadline.into(), self.store.get(Kind::Learned, &name)).await;
        match (read, usable) {
            (Ok(Ok(Some(record))), _) => {
                let owner = serde_json::from_slice(&record);
                let invalid = "invalid record of a learned resource";
                let owner = owner.map_err(|_| Reason::FactsUnavailable.because(invalid))?;
                self.confirm(name, &owner, known.as_deref(), asking);
                Ok((Some(owner), true))
            }
            (Ok(Ok(None)), _) => {
                let lost = known.as_deref();
                Ok((lost.and_then(|known| self.restore(name, known)), true))
            }
            (Ok(Err(_)) | Err(_), Some(known)) => Ok((Some(known.owner.clone()), true)),
            (Ok(Err(why)), None) => {
                Err(Reason::FactsUnavailable.because(format!("the store: {why}")))
            }
            (Err(_), None) => Err(Reason::BudgetSpent.because("the store did not answer in time")),
        }
    }

    /// Whether a binding in memory may be used in place of the store's. It cannot have changed,
    /// only ended.
    fn is_usable(&self, known: &Remembered, asking: LookupContext<'_>) -> bool {
        let age = (self.clock)().saturating_duration_since(known.confirmed);
        let is_over = match known.expires {
            Some(_) => known.is_over(),
            None => age >= WITHOUT_END,
        };
        asking.class != AccessClass::Admin && !is_over
    }

    /// Notes that the store has a binding, if it is the asking caller's.
    fn confirm(
        &self,
        name: Name,
        owner: &Binding,
        known: Option<&Remembered>,
        asking: LookupContext<'_>,
    ) {
        if asking.caller == Some((&owner.issuer, &owner.subject)) {
            let same = known.filter(|known| known.owner == *owner);
            let expires = same.and_then(|known| known.expires);
            self.remember(name, owner.clone(), expires);
        }
    }

    fn remember(&self, name: Name, owner: Binding, expires: Option<i64>) {
        let remembered = Remembered {
            owner,
            expires,
            confirmed: (self.clock)(),
        };
        self.remembered.insert(name, Arc::new(remembered));
    }

    /// The owner of a resource that the store does not have. If it was bound here and the binding
    /// has not expired, the store has lost it.
    fn restore(self: &Arc<Self>, name: Name, known: &Remembered) -> Option<Binding> {
        let expires = known.expires.filter(|end| *end > clock::unix_millis());
        let Some(expires) = expires else {
            self.remembered.remove(&name);
            return None;
        };
        let owner = known.owner.clone();
        // If too many wait already, the next request for it tries again.
        let _ = self.keep(
            name,
            Record {
                owner: owner.clone(),
                expires,
            },
        );
        Some(owner)
    }

    /// Binds a resource to its owner: in the store, or here until the store takes it.
    pub(super) async fn bind(
        self: &Arc<Self>,
        name: Name,
        owner: &Binding,
        keep: Duration,
    ) -> Result<(), BindError> {
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let record = Record {
            owner: owner.clone(),
            expires: clock::unix_millis().saturating_add(keep),
        };
        let (outcome, label) = match self.write(&name, &record).await {
            Ok(()) => {
                self.remember(name, record.owner, Some(record.expires));
                (Ok(()), Learned::Bound)
            }
            Err(BindError::Taken) => (Err(BindError::Taken), Learned::Failed),
            Err(BindError::Unkept) => match self.keep(name, record) {
                Ok(()) => (Ok(()), Learned::Kept),
                Err(why) => (Err(why), Learned::Failed),
            },
        };
        self.metrics.learned(label);
        outcome
    }

    async fn write(&self, name: &[u8], record: &Record) -> Result<(), BindError> {
        let value = serde_json::to_vec(&record.owner).map_err(|_| BindError::Unkept)?;
        for _ in 0..ATTEMPTS {
            let read = self.store.read(Kind::Learned, name).await;
            let (known, version) = read.map_err(|_| BindError::Unkept)?;
            // A response may be repeated. A bound id never changes its owner.
            if known.is_some_and(|known| known != value) {
                return Err(BindError::Taken);
            }
            let writing = self
                .store
                .swap(Kind::Learned, name, &version, &value, record.expires);
            match writing.await {
                Ok(Swap::Done(_)) => return Ok(()),
                Ok(Swap::Conflict) => {}
                Err(_) => return Err(BindError::Unkept),
            }
        }
        Err(BindError::Unkept)
    }

    /// Keeps a binding until it is stored.
    fn keep(self: &Arc<Self>, name: Name, record: Record) -> Result<(), BindError> {
        let runtime = self.runtime.as_ref().ok_or(BindError::Unkept)?;
        let is_others = |known: &Binding| *known != record.owner;
        if let Some(known) = self.remembered.get(&name)
            && !known.is_over()
            && is_others(&known.owner)
        {
            return Err(BindError::Taken);
        }
        let has_room = self.waiting.len() < WAITING;
        match self.waiting.entry(name.clone()) {
            Entry::Occupied(known) if is_others(&known.get().owner) => {
                return Err(BindError::Taken);
            }
            Entry::Occupied(mut known) => {
                known.insert(record);
                return Ok(());
            }
            Entry::Vacant(_) if !has_room => return Err(BindError::Unkept),
            Entry::Vacant(vacant) => {
                vacant.insert(record);
            }
        }
        self.note_waiting();
        if self.unstored.may_log(clock::unix_now()) {
            tracing::warn!(
                "the store did not take the owner of a learned resource; kept here and stored later"
            );
        }
        let bindings = self.clone();
        runtime.spawn(async move { bindings.keep_storing(&name).await });
        Ok(())
    }

    async fn keep_storing(&self, name: &[u8]) {
        let mut pause = FIRST;
        while let Some(record) = self.waiting.get(name).map(|record| record.clone()) {
            if record.expires <= clock::unix_millis() {
                self.waiting.remove(name);
                break;
            }
            match self.write(name, &record).await {
                Ok(()) => {
                    self.remember(name.to_vec(), record.owner, Some(record.expires));
                    // Unless it was extended meanwhile.
                    self.waiting
                        .remove_if(name, |_, now| now.expires == record.expires);
                }
                Err(BindError::Taken) => self.displace(name),
                Err(BindError::Unkept) => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST);
                }
            }
        }
        self.note_waiting();
    }

    /// Another replica bound the resource to somebody else, and stored it first.
    fn displace(&self, name: &[u8]) {
        self.waiting.remove(name);
        self.remembered.remove(name);
        self.metrics.learned(Learned::Failed);
        if self.displaced.may_log(clock::unix_now()) {
            tracing::warn!(
                "security: an upstream gave the id of a learned resource to two callers; it belongs to the one that was stored first"
            );
        }
    }

    fn note_waiting(&self) {
        let waiting = i64::try_from(self.waiting.len()).unwrap_or(i64::MAX);
        self.metrics.learned_waiting(waiting);
    }
}
