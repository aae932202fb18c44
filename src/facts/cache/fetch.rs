//! One load: reads its facts from the store, and what is not there from the database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::super::fact::Fact;
use super::super::metrics::Tier;
use super::super::source::Source;
use super::super::versions::Slot;
use super::load::{LoadContext, Task};
use super::shared::{SKEW, StoredFact};
use super::{CachedFact, FactCache, LookupError, MaxAge, Wanted, longest};
use crate::clock;
use crate::database::{DatabaseError, Param, Rows, Statement};
use crate::store::{Kind, Version};

/// How long the store may take before the database is asked instead. A choice.
const STORE_TIMEOUT: Duration = Duration::from_millis(10);

/// A task that the store could not answer, with the version of the record that was read.
type Unanswered = (Task, Option<Version>);

/// The tasks of one source, and the statement for them.
struct Batch {
    tasks: Vec<Unanswered>,
    statement: Statement,
}

/// When a query of the database began, by both clocks.
#[derive(Clone, Copy)]
struct Started {
    at: Instant,
    unix_millis: i64,
}

impl FactCache {
    /// Runs the tasks of one load and finishes each.
    pub(super) async fn run_tasks(self: Arc<Self>, tasks: Vec<Task>, context: LoadContext) {
        if !self.is_shared || context.age == MaxAge::Fresh {
            let tasks = tasks.into_iter().map(|task| (task, None)).collect();
            return self.ask_database(tasks, context, 1).await;
        }
        let unanswered = self.ask_store(tasks, context).await;
        if !unanswered.is_empty() {
            self.ask_database(unanswered, context, 2).await;
        }
    }

    /// Finishes the tasks whose facts the store has, and returns the others.
    async fn ask_store(&self, tasks: Vec<Task>, context: LoadContext) -> Vec<Unanswered> {
        let names: Vec<Vec<u8>> = tasks.iter().map(|task| task.wanted.record_name()).collect();
        let reads = names
            .iter()
            .map(|name| timeout(STORE_TIMEOUT, self.store.read(Kind::Fact, name)));
        let mut unanswered = Vec::new();
        for (task, read) in tasks.into_iter().zip(join_all(reads).await) {
            let Ok(Ok((record, version))) = read else {
                unanswered.push((task, None));
                continue;
            };
            match record.and_then(|record| self.usable(&task, &record, context)) {
                Some(entry) => {
                    let is_kept = self.may_cache(&task.wanted.source, &task.key, context.requester);
                    self.finish(task, context, Ok((entry, Tier::Store)), 1, is_kept);
                }
                None => unanswered.push((task, Some(version))),
            }
        }
        unanswered
    }

    /// The fact of a record, if it is for this query, young enough and not stale.
    fn usable(&self, task: &Task, record: &[u8], context: LoadContext) -> Option<CachedFact> {
        let stored: StoredFact = serde_json::from_slice(record).ok()?;
        let fact = stored
            .fact
            .filter(|_| stored.fingerprint == task.key.fingerprint)?;
        // Defence in depth: an invalidation also replaces the record, but the store may have lost
        // that.
        let invalidated = self.versions.invalidated_when(task.slot);
        if invalidated != 0 && stored.loaded <= invalidated.saturating_add(SKEW) {
            return None;
        }
        let age = clock::unix_millis().saturating_sub(stored.loaded);
        // By another replica's clock. The age of a fact from the future is not known.
        if age < -SKEW {
            return None;
        }
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        let now = (self.clock)();
        let loaded = now.checked_sub(age)?;
        let lifetime = self.lifetime(&task.wanted.source, context.age, loaded);
        let lifetime = lifetime.min(longest(&fact));
        let entry = CachedFact {
            fact,
            slot: task.slot,
            stamp: context.stamp,
            loaded,
        };
        (age < lifetime).then_some(entry)
    }

    /// Asks the database for all these facts in one round trip.
    async fn ask_database(
        self: &Arc<Self>,
        tasks: Vec<Unanswered>,
        context: LoadContext,
        trips: u8,
    ) {
        let started = Started {
            at: (self.clock)(),
            unix_millis: clock::unix_millis(),
        };
        let batches = self.batches(tasks, context, started);
        if batches.is_empty() {
            return;
        }
        let (batches, statements): (Vec<_>, Vec<_>) = batches
            .into_iter()
            .map(|batch| (batch.tasks, batch.statement))
            .unzip();
        let rows = match &self.database {
            Some(database) => database.query_all(statements, context.deadline).await,
            None => Err(DatabaseError::Away),
        };
        let rows = rows.map_err(|error| match error {
            DatabaseError::Away => LookupError::Away,
            DatabaseError::Deadline => LookupError::Late,
            DatabaseError::Busy => LookupError::Busy,
            DatabaseError::Refused(_) => LookupError::Unreadable,
        });
        let rows = match rows {
            Ok(rows) => rows.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); batches.len()],
        };
        for (tasks, rows) in batches.into_iter().zip(rows) {
            let count = tasks.len();
            let groups = rows.and_then(|rows| rows.grouped(count).ok_or(LookupError::Unreadable));
            let groups = match groups {
                Ok(groups) => groups.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error); count],
            };
            for ((task, version), rows) in tasks.into_iter().zip(groups) {
                match rows {
                    Ok(rows) => self.take_rows(task, version, &rows, context, started, trips),
                    Err(error) => self.finish(task, context, Err(error), trips, false),
                }
            }
        }
    }

    /// One statement for all ids of a source. A task whose fact follows from its id is finished at
    /// once.
    fn batches(
        &self,
        tasks: Vec<Unanswered>,
        context: LoadContext,
        started: Started,
    ) -> Vec<Batch> {
        let mut ids: Vec<(Arc<Source>, Vec<Param>, Vec<Unanswered>)> = Vec::new();
        for (task, version) in tasks {
            let source = &task.wanted.source;
            let param = match source.param(&task.wanted.id) {
                Ok(param) => param,
                Err(fact) => {
                    let is_kept = self.may_cache(source, &task.key, context.requester);
                    let entry = entry(fact, task.slot, context, started);
                    self.finish(task, context, Ok((entry, Tier::Configured)), 0, is_kept);
                    continue;
                }
            };
            let fingerprint = source.fingerprint;
            match ids
                .iter_mut()
                .find(|(of, ..)| of.fingerprint == fingerprint)
            {
                Some((_, params, tasks)) => {
                    params.push(param);
                    tasks.push((task, version));
                }
                None => ids.push((source.clone(), vec![param], vec![(task, version)])),
            }
        }
        let batches = ids.into_iter().filter_map(|(source, params, tasks)| {
            let statement = source.statement(params)?;
            Some(Batch { tasks, statement })
        });
        batches.collect()
    }

    /// Finishes a task with the rows of its statement, and writes the facts back to the store.
    fn take_rows(
        self: &Arc<Self>,
        task: Task,
        version: Option<Version>,
        rows: &Rows,
        context: LoadContext,
        started: Started,
        trips: u8,
    ) {
        let wanted = task.wanted.clone();
        let Ok(parsed) = wanted.source.parse(&wanted.id, rows) else {
            tracing::error!(
                fact = &*wanted.source.name,
                "invalid rows from the database: several for one id, or a value of an unexpected type"
            );
            return self.finish(task, context, Err(LookupError::Unreadable), trips, false);
        };
        let is_kept = self.may_cache(&wanted.source, &task.key, context.requester);
        if let (Some((source, id, fact)), true) = (parsed.within, is_kept) {
            let outer = Wanted { source, id };
            let cached = entry(fact.clone(), outer.slot(), context, started);
            self.insert(outer.key(), Arc::new(cached));
            self.write_back(outer, fact, None, started.unix_millis);
        }
        if is_kept {
            self.write_back(wanted, parsed.fact.clone(), version, started.unix_millis);
        }
        let cached = entry(parsed.fact, task.slot, context, started);
        self.finish(task, context, Ok((cached, Tier::Database)), trips, is_kept);
    }
}

fn entry(fact: Fact, slot: Slot, context: LoadContext, started: Started) -> CachedFact {
    CachedFact {
        fact,
        slot,
        stamp: context.stamp,
        loaded: started.at,
    }
}
