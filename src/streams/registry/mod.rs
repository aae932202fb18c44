//! The registry of the live streams of one worker.
//!
//! Decides: when a stream is reauthorized, and that it ends if it would be refused now. Trusts: the
//! chain for the authorization. Not here: how a client is told of the end (`tunnel`, `answer`).
//!
//! | event | which streams are reauthorized | when |
//! |---|---|---|
//! | a token or session expires | its stream | at that second |
//! | the list of revocations has grown | every stream with a token or session | at once |
//! | another configuration is in force | every stream | spread over a second, so that a reload causes no burst |
//! | a stream begins, and one of these happened since its request was authorized | that stream | at once |

mod handle;
mod watch;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use tokio::sync::Notify;

use super::ending::Ending;
use super::metrics::StreamMetrics;
use super::scratch::Scratch;
use crate::auth::StreamAuthorization;
use crate::auth::snapshot::CurrentSnapshot;
use crate::clock;
use crate::denial::Reason;
use crate::panics::catch_panic;
use crate::record::stream::{StreamEnd, StreamKind};
use crate::revocation::Revocations;
pub(crate) use handle::StreamHandle;

/// If a stream with an expired token or session cannot be reauthorized because a dependency is
/// unavailable, it is tried again after this many seconds.
const RETRY_SECONDS: i64 = 1;

/// The live streams of one worker. There is no lock: only this worker's tasks use them.
#[derive(Debug)]
pub(crate) struct Streams {
    current: Arc<CurrentSnapshot>,
    revocations: Arc<Revocations>,
    metrics: Arc<StreamMetrics>,
    open: RefCell<HashMap<u64, Rc<Entry>>>,
    /// When which stream must be reauthorized, in Unix seconds.
    proofs: RefCell<BTreeSet<(i64, u64)>>,
    next: Cell<u64>,
    /// The process is draining: streams that begin from now on end at once.
    drained: Cell<bool>,
    earlier_due: Notify,
    scratch: Scratch,
}

#[derive(Debug)]
struct Entry {
    kind: StreamKind,
    authorization: RefCell<Rc<StreamAuthorization>>,
    due: Cell<Option<i64>>,
    ending: Cell<Option<Ending>>,
    waker: RefCell<Option<Waker>>,
}

impl Entry {
    fn end(&self, ending: Ending) {
        if self.ending.get().is_none() {
            self.ending.set(Some(ending));
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
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
            proofs: RefCell::default(),
            next: Cell::new(0),
            drained: Cell::new(false),
            earlier_due: Notify::new(),
            scratch: Scratch::default(),
        })
    }

    pub(super) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Registers a stream that begins. It stays registered until the handle is dropped.
    pub(crate) fn begin(
        self: &Rc<Self>,
        kind: StreamKind,
        authorization: StreamAuthorization,
    ) -> StreamHandle {
        let id = self.next.get();
        self.next.set(id + 1);
        let is_current = self.is_current(&authorization);
        let due = authorization.accepted_until();
        let entry = Rc::new(Entry {
            kind,
            authorization: RefCell::new(Rc::new(authorization)),
            due: Cell::new(None),
            ending: Cell::new(None),
            waker: RefCell::new(None),
        });
        self.open.borrow_mut().insert(id, entry.clone());
        self.set_due(id, &entry, due);
        if self.drained.get() {
            entry.end(Ending::DRAINED);
        } else if !is_current {
            let streams = self.clone();
            tokio::task::spawn_local(async move { streams.reauthorize(id).await });
        }
        self.metrics.began(kind);
        StreamHandle {
            streams: self.clone(),
            id,
            entry,
            cause: Cell::new(StreamEnd::ClientGone),
        }
    }

    /// Whether nothing has happened since the request was authorized that requires another
    /// authorization.
    fn is_current(&self, authorization: &StreamAuthorization) -> bool {
        let in_force = self.current.get().generation();
        if authorization.request().in_force().generation() != in_force {
            return false;
        }
        let revocations = &self.revocations;
        authorization.caller().verified().is_none_or(|verified| {
            revocations
                .check(verified.clean(), verified.listed(), clock::unix_now())
                .is_ok()
        })
    }

    fn set_due(&self, id: u64, entry: &Entry, due: Option<i64>) {
        let mut proofs = self.proofs.borrow_mut();
        if let Some(old) = entry.due.replace(due) {
            proofs.remove(&(old, id));
        }
        if let Some(due) = due {
            let is_first = proofs.first().is_none_or(|(first, _)| due < *first);
            proofs.insert((due, id));
            if is_first {
                self.earlier_due.notify_one();
            }
        }
    }

    fn all(&self) -> Vec<u64> {
        self.open.borrow().keys().copied().collect()
    }

    /// Reauthorizes a stream, and ends it if its request would be refused now. An outage is no
    /// refusal.
    async fn reauthorize(&self, id: u64) {
        let Some(entry) = self.open.borrow().get(&id).cloned() else {
            return;
        };
        let authorization = entry.authorization.borrow().clone();
        let snapshot = self.current.get();
        let authorizing = pin!(
            snapshot
                .chain()
                .reauthorize(&authorization, snapshot.in_force().clone())
        );
        let reauthorized = catch_panic(authorizing)
            .await
            .unwrap_or_else(|panic| Err(Reason::Internal.because(panic)));
        if !self.open.borrow().contains_key(&id) {
            return;
        }
        match reauthorized {
            Ok(authorization) => {
                self.set_due(id, &entry, authorization.accepted_until());
                *entry.authorization.borrow_mut() = Rc::new(authorization);
            }
            Err(denial) if denial.reason.status().is_client_error() => {
                self.set_due(id, &entry, None);
                entry.end(Ending::refused(denial.reason));
            }
            Err(_) => {
                let now = clock::unix_now();
                if entry.due.get().is_some_and(|due| due <= now) {
                    self.set_due(id, &entry, Some(now + RETRY_SECONDS));
                }
            }
        }
    }

    /// The process is draining: ends the streams that would not end by themselves. gRPC calls may
    /// finish until `all` are ended.
    pub(crate) fn drain(&self, all: bool) {
        self.drained.set(true);
        for entry in self.open.borrow().values() {
            if all || entry.kind != StreamKind::Grpc {
                entry.end(Ending::DRAINED);
            }
        }
    }
}
