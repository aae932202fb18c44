//! The registry of the live streams of one worker.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use tokio::sync::Notify;
use tokio::task::yield_now;

use super::ending::Ending;
use super::handle::StreamHandle;
use super::metrics::StreamMetrics;
use super::queue::Queue;
use crate::auth::StreamAuthorization;
use crate::auth::identity::Renewal;
use crate::auth::snapshot::CurrentSnapshot;
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::network::Network;
use crate::panics::catch_panic;
use crate::record::stream::{StreamEnd, StreamKind};
use crate::revocation::Revocations;
use crate::sessions::Recheck;

/// A stream that could not be authorized again because a dependency is unavailable is tried again
/// after a second, and from then on after twice as long each time, up to 2 to this power of
/// seconds.
const LONGEST_RETRY: u32 = 4;

/// The live streams of one worker. There is no lock: only this worker's tasks use them.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(super) current: Arc<CurrentSnapshot>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) metrics: Arc<StreamMetrics>,
    pub(super) open: RefCell<HashMap<u64, Rc<Entry>>>,
    /// When which stream must be authorized again, in Unix seconds.
    pub(super) due: RefCell<BTreeSet<(i64, u64)>>,
    next: Cell<u64>,
    /// The process is draining: streams that begin from now on end at once.
    drained: Cell<bool>,
    pub(super) earlier_due: Notify,
    queue: RefCell<Queue<Owner>>,
}

/// A registered stream.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Cell<StreamKind>,
    authorization: RefCell<Rc<StreamAuthorization>>,
    due: Cell<Option<i64>>,
    pub(super) ending: Cell<Option<Ending>>,
    pub(super) waker: RefCell<Option<Waker>>,
    /// It waits for the whole chain.
    is_queued: Cell<bool>,
    /// How often in a row the whole chain could not decide.
    undecided: Cell<u32>,
}

/// Whose streams wait for each other.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Owner {
    User(u64),
    /// A client that proved no user; `None` where a proxy does not name its clients.
    Network(Option<Network>),
}

impl Owner {
    fn of(authorization: &StreamAuthorization) -> Self {
        match authorization.caller().verified() {
            Some(verified) => Self::User(verified.subject_hash()),
            None => {
                let networks = authorization.request().client().networks;
                Self::Network(networks.map(|networks| networks.own))
            }
        }
    }
}

impl Entry {
    pub(super) fn end(&self, ending: Ending) {
        if self.ending.get().is_none() {
            self.ending.set(Some(ending));
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    pub(super) fn authorization(&self) -> Rc<StreamAuthorization> {
        self.authorization.borrow().clone()
    }
}

impl Streams {
    pub(crate) fn new(
        current: Arc<CurrentSnapshot>,
        revocations: Arc<Revocations>,
        metrics: Arc<StreamMetrics>,
    ) -> Rc<Self> {
        Rc::new(Self {
            current,
            revocations,
            metrics,
            open: RefCell::default(),
            due: RefCell::default(),
            next: Cell::new(0),
            drained: Cell::new(false),
            earlier_due: Notify::new(),
            queue: RefCell::default(),
        })
    }

    /// Registers a stream. It stays registered until the handle is dropped.
    pub(crate) fn begin(
        self: &Rc<Self>,
        kind: StreamKind,
        authorization: StreamAuthorization,
    ) -> StreamHandle {
        let id = self.next.get();
        self.next.set(id + 1);
        let entry = Rc::new(Entry {
            kind: Cell::new(kind),
            authorization: RefCell::new(Rc::new(authorization)),
            due: Cell::new(None),
            ending: Cell::new(None),
            waker: RefCell::new(None),
            is_queued: Cell::new(false),
            undecided: Cell::new(0),
        });
        self.open.borrow_mut().insert(id, entry.clone());
        self.metrics.began(kind);
        self.end_if_drained(&entry);
        // Once it is registered, no event is missed, and what came before is found here.
        self.catch_up(id, &entry);
        StreamHandle {
            streams: self.clone(),
            id,
            entry,
            cause: Cell::new(StreamEnd::ClientGone),
        }
    }

    /// Ends a stream that begins while the process drains.
    pub(super) fn end_if_drained(&self, entry: &Entry) {
        if self.drained.get() && entry.kind.get() != StreamKind::Lasting {
            entry.end(Ending::DRAINED);
        }
    }

    /// Replaces the authorization of a stream.
    pub(super) fn replace(
        self: &Rc<Self>,
        id: u64,
        entry: &Rc<Entry>,
        authorization: StreamAuthorization,
    ) {
        *entry.authorization.borrow_mut() = Rc::new(authorization);
        self.catch_up(id, entry);
    }

    /// Follows whatever happened between the authorization of a stream and now.
    fn catch_up(self: &Rc<Self>, id: u64, entry: &Rc<Entry>) {
        let authorization = entry.authorization();
        self.set_due(id, entry, authorization.accepted_until());
        let snapshot = self.current.get();
        let is_current = authorization.request().in_force().generation() == snapshot.generation()
            && snapshot.chain().has_current_facts(&authorization);
        if self.recheck(id, entry) && !is_current {
            self.enqueue(id, entry);
        }
    }

    pub(super) fn entry(&self, id: u64) -> Option<Rc<Entry>> {
        self.open.borrow().get(&id).cloned()
    }

    pub(super) fn set_due(&self, id: u64, entry: &Entry, due: Option<i64>) {
        let mut all = self.due.borrow_mut();
        if let Some(old) = entry.due.replace(due) {
            all.remove(&(old, id));
        }
        if let Some(due) = due {
            let is_first = all.first().is_none_or(|(first, _)| due < *first);
            all.insert((due, id));
            if is_first {
                self.earlier_due.notify_one();
            }
        }
    }

    pub(super) fn all(&self) -> Vec<u64> {
        self.open.borrow().keys().copied().collect()
    }

    /// The first step: whatever needs no lookup. Ends the stream if that refuses its request now.
    /// Returns whether it goes on; where a lookup must tell, it waits for the whole chain.
    pub(super) fn recheck(self: &Rc<Self>, id: u64, entry: &Entry) -> bool {
        if entry.ending.get().is_some() {
            return false;
        }
        let (authorization, snapshot) = (entry.authorization(), self.current.get());
        let checking = || {
            let chain = snapshot.chain();
            chain.recheck(&authorization, snapshot.in_force())
        };
        // A panic is a defect, and says nothing about the stream. It is logged where it occurs; the
        // whole chain decides.
        let checked = catch_unwind(AssertUnwindSafe(checking)).unwrap_or(Ok(Recheck::NeedsLookup));
        if matches!(checked, Ok(Recheck::NeedsLookup)) {
            self.enqueue(id, entry);
        }
        let ending = checked.err().as_ref().and_then(Ending::of);
        if let Some(ending) = ending {
            self.set_due(id, entry, None);
            entry.end(ending);
        }
        ending.is_none()
    }

    /// Whether the whole chain may have to look something up for this stream.
    pub(super) fn needs_lookups(&self, entry: &Entry) -> bool {
        let authorization = entry.authorization();
        let has_session = authorization.caller().cookie_session().is_some();
        has_session || self.current.get().chain().needs_facts(&authorization)
    }

    /// The second step: lets the stream wait for the whole chain.
    pub(super) fn enqueue(self: &Rc<Self>, id: u64, entry: &Entry) {
        if entry.ending.get().is_some() || entry.is_queued.replace(true) {
            return;
        }
        let owner = Owner::of(&entry.authorization());
        let wants_runner = self.queue.borrow_mut().push(owner, id);
        if wants_runner {
            tokio::task::spawn_local(self.clone().run_queue());
        }
    }

    async fn run_queue(self: Rc<Self>) {
        loop {
            let next = self.queue.borrow_mut().next();
            let Some((owner, id)) = next else { return };
            self.reauthorize(id).await;
            self.queue.borrow_mut().finish(owner);
            // Often nothing has to be waited for; other tasks get their turn all the same.
            yield_now().await;
        }
    }

    /// Authorizes a stream again by the whole chain, and ends it if its request would be refused
    /// now. An outage is no refusal.
    async fn reauthorize(self: &Rc<Self>, id: u64) {
        let Some(entry) = self.entry(id) else { return };
        // From now on an event leads to another turn.
        entry.is_queued.set(false);
        if entry.ending.get().is_some() {
            return;
        }
        let authorization = entry.authorization();
        let reauthorized = self
            .whole_chain(&authorization, Renewal::InBackground)
            .await;
        if !self.open.borrow().contains_key(&id) {
            return;
        }
        // A message has authenticated the stream meanwhile.
        if !Rc::ptr_eq(&authorization, &entry.authorization()) {
            return self.enqueue(id, &entry);
        }
        match reauthorized {
            Ok(authorization) => {
                entry.undecided.set(0);
                self.set_due(id, &entry, authorization.accepted_until());
                *entry.authorization.borrow_mut() = Rc::new(authorization);
            }
            Err(denial) => match Ending::of(&denial) {
                Some(ending) => {
                    self.set_due(id, &entry, None);
                    entry.end(ending);
                }
                None => self.retry_later(id, &entry),
            },
        }
    }

    /// Authorizes by the whole chain a request of which nothing was sent. Unlike an open stream it
    /// does not wait for its turn, and an outage refuses it as the failure matrix says.
    ///
    /// # Errors
    ///
    /// The reason why the request would be refused now.
    pub(super) async fn authorize_unsent(
        self: &Rc<Self>,
        id: u64,
        entry: &Rc<Entry>,
    ) -> Result<(), Denial> {
        let authorization = entry.authorization();
        match self.whole_chain(&authorization, Renewal::Awaited).await {
            Ok(authorization) => {
                if self.open.borrow().contains_key(&id) {
                    self.replace(id, entry, authorization);
                }
                Ok(())
            }
            Err(denial) => {
                if self.open.borrow().contains_key(&id) {
                    self.set_due(id, entry, None);
                }
                entry.end(Ending::refused(denial.reason));
                Err(denial)
            }
        }
    }

    async fn whole_chain(
        &self,
        authorization: &StreamAuthorization,
        renewal: Renewal,
    ) -> Result<StreamAuthorization, Denial> {
        let snapshot = self.current.get();
        let in_force = snapshot.in_force().clone();
        let authorizing = snapshot
            .chain()
            .reauthorize(authorization, in_force, renewal);
        catch_panic(pin!(authorizing))
            .await
            .unwrap_or_else(|panic| Err(Reason::Internal.because(panic)))
    }

    fn retry_later(&self, id: u64, entry: &Entry) {
        let now = clock::unix_now();
        let undecided = entry.undecided.get();
        entry.undecided.set(undecided.saturating_add(1));
        let retry = now + (1 << undecided.min(LONGEST_RETRY));
        let due = entry.due.get().filter(|due| *due > now);
        self.set_due(id, entry, Some(due.map_or(retry, |due| due.min(retry))));
    }

    /// The process is draining: ends the streams that would not end by themselves. gRPC calls may
    /// finish until `all` are ended; other requests end by themselves, or with the process.
    pub(crate) fn drain(&self, all: bool) {
        self.drained.set(true);
        for entry in self.open.borrow().values() {
            match entry.kind.get() {
                StreamKind::Lasting => {}
                StreamKind::Grpc if !all => {}
                StreamKind::Grpc | StreamKind::Sse | StreamKind::Websocket => {
                    entry.end(Ending::DRAINED);
                }
            }
        }
    }
}
