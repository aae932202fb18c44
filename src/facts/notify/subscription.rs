//! One connection that receives change notifications, from the first verification to its end.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_postgres::{AsyncMessage, Client};

use super::super::Shelf;
use super::super::trigger_coverage::{Asked, Told};
use super::verify::{ARRIVAL, COVERAGE, PROBE, Unproven, probe, verify};
use crate::database::DatabaseError;

/// How often a silent connection is probed. Changes that are missed until it is found dead affect
/// reads only.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// Pause before the next verification after a successful one, and after a failed one, since
/// somebody may be creating the triggers. Each further failure doubles the pause, up to the longer
/// one.
const VERIFIED: Duration = Duration::from_secs(60);
const FAILED: Duration = Duration::from_secs(2);

/// How long a verification holds while the database cannot be asked again. A choice: triggers are
/// seldom dropped meanwhile, and what they report arrives on another connection; but an unreachable
/// database is what stale facts are for.
const GRACE: Duration = Duration::from_secs(10 * 60);

/// How many messages are taken at once.
const BATCH: usize = 1024;

/// How many invalidations may wait for the other replicas before they are told to drop everything.
const MAX_WAITING: usize = 50_000;

/// How many of them are sent at once. A choice: Redis takes that many writes in a few milliseconds.
const CHUNK: usize = 1000;

/// What outlives a connection.
pub(super) struct History {
    /// The last outcome that was logged, and whether an earlier verification still held; `None`
    /// before the first. The same is not logged twice.
    logged: Option<(Result<Vec<Told>, Unproven>, bool)>,
    /// The pause before the next verification if this one fails.
    pause: Duration,
}

impl History {
    pub(super) const fn new() -> Self {
        Self {
            logged: None,
            pause: FAILED,
        }
    }
}

/// Why a connection is given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// It broke or does not answer, or the cache is gone.
    Broken,
    /// It answers, but the probe did not arrive. The next connection is made after this pause.
    NotReceiving(Duration),
}

/// The state of one connection.
pub(super) struct Subscription<'a> {
    queries: watch::Receiver<Arc<[Asked]>>,
    history: &'a mut History,
    verification: Option<Verification>,
    /// When the last verification that still holds succeeded.
    verified: Option<Instant>,
    /// When the next verification begins.
    next: Instant,
    /// When the connection is probed.
    keepalive: Instant,
    waiting: Waiting,
}

/// A verification that is under way.
struct Verification {
    task: JoinHandle<Result<Vec<Told>, Unproven>>,
    coverage: Option<Vec<Told>>,
    probe: String,
    has_arrived: bool,
    until: Instant,
}

/// Invalidations that the other replicas have not received.
#[derive(Default)]
struct Waiting {
    resources: HashSet<(Arc<str>, String)>,
    /// Too many to name, or unknown.
    is_everything: bool,
    sending: Option<JoinHandle<()>>,
}

/// An event on a connection.
enum Event {
    /// This many messages arrived.
    Messages(usize),
    /// The coverage was read and the probe sent, or that failed.
    Coverage(Result<Vec<Told>, Unproven>),
    /// The other replicas have been notified.
    Sent,
    /// Other queries are in force; `false` if the cache is gone.
    Queries(bool),
    /// The next verification is due, or this one has timed out.
    Due,
    /// The connection must be probed.
    Keepalive,
}

impl Drop for Verification {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<'a> Subscription<'a> {
    pub(super) fn new(shelf: &Arc<Shelf>, history: &'a mut History) -> Self {
        Self {
            queries: shelf.queries(),
            history,
            verification: None,
            verified: None,
            next: Instant::now(),
            keepalive: Instant::now() + KEEPALIVE,
            waiting: Waiting::default(),
        }
    }

    /// Runs until the connection is unusable or the cache is gone.
    pub(super) async fn run(
        mut self,
        shelf: &Weak<Shelf>,
        client: &Client,
        mut incoming: UnboundedReceiver<AsyncMessage>,
    ) -> End {
        let mut messages = Vec::with_capacity(BATCH);
        loop {
            let event = self.event(&mut incoming, &mut messages).await;
            let Some(shelf) = shelf.upgrade() else {
                return End::Broken;
            };
            if matches!(event, Event::Keepalive) {
                drop(shelf);
                let answer = timeout(KEEPALIVE, client.batch_execute("")).await;
                if !matches!(answer, Ok(Ok(()))) {
                    return End::Broken;
                }
                self.keepalive = Instant::now() + KEEPALIVE;
                continue;
            }
            if let Some(end) = self.handle(&shelf, event, &mut messages) {
                return end;
            }
            self.complete(&shelf);
            self.waiting.send(&shelf);
        }
    }

    async fn event(
        &mut self,
        incoming: &mut UnboundedReceiver<AsyncMessage>,
        messages: &mut Vec<AsyncMessage>,
    ) -> Event {
        let due = match &self.verification {
            Some(verification) => verification.until,
            None => self.next,
        };
        tokio::select! {
            count = incoming.recv_many(messages, BATCH) => Event::Messages(count),
            coverage = finished(&mut self.verification) => Event::Coverage(coverage),
            () = self.waiting.sent() => Event::Sent,
            changed = self.queries.changed() => Event::Queries(changed.is_ok()),
            () = sleep_until(due) => Event::Due,
            // Other events do not postpone it, except incoming messages.
            () = sleep_until(self.keepalive) => Event::Keepalive,
        }
    }

    /// Handles an event. Returns why the connection must be given up, if it must.
    fn handle(
        &mut self,
        shelf: &Arc<Shelf>,
        event: Event,
        messages: &mut Vec<AsyncMessage>,
    ) -> Option<End> {
        match event {
            Event::Messages(0) | Event::Queries(false) => return Some(End::Broken),
            Event::Messages(_) => {
                self.keepalive = Instant::now() + KEEPALIVE;
                self.receive(shelf, messages);
            }
            Event::Coverage(Ok(coverage)) => {
                if let Some(verification) = &mut self.verification {
                    verification.coverage = Some(coverage);
                    verification.until = Instant::now() + ARRIVAL;
                }
            }
            Event::Coverage(Err(why)) => self.conclude(shelf, Err(why)),
            Event::Sent | Event::Keepalive => {}
            // The last verification was of other queries.
            Event::Queries(true) => {
                shelf.stop_listening();
                self.verified = None;
                self.history.pause = FAILED;
                self.begin(shelf);
            }
            Event::Due => match &self.verification {
                None => self.begin(shelf),
                Some(verification) if verification.coverage.is_none() => {
                    let late = Unproven::Database(DatabaseError::Deadline);
                    self.conclude(shelf, Err(late));
                }
                // If the probe does not arrive, other notifications may not either. They may on
                // another connection.
                Some(_) => {
                    let pause = self.history.pause;
                    self.conclude(shelf, Err(Unproven::NotReceived));
                    return Some(End::NotReceiving(pause));
                }
            },
        }
        None
    }

    /// Begins a verification of the queries in force.
    fn begin(&mut self, shelf: &Arc<Shelf>) {
        let Some(database) = shelf.database().cloned() else {
            return;
        };
        let queries = self.queries.borrow_and_update().clone();
        let probe = probe();
        self.verification = Some(Verification {
            task: tokio::spawn(verify(queries, database, probe.clone())),
            coverage: None,
            probe,
            has_arrived: false,
            until: Instant::now() + COVERAGE + ARRIVAL,
        });
    }

    /// Concludes the verification if the coverage was read and the probe has arrived.
    fn complete(&mut self, shelf: &Arc<Shelf>) {
        let is_outdated = self.queries.has_changed().unwrap_or(true);
        let coverage = match &mut self.verification {
            Some(verification) if verification.has_arrived && !is_outdated => {
                verification.coverage.take()
            }
            Some(_) | None => None,
        };
        let Some(coverage) = coverage else { return };
        shelf.metrics().coverage(&coverage);
        let missing = coverage.into_iter().filter(|table| table.missing.is_some());
        let (unstable, missing): (Vec<Told>, Vec<Told>) = missing.partition(Told::is_unstable);
        let outcome = match missing.is_empty() {
            true => Ok(unstable),
            false => Err(Unproven::NotCovered(missing)),
        };
        self.conclude(shelf, outcome);
    }

    /// Ends a verification. A success says which queries are unstable.
    fn conclude(&mut self, shelf: &Arc<Shelf>, outcome: Result<Vec<Told>, Unproven>) {
        self.verification = None;
        let now = Instant::now();
        // Until when an earlier success holds in spite of this failure.
        let kept = match &outcome {
            Err(why) if why.is_outage() && shelf.is_listening() => self.verified,
            Ok(_) | Err(_) => None,
        };
        let kept = kept
            .map(|verified| verified + GRACE)
            .filter(|end| now < *end);
        match &outcome {
            Ok(unstable) => {
                self.verified = Some(now);
                self.next = now + VERIFIED;
                self.history.pause = FAILED;
                let unstable = unstable.iter().map(|query| query.kind.clone());
                shelf.listen(unstable.collect());
            }
            Err(_) => {
                let next = now + self.history.pause;
                self.next = kept.map_or(next, |end| next.min(end));
                self.history.pause = (2 * self.history.pause).min(VERIFIED);
                if kept.is_none() {
                    self.verified = None;
                    shelf.stop_listening();
                }
            }
        }
        self.history.log(outcome, kept.is_some());
    }

    /// Applies notifications to this process, and queues them for the other replicas.
    fn receive(&mut self, shelf: &Arc<Shelf>, messages: &mut Vec<AsyncMessage>) {
        for message in messages.drain(..) {
            let AsyncMessage::Notification(notification) = message else {
                continue;
            };
            let payload = notification.payload();
            if payload.starts_with(PROBE) {
                if let Some(verification) = &mut self.verification
                    && payload == verification.probe
                {
                    verification.has_arrived = true;
                }
                continue;
            }
            shelf.metrics().notified();
            match payload.split_once(' ') {
                Some((name, id)) => {
                    let resource = (Arc::from(name), id.to_owned());
                    shelf.invalidate_locally(std::slice::from_ref(&resource));
                    self.waiting.resources.insert(resource);
                }
                None => {
                    shelf.invalidate_everything_locally();
                    self.waiting.is_everything = true;
                }
            }
        }
        if self.waiting.resources.len() > MAX_WAITING {
            self.waiting.resources = HashSet::new();
            self.waiting.is_everything = true;
        }
    }
}

impl History {
    /// Logs an outcome that differs from the last one. `is_kept` says that an earlier verification
    /// still holds.
    fn log(&mut self, outcome: Result<Vec<Told>, Unproven>, is_kept: bool) {
        let entry = Some((outcome, is_kept));
        if self.logged != entry {
            match &entry {
                Some((Ok(unstable), _)) => {
                    tracing::info!("change notifications verified; using the long cache lifetime");
                    for why in unstable {
                        tracing::warn!(%why, "query without the long cache lifetime");
                    }
                }
                Some((Err(why), true)) => tracing::warn!(
                    %why,
                    "cannot re-verify change triggers; trusting the last check for up to 10 minutes"
                ),
                Some((Err(why), false)) => tracing::warn!(
                    %why,
                    "change notifications incomplete; using the short cache lifetime (30 s)"
                ),
                None => {}
            }
        }
        self.logged = entry;
    }
}

impl Waiting {
    /// Sends what waits, in one task at a time.
    fn send(&mut self, shelf: &Arc<Shelf>) {
        if self.sending.is_some() || self.resources.is_empty() && !self.is_everything {
            return;
        }
        let is_everything = std::mem::take(&mut self.is_everything);
        let mut resources = std::mem::take(&mut self.resources);
        if is_everything {
            // That includes them.
            resources.clear();
        }
        let shelf = shelf.clone();
        self.sending = Some(tokio::spawn(async move {
            if is_everything {
                shelf.invalidate_everything_remotely().await;
            }
            let resources = Vec::from_iter(resources);
            for chunk in resources.chunks(CHUNK) {
                shelf.invalidate_remotely(chunk).await;
            }
        }));
    }

    /// Resolves once when the task ends; never if there is none.
    async fn sent(&mut self) {
        match &mut self.sending {
            Some(task) => {
                let _ = task.await;
                self.sending = None;
            }
            None => std::future::pending().await,
        }
    }
}

/// Resolves once with the outcome of the verification's task; never if there is none.
async fn finished(verification: &mut Option<Verification>) -> Result<Vec<Told>, Unproven> {
    match verification {
        Some(verification) if verification.coverage.is_none() => {
            match (&mut verification.task).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Unproven::Database(DatabaseError::Away)),
            }
        }
        Some(_) | None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::facts::FactMetrics;
    use crate::store::Memory;

    #[tokio::test]
    async fn a_verification_holds_through_an_outage_for_a_while_but_not_against_a_refusal() {
        let metrics = FactMetrics::new(&prometheus::Registry::new()).map(Arc::new);
        let metrics = metrics.unwrap_or_else(|error| unreachable!("{error}"));
        let store = Arc::new(Memory::new(10, clock::unix_now));
        let shelf = Shelf::new(store, false, None, metrics);
        let mut history = History::new();
        let mut subscription = Subscription::new(&shelf, &mut history);
        let away = || Err(Unproven::Database(DatabaseError::Away));
        let verified = || Ok(Vec::new());
        subscription.conclude(&shelf, away());
        assert!(!shelf.is_listening(), "nothing was verified yet");
        for failure in [
            Unproven::NotReceived,
            Unproven::NotCovered(Vec::new()),
            Unproven::NotSent(DatabaseError::Refused("25006".to_owned())),
            Unproven::Database(DatabaseError::Refused("42501".to_owned())),
        ] {
            subscription.conclude(&shelf, verified());
            assert!(shelf.is_listening());
            subscription.conclude(&shelf, Err(failure.clone()));
            assert!(!shelf.is_listening(), "{failure}");
            subscription.conclude(&shelf, away());
            assert!(!shelf.is_listening(), "{failure}");
        }
        subscription.conclude(&shelf, verified());
        for _ in 0..100 {
            subscription.conclude(&shelf, away());
            assert!(shelf.is_listening());
        }
        // Not beyond the grace period, however long the pauses have become.
        assert_eq!(subscription.history.pause, VERIFIED);
        let before = Instant::now() + Duration::from_secs(1);
        subscription.verified = before.checked_sub(GRACE);
        subscription.conclude(&shelf, away());
        assert!(shelf.is_listening() && subscription.next <= before);
        subscription.verified = Instant::now().checked_sub(GRACE);
        subscription.conclude(&shelf, away());
        assert!(!shelf.is_listening());
        // The next success resets the pause.
        subscription.conclude(&shelf, verified());
        assert!(shelf.is_listening());
        assert_eq!(subscription.history.pause, FAILED);
    }
}
