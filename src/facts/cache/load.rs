//! Coalesces loads: whoever needs a fact that is being loaded waits for that load.
//!
//! A load runs in the background and does not end with the request that started it, since others
//! may wait for it, and since only its end says whether the database answers. It holds a share of
//! its caller until then. A request joins a load only if that is a small one and nothing has
//! invalidated the fact since it began. If a joined load fails for a reason that may lie with the
//! request that started it, the facts are loaded again, alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use dashmap::mapref::entry::Entry;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::super::lookup::LookupContext;
use super::super::metrics::Tier;
use super::super::versions::{Slot, Stamp};
use super::shares::Requester;
use super::{CachedFact, FactCache, Key, LookupError, MaxAge, Wanted};

/// The largest number of facts in a load that others may join. A larger one takes longer, and an id
/// among a hundred must not delay those who ask for it alone. A choice.
const JOINABLE: usize = 8;

/// A load that is under way.
#[derive(Clone, Debug)]
pub(super) struct PendingLoad {
    stamp: Stamp,
    outcome: Waiting,
}

type Outcome = Result<Loaded, LookupError>;

/// Receives the outcome of a load once it has ended.
type Waiting = watch::Receiver<Option<Outcome>>;

/// What a load found.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) entry: Arc<CachedFact>,
    tier: Tier,
    pub(super) trips: u8,
}

/// One fact that a load is to find.
pub(super) struct Task {
    pub(super) wanted: Wanted,
    pub(super) key: Key,
    pub(super) slot: Slot,
    outcome: watch::Sender<Option<Outcome>>,
}

/// What all tasks of one load have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadContext {
    pub(super) age: MaxAge,
    /// From before the load began.
    pub(super) stamp: Stamp,
    /// The end of the request's budget: the load does not wait longer for a connection.
    pub(super) deadline: Instant,
    pub(super) requester: Requester,
}

/// A fact to wait for.
#[derive(Clone)]
enum Wait {
    /// It was loaded meanwhile.
    Cached(Arc<CachedFact>),
    /// A load that another request started.
    Joined(Waiting),
    /// A load of this request.
    Own(Waiting),
}

/// Whether a request may wait for the loads of others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Joining {
    Allowed,
    Never,
}

impl Task {
    fn new(wanted: &Wanted) -> (Self, Waiting) {
        let (outcome, waiting) = watch::channel(None);
        let task = Self {
            wanted: wanted.clone(),
            key: wanted.key(),
            slot: wanted.slot(),
            outcome,
        };
        (task, waiting)
    }
}

impl Wait {
    async fn outcome(self) -> Outcome {
        let mut waiting = match self {
            Self::Cached(entry) => return Ok(Loaded::cached(entry)),
            Self::Joined(waiting) | Self::Own(waiting) => waiting,
        };
        match waiting.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            // The task ended without an outcome.
            Ok(None) | Err(_) => Err(LookupError::Away),
        }
    }
}

impl Loaded {
    const fn cached(entry: Arc<CachedFact>) -> Self {
        Self {
            entry,
            tier: Tier::Memory,
            trips: 0,
        }
    }
}

impl LookupError {
    /// Whether the same load might have succeeded for another request: this one had no time left to
    /// wait for a connection, or another id of its statement was at fault.
    const fn may_lie_with_the_request(self) -> bool {
        match self {
            Self::Busy | Self::Unreadable => true,
            Self::Away | Self::Late | Self::Crowded => false,
        }
    }
}

impl FactCache {
    /// Loads facts, or waits for loads that are under way already.
    pub(super) async fn load(
        self: &Arc<Self>,
        wanted: &[&Wanted],
        age: MaxAge,
        asking: LookupContext<'_>,
    ) -> Result<Vec<Loaded>, LookupError> {
        let requester = self.shares.requester(asking.caller, asking.client);
        let context = || LoadContext {
            age,
            stamp: self.versions.now(),
            deadline: asking.deadline,
            requester,
        };
        let loading = async {
            let waits = match self.join(wanted, context()) {
                Some(waits) => waits,
                None => self.start(wanted, context, Joining::Allowed).await?,
            };
            match finished(&waits).await {
                Err(Failure { error, has_joined })
                    if has_joined && error.may_lie_with_the_request() =>
                {
                    let waits = self.start(wanted, context, Joining::Never).await?;
                    finished(&waits).await
                }
                outcome => outcome,
            }
            .map_err(|failure| failure.error)
        };
        let outcome = timeout_at(asking.deadline.into(), loading).await;
        let outcome = outcome.unwrap_or(Err(LookupError::Late));
        self.count_loads(&outcome, wanted.len());
        outcome
    }

    /// The loads of others, if they cover all wanted facts: waiting for those needs no share.
    fn join(&self, wanted: &[&Wanted], context: LoadContext) -> Option<Vec<Wait>> {
        let join = |one: &&Wanted| {
            let pending = self.pending.get(&(one.key(), context.age))?;
            let is_usable = context.age != MaxAge::Fresh && self.is_usable(&pending, one.slot());
            is_usable.then(|| Wait::Joined(pending.outcome.clone()))
        };
        wanted.iter().map(join).collect()
    }

    /// Loads all wanted facts that nobody else is loading, once the caller may.
    async fn start(
        self: &Arc<Self>,
        wanted: &[&Wanted],
        context: impl Fn() -> LoadContext,
        joining: Joining,
    ) -> Result<Vec<Wait>, LookupError> {
        let runtime = self.runtime.as_ref().ok_or(LookupError::Away)?;
        let share = self.shares.acquire(context().requester).await;
        let share = share.map_err(|_| LookupError::Crowded)?;
        // Only now: it must not be older than the load.
        let context = context();
        let (waits, tasks) = self.join_or_start(wanted, context, joining);
        if !tasks.is_empty() {
            let cache = self.clone();
            runtime.spawn(async move {
                cache.run_tasks(tasks, context).await;
                drop(share);
            });
        }
        Ok(waits)
    }

    /// For each wanted fact what to wait for, and the tasks that nobody else has started.
    fn join_or_start(
        &self,
        wanted: &[&Wanted],
        context: LoadContext,
        joining: Joining,
    ) -> (Vec<Wait>, Vec<Task>) {
        let is_joinable = wanted.len() <= JOINABLE;
        let mut waits = Vec::with_capacity(wanted.len());
        let mut tasks: Vec<Task> = Vec::new();
        let mut seen: HashMap<Key, Wait> = HashMap::new();
        for one in wanted {
            let key = one.key();
            let wait = match seen.get(&key) {
                Some(known) => known.clone(),
                None => {
                    let (wait, task) = self.join_or_start_one(one, context, joining, is_joinable);
                    tasks.extend(task);
                    seen.insert(key, wait.clone());
                    wait
                }
            };
            waits.push(wait);
        }
        (waits, tasks)
    }

    fn join_or_start_one(
        &self,
        wanted: &Wanted,
        context: LoadContext,
        joining: Joining,
        is_joinable: bool,
    ) -> (Wait, Option<Task>) {
        // It may have been loaded while this request waited for its share.
        if let Some(entry) = self.cached(wanted, context.age, (self.clock)()) {
            return (Wait::Cached(entry), None);
        }
        let (task, waiting) = Task::new(wanted);
        // Every load that is under way began before this request.
        if context.age == MaxAge::Fresh {
            return (Wait::Own(waiting), Some(task));
        }
        let started = PendingLoad {
            stamp: context.stamp,
            outcome: waiting.clone(),
        };
        match self.pending.entry((task.key.clone(), context.age)) {
            Entry::Occupied(mut pending) => {
                if joining == Joining::Allowed && self.is_usable(pending.get(), task.slot) {
                    return (Wait::Joined(pending.get().outcome.clone()), None);
                }
                if is_joinable {
                    pending.insert(started);
                }
            }
            Entry::Vacant(vacant) => {
                if is_joinable {
                    vacant.insert(started);
                }
            }
        }
        (Wait::Own(waiting), Some(task))
    }

    /// Whether a load under way may be joined.
    fn is_usable(&self, pending: &PendingLoad, slot: Slot) -> bool {
        self.versions.is_current(slot, pending.stamp) && pending.outcome.has_changed().is_ok()
    }

    fn count_loads(&self, outcome: &Result<Vec<Loaded>, LookupError>, wanted: usize) {
        match outcome {
            Ok(all) => {
                let now = (self.clock)();
                for loaded in all {
                    self.count(&loaded.entry, loaded.tier, now);
                }
            }
            Err(_) => {
                for _ in 0..wanted {
                    self.metrics.found(Tier::Failed);
                }
            }
        }
    }

    /// Caches what a task found if `is_kept`, and passes it to all who wait.
    pub(super) fn finish(
        &self,
        task: Task,
        context: LoadContext,
        outcome: Result<(CachedFact, Tier), LookupError>,
        trips: u8,
        is_kept: bool,
    ) {
        let outcome = outcome.map(|(entry, tier)| Loaded {
            entry: Arc::new(entry),
            tier,
            trips,
        });
        if let (Ok(loaded), true) = (&outcome, is_kept) {
            self.insert(task.key.clone(), loaded.entry.clone());
        }
        let own = task.outcome.subscribe();
        // Not if somebody has started a newer load since.
        self.pending
            .remove_if(&(task.key, context.age), |_, pending| {
                pending.outcome.same_channel(&own)
            });
        task.outcome.send_replace(Some(outcome));
    }
}

/// Why some fact was not loaded.
struct Failure {
    error: LookupError,
    /// Whether the load was another request's.
    has_joined: bool,
}

/// What all these loads found.
async fn finished(waits: &[Wait]) -> Result<Vec<Loaded>, Failure> {
    let outcomes = join_all(waits.iter().cloned().map(Wait::outcome)).await;
    let failed = |wait: &Wait, error: LookupError| Failure {
        error,
        has_joined: matches!(wait, Wait::Joined(_)),
    };
    let outcomes = waits.iter().zip(outcomes);
    outcomes
        .map(|(wait, outcome)| outcome.map_err(|error| failed(wait, error)))
        .collect()
}
