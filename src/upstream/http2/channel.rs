//! HTTP/2 connections, each of which many requests share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit};

use super::body::RequestBody;
use crate::clock;
use crate::policy::upstream::Protocol;

const STREAMS: usize = Protocol::Http2.requests_per_connection();

/// The windows of an ordinary download; memory per connection stays below a few of them.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The connections of one worker to one server.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Channels {
    open: RefCell<Vec<Rc<Channel>>>,
    /// Held while a connection is opened, so that requests which arrive meanwhile share it.
    opening: Mutex<()>,
}

/// One connection.
#[derive(Debug)]
pub(in crate::upstream) struct Channel {
    sender: SendRequest<RequestBody>,
    server: String,
    load: Cell<usize>,
    /// When the last request ended.
    idle_since: Cell<Instant>,
    busy_gauge: IntGauge,
    idle_gauge: IntGauge,
    _slot: OwnedSemaphorePermit,
}

/// One request's share of a connection.
#[derive(Debug)]
pub(in crate::upstream) struct Share(Rc<Channel>);

impl Channels {
    /// The connection with the fewest requests, if it has room.
    pub(in crate::upstream) fn find(&self) -> Option<Share> {
        let mut open = self.open.borrow_mut();
        open.retain(|channel| !channel.sender.is_closed());
        let least = open.iter().min_by_key(|channel| channel.load.get())?;
        (least.load.get() < STREAMS).then(|| Share::new(least.clone()))
    }

    /// Waits until no other request is opening a connection.
    pub(in crate::upstream) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.opening.lock().await
    }

    pub(in crate::upstream) fn add(&self, channel: Channel) -> Share {
        let channel = Rc::new(channel);
        self.open.borrow_mut().push(channel.clone());
        Share::new(channel)
    }

    /// Takes no more requests on this connection. Those that are open may finish.
    pub(in crate::upstream) fn forget(&self, share: &Share) {
        self.open
            .borrow_mut()
            .retain(|channel| !Rc::ptr_eq(channel, &share.0));
    }

    /// Closes the connections that were idle for this long, or that the server closed.
    pub(in crate::upstream) fn sweep(&self, idle: Duration) {
        self.open.borrow_mut().retain(|channel| {
            let is_old = channel.load.get() == 0 && channel.idle_since.get().elapsed() >= idle;
            !is_old && !channel.sender.is_closed()
        });
    }
}

impl Channel {
    /// Opens HTTP/2 on a connected socket.
    pub(in crate::upstream) async fn open(
        stream: TcpStream,
        server: String,
        slot: OwnedSemaphorePermit,
        [busy_gauge, idle_gauge]: [IntGauge; 2],
    ) -> hyper::Result<Self> {
        let mut builder = Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(256 * 1024)
            .max_header_list_size(64 * 1024)
            // A server that is silently gone is detected within half a minute.
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        // It ends when no sender is left, or when the server ends it; the waiting requests get an
        // error then.
        tokio::task::spawn_local(async move { drop(connection.await) });
        idle_gauge.inc();
        Ok(Self {
            sender,
            server,
            load: Cell::new(0),
            idle_since: Cell::new(clock::now()),
            busy_gauge,
            idle_gauge,
            _slot: slot,
        })
    }

    /// The address of the server.
    pub(in crate::upstream) fn server(&self) -> &str {
        &self.server
    }

    pub(in crate::upstream) fn sender(&self) -> SendRequest<RequestBody> {
        self.sender.clone()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.idle_gauge.dec();
    }
}

impl Share {
    fn new(channel: Rc<Channel>) -> Self {
        let load = channel.load.get();
        channel.load.set(load + 1);
        if load == 0 {
            channel.idle_gauge.dec();
            channel.busy_gauge.inc();
        }
        Self(channel)
    }

    pub(in crate::upstream) fn channel(&self) -> &Rc<Channel> {
        &self.0
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let load = self.0.load.get().saturating_sub(1);
        self.0.load.set(load);
        if load == 0 {
            self.0.idle_since.set(clock::now());
            self.0.busy_gauge.dec();
            self.0.idle_gauge.inc();
        }
    }
}

/// Spawns connections and streams on this worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        // Boxed, because the runtime copies the memory of a task as a whole: when it is spawned,
        // when it is done, and when it is dropped.
        tokio::task::spawn_local(Box::pin(future));
    }
}
