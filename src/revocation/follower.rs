//! The list of this process, and the task that keeps it what the store says.
//!
//! Decides:  how often the store is asked, and how long whoever revokes waits. Trusts: [`Replica`] for the protocol.
//! Not here: the protocol.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::list::{CleanAt, List, Listed};
use super::metrics::RevocationMetrics;
use super::replica::{Command, Event, PAGE, Replica, Source};
use super::{Kind, Name, Revocation};
use crate::breaker::Outage;
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::store::{Entry, Position, Store, Unreachable};

/// How often the store is asked, besides its pushes: a quarter of the promised second.
const POLL: Duration = Duration::from_millis(250);

/// How long whoever revokes waits for the store. It has deadlines of its own, which are shorter.
const PATIENCE: Duration = Duration::from_secs(3);

/// Revocations that wait for the task. Only operators and the identity server send them.
const WAITING: usize = 1024;

/// After which a list that nobody confirmed counts as one that cannot be confirmed, whatever the store says of itself.
const UNCONFIRMED: Duration = Duration::from_secs(30);

/// Everything that is revoked, shared by the whole process.
#[derive(Debug)]
pub struct Revocations {
    list: List,
    store: Arc<dyn Store>,
    requests: mpsc::Sender<Request>,
    complete: AtomicBool,
    /// When this was made; [`Self::agreed`] counts from here.
    made: Instant,
    /// Milliseconds from [`Self::made`] until the list was last known to be what the store says.
    agreed: AtomicU64,
    status: ArcSwap<Status>,
    grown: watch::Sender<u64>,
}

/// What became of a revocation. Unless it is `Full` or `Stopped`, it is refused here from now on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Revoked {
    /// It is stored, and other replicas have it within a second.
    Stored,
    /// It could not be stored, which is tried again until it is.
    Queued,
    /// The list holds twice what it should, and nothing can be coarsened. Nothing was done.
    Full,
    /// The task that keeps the list is gone, which is a defect. Nothing was done.
    Stopped,
}

/// How the list stands, for operators.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// How many entries there are of each kind, in the order of [`Kind::ALL`].
    pub entries: [usize; Kind::ALL.len()],
    /// Up to where the log was read.
    pub position: Option<Position>,
    /// How many wait to be stored.
    pub queued: usize,
}

#[derive(Debug)]
struct Request {
    revocation: Revocation,
    answer: oneshot::Sender<Revoked>,
}

impl Revocations {
    /// An empty list of at most about `capacity` entries, and who keeps it. Until the [`Follower`] has run, the list is not complete.
    pub fn new(
        store: Arc<dyn Store>,
        capacity: usize,
        metrics: Arc<RevocationMetrics>,
    ) -> (Arc<Self>, Follower) {
        let (requests, received) = mpsc::channel(WAITING);
        let pushes = store.pushes();
        let shared = Arc::new(Self {
            list: List::new(),
            store,
            requests,
            complete: AtomicBool::new(false),
            made: clock::now(),
            agreed: AtomicU64::new(0),
            status: ArcSwap::default(),
            grown: watch::Sender::new(1),
        });
        let follower = Follower {
            shared: shared.clone(),
            replica: Replica::new(capacity),
            requests: received,
            pushes,
            waiting: HashMap::new(),
            asked: None,
            metrics,
        };
        (shared, follower)
    }

    /// Judges a verified token at `now`, in Unix seconds. A list that is not complete may not know that a token is revoked; what that means
    /// for a request is the failure matrix's to say, with [`Self::is_complete`] and [`Self::outage`].
    ///
    /// # Errors
    ///
    /// It is revoked.
    pub fn check(&self, clean: &CleanAt, listed: Listed<'_>, now: i64) -> Result<(), Denial> {
        match self.list.find(clean, listed, now) {
            None => Ok(()),
            Some(Kind::Token) => Err(Reason::TokenRevoked.into()),
            Some(Kind::Session) => Err(Reason::SessionRevoked.into()),
            Some(Kind::Subject) => Err(Reason::SubjectRevoked.into()),
            Some(Kind::Issuer) => Err(Reason::IssuerRevoked.into()),
        }
    }

    /// Whether a token or cookie is in the list by itself at `now`, in Unix seconds.
    pub fn names_token(&self, token: &Name, now: i64) -> bool {
        self.list.names_token(token, now)
    }

    /// Whether the list has everything that was stored when the store was last asked.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Whether the list can be kept what the store says at `now`, and if not, since when.
    pub fn outage(&self, now: Instant) -> Outage {
        let agreed = self.made + Duration::from_millis(self.agreed.load(Ordering::Relaxed));
        of_list(self.store.outage(), agreed, now)
    }

    fn agree(&self, now: Instant) {
        let after = now.saturating_duration_since(self.made).as_millis();
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        self.agreed.store(after, Ordering::Relaxed);
    }

    /// Refuses something from now on, here at once, and everywhere when it is stored.
    pub async fn revoke(&self, revocation: Revocation) -> Revoked {
        let (answer, answered) = oneshot::channel();
        let request = Request { revocation, answer };
        if self.requests.send(request).await.is_err() {
            return Revoked::Stopped;
        }
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(revoked)) => revoked,
            Ok(Err(_)) => Revoked::Stopped,
            Err(_) => Revoked::Queued,
        }
    }

    /// How the list stands.
    pub fn status(&self) -> Arc<Status> {
        self.status.load_full()
    }

    /// Changes whenever the list grows. What was let in before, such as a stream that is still open, asks [`Self::check`] again.
    pub fn grown(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }
}

/// The outage of the list, which was last known to be what the store says at `agreed`. A store that answers some questions and not those about
/// the list confirms nothing, and when it then goes away, the outage of the list is none the younger: the older time counts.
fn of_list(store: Outage, agreed: Instant, now: Instant) -> Outage {
    match store {
        Outage::Reachable if now.saturating_duration_since(agreed) > UNCONFIRMED => {
            Outage::Away { since: agreed }
        }
        Outage::Reachable => Outage::Reachable,
        Outage::Away { since } => Outage::Away {
            since: since.min(agreed),
        },
        Outage::NeverSeen => Outage::NeverSeen,
    }
}

type Asked = Pin<Box<dyn Future<Output = Result<Event, Unreachable>> + Send>>;

/// Keeps the list. When it is dropped, the list is not complete any more: nobody would hear of a revocation.
pub struct Follower {
    shared: Arc<Revocations>,
    replica: Replica,
    requests: mpsc::Receiver<Request>,
    pushes: watch::Receiver<u64>,
    waiting: HashMap<Name, Vec<oneshot::Sender<Revoked>>>,
    asked: Option<Asked>,
    metrics: Arc<RevocationMetrics>,
}

impl Follower {
    /// Reads the log, if the store answers at once; so that a gateway whose store does is complete before its first request.
    pub async fn catch_up(&mut self) {
        self.take(Event::Poll);
        while let Some(asked) = self.asked.take() {
            let event = asked.await.unwrap_or(Event::Unreachable);
            self.take(event);
        }
    }

    /// Follows the log until the process ends.
    pub async fn run(mut self) {
        let mut polls = tokio::time::interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = async {
                match &mut self.asked {
                    Some(asked) => asked.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                answer = asked => {
                    self.asked = None;
                    self.take(answer.unwrap_or(Event::Unreachable));
                }
                Some(request) = self.requests.recv() => self.revoke(request),
                _ = polls.tick() => self.take(Event::Poll),
                Ok(()) = self.pushes.changed() => self.take(Event::Push),
            }
        }
    }

    fn revoke(&mut self, request: Request) {
        let Request { revocation, answer } = request;
        let name = revocation.name();
        if self.replica.is_full() && !self.replica.holds(&name) {
            let _ = answer.send(Revoked::Full);
            return;
        }
        self.waiting.entry(name).or_default().push(answer);
        self.take(Event::Revoke(revocation));
    }

    /// Tells the replica what happened, and does what it says.
    fn take(&mut self, event: Event) {
        let commands = self.replica.handle(event, clock::unix_now());
        let mut changed = false;
        for command in commands {
            changed |= matches!(command, Command::Insert(..) | Command::Remove(_));
            self.carry_out(command);
        }
        let complete = self.replica.is_complete();
        if self.shared.complete.swap(complete, Ordering::Release) != complete {
            tracing::info!(complete, "list of revocations");
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
        self.shared.status.store(Arc::new(Status {
            entries,
            position: self.replica.position(),
            queued,
        }));
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Insert(revocation, source) => self.insert(&revocation, source),
            Command::Remove(revocation) => self.shared.list.remove(&revocation),
            Command::Stored(names) => self.tell(&names, Revoked::Stored),
            Command::Queued(names) => self.tell(&names, Revoked::Queued),
            Command::Replaced { from, into } => {
                let waiting: Vec<_> = from
                    .iter()
                    .filter_map(|name| self.waiting.remove(name))
                    .flatten()
                    .collect();
                self.waiting.entry(into).or_default().extend(waiting);
            }
            Command::Agreed => self.shared.agree(clock::now()),
            Command::Reload(cause) => {
                self.metrics.reloaded(cause);
                tracing::info!(cause = cause.as_str(), "reading the log of revocations");
            }
            Command::Coarsened(fewer) => {
                self.metrics.coarsened.inc_by(fewer as u64);
                tracing::warn!(
                    fewer,
                    "the list of revocations is full; entries were coarsened to their session or subject"
                );
            }
            Command::Overfull(overfull) => {
                self.metrics.overfull.set(overfull.into());
                if overfull {
                    tracing::error!(
                        "the list of revocations is full, and nothing can be coarsened; raise `revocations.capacity`"
                    );
                }
            }
            Command::Foreign => tracing::error!(
                "the log has a revocation that this version cannot read, so the list is not complete; run the newer version"
            ),
            Command::Missing(count) => {
                self.metrics.written_back.inc_by(count as u64);
                tracing::error!(
                    count,
                    "revocations were missing in the store, and are written back"
                );
            }
            Command::AskPosition { at } => self.ask(move |store| {
                Box::pin(async move {
                    let (position, entries) = store.position(at).await?;
                    Ok(Event::Position(position, entries))
                })
            }),
            Command::ReadLog { after } => self.ask(move |store| {
                Box::pin(async move {
                    let (page, next) = store.log_after(after, PAGE).await?;
                    Ok(Event::Page(page, next))
                })
            }),
            Command::Append(revocations) => self.ask(move |store| {
                Box::pin(async move {
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
                    Ok(Event::Appended(store.append(&entries).await?))
                })
            }),
        }
    }

    fn ask(&mut self, question: impl FnOnce(Arc<dyn Store>) -> Asked) {
        self.asked = Some(question(self.shared.store.clone()));
    }

    fn insert(&self, revocation: &Revocation, source: Source) {
        self.shared.list.insert(revocation);
        self.shared
            .grown
            .send_replace(self.shared.list.generation());
        match source {
            Source::Here | Source::News => {
                let lag = clock::unix_millis().saturating_sub(revocation.told).max(0);
                self.metrics.lag.observe(lag as f64 / 1000.0);
            }
            // How long ago these were made says nothing about how fast they came.
            Source::Reload | Source::Coarsened => {}
        }
    }

    fn tell(&mut self, names: &[Name], revoked: Revoked) {
        for name in names {
            for answer in self.waiting.remove(name).unwrap_or_default() {
                let _ = answer.send(revoked); // Whoever left does not hear it.
            }
        }
    }
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

#[cfg(test)]
#[path = "follower_tests.rs"]
mod tests;
