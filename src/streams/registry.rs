//! The live streams of one worker.
//!
//! Decides: when a stream is judged again, and that one which would be refused now ends. Trusts: the chain for the judgement. Not here: how
//! an end is told (`tunnel`, `answer`).
//!
//! | what happened | who is judged again | when |
//! |---|---|---|
//! | a proof's time is over | its stream | at that second |
//! | the list of revocations grew | every stream with a proof | at once |
//! | another configuration is in force | every stream | spread over a second, so that a map that is reloaded costs no burst |
//! | a stream begins, and one of these happened since it was let in | it | at once |

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::Ending;
use super::pipe::Scratch;
use crate::auth::Standing;
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::gateway::process::Process;
use crate::panics::catch_panic;
use crate::record::stream::{Cause, Kind};

/// Over how long judging again is spread after a reload, and in how many portions.
const SPREAD: Duration = Duration::from_secs(1);
const PORTIONS: u32 = 20;

/// How long to wait at most before the clock is looked at again: it may have been set.
const LOOK: Duration = Duration::from_secs(10);

/// How far behind the clock of those who judge may be, at most: looked at earlier, a proof that expires would be found good again.
const TICK: Duration = Duration::from_millis(10);

/// After a judgement about a proof failed for want of something that is away, the seconds until it is tried again.
const AGAIN: i64 = 1;

/// The streams of one worker. No lock: only this worker's tasks see them.
#[derive(Debug)]
pub(crate) struct Streams {
    process: Arc<Process>,
    open: RefCell<HashMap<u64, Rc<Entry>>>,
    /// When which proof must be looked at, in Unix seconds.
    proofs: RefCell<BTreeSet<(i64, u64)>>,
    next: Cell<u64>,
    /// Those that begin from now on end at once: the process ends.
    drained: Cell<bool>,
    earlier: Notify,
    scratch: Scratch,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    standing: RefCell<Rc<Standing>>,
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
    /// None yet.
    pub(crate) fn new(process: Arc<Process>) -> Rc<Self> {
        Rc::new(Self {
            process,
            open: RefCell::default(),
            proofs: RefCell::default(),
            next: Cell::new(0),
            drained: Cell::new(false),
            earlier: Notify::new(),
            scratch: Scratch::default(),
        })
    }

    pub(super) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Enters a stream that begins. It is in the list until the handle is dropped.
    pub(crate) fn begin(self: &Rc<Self>, kind: Kind, standing: Standing) -> Live {
        let id = self.next.get();
        self.next.set(id + 1);
        let is_current = self.is_current(&standing);
        let due = standing.accepted_until();
        let entry = Rc::new(Entry {
            kind,
            standing: RefCell::new(Rc::new(standing)),
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
            tokio::task::spawn_local(async move { streams.judge(id).await });
        }
        self.process.metrics().streams.began(kind);
        Live {
            streams: self.clone(),
            id,
            entry,
            cause: Cell::new(Cause::ClientGone),
        }
    }

    /// Whether nothing happened since the request was let in that would have to be asked about.
    fn is_current(&self, standing: &Standing) -> bool {
        let in_force = self.process.snapshot().generation();
        if standing.request().snapshot().generation() != in_force {
            return false;
        }
        let revocations = self.process.revocations();
        standing.caller().verified().is_none_or(|verified| {
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
                self.earlier.notify_one();
            }
        }
    }

    /// Judges streams again whenever there is a reason to, as long as the worker runs.
    pub(crate) async fn watch(self: Rc<Self>) {
        tokio::join!(
            self.watch_proofs(),
            self.watch_revocations(),
            self.watch_configuration()
        );
    }

    async fn watch_proofs(&self) {
        loop {
            let first = self.proofs.borrow().first().copied();
            match first {
                None => self.earlier.notified().await,
                Some((due, _)) => {
                    let left = due
                        .saturating_mul(1000)
                        .saturating_sub(clock::unix_millis());
                    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
                    let pause = (left + TICK).min(LOOK);
                    // A proof that must be looked at earlier came meanwhile, or it is time.
                    let _ = timeout(pause, self.earlier.notified()).await;
                }
            }
            let now = clock::unix_now();
            let due: Vec<u64> = {
                let proofs = self.proofs.borrow();
                let due = proofs.iter().take_while(|(due, _)| *due <= now);
                due.map(|(_, id)| *id).collect()
            };
            for id in due {
                self.judge(id).await;
            }
        }
    }

    async fn watch_revocations(&self) {
        let mut grown = self.process.revocations().grown();
        while grown.changed().await.is_ok() {
            for id in self.all() {
                self.judge(id).await;
            }
        }
    }

    async fn watch_configuration(&self) {
        let mut generations = self.process.generations();
        while generations.changed().await.is_ok() {
            let all = self.all();
            let portions = usize::try_from(PORTIONS).unwrap_or(1);
            for portion in all.chunks(all.len().div_ceil(portions).max(1)) {
                for id in portion {
                    self.judge(*id).await;
                }
                sleep(SPREAD / PORTIONS).await;
            }
        }
    }

    fn all(&self) -> Vec<u64> {
        self.open.borrow().keys().copied().collect()
    }

    /// Judges a stream by what is in force now, and ends it if the request it began with would be refused. An outage is no refusal.
    async fn judge(&self, id: u64) {
        let Some(entry) = self.open.borrow().get(&id).cloned() else {
            return;
        };
        let standing = entry.standing.borrow().clone();
        let snapshot = self.process.snapshot();
        let judging = pin!(snapshot.chain().judge_again(&standing, snapshot.clone()));
        let judged = catch_panic(judging)
            .await
            .unwrap_or_else(|panic| Err(Reason::Internal.because(panic)));
        if !self.open.borrow().contains_key(&id) {
            return;
        }
        match judged {
            Ok(standing) => {
                self.set_due(id, &entry, standing.accepted_until());
                *entry.standing.borrow_mut() = Rc::new(standing);
            }
            Err(denial) if denial.reason.status().is_client_error() => {
                self.set_due(id, &entry, None);
                entry.end(Ending::refused(denial.reason));
            }
            Err(_) => {
                let now = clock::unix_now();
                if entry.due.get().is_some_and(|due| due <= now) {
                    self.set_due(id, &entry, Some(now + AGAIN));
                }
            }
        }
    }

    /// The process ends: streams that would not end by themselves are told. A call of gRPC may finish until `all` are.
    pub(crate) fn drain(&self, all: bool) {
        self.drained.set(true);
        for entry in self.open.borrow().values() {
            if all || entry.kind != Kind::Grpc {
                entry.end(Ending::DRAINED);
            }
        }
    }
}

/// A stream that is in the list. Dropping it takes it out and counts its end.
#[derive(Debug)]
pub(crate) struct Live {
    streams: Rc<Streams>,
    id: u64,
    entry: Rc<Entry>,
    cause: Cell<Cause>,
}

impl Live {
    /// The kind.
    pub(super) fn kind(&self) -> Kind {
        self.entry.kind
    }

    pub(super) fn streams(&self) -> &Rc<Streams> {
        &self.streams
    }

    /// What the stream stands on.
    pub(super) fn standing(&self) -> Rc<Standing> {
        self.entry.standing.borrow().clone()
    }

    /// Judges what the stream would stand on if this token, or nobody, spoke on it.
    pub(super) fn judge(
        &self,
        token: Option<String>,
    ) -> impl Future<Output = Result<Standing, Denial>> + use<> {
        let (standing, snapshot) = (self.standing(), self.streams.process.snapshot());
        async move {
            let chain = snapshot.chain();
            let judging = pin!(chain.judge_speaker(&standing, snapshot.clone(), token.as_deref()));
            catch_panic(judging)
                .await
                .unwrap_or_else(|panic| Err(Reason::Internal.because(panic)))
        }
    }

    /// From now on it stands on this.
    pub(super) fn stand(&self, standing: Standing) {
        let (streams, entry) = (&self.streams, &self.entry);
        let is_current = streams.is_current(&standing);
        streams.set_due(self.id, entry, standing.accepted_until());
        *entry.standing.borrow_mut() = Rc::new(standing);
        if !is_current {
            let (streams, id) = (streams.clone(), self.id);
            tokio::task::spawn_local(async move { streams.judge(id).await });
        }
    }

    /// Ready when the stream must end.
    pub(super) fn poll_ending(&self, context: &mut Context<'_>) -> Poll<Ending> {
        if let Some(ending) = self.entry.ending.get() {
            return Poll::Ready(ending);
        }
        let mut waker = self.entry.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Notes why it ends; until then it is the client who went away.
    pub(super) fn ends_by(&self, cause: Cause) {
        self.cause.set(cause);
    }

    pub(super) fn cause(&self) -> Cause {
        self.cause.get()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.streams.set_due(self.id, &self.entry, None);
        self.streams.open.borrow_mut().remove(&self.id);
        let metrics = self.streams.process.metrics();
        metrics.streams.ended(self.entry.kind, self.cause.get());
    }
}
