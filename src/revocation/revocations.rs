//! The revocation list of this process, as requests and operators use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use super::follower::Follower;
use super::list::{CleanAt, List, Listed};
use super::metrics::RevocationMetrics;
use super::target::{Kind, Name, Revocation};
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
    pub(super) status: ArcSwap<ListStatus>,
    pub(super) grown: watch::Sender<u64>,
}

/// Outcome of a revocation. Unless it is `Full` or `Stopped`, the target is refused here from now
/// on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RevokeOutcome {
    /// It is stored, and reaches the other replicas within a second.
    Stored,
    /// It could not be stored; storing is retried until it succeeds.
    Queued,
    /// The list has twice its capacity, and nothing can be coarsened. Nothing was revoked.
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

/// A revocation on its way to the [`Follower`].
#[derive(Debug)]
pub(super) struct Request {
    pub(super) revocation: Revocation,
    pub(super) answer: oneshot::Sender<RevokeOutcome>,
}

impl Revocations {
    /// An empty list of about `capacity` entries, and the follower that maintains it. The list is
    /// not complete until the [`Follower`] has run.
    pub fn new(
        store: Arc<dyn Store>,
        capacity: usize,
        metrics: Arc<RevocationMetrics>,
    ) -> (Arc<Self>, Follower) {
        let (requests, received) = mpsc::channel(WAITING);
        let shared = Arc::new(Self {
            list: List::new(),
            store,
            requests,
            complete: AtomicBool::new(false),
            created: clock::now(),
            confirmed: AtomicU64::new(0),
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
        match self.list.find(clean, listed, now) {
            None => Ok(()),
            Some(Kind::Token) => Err(Reason::TokenRevoked.into()),
            Some(Kind::Session) => Err(Reason::SessionRevoked.into()),
            Some(Kind::Subject) => Err(Reason::SubjectRevoked.into()),
            Some(Kind::Issuer) => Err(Reason::IssuerRevoked.into()),
        }
    }

    /// Whether the list has an entry for this very token or cookie at `now`, in Unix seconds.
    pub fn names_token(&self, token: &Name, now: i64) -> bool {
        self.list.names_token(token, now)
    }

    /// Whether the list had every stored revocation at the last poll.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Whether the store can confirm the list at `now`, and if not, since when.
    pub fn outage(&self, now: Instant) -> Outage {
        let confirmed = Duration::from_millis(self.confirmed.load(Ordering::Relaxed));
        list_outage(self.store.outage(), self.created + confirmed, now)
    }

    /// Notes that the store confirmed the list at `now`.
    pub(super) fn confirm(&self, now: Instant) {
        let after = now.saturating_duration_since(self.created).as_millis();
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        self.confirmed.store(after, Ordering::Relaxed);
    }

    /// Revokes a target: here at once, everywhere as soon as it is stored.
    pub async fn revoke(&self, revocation: Revocation) -> RevokeOutcome {
        let (answer, answered) = oneshot::channel();
        let request = Request { revocation, answer };
        if self.requests.send(request).await.is_err() {
            return RevokeOutcome::Stopped;
        }
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(revoked)) => revoked,
            Ok(Err(_)) => RevokeOutcome::Stopped,
            Err(_) => RevokeOutcome::Queued,
        }
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
