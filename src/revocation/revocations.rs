//! The revocation list of this process, as requests and operators use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::follower::Follower;
use super::list::{CleanAt, Hit, List, Listed};
use super::metrics::RevocationMetrics;
use super::replica::CannotUndo;
use super::target::{Kind, Name, Note, Revocation, canonical_id};
use crate::breaker::Outage;
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::store::{Position, Store};

/// How long a caller of [`Revocations::revoke`] waits for the store, whose own deadlines are
/// shorter.
const PATIENCE: Duration = Duration::from_secs(3);

/// Revocations that may wait for the task. Only operators and the identity server send them.
const WAITING: usize = 1024;

/// Age from which an unconfirmed list counts as an outage, whatever the store reports of itself.
const UNCONFIRMED: Duration = Duration::from_secs(30);

/// The revocation list, shared by the whole process.
#[derive(Debug)]
pub struct Revocations {
    pub(super) list: List,
    pub(super) store: Arc<dyn Store>,
    requests: mpsc::Sender<Request>,
    pub(super) complete: AtomicBool,
    /// When this was created; [`Self::confirmed`] counts from here.
    created: Instant,
    /// Milliseconds from [`Self::created`] until the list was last confirmed by the store.
    confirmed: AtomicU64,
    /// How often the list became unconfirmed at once, whatever the monotonic time says.
    doubts: AtomicU64,
    /// The value of [`Self::doubts`] when the last confirmation was requested from the store.
    doubts_confirmed: AtomicU64,
    /// Wakes the follower, so that it asks the store at once.
    pub(super) doubted: Notify,
    pub(super) status: ArcSwap<ListStatus>,
    pub(super) grown: watch::Sender<u64>,
}

/// Outcome of a revocation, or of undoing one. Unless it is `Full` or `Stopped`, the target is
/// refused here from now on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RevokeOutcome {
    /// It is stored, and reaches the other replicas within a second.
    Stored,
    /// It could not be stored; storing is retried until it succeeds.
    Queued,
    /// The list has twice its capacity, and this entry names no subject, by which it could be
    /// merged with others. Nothing was revoked.
    Full,
    /// The follower task has ended, which is a defect. Nothing was revoked.
    Stopped,
}

/// Status of the list, for operators.
#[derive(Clone, Debug, Default)]
pub struct ListStatus {
    /// The number of entries of each kind, in the order of [`Kind::ALL`].
    pub entries: [usize; Kind::ALL.len()],
    /// The position up to which the log was read.
    pub position: Option<Position>,
    /// Entries that are not stored yet.
    pub queued: usize,
}

/// Outcome of [`Revocations::undo`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UndoOutcome {
    /// This revocation refuses nothing any more, as the other outcome says.
    Undone(Revocation, RevokeOutcome),
    /// Nothing changed.
    Refused(CannotUndo),
}

/// Which entries an operator wants to see.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Entries that logouts, webhooks and a full list made, too, not only those of operators.
    pub all: bool,
    /// Only entries of this kind.
    pub kind: Option<Kind>,
    /// Only entries that name this id, whether it is a `sub`, a `session_id` or an `iss`.
    pub of: Option<String>,
    /// Only the entry of this name.
    pub name: Option<Name>,
    /// At most this many, the newest first.
    pub most: usize,
}

/// An entry of the list, for operators.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// What is revoked.
    pub revocation: Revocation,
    /// Whether a full list made it from several entries.
    pub merged: bool,
}

impl Query {
    /// Whether an operator wants to see this entry, apart from its name.
    pub(super) fn matches(&self, revocation: &Revocation) -> bool {
        let target = &revocation.undone().unwrap_or(revocation).target;
        let is_of = |id: &str| target.ids().any(|named| named == canonical_id(id));
        (self.all || revocation.note.is_some())
            && self.kind.is_none_or(|kind| kind == target.kind())
            && self.of.as_deref().is_none_or(is_of)
    }
}

/// A request to the [`Follower`].
#[derive(Debug)]
pub(super) enum Request {
    Revoke {
        revocation: Revocation,
        answer: oneshot::Sender<RevokeOutcome>,
    },
    Undo {
        id: String,
        note: Note,
        answer: oneshot::Sender<Undoing>,
    },
    /// See [`Event::Shorten`](super::replica::Event::Shorten).
    Shorten(Vec<Revocation>),
    Find {
        query: Query,
        /// The entries, and how many there are.
        answer: oneshot::Sender<(Vec<Found>, usize)>,
    },
}

/// What is undone, and the outcome once it is known.
pub(super) type Undoing = Result<(Revocation, oneshot::Receiver<RevokeOutcome>), CannotUndo>;

impl Revocations {
    /// An empty list of about `capacity` entries, and the follower that maintains it. The list is
    /// not complete until the [`Follower`] has run.
    pub fn new(
        store: Arc<dyn Store>,
        capacity: usize,
        metrics: Arc<RevocationMetrics>,
    ) -> (Arc<Self>, Follower) {
        let (requests, received) = mpsc::channel(WAITING);
        metrics
            .capacity
            .set(i64::try_from(capacity).unwrap_or(i64::MAX));
        let shared = Arc::new(Self {
            list: List::new(),
            store,
            requests,
            complete: AtomicBool::new(false),
            created: clock::now(),
            confirmed: AtomicU64::new(0),
            doubts: AtomicU64::new(0),
            doubts_confirmed: AtomicU64::new(0),
            doubted: Notify::new(),
            status: ArcSwap::default(),
            grown: watch::Sender::new(1),
        });
        let follower = Follower::new(shared.clone(), capacity, received, metrics);
        (shared, follower)
    }

    /// Checks a verified token at `now`, in Unix seconds. A list that is not complete may miss a
    /// revocation; the failure matrix decides what that means for a request, with
    /// [`Self::is_complete`] and [`Self::outage`].
    ///
    /// # Errors
    ///
    /// The token is revoked.
    pub fn check(&self, clean: &CleanAt, listed: Listed<'_>, now: i64) -> Result<(), Denial> {
        self.find(clean, listed, now)
            .map_or(Ok(()), |hit| Err(hit.into()))
    }

    /// Whether the list has an entry for this very token or cookie at `now`, in Unix seconds.
    pub fn names_token(&self, token: &Name, now: i64) -> bool {
        self.list.names_token(token, now)
    }

    /// Whether the list had every stored revocation at the last poll.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Whether the store can confirm the list at `now`, and if not, since when. After
    /// [`Self::doubt`] the list is as good as that of a process that has just started.
    pub fn outage(&self, now: Instant) -> Outage {
        if self.doubts() != self.doubts_confirmed.load(Ordering::Relaxed) {
            return Outage::NeverSeen;
        }
        let confirmed = Duration::from_millis(self.confirmed.load(Ordering::Relaxed));
        list_outage(self.store.outage(), self.created + confirmed, now)
    }

    /// Notes that the list may be out of date by more than the monotonic time tells, for instance
    /// because the machine was suspended. It counts as unconfirmed until the store answers a
    /// request that is made from now on.
    pub fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::Relaxed);
        self.doubted.notify_one();
    }

    /// How often [`Self::doubt`] was called: for [`Self::confirm`].
    pub(super) fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Relaxed)
    }

    /// Notes that the store confirmed the list at `now`. `doubts` is from when it was asked.
    pub(super) fn confirm(&self, now: Instant, doubts: u64) {
        self.doubts_confirmed.store(doubts, Ordering::Relaxed);
        let after = now.saturating_duration_since(self.created).as_millis();
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        self.confirmed.store(after, Ordering::Relaxed);
    }

    /// The entry that refuses a verified token at `now`, in Unix seconds.
    pub fn find(&self, clean: &CleanAt, listed: Listed<'_>, now: i64) -> Option<Hit> {
        self.list.find(clean, listed, now)
    }

    /// Revokes a target: here at once, everywhere as soon as it is stored.
    pub async fn revoke(&self, revocation: Revocation) -> RevokeOutcome {
        let (answer, answered) = oneshot::channel();
        let request = Request::Revoke { revocation, answer };
        if self.requests.send(request).await.is_err() {
            return RevokeOutcome::Stopped;
        }
        outcome(answered).await
    }

    /// Undoes the revocation whose id begins like this: here at once, everywhere as soon as that is
    /// stored. `None` if the follower task has ended, which is a defect.
    pub async fn undo(&self, id: &str, note: Note) -> Option<UndoOutcome> {
        let (answer, answered) = oneshot::channel();
        let id = id.to_owned();
        let request = Request::Undo { id, note, answer };
        self.requests.send(request).await.ok()?;
        match answered.await.ok()? {
            Ok((revocation, stored)) => {
                Some(UndoOutcome::Undone(revocation, outcome(stored).await))
            }
            Err(why) => Some(UndoOutcome::Refused(why)),
        }
    }

    /// The entries that match, and how many there are. `None` if the follower task has ended, which
    /// is a defect.
    pub async fn entries(&self, query: Query) -> Option<(Vec<Found>, usize)> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Find { query, answer };
        self.requests.send(request).await.ok()?;
        answered.await.ok()
    }

    /// When the entry with this name expires, in Unix seconds, if the list has it.
    pub async fn expiry(&self, name: Name) -> Option<i64> {
        let query = Query {
            all: true,
            name: Some(name),
            most: 1,
            ..Query::default()
        };
        let (found, _) = self.entries(query).await?;
        found.first().map(|found| found.revocation.expires)
    }

    /// Keeps these revocations only until `expires`, in Unix seconds, if they would be kept for
    /// longer: the identity server confirmed the logout, so their sessions get no further tokens.
    /// Only saves space, so nothing is reported.
    pub fn shorten(&self, confirmed: Vec<Revocation>, expires: i64) {
        let shorter = confirmed.into_iter().map(|revocation| Revocation {
            expires,
            ..revocation
        });
        // If too many requests wait, they are kept for longer.
        let _ = self.requests.try_send(Request::Shorten(shorter.collect()));
    }

    /// The status, for operators.
    pub fn status(&self) -> Arc<ListStatus> {
        self.status.load_full()
    }

    /// Changes whenever the list grows. A request that was authorized earlier, such as an open
    /// stream, calls [`Self::check`] again.
    pub fn grown(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }
}

/// The outcome that the follower reports. A revocation that it has taken is enforced here.
async fn outcome(answered: oneshot::Receiver<RevokeOutcome>) -> RevokeOutcome {
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => RevokeOutcome::Stopped,
        Err(_) => RevokeOutcome::Queued,
    }
}

impl From<Hit> for Denial {
    fn from(hit: Hit) -> Self {
        match hit.kind {
            Kind::Token => Reason::TokenRevoked.into(),
            Kind::Session => Reason::SessionRevoked.into(),
            Kind::Subject => Reason::SubjectRevoked.into(),
            Kind::Issuer => Reason::IssuerRevoked.into(),
            Kind::Bucket => Reason::BucketRevoked.into(),
        }
    }
}

/// The outage of a list that was last confirmed at `confirmed`. A store that answers other calls
/// but none about the list confirms nothing. When that store then becomes unreachable, the outage
/// of the list does not get younger: the older time counts.
fn list_outage(store: Outage, confirmed: Instant, now: Instant) -> Outage {
    match store {
        Outage::Reachable if now.saturating_duration_since(confirmed) > UNCONFIRMED => {
            Outage::Away { since: confirmed }
        }
        Outage::Reachable => Outage::Reachable,
        Outage::Away { since } => Outage::Away {
            since: since.min(confirmed),
        },
        Outage::NeverSeen => Outage::NeverSeen,
    }
}

#[cfg(test)]
#[path = "revocations_tests.rs"]
mod tests;
