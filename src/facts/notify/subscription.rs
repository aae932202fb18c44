//! One connection that receives change notifications, from the first verification to its end.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_postgres::{AsyncMessage, Client};

use super::super::trigger_coverage::{TableCoverage, WatchedQuery};
use super::outbox::Outbox;
use super::verify::{ARRIVAL, COVERAGE, CoverageError, PROBE, probe, verify};
use crate::database::{DatabaseError, definitions};
use crate::facts::cache::FactCache;

/// How often the definitions that the queries depend on are compared, which also finds a dead
/// connection; and how long that may take. Changes that are missed until then affect reads only.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// Pause before the next verification after the definitions changed.
const CHANGED: Duration = Duration::from_millis(100);

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

/// What outlives a connection.
pub(super) struct History {
    /// The last outcome that was logged, and whether an earlier verification still held; `None`
    /// before the first. The same is not logged twice.
    logged: Option<(Result<Vec<TableCoverage>, CoverageError>, bool)>,
    /// The pause before the next verification if this one fails.
    pause: Duration,
    /// What the queries depended on when it was last looked at.
    definitions: Option<Definitions>,
}

impl History {
    pub(super) const fn new() -> Self {
        Self {
            logged: None,
            pause: FAILED,
            definitions: None,
        }
    }

    /// Has the next outcome logged, whatever it is: something else was logged since the last one.
    pub(super) fn forget(&mut self) {
        self.logged = None;
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
    queries: watch::Receiver<Arc<[WatchedQuery]>>,
    history: &'a mut History,
    verification: Option<Verification>,
    /// When the last verification that still holds succeeded.
    verified: Option<Instant>,
    /// When the next verification begins.
    next: Instant,
    /// When the definitions are compared next.
    keepalive: Instant,
    /// The coverage of a verification that has succeeded, unless the definitions changed during it.
    covered: Option<Vec<TableCoverage>>,
    outbox: Outbox,
}

/// What the queries of a verification depend on.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Definitions {
    tables: Vec<String>,
    digest: String,
}

/// A verification that is under way.
struct Verification {
    task: JoinHandle<Result<Vec<TableCoverage>, CoverageError>>,
    coverage: Option<Vec<TableCoverage>>,
    probe: String,
    has_arrived: bool,
    until: Instant,
}

/// An event on a connection.
enum Event {
    /// This many messages arrived.
    Messages(usize),
    /// The coverage was read and the probe sent, or that failed.
    Coverage(Result<Vec<TableCoverage>, CoverageError>),
    /// The other replicas have been notified.
    Sent,
    /// Other queries are in force; `false` if the cache is gone.
    QueriesChanged(bool),
    /// The next verification is due, or this one has timed out.
    Due,
    /// The definitions must be compared.
    Keepalive,
}

impl Drop for Verification {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<'a> Subscription<'a> {
    pub(super) fn new(cache: &Arc<FactCache>, history: &'a mut History) -> Self {
        Self {
            queries: cache.queries(),
            history,
            verification: None,
            verified: None,
            next: Instant::now(),
            keepalive: Instant::now() + KEEPALIVE,
            covered: None,
            outbox: Outbox::default(),
        }
    }

    /// Runs until the connection is unusable or the cache is gone.
    pub(super) async fn run(
        mut self,
        cache_of: &Weak<FactCache>,
        client: &Client,
        mut incoming: UnboundedReceiver<AsyncMessage>,
    ) -> End {
        let mut messages = Vec::with_capacity(BATCH);
        loop {
            let event = self.event(&mut incoming, &mut messages).await;
            let Some(cache) = cache_of.upgrade() else {
                return End::Broken;
            };
            if let Some(end) = self.handle(&cache, event, &mut messages) {
                return end;
            }
            self.complete(&cache);
            self.outbox.send(&cache);
            let is_due = self.keepalive <= Instant::now();
            if !is_due && self.covered.is_none() {
                continue;
            }
            drop(cache);
            // Messages that waited in front of the answer show that the connection lives.
            let digest = match self.digest(client).await {
                Some(digest) => digest,
                None if incoming.is_empty() => return End::Broken,
                None => continue,
            };
            let Some(cache) = cache_of.upgrade() else {
                return End::Broken;
            };
            self.compare(&cache, digest);
        }
    }

    /// The digest of the definitions: those of the verification that has just succeeded, or else
    /// the last one that did. `None` if the connection does not answer.
    async fn digest(&mut self, client: &Client) -> Option<Definitions> {
        let tables = match (&self.covered, &self.history.definitions) {
            (Some(coverage), _) => tables(coverage),
            (None, Some(known)) => known.tables.clone(),
            (None, None) => Vec::new(),
        };
        self.keepalive = Instant::now() + KEEPALIVE;
        match timeout(KEEPALIVE, definitions(client, &tables)).await {
            Ok(Ok(digest)) => Some(Definitions { tables, digest }),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Compares the definitions with the earlier ones. A verification counts only if they are the
    /// same before and after it: whatever was planned, and each trigger, was the same all the time.
    fn compare(&mut self, cache: &Arc<FactCache>, now: Definitions) {
        let known = &mut self.history.definitions;
        let is_same = known.as_ref() == Some(&now);
        let is_first = known.replace(now).is_none();
        match self.covered.take() {
            Some(coverage) if is_same => self.decide(cache, coverage),
            None if is_same => {}
            covered => {
                if cache.is_listening() {
                    cache.stop_listening();
                    self.verified = None;
                    self.history.forget();
                    tracing::warn!(
                        "a table, trigger, view, policy or function of the database was changed; using the short cache lifetime (30 s) until change notifications are verified again"
                    );
                }
                // Without tables there was nothing to compare with.
                if covered.is_some() || !is_first {
                    self.verification = None;
                    self.history.pause = FAILED;
                    self.next = Instant::now() + CHANGED;
                }
            }
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
            () = self.outbox.sent() => Event::Sent,
            changed = self.queries.changed() => Event::QueriesChanged(changed.is_ok()),
            () = sleep_until(due) => Event::Due,
            // Other events do not postpone it.
            () = sleep_until(self.keepalive) => Event::Keepalive,
        }
    }

    /// Handles an event. Returns why the connection must be given up, if it must.
    fn handle(
        &mut self,
        cache: &Arc<FactCache>,
        event: Event,
        messages: &mut Vec<AsyncMessage>,
    ) -> Option<End> {
        match event {
            Event::Messages(0) | Event::QueriesChanged(false) => return Some(End::Broken),
            Event::Messages(_) => self.receive(cache, messages),
            Event::Coverage(Ok(coverage)) => {
                if let Some(verification) = &mut self.verification {
                    verification.coverage = Some(coverage);
                    verification.until = Instant::now() + ARRIVAL;
                }
            }
            Event::Coverage(Err(why)) => self.conclude(cache, Err(why)),
            Event::Sent | Event::Keepalive => {}
            // The last verification was of other queries.
            Event::QueriesChanged(true) => {
                cache.stop_listening();
                self.verified = None;
                self.covered = None;
                self.history.forget();
                self.history.pause = FAILED;
                self.begin(cache);
            }
            Event::Due => match &self.verification {
                None => self.begin(cache),
                Some(verification) if verification.coverage.is_none() => {
                    let late = CoverageError::Database(DatabaseError::Deadline);
                    self.conclude(cache, Err(late));
                }
                // If the probe does not arrive, other notifications may not either. They may on
                // another connection.
                Some(_) => {
                    let pause = self.history.pause;
                    self.conclude(cache, Err(CoverageError::NotReceived));
                    return Some(End::NotReceiving(pause));
                }
            },
        }
        None
    }

    /// Begins a verification of the queries in force.
    fn begin(&mut self, cache: &Arc<FactCache>) {
        let Some(database) = cache.database().cloned() else {
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

    /// Completes the verification if the coverage was read and the probe has arrived.
    fn complete(&mut self, cache: &Arc<FactCache>) {
        let is_outdated = self.queries.has_changed().unwrap_or(true);
        let coverage = match &mut self.verification {
            Some(verification) if verification.has_arrived && !is_outdated => {
                verification.coverage.take()
            }
            Some(_) | None => None,
        };
        let Some(coverage) = coverage else { return };
        self.verification = None;
        // Until then nothing is due but to compare the definitions.
        self.next = Instant::now() + VERIFIED;
        cache.metrics().coverage(&coverage);
        self.covered = Some(coverage);
    }

    /// Concludes a verification by the coverage that it found.
    fn decide(&mut self, cache: &Arc<FactCache>, coverage: Vec<TableCoverage>) {
        let missing = coverage.into_iter().filter(|table| table.missing.is_some());
        let (unstable, missing): (Vec<TableCoverage>, Vec<TableCoverage>) =
            missing.partition(TableCoverage::is_unstable);
        let outcome = match missing.is_empty() {
            true => Ok(unstable),
            false => Err(CoverageError::NotCovered(missing)),
        };
        self.conclude(cache, outcome);
    }

    /// Ends a verification. A success says which queries are unstable.
    fn conclude(
        &mut self,
        cache: &Arc<FactCache>,
        outcome: Result<Vec<TableCoverage>, CoverageError>,
    ) {
        self.verification = None;
        let now = Instant::now();
        // Until when an earlier success holds in spite of this failure.
        let kept = match &outcome {
            Err(why) if why.is_outage() && cache.is_listening() => self.verified,
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
                cache.listen(unstable.collect());
            }
            Err(_) => {
                let next = now + self.history.pause;
                self.next = kept.map_or(next, |end| next.min(end));
                self.history.pause = (2 * self.history.pause).min(VERIFIED);
                if kept.is_none() {
                    self.verified = None;
                    cache.stop_listening();
                }
            }
        }
        self.history.log(outcome, kept.is_some());
    }

    /// Applies notifications to this process, and queues them for the other replicas.
    fn receive(&mut self, cache: &Arc<FactCache>, messages: &mut Vec<AsyncMessage>) {
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
            cache.metrics().notified();
            match payload.split_once(' ') {
                Some((name, id)) => {
                    let resource = (Arc::from(name), id.to_owned());
                    cache.invalidate_locally(std::slice::from_ref(&resource), None);
                    self.outbox.add(resource);
                }
                None => {
                    cache.invalidate_everything_locally();
                    self.outbox.add_everything();
                }
            }
        }
    }
}

impl History {
    /// Logs an outcome that differs from the last one. `is_kept` says that an earlier verification
    /// still holds.
    fn log(&mut self, outcome: Result<Vec<TableCoverage>, CoverageError>, is_kept: bool) {
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

/// The tables of a coverage. What is not a table has no definition of this name.
fn tables(coverage: &[TableCoverage]) -> Vec<String> {
    let tables: BTreeSet<&String> = coverage.iter().map(|one| &one.table).collect();
    tables.into_iter().cloned().collect()
}

/// Resolves once with the outcome of the verification's task; never if there is none.
async fn finished(
    verification: &mut Option<Verification>,
) -> Result<Vec<TableCoverage>, CoverageError> {
    match verification {
        Some(verification) if verification.coverage.is_none() => {
            match (&mut verification.task).await {
                Ok(outcome) => outcome,
                Err(_) => Err(CoverageError::Database(DatabaseError::Away)),
            }
        }
        Some(_) | None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::facts::WriterKey;
    use crate::facts::metrics::FactMetrics;
    use crate::store::Memory;

    #[tokio::test]
    async fn a_verification_holds_through_an_outage_for_a_while_but_not_against_a_refusal() {
        let metrics = FactMetrics::new(&prometheus::Registry::new()).map(Arc::new);
        let metrics = metrics.unwrap_or_else(|error| unreachable!("{error}"));
        let store = Arc::new(Memory::new(10, clock::unix_now));
        let writers = WriterKey::new(&[]).unwrap_or_else(|error| unreachable!("{error}"));
        let cache = FactCache::new(store, false, None, metrics, writers);
        let mut history = History::new();
        let mut subscription = Subscription::new(&cache, &mut history);
        let away = || Err(CoverageError::Database(DatabaseError::Away));
        let verified = || Ok(Vec::new());
        subscription.conclude(&cache, away());
        assert!(!cache.is_listening(), "nothing was verified yet");
        for failure in [
            CoverageError::NotReceived,
            CoverageError::NotCovered(Vec::new()),
            CoverageError::NotSent(DatabaseError::Refused("25006".to_owned())),
            CoverageError::Database(DatabaseError::Refused("42501".to_owned())),
        ] {
            subscription.conclude(&cache, verified());
            assert!(cache.is_listening());
            subscription.conclude(&cache, Err(failure.clone()));
            assert!(!cache.is_listening(), "{failure}");
            subscription.conclude(&cache, away());
            assert!(!cache.is_listening(), "{failure}");
        }
        subscription.conclude(&cache, verified());
        for _ in 0..100 {
            subscription.conclude(&cache, away());
            assert!(cache.is_listening());
        }
        // Not beyond the grace period, however long the pauses have become.
        assert_eq!(subscription.history.pause, VERIFIED);
        let before = Instant::now() + Duration::from_secs(1);
        subscription.verified = before.checked_sub(GRACE);
        subscription.conclude(&cache, away());
        assert!(cache.is_listening() && subscription.next <= before);
        subscription.verified = Instant::now().checked_sub(GRACE);
        subscription.conclude(&cache, away());
        assert!(!cache.is_listening());
        // The next success resets the pause.
        subscription.conclude(&cache, verified());
        assert!(cache.is_listening());
        assert_eq!(subscription.history.pause, FAILED);
    }
}
