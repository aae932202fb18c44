//! Coalesces loads: whoever needs a fact that is being loaded waits for that load.
//!
//! A load runs in the background and does not end with the request that started it, since others
//! may wait for it. A request joins a load only if nothing has invalidated the fact since the load
//! began.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use dashmap::mapref::entry::Entry;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::super::metrics::Tier;
use super::super::versions::{Slot, Stamp};
use super::{CachedFact, FactCache, Key, LookupError, MaxAge, Wanted};

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

/// What all tasks of one load share.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadContext {
    pub(super) age: MaxAge,
    /// From before the load began.
    pub(super) stamp: Stamp,
    pub(super) deadline: Instant,
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

impl FactCache {
    /// Loads facts, or waits for loads that are under way already.
    pub(super) async fn load(
        self: &Arc<Self>,
        wanted: &[&Wanted],
        age: MaxAge,
        deadline: Instant,
    ) -> Result<Vec<Loaded>, LookupError> {
        let context = LoadContext {
            age,
            stamp: self.versions.now(),
            deadline,
        };
        let (mut waits, tasks) = self.join_or_start(wanted, context);
        if !tasks.is_empty() {
            let runtime = self.runtime.as_ref().ok_or(LookupError::Away)?;
            runtime.spawn(self.clone().run_tasks(tasks, context));
        }
        let outcomes = join_all(waits.iter_mut().map(|wait| wait.wait_for(Option::is_some)));
        let outcome = match timeout_at(deadline.into(), outcomes).await {
            Ok(outcomes) => outcomes
                .into_iter()
                .map(|outcome| match outcome.as_deref() {
                    Ok(Some(outcome)) => outcome.clone(),
                    // The task ended without an outcome.
                    Ok(None) | Err(_) => Err(LookupError::Away),
                })
                .collect(),
            Err(_) => Err(LookupError::Late),
        };
        self.count_loads(&outcome, wanted.len());
        outcome
    }

    /// For each wanted fact a load to wait for, and the tasks that nobody else has started.
    fn join_or_start(&self, wanted: &[&Wanted], context: LoadContext) -> (Vec<Waiting>, Vec<Task>) {
        let mut waits = Vec::with_capacity(wanted.len());
        let mut tasks: Vec<Task> = Vec::new();
        let mut seen: HashMap<Key, Waiting> = HashMap::new();
        for one in wanted {
            let key = one.key();
            let waiting = match seen.get(&key) {
                Some(known) => known.clone(),
                None => {
                    let (waiting, task) = self.join_or_start_one(one, context);
                    tasks.extend(task);
                    seen.insert(key, waiting.clone());
                    waiting
                }
            };
            waits.push(waiting);
        }
        (waits, tasks)
    }

    fn join_or_start_one(&self, wanted: &Wanted, context: LoadContext) -> (Waiting, Option<Task>) {
        let (task, waiting) = Task::new(wanted);
        // Every load that is under way began before this request.
        if context.age == MaxAge::Fresh {
            return (waiting, Some(task));
        }
        let started = PendingLoad {
            stamp: context.stamp,
            outcome: waiting.clone(),
        };
        match self.pending.entry((task.key.clone(), context.age)) {
            Entry::Occupied(mut pending) => {
                let known = pending.get();
                let is_usable = self.versions.is_current(task.slot, known.stamp)
                    && known.outcome.has_changed().is_ok();
                if is_usable {
                    return (known.outcome.clone(), None);
                }
                pending.insert(started);
            }
            Entry::Vacant(vacant) => {
                vacant.insert(started);
            }
        }
        (waiting, Some(task))
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

    /// Caches what a task found, and passes it to all who wait.
    pub(super) fn finish(
        &self,
        task: Task,
        context: LoadContext,
        outcome: Result<(CachedFact, Tier), LookupError>,
        trips: u8,
    ) {
        let outcome = outcome.map(|(entry, tier)| Loaded {
            entry: Arc::new(entry),
            tier,
            trips,
        });
        if let Ok(loaded) = &outcome {
            self.insert(task.key.clone(), loaded.entry.clone());
        }
        // Not if somebody has started a newer load since.
        self.pending
            .remove_if(&(task.key, context.age), |_, pending| {
                pending.stamp == context.stamp
            });
        task.outcome.send_replace(Some(outcome));
    }
}
