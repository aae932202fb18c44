//! The state that a worker keeps for one client connection, and its time limits.
//!
//! Decides: when a connection has waited long enough for a handshake, a request head, another
//! request, or a client that reads its answer. Trusts: `listen`, which drives the connection. Not
//! here: sockets and protocols (`listen`).

mod clock;
mod limits;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::{Method, Version};

use crate::auth::StreamAuthorization;
use crate::auth::snapshot::Snapshot;
use crate::gateway::Gateway;
use crate::live;
use crate::policy::listen::Connections;
use crate::record::Record;
use crate::record::stream::StreamKind;
use crate::record::trail::{Finish, Trail};
use crate::request;
use crate::streams::Tunnel;
use crate::upstream::AnswerExchange;
pub(crate) use clock::{POLL_INTERVAL, PollClock};
pub(crate) use limits::CloseCause;
use limits::Limits;

/// How many milliseconds the client of a connection that is ended in favour of another one has to
/// confirm that on HTTP/2. A choice.
const SHED_GRACE: u64 = 100;

/// After how many milliseconds a request has lasted.
const LASTING: u64 = live::LASTING.as_secs() * 1000;

/// For how many milliseconds a client may take nothing before its answers make room for others. A
/// choice.
const PAUSE: u64 = 400;

/// The state of an open connection. Times are those of the [`PollClock`].
#[derive(Debug)]
pub struct ConnectionState {
    gateway: Rc<Gateway>,
    facts: request::Connection,
    limits: Limits,
    clock: PollClock,
    opened_at: u64,
    is_h2: Cell<bool>,
    open_requests: Cell<usize>,
    /// When the last request ended, or the protocol was negotiated; `None` during the handshake.
    idle_since: Cell<Option<u64>>,
    /// Since when a request head is expected: the first one since the protocol was negotiated, a
    /// later one since its first byte.
    head_since: Cell<Option<u64>>,
    answers: RefCell<Vec<Option<SentAnswer>>>,
    /// Bytes of answers that the client has not taken.
    unsent: Cell<usize>,
    draining: Cell<bool>,
    /// It is ended in favour of another connection.
    is_shed: Cell<bool>,
    /// Since when the connection is shutting down.
    shutdown_since: Cell<Option<u64>>,
    /// Consecutive requests whose client went away before their answer.
    aborted_requests: Cell<usize>,
    /// The tunnel that the connection becomes once its 101 is written.
    tunnel: RefCell<Option<Box<Tunnel>>>,
    /// What the connection's task must do next.
    shutdown: Cell<Option<ShutdownRequest>>,
    waker: RefCell<Option<Waker>>,
}

// There is one per connection. The bound is a little above the size of today.
const _: () = assert!(
    size_of::<ConnectionState>() <= 368,
    "the state of a connection has outgrown its bound"
);

/// An answer that is being sent.
#[derive(Debug)]
struct SentAnswer {
    /// Since when the client has taken nothing, or `None` while the upstream has no data.
    since: Option<u64>,
    /// Wakes the body: when the client has taken some of what is held for it, or when the answer
    /// has lasted. On HTTP/1.1 it may be `None`, because the task of the connection polls the body.
    waker: Option<Waker>,
    /// Where the answer comes from, if that is an upstream.
    exchange: Option<Rc<AnswerExchange>>,
    /// When its request began.
    began: u64,
    /// The authorization of its request, until it has lasted.
    authorization: Option<StreamAuthorization>,
}

/// How a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShutdownRequest {
    /// It takes no new requests, and ends when the open ones have ended.
    Graceful,
    /// It ends now.
    Now(CloseCause),
}

impl ConnectionState {
    pub(crate) fn new(
        gateway: Rc<Gateway>,
        facts: request::Connection,
        limits: &Connections,
        clock: PollClock,
    ) -> Rc<Self> {
        Rc::new(Self {
            gateway,
            facts,
            limits: Limits::new(limits),
            opened_at: clock.now(),
            clock,
            is_h2: Cell::new(false),
            open_requests: Cell::new(0),
            idle_since: Cell::new(None),
            head_since: Cell::new(None),
            answers: RefCell::default(),
            unsent: Cell::new(0),
            draining: Cell::new(false),
            is_shed: Cell::new(false),
            shutdown_since: Cell::new(None),
            aborted_requests: Cell::new(0),
            tunnel: RefCell::new(None),
            shutdown: Cell::new(None),
            waker: RefCell::default(),
        })
    }

    /// Checks whether a time limit has passed. Called for every connection, every
    /// [`POLL_INTERVAL`].
    pub(crate) fn check_limits(&self) {
        let Limits {
            handshake,
            head,
            idle,
            body_idle,
            max_age: _,
            unsent: _,
        } = self.limits;
        let Some(idle_since) = self.idle_since.get() else {
            if self.has_passed(self.opened_at, handshake) {
                self.request_shutdown(ShutdownRequest::Now(CloseCause::HandshakeTimeout));
            }
            return;
        };
        self.make_room();
        self.register_lasting();
        let is_idle_for =
            |limit: u64| self.open_requests.get() == 0 && self.has_passed(idle_since, limit);
        // The client does not confirm the end of an HTTP/2 connection.
        let is_unconfirmed = self
            .shutdown_since
            .get()
            .is_some_and(|since| self.has_passed(since, SHED_GRACE));
        if self.is_shed.get() && is_unconfirmed && is_idle_for(0) {
            return self.request_shutdown(ShutdownRequest::Now(CloseCause::Shed));
        }
        if self.has_slow_head(head) {
            return self.request_shutdown(ShutdownRequest::Now(CloseCause::HeadTimeout));
        }
        // The client does not read: the bytes of an answer, or those after the last one.
        let is_stuck = self
            .shutdown_since
            .get()
            .is_some_and(|since| self.has_passed(since, body_idle));
        if self.has_stalled_answer(body_idle) || is_stuck && is_idle_for(body_idle) {
            return self.request_shutdown(ShutdownRequest::Now(CloseCause::Stalled));
        }
        // On HTTP/1.1 the next answer ends it: a request may be on its way on an idle connection.
        let is_due = is_idle_for(idle) || self.is_h2.get() && self.is_old();
        if self.shutdown_since.get().is_none() && is_due {
            self.request_shutdown(ShutdownRequest::Graceful);
        }
    }

    /// Whether the connection has reached its age limit, from which up to a tenth is taken:
    /// connections that were opened together do not end together.
    pub(crate) fn is_old(&self) -> bool {
        let limit = self.limits.max_age;
        let part = u64::from(self.facts.port() % 64);
        self.has_passed(self.opened_at, limit - limit / 640 * part)
    }

    fn request_shutdown(&self, shutdown: ShutdownRequest) {
        // An immediate shutdown is not replaced by a graceful one.
        if !matches!(self.shutdown.get(), Some(ShutdownRequest::Now(_))) {
            self.shutdown.set(Some(shutdown));
        }
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The shutdown request, if there is one; otherwise the task is woken when there is.
    pub(crate) fn poll_shutdown_request(&self, context: &Context<'_>) -> Option<ShutdownRequest> {
        if let Some(shutdown) = self.shutdown.take() {
            return Some(shutdown);
        }
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
        None
    }

    /// The peer's address, and whether the connection is encrypted.
    pub fn facts(&self) -> &request::Connection {
        &self.facts
    }

    /// The gateway of the worker that drives the connection.
    pub(crate) fn gateway(&self) -> &Rc<Gateway> {
        &self.gateway
    }

    /// Opens the trail of a request whose head is complete.
    pub(crate) fn begin(
        self: &Rc<Self>,
        snapshot: &Snapshot,
        method: &Method,
        version: Version,
    ) -> Trail {
        self.open_requests.set(self.open_requests.get() + 1);
        if self.is_h2.get() {
            let streams = &self.gateway.held().streams;
            streams.set(streams.get() + 1);
        }
        self.head_since.set(None);
        let in_force = snapshot.in_force().clone();
        Trail::begin(self.clone(), in_force, method.clone(), version)
    }

    /// Notes that a request is over; `answered` if its answer began.
    ///
    /// A client that sends requests only to reset them makes the upstream work for nothing (as in
    /// CVE-2023-44487, but below the limit that hyper enforces). After `h2_resets` of them in a row
    /// the connection may finish its open requests, and takes no more.
    fn request_ended(&self, answered: bool, limit: usize) {
        self.aborted_requests.set(if answered {
            0
        } else {
            self.aborted_requests.get() + 1
        });
        if self.is_h2.get() && self.aborted_requests.get() > limit {
            self.drain();
        }
        self.open_requests
            .set(self.open_requests.get().saturating_sub(1));
        if self.is_h2.get() {
            let streams = &self.gateway.held().streams;
            streams.set(streams.get().saturating_sub(1));
        }
        self.idle_since.set(Some(self.clock.now()));
    }

    /// Begins to time the sending of an answer.
    pub(crate) fn begin_answer(self: &Rc<Self>) -> AnswerSlot {
        let mut answers = self.answers.borrow_mut();
        let index = answers.iter().position(Option::is_none).unwrap_or_else(|| {
            answers.push(None);
            answers.len() - 1
        });
        if let Some(answer) = answers.get_mut(index) {
            *answer = Some(SentAnswer {
                since: Some(self.clock.now()),
                waker: None,
                exchange: None,
                began: self.clock.now(),
                authorization: None,
            });
        }
        AnswerSlot {
            connection: self.clone(),
            index,
        }
    }

    /// Bytes of answers that the client has not taken.
    pub(crate) fn unsent(&self) -> usize {
        self.unsent.get()
    }

    /// Notes that bytes are held for the client.
    pub(crate) fn hold(&self, length: usize) {
        self.unsent.set(self.unsent.get() + length);
        let held = &self.gateway.held().bytes;
        held.set(held.get() + length);
    }

    /// Notes that the client took bytes, or that they were dropped.
    pub(crate) fn release(&self, length: usize) {
        let was_full = self.is_full();
        self.unsent.set(self.unsent.get().saturating_sub(length));
        let held = &self.gateway.held().bytes;
        held.set(held.get().saturating_sub(length));
        if was_full && !self.is_full() {
            let mut answers = self.answers.borrow_mut();
            let waiting = answers.iter_mut().flatten();
            waiting
                .filter_map(|answer| answer.waker.take())
                .for_each(Waker::wake);
        }
    }

    fn is_full(&self) -> bool {
        self.unsent.get() >= self.limits.unsent
    }

    /// Ends the connection at once, in favour of others.
    pub(crate) fn end(&self) {
        self.request_shutdown(ShutdownRequest::Now(CloseCause::Shed));
    }

    /// Keeps the tunnel that begins after the 101 which is being sent.
    pub(crate) fn open_tunnel(&self, tunnel: Box<Tunnel>) {
        self.tunnel.replace(Some(tunnel));
    }

    /// The tunnel that begins after a 101, once.
    pub(crate) fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        self.tunnel.take()
    }

    /// Whether the connection is shutting down.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutdown_since.get().is_some()
    }

    /// Notes that the connection no longer takes new requests.
    pub(crate) fn shutdown_began(&self) {
        self.shutdown_since.set(Some(self.clock.now()));
    }

    /// Asks the connection to end gracefully: no new requests, and the open ones may finish.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        self.request_shutdown(ShutdownRequest::Graceful);
    }

    /// Since when no request has been open, by the worker's clock, and none can have been: since
    /// the connection was opened, until its handshake is over. `None` if one is open, or if the
    /// connection ends anyway.
    pub(crate) fn idle_since(&self) -> Option<u64> {
        let is_idle = self.open_requests.get() == 0
            && self.shutdown_since.get().is_none()
            && !self.is_shed.get();
        is_idle.then(|| self.idle_since.get().unwrap_or(self.opened_at))
    }

    /// Ends an idle connection in favour of another one: gracefully, but not during its handshake.
    pub(crate) fn shed(&self) {
        self.is_shed.set(true);
        self.request_shutdown(match self.idle_since.get() {
            Some(_) => ShutdownRequest::Graceful,
            None => ShutdownRequest::Now(CloseCause::Shed),
        });
    }

    /// Notes that the process is ending, for a connection that was accepted after the others were
    /// asked to end. An HTTP/1.1 client learns it from `Connection: close` in its answers.
    pub(crate) fn drain_if_h2(&self) {
        self.draining.set(true);
    }

    /// Whether the client speaks HTTP/2.
    pub(crate) fn is_h2(&self) -> bool {
        self.is_h2.get()
    }

    /// Notes the negotiated protocol; from now on a request head is expected.
    pub(crate) fn set_protocol(&self, is_h2: bool) {
        self.is_h2.set(is_h2);
        // A request from before was about the handshake.
        self.shutdown.set(None);
        if self.draining.get() && is_h2 || self.is_shed.get() {
            self.request_shutdown(ShutdownRequest::Graceful);
        }
        self.idle_since.set(Some(self.clock.now()));
        self.head_since.set(Some(self.clock.now()));
    }

    pub(crate) fn bytes_received(&self) {
        // On HTTP/2, bytes between requests are pings and window updates; there, `idle` ends a
        // silent connection.
        if self.open_requests.get() == 0 && self.head_since.get().is_none() && !self.is_h2.get() {
            self.head_since.set(Some(self.clock.now()));
        }
    }

    /// Whether more than `limit` milliseconds have passed since `since`.
    fn has_passed(&self, since: u64, limit: u64) -> bool {
        self.clock.now().saturating_sub(since) > limit
    }

    fn has_slow_head(&self, limit: u64) -> bool {
        self.open_requests.get() == 0
            && self
                .head_since
                .get()
                .is_some_and(|since| self.has_passed(since, limit))
    }

    /// Lets answers whose client takes nothing make room for others.
    fn make_room(&self) {
        for answer in self.answers.borrow().iter().flatten() {
            let (Some(since), Some(exchange)) = (answer.since, &answer.exchange) else {
                continue;
            };
            let pause = self.clock.now().saturating_sub(since);
            if pause > PAUSE {
                exchange.make_room(pause);
            }
        }
    }

    /// Registers the answers that have lasted: from now on they are authorized like live streams.
    /// And ends those that must end.
    fn register_lasting(&self) {
        for answer in self.answers.borrow_mut().iter_mut().flatten() {
            if let Some(exchange) = &answer.exchange {
                exchange.end_if_refused();
            }
            if answer.authorization.is_none() || !self.has_passed(answer.began, LASTING) {
                continue;
            }
            let (authorization, exchange) = (answer.authorization.take(), &answer.exchange);
            // There is nothing left that could be kept from the client.
            let exchange = exchange.as_ref().filter(|exchange| !exchange.is_over());
            let (Some(authorization), Some(exchange)) = (authorization, exchange) else {
                continue;
            };
            let streams = self.gateway.streams();
            exchange.register(streams.begin(StreamKind::Lasting, authorization));
            // The body takes the handle when it is polled.
            let of_connection = self.waker.borrow();
            if let Some(waker) = answer.waker.as_ref().or(of_connection.as_ref()) {
                waker.wake_by_ref();
            }
        }
    }

    fn has_stalled_answer(&self, limit: u64) -> bool {
        let answers = self.answers.borrow();
        let mut waiting = answers.iter().flatten().filter_map(|answer| answer.since);
        waiting.any(|since| self.has_passed(since, limit))
    }
}

impl Finish for ConnectionState {
    fn finish(&self, record: Box<Record>) {
        let limit = record.in_force.config().connections.h2_resets;
        self.request_ended(record.status.is_some(), limit);
        self.gateway.finish(record);
    }
}

/// The entry of one answer among those that a connection sends. Dropping it frees the entry.
#[derive(Debug)]
pub struct AnswerSlot {
    connection: Rc<ConnectionState>,
    index: usize,
}

impl AnswerSlot {
    /// The connection that the answer is sent on.
    pub(crate) fn connection(&self) -> &ConnectionState {
        &self.connection
    }

    /// Notes that the client took a part of the answer, or, with `is_pending`, that the upstream
    /// has no data yet.
    pub(crate) fn note_poll(&self, is_pending: bool, context: Option<&Context<'_>>) {
        let since = (!is_pending).then(|| self.connection.clock.now());
        // On HTTP/2 each answer has a task of its own.
        let context = context.filter(|_| self.connection.is_h2());
        self.change(|answer| {
            answer.since = since;
            if let (None, Some(context)) = (&answer.waker, context) {
                answer.waker = Some(context.waker().clone());
            }
        });
    }

    /// Keeps the authorization of the answer's request, which began so long ago, until the answer
    /// has lasted.
    pub(crate) fn keep_authorization(&self, authorization: StreamAuthorization, waited: Duration) {
        self.change(|answer| {
            // Whole seconds are exact enough, and cost less.
            answer.began = answer.began.saturating_sub(waited.as_secs() * 1000);
            answer.authorization = Some(authorization);
        });
    }

    /// Notes where the answer comes from.
    pub(crate) fn comes_from(&self, exchange: Rc<AnswerExchange>) {
        self.change(|answer| answer.exchange = Some(exchange));
    }

    /// Ready while the client holds up less than its connection may hold.
    pub(crate) fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        if !self.connection.is_full() {
            return Poll::Ready(());
        }
        self.change(|answer| {
            answer.waker = Some(context.waker().clone());
            answer
                .since
                .get_or_insert_with(|| self.connection.clock.now());
        });
        Poll::Pending
    }

    fn change(&self, change: impl FnOnce(&mut SentAnswer)) {
        let mut answers = self.connection.answers.borrow_mut();
        if let Some(Some(answer)) = answers.get_mut(self.index) {
            change(answer);
        }
    }
}

impl Drop for AnswerSlot {
    fn drop(&mut self) {
        if let Some(answer) = self.connection.answers.borrow_mut().get_mut(self.index) {
            *answer = None;
        }
    }
}
