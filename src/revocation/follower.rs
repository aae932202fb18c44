//! The task that follows the revocation log in the store. The protocol is [`Replica`]'s.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::metrics::RevocationMetrics;
use super::replica::{CannotUndo, Command, Event, PAGE, Replica, Source};
use super::revocations::{Found, ListStatus, Query, Request, Revocations, RevokeOutcome, Undoing};
use super::target::{Name, Note, Revocation};
use crate::clock;
use crate::secrets::hex;
use crate::store::{Entry, Store, Unreachable};

/// Interval of polls of the store, besides its pushes: a quarter of the promised second.
const POLL: Duration = Duration::from_millis(250);

/// A call to the store, under way.
type Call = Pin<Box<dyn Future<Output = Result<Event, Unreachable>> + Send>>;

/// Maintains the list. When it is dropped, the list is no longer complete, since no revocation
/// would arrive.
pub struct Follower {
    shared: Arc<Revocations>,
    replica: Replica,
    requests: mpsc::Receiver<Request>,
    pushes: watch::Receiver<u64>,
    waiting: HashMap<Name, Vec<oneshot::Sender<RevokeOutcome>>>,
    call: Option<Call>,
    /// [`Revocations::doubts`] when the position was last asked for.
    doubts: u64,
    metrics: Arc<RevocationMetrics>,
}

impl Follower {
    pub(super) fn new(
        shared: Arc<Revocations>,
        capacity: usize,
        requests: mpsc::Receiver<Request>,
        metrics: Arc<RevocationMetrics>,
    ) -> Self {
        Self {
            pushes: shared.store.pushes(),
            shared,
            replica: Replica::new(capacity),
            requests,
            waiting: HashMap::new(),
            call: None,
            doubts: 0,
            metrics,
        }
    }

    /// Reads the log, if the store answers at once, so that the list is complete before the first
    /// request.
    pub async fn catch_up(&mut self) {
        self.take(Event::Poll);
        while let Some(call) = self.call.take() {
            let event = call.await.unwrap_or(Event::Unreachable);
            self.take(event);
        }
    }

    /// Follows the log until the process ends.
    pub async fn run(mut self) {
        let mut polls = tokio::time::interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let call = async {
                match &mut self.call {
                    Some(call) => call.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                answer = call => {
                    self.call = None;
                    self.take(answer.unwrap_or(Event::Unreachable));
                }
                Some(request) = self.requests.recv() => self.answer_request(request),
                _ = polls.tick() => self.take(Event::Poll),
                Ok(()) = self.pushes.changed() => self.take(Event::Push),
                () = self.shared.doubted.notified() => self.take(Event::Poll),
            }
        }
    }

    /// Whoever asked may have left, which changes nothing.
    fn answer_request(&mut self, request: Request) {
        match request {
            Request::Revoke { revocation, answer } => {
                match self.replica.has_room_for(&revocation) {
                    true => self.revoke(revocation, answer),
                    false => drop(answer.send(RevokeOutcome::Full)),
                }
            }
            Request::Undo { id, note, answer } => drop(answer.send(self.undo(&id, note))),
            Request::Shorten(confirmed) => self.take(Event::Shorten(confirmed)),
            Request::Find { query, answer } => drop(answer.send(self.find(&query))),
        }
    }

    fn revoke(&mut self, revocation: Revocation, answer: oneshot::Sender<RevokeOutcome>) {
        let name = revocation.name();
        self.waiting.entry(name).or_default().push(answer);
        self.take(Event::Revoke(revocation));
    }

    fn undo(&mut self, id: &str, note: Note) -> Undoing {
        let name = self.replica.name_of(id)?;
        let undoing = self.replica.undoing(&name, note, clock::unix_millis())?;
        let before = self.replica.entry(&name).cloned();
        let before = before.ok_or(CannotUndo::Unknown)?;
        let (answer, answered) = oneshot::channel();
        self.revoke(undoing, answer);
        Ok((before, answered))
    }

    fn find(&self, query: &Query) -> (Vec<Found>, usize) {
        let matches = self.replica.entries().filter(|(name, revocation, _)| {
            query.name.is_none_or(|wanted| wanted == **name) && query.matches(revocation)
        });
        let mut found: Vec<_> = matches
            .map(|(_, revocation, merged)| (revocation, merged))
            .collect();
        found.sort_by_key(|(revocation, _)| std::cmp::Reverse(revocation.received_at));
        let newest = found.iter().take(query.most);
        let shown = newest.map(|(revocation, merged)| Found {
            revocation: (*revocation).clone(),
            merged: *merged,
        });
        (shown.collect(), found.len())
    }

    /// Passes an event to the replica, and carries out its commands.
    fn take(&mut self, event: Event) {
        let commands = self.replica.handle(event, clock::unix_now());
        let mut changed = false;
        for command in commands {
            changed |= matches!(command, Command::Insert(..) | Command::Remove(_));
            self.carry_out(command);
        }
        let complete = self.replica.is_complete();
        if self.shared.complete.swap(complete, Ordering::Release) != complete {
            tracing::info!(complete, "completeness of the revocation list changed");
        }
        let entries = match changed {
            true => self.shared.list.count(),
            false => self.shared.status.load().entries,
        };
        self.metrics.count(entries);
        self.metrics.complete.set(complete.into());
        let queued = self.replica.queued();
        self.metrics
            .queued
            .set(i64::try_from(queued).unwrap_or(i64::MAX));
        self.shared.status.store(Arc::new(ListStatus {
            entries,
            position: self.replica.position(),
            queued,
        }));
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Insert(revocation, source) => self.insert(&revocation, source),
            Command::Remove(revocation) => self.shared.list.remove(&revocation),
            Command::Stored(names) => self.answer(&names, RevokeOutcome::Stored),
            Command::Queued(names) => self.answer(&names, RevokeOutcome::Queued),
            Command::Replaced { from, into } => {
                let waiting: Vec<_> = from
                    .iter()
                    .filter_map(|name| self.waiting.remove(name))
                    .flatten()
                    .collect();
                self.waiting.entry(into).or_default().extend(waiting);
            }
            Command::Confirmed => self.shared.confirm(clock::now(), self.doubts),
            Command::Reload(cause) => {
                self.metrics.reloaded(cause);
                tracing::info!(
                    cause = cause.as_str(),
                    "reading the revocation log from the start"
                );
            }
            Command::Coarsened(fewer) => {
                self.metrics.coarsened.inc_by(fewer as u64);
                tracing::warn!(
                    fewer,
                    "the revocation list is full; entries were coarsened to their session, subject or bucket of subjects"
                );
            }
            Command::Overfull(overfull) => {
                self.metrics.overfull.set(overfull.into());
                if overfull {
                    tracing::error!(
                        "the revocation list is full and nothing can be coarsened; raise `revocations.capacity`"
                    );
                }
            }
            Command::NearlyFull(nearly_full) => {
                self.metrics.nearly_full.set(nearly_full.into());
                if nearly_full {
                    tracing::warn!(
                        entries = self.replica.len(),
                        "the revocation list is nearly full; beyond `revocations.capacity` it also signs out users who were not revoked"
                    );
                }
            }
            Command::StillCovered(name) => tracing::warn!(
                id = hex::encode(&name),
                "the revocation was undone, but this replica's full list has merged it into a wider entry, which stays"
            ),
            Command::Shortened(count) => self.metrics.shortened.inc_by(count as u64),
            Command::Foreign => tracing::error!(
                "the log has a revocation that this version cannot read, so the list is not complete; upgrade"
            ),
            Command::Missing(count) => {
                self.metrics.written_back.inc_by(count as u64);
                tracing::error!(
                    count,
                    "revocations were missing in the store; writing them back"
                );
            }
            Command::ReadPosition { at } => {
                self.doubts = self.shared.doubts();
                self.call(read_position(self.store(), at));
            }
            Command::ReadLog { after } => self.call(read_log(self.store(), after)),
            Command::Append(revocations) => self.call(append(self.store(), revocations, false)),
            Command::AppendShorter(revocations) => {
                self.call(append(self.store(), revocations, true));
            }
        }
    }

    fn store(&self) -> Arc<dyn Store> {
        self.shared.store.clone()
    }

    fn call(&mut self, call: impl Future<Output = Result<Event, Unreachable>> + Send + 'static) {
        self.call = Some(Box::pin(call));
    }

    fn insert(&self, revocation: &Revocation, source: Source) {
        self.shared.list.insert(revocation);
        self.shared
            .grown
            .send_replace(self.shared.list.generation());
        match source {
            Source::Here | Source::News => {
                let lag = clock::unix_millis()
                    .saturating_sub(revocation.received_at)
                    .max(0);
                self.metrics.lag.observe(lag as f64 / 1000.0);
            }
            // Their age says nothing about the delay of propagation.
            Source::Reload | Source::Coarsened => {}
        }
    }

    fn answer(&mut self, names: &[Name], revoked: RevokeOutcome) {
        for name in names {
            for answer in self.waiting.remove(name).unwrap_or_default() {
                let _ = answer.send(revoked); // The caller may have left.
            }
        }
    }
}

async fn read_position(store: Arc<dyn Store>, at: i64) -> Result<Event, Unreachable> {
    let (position, entries) = store.position(at).await?;
    Ok(Event::Position(position, entries))
}

async fn read_log(store: Arc<dyn Store>, after: u64) -> Result<Event, Unreachable> {
    let (page, next) = store.log_after(after, PAGE).await?;
    Ok(Event::Page(page, next))
}

async fn append(
    store: Arc<dyn Store>,
    revocations: Vec<(Name, Revocation)>,
    shorter: bool,
) -> Result<Event, Unreachable> {
    let records: Vec<_> = revocations
        .iter()
        .map(|(_, revocation)| revocation.to_record())
        .collect();
    let entries: Vec<_> = revocations
        .iter()
        .zip(&records)
        .map(|((name, revocation), record)| Entry {
            name,
            record,
            expires: revocation.expires,
        })
        .collect();
    let position = match shorter {
        false => store.append(&entries).await?,
        true => store.shorten(&entries).await?,
    };
    Ok(Event::Appended(position))
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.complete.store(false, Ordering::Release);
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}
