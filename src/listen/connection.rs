//! One client connection: handshake, protocol, time limits, drain.
//!
//! Decides: when a connection has waited long enough, for a handshake, a head, a request, or a client that reads its answer. Trusts:
//! hyper for the protocols. Not here: what happens to a request (`gateway`).
//!
//! hyper's own timers are not used: it does not time the first bytes of a connection, and on HTTP/1.1 its head timer is also its idle
//! timer. Nor has a connection a timer of its own. The worker looks at a few facts of each connection ten times a second
//! ([`ConnectionState::look`]), which costs a request and a handshake nothing. A limit is therefore exceeded by up to 200 ms, and never
//! cut short.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::{SILENT, redirect};
use crate::gateway::Gateway;
use crate::policy::{Connections, ListenKind};
use crate::request;
use crate::streams::Tunnel;

/// A worker's clock: milliseconds since it began, as of its last look. Costs nothing to read. It stands still while the worker does: a
/// client whose bytes nobody took was not slow.
#[derive(Clone, Debug, Default)]
pub(super) struct LookClock(Rc<Cell<u64>>);

impl LookClock {
    /// Another look is due.
    pub(super) fn advance(&self) {
        self.0.set(self.0.get() + LOOK_MILLIS);
    }

    fn now(&self) -> u64 {
        self.0.get()
    }
}

/// How often a worker looks at its connections. A tenth of a second is a choice, not a measurement.
pub(super) const LOOK: Duration = Duration::from_millis(LOOK_MILLIS);

const LOOK_MILLIS: u64 = 100;

/// What is known of a connection while it lives. Times are those of the [`LookClock`].
#[derive(Debug)]
pub struct ConnectionState {
    facts: request::Connection,
    limits: Limits,
    clock: LookClock,
    began: u64,
    is_h2: Cell<bool>,
    running: Cell<usize>,
    /// When the last request ended, or the protocol began; `None` during the handshake.
    quiet_since: Cell<Option<u64>>,
    /// Since when a head is awaited: the first one from the beginning, a later one from its first byte.
    head_since: Cell<Option<u64>>,
    /// One entry per answer that is being sent: since when the client has not asked for more, or `None` while the upstream is asked.
    streams: RefCell<Vec<Option<Option<u64>>>>,
    draining: Cell<bool>,
    /// Since when the connection is asked to end.
    leaving: Cell<Option<u64>>,
    /// Requests in a row whose client went away before their answer.
    aborted: Cell<usize>,
    /// What the connection becomes once its 101 is written.
    tunnel: RefCell<Option<Box<Tunnel>>>,
    /// What the connection's task must do next.
    order: Cell<Option<Order>>,
    waker: RefCell<Option<Waker>>,
}

/// What a connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Take no new requests, and end when those that run have ended.
    Leave,
    /// End now.
    End(Cause),
}

/// The limits of a connection, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Limits {
    handshake: u64,
    head: u64,
    idle: u64,
    body_idle: u64,
}

impl Limits {
    fn new(limits: &Connections) -> Self {
        // What happened between two looks has the time of the first of them, so the real time may be shorter by a pause.
        let millis =
            |limit: Duration| u64::try_from((limit + LOOK).as_millis()).unwrap_or(u64::MAX);
        Self {
            handshake: millis(limits.handshake),
            head: millis(limits.head),
            idle: millis(limits.idle),
            body_idle: millis(limits.body_idle),
        }
    }
}

impl ConnectionState {
    fn new(facts: request::Connection, limits: &Connections, clock: LookClock) -> Rc<Self> {
        Rc::new(Self {
            facts,
            limits: Limits::new(limits),
            began: clock.now(),
            clock,
            is_h2: Cell::new(false),
            running: Cell::new(0),
            quiet_since: Cell::new(None),
            head_since: Cell::new(None),
            streams: RefCell::default(),
            draining: Cell::new(false),
            leaving: Cell::new(None),
            aborted: Cell::new(0),
            tunnel: RefCell::new(None),
            order: Cell::new(None),
            waker: RefCell::default(),
        })
    }

    /// Looks whether a limit has passed. Called for every connection, every [`LOOK`].
    pub(super) fn look(&self) {
        let Limits {
            handshake,
            head,
            idle,
            body_idle,
        } = self.limits;
        let Some(quiet_since) = self.quiet_since.get() else {
            if self.has_passed(self.began, handshake) {
                self.tell(Order::End(Cause::HandshakeTimeout));
            }
            return;
        };
        let is_idle_for =
            |limit: u64| self.running.get() == 0 && self.has_passed(quiet_since, limit);
        if self.has_slow_head(head) {
            return self.tell(Order::End(Cause::HeadTimeout));
        }
        // Bytes that the client does not take, of an answer or after the last one.
        let is_stuck = self
            .leaving
            .get()
            .is_some_and(|since| self.has_passed(since, body_idle));
        if self.has_stalled_stream(body_idle) || is_stuck && is_idle_for(body_idle) {
            return self.tell(Order::End(Cause::Stalled));
        }
        if self.leaving.get().is_none() && is_idle_for(idle) {
            self.tell(Order::Leave);
        }
    }

    fn tell(&self, order: Order) {
        // Who must end now need not be asked to leave.
        if !matches!(self.order.get(), Some(Order::End(_))) {
            self.order.set(Some(order));
        }
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The order, if there is one; otherwise whom to wake when there is.
    fn poll_order(&self, context: &Context<'_>) -> Option<Order> {
        if let Some(order) = self.order.take() {
            return Some(order);
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

    /// Peer and TLS.
    pub fn facts(&self) -> &request::Connection {
        &self.facts
    }

    /// A head is complete.
    pub(crate) fn request_began(&self) {
        self.running.set(self.running.get() + 1);
        self.head_since.set(None);
    }

    /// A request is over; `answered` if its answer began.
    ///
    /// A client that lets requests be forwarded only to reset them makes the upstream work for nothing (as in CVE-2023-44487, but behind
    /// the limit that hyper keeps). After as many in a row as `h2_resets` the connection may finish what runs, and no more.
    pub(crate) fn request_ended(&self, answered: bool, limit: usize) {
        self.aborted
            .set(if answered { 0 } else { self.aborted.get() + 1 });
        if self.is_h2.get() && self.aborted.get() > limit {
            self.drain();
        }
        self.running.set(self.running.get().saturating_sub(1));
        self.quiet_since.set(Some(self.clock.now()));
    }

    /// Watches the sending of an answer.
    pub(crate) fn open_stream(self: &Rc<Self>) -> StreamSlot {
        let mut streams = self.streams.borrow_mut();
        let index = streams.iter().position(Option::is_none).unwrap_or_else(|| {
            streams.push(None);
            streams.len() - 1
        });
        if let Some(place) = streams.get_mut(index) {
            *place = Some(Some(self.clock.now()));
        }
        StreamSlot {
            connection: self.clone(),
            index,
        }
    }

    /// The answer under way is a 101, behind which this tunnel begins.
    pub(crate) fn open_tunnel(&self, tunnel: Box<Tunnel>) {
        self.tunnel.replace(Some(tunnel));
    }

    /// Asks the connection to end: no new requests, and what runs may finish.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        self.tell(Order::Leave);
    }

    /// The process ends, and this connection came after the others were told. HTTP/1.1 is told by its answers.
    pub(crate) fn drain_if_h2(&self) {
        self.draining.set(true);
    }

    /// Whether the client speaks HTTP/2.
    pub(crate) fn is_h2(&self) -> bool {
        self.is_h2.get()
    }

    /// The protocol is known, and the first head is awaited.
    fn speaks(&self, is_h2: bool) {
        self.is_h2.set(is_h2);
        // An order from before was for a handshake.
        self.order.set(None);
        if self.draining.get() && is_h2 {
            self.tell(Order::Leave);
        }
        self.quiet_since.set(Some(self.clock.now()));
        self.head_since.set(Some(self.clock.now()));
    }

    fn bytes_came(&self) {
        // On HTTP/2, bytes between requests are pings and window updates; there, `idle` ends what is silent.
        if self.running.get() == 0 && self.head_since.get().is_none() && !self.is_h2.get() {
            self.head_since.set(Some(self.clock.now()));
        }
    }

    /// Whether more than `limit` milliseconds have passed since `since`.
    fn has_passed(&self, since: u64, limit: u64) -> bool {
        self.clock.now().saturating_sub(since) > limit
    }

    fn has_slow_head(&self, limit: u64) -> bool {
        self.running.get() == 0
            && self
                .head_since
                .get()
                .is_some_and(|since| self.has_passed(since, limit))
    }

    fn has_stalled_stream(&self, limit: u64) -> bool {
        self.streams
            .borrow()
            .iter()
            .flatten()
            .flatten()
            .any(|since| self.has_passed(*since, limit))
    }
}

/// The place of one answer among those a connection sends.
#[derive(Debug)]
pub struct StreamSlot {
    connection: Rc<ConnectionState>,
    index: usize,
}

impl StreamSlot {
    /// The body was asked for a frame; `waits` if the upstream has none yet.
    pub(crate) fn note(&self, waits: bool) {
        let since = (!waits).then(|| self.connection.clock.now());
        if let Some(place) = self.connection.streams.borrow_mut().get_mut(self.index) {
            *place = Some(since);
        }
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        if let Some(place) = self.connection.streams.borrow_mut().get_mut(self.index) {
            *place = None;
        }
    }
}

/// Why a connection ended otherwise than by its own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Handshake,
    HandshakeTimeout,
    HeadTimeout,
    Stalled,
    Protocol,
}

impl Cause {
    /// Every cause, so that each is counted from zero.
    pub(crate) const ALL: [Self; 5] = [
        Self::Handshake,
        Self::HandshakeTimeout,
        Self::HeadTimeout,
        Self::Stalled,
        Self::Protocol,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HeadTimeout => "head_timeout",
            Self::Stalled => "stalled",
            Self::Protocol => "protocol",
        }
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(
    gateway: Rc<Gateway>,
    stream: TcpStream,
    peer: SocketAddr,
    listener: usize,
    clock: LookClock,
    register: impl FnOnce(&Rc<ConnectionState>),
) {
    let snapshot = gateway.process().snapshot();
    let limits = snapshot.config().connections.clone();
    if limits.body_idle >= SILENT {
        // Who may keep us waiting for longer than that is not gone.
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(limits.body_idle + SILENT));
    }
    let over_tls = snapshot.tls(listener).is_some();
    let facts = request::Connection::new(peer, over_tls, gateway.recent().clone());
    let state = ConnectionState::new(facts, &limits, clock);
    register(&state);
    let outcome = match (
        snapshot.tls(listener),
        snapshot
            .config()
            .listen
            .get(listener)
            .map(|listen| &listen.kind),
    ) {
        (Some(tls), _) => {
            let acceptor = TlsAcceptor::from(tls.clone());
            drop(snapshot);
            // In a box, because what rustls keeps of a connection is long, and moves a dozen times until hyper has it.
            let handshake = async { acceptor.accept(stream).await.map(Box::new) };
            match in_time(handshake, &state).await {
                Err(cause) => Err(cause),
                Ok(Err(_)) => Err(Cause::Handshake),
                Ok(Ok(stream)) => {
                    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    speak(&gateway, stream, is_h2, &state, &limits).await
                }
            }
        }
        (None, Some(ListenKind::RedirectToHttps { port })) => {
            let port = *port;
            drop(snapshot);
            speak_redirect(&gateway, stream, port, &state, &limits).await
        }
        (None, _) => {
            drop(snapshot);
            match in_time(is_h2_preface(&stream), &state).await {
                Err(cause) => Err(cause),
                Ok(Err(_)) => Ok(()),
                Ok(Ok(is_h2)) => speak(&gateway, stream, is_h2, &state, &limits).await,
            }
        }
    };
    if let Err(cause) = outcome {
        gateway
            .process()
            .metrics()
            .connections_failed
            .with_label_values(&[cause.as_str()])
            .inc();
    }
}

/// A handshake, unless it takes too long. Boxed, so that the connection's task is not as large as a handshake for all its life.
async fn in_time<F: Future>(handshake: F, state: &ConnectionState) -> Result<F::Output, Cause> {
    let mut handshake = Box::pin(handshake);
    poll_fn(|context| {
        if let Poll::Ready(output) = handshake.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        match state.poll_order(context) {
            Some(Order::End(cause)) => Poll::Ready(Err(cause)),
            // Told again once the protocol is known.
            Some(Order::Leave) | None => Poll::Pending,
        }
    })
    .await
}

/// Whether a clear text connection begins like HTTP/2 (RFC 9113, section 3.4). Three bytes tell: no method begins with `PRI`.
async fn is_h2_preface(stream: &TcpStream) -> std::io::Result<bool> {
    let mut start = [0; 3];
    let mut pause = Duration::from_millis(1);
    loop {
        match stream.peek(&mut start).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            3 => return Ok(&start == b"PRI"),
            read if !b"PRI".starts_with(start.get(..read).unwrap_or_default()) => return Ok(false),
            // A peek is ready again at once, so give the rest a moment to come.
            _ => {
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(250));
            }
        }
    }
}

async fn speak<S>(
    gateway: &Rc<Gateway>,
    stream: S,
    is_h2: bool,
    state: &Rc<ConnectionState>,
    limits: &Connections,
) -> Result<(), Cause>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    state.speaks(is_h2);
    let stream = TokioIo::new(Observed {
        stream,
        state: state.clone(),
    });
    let service = service_fn({
        let (gateway, state) = (gateway.clone(), state.clone());
        move |request| {
            let (gateway, state) = (gateway.clone(), state.clone());
            let request = Box::new(request);
            async move { Ok::<_, Infallible>(gateway.handle(request, state).await) }
        }
    });
    if is_h2 {
        let connection = h2_builder(limits).serve_connection(stream, service);
        supervise(
            Box::pin(connection).as_mut(),
            http2::Connection::graceful_shutdown,
            state,
        )
        .await
    } else {
        let connection = h1_builder(limits).serve_connection(stream, service);
        let mut connection = Box::pin(connection);
        // The tunnel's record knows the connection, and would keep it for ever.
        let awaited = AwaitedTunnel(state.clone());
        supervise(
            connection.as_mut(),
            http1::Connection::graceful_shutdown,
            state,
        )
        .await?;
        if let Some(tunnel) = awaited.take() {
            let parts = Pin::into_inner(connection).into_parts();
            // Boxed, so that the task of every other connection is not as large.
            let stream = parts.io.into_inner().stream;
            Box::pin(tunnel.run(stream, parts.read_buf)).await;
        }
        Ok(())
    }
}

/// The place where a tunnel is left for its connection.
struct AwaitedTunnel(Rc<ConnectionState>);

impl AwaitedTunnel {
    fn take(&self) -> Option<Box<Tunnel>> {
        self.0.tunnel.take()
    }
}

impl Drop for AwaitedTunnel {
    fn drop(&mut self) {
        drop(self.take());
    }
}

async fn speak_redirect(
    gateway: &Rc<Gateway>,
    stream: TcpStream,
    port: u16,
    state: &Rc<ConnectionState>,
    limits: &Connections,
) -> Result<(), Cause> {
    state.speaks(false);
    let stream = TokioIo::new(Observed {
        stream,
        state: state.clone(),
    });
    let service = service_fn(|request| {
        let response = redirect::answer(gateway, state, request, port);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = h1_builder(limits).serve_connection(stream, service);
    supervise(
        Box::pin(connection).as_mut(),
        http1::Connection::graceful_shutdown,
        state,
    )
    .await
}

fn h1_builder(limits: &Connections) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Never `pipeline_flush`: with it hyper takes an answer as fast as it comes, however slowly the client reads, and keeps it all; and
    // it loses an answer behind which bytes of the request are still unread.
    builder
        // Our own count answers first, with a reason; hyper's is the net below it.
        .max_headers(limits.max_headers.saturating_mul(2))
        .max_buf_size(limits.max_head)
        .half_close(false);
    builder.header_read_timeout(None::<Duration>);
    builder
}

fn h2_builder(limits: &Connections) -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor);
    // No pings: the kernel asks a silent peer, or whoever ends its TCP, whether it is still there, and for that no frame has to note when the
    // peer was heard of.
    builder
        .max_concurrent_streams(limits.h2_streams)
        .max_pending_accept_reset_streams(limits.h2_resets)
        .max_local_error_reset_streams(limits.h2_resets)
        .max_header_list_size(u32::try_from(limits.max_head).unwrap_or(u32::MAX))
        // Windows of an ordinary upload; memory per connection stays below a few of them.
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(256 * 1024);
    builder
}

/// Runs a connection, and does what it is told. The connection is boxed, so that the task is not as large as the largest protocol.
async fn supervise<C, E>(
    mut connection: Pin<&mut C>,
    graceful: impl Fn(Pin<&mut C>),
    state: &ConnectionState,
) -> Result<(), Cause>
where
    C: Future<Output = Result<(), E>>,
{
    poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ended.map_err(|_| Cause::Protocol));
            }
            match state.poll_order(context) {
                None => return Poll::Pending,
                Some(Order::End(cause)) => return Poll::Ready(Err(cause)),
                Some(Order::Leave) if state.leaving.get().is_some() => {}
                Some(Order::Leave) => {
                    state.leaving.set(Some(state.clock.now()));
                    graceful(connection.as_mut());
                }
            }
        }
    })
    .await
}

/// Spawns connections and streams on this worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        // Boxed, because the runtime copies a task's room as a whole: when it is spawned, when it is done, and when it is dropped.
        tokio::task::spawn_local(Box::pin(future));
    }
}

/// A stream that notes when bytes come while no request runs: the beginning of a head.
struct Observed<S> {
    stream: S,
    state: Rc<ConnectionState>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.state.bytes_came();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
