//! One server of an upstream, as one worker sees it, and its idle connections.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::IntGauge;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::clock;
use crate::denial::{Denial, Reason};
use crate::http1::ReadBuffer;
use crate::policy::upstream::Upstream;
use crate::upstream::http1::Connection;
use crate::upstream::http2::{Channel, Channels, Share};
use crate::upstream::lease::Lease;
use crate::upstream::metrics::UpstreamMetrics;
use crate::upstream::timeouts::Timeouts;

/// One server, as one worker sees it.
#[derive(Debug)]
pub struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    buffer: ReadBuffer,
    timeouts: Timeouts,
    pub(super) channels: Channels,
    /// The most recently used connection is taken first, so that superfluous ones grow old.
    idle: RefCell<Vec<IdleConnection>>,
    /// This worker's share of `max_connections`.
    pub(super) slots: Arc<Semaphore>,
    pub(super) share: usize,
    busy_gauge: IntGauge,
    idle_gauge: IntGauge,
}

#[derive(Debug)]
struct IdleConnection {
    connection: Box<Connection>,
    since: Instant,
}

impl Server {
    pub(super) fn new(
        upstream: &str,
        (host, port): (&str, u16),
        share: usize,
        (buffer, timeouts): (ReadBuffer, Timeouts),
        metrics: &UpstreamMetrics,
    ) -> Self {
        Self {
            host: host.to_owned(),
            port,
            buffer,
            timeouts,
            channels: Channels::default(),
            idle: RefCell::default(),
            slots: Arc::new(Semaphore::new(share)),
            share,
            busy_gauge: metrics.busy(upstream),
            idle_gauge: metrics.idle(upstream),
        }
    }

    pub(super) async fn take(
        self: &Rc<Self>,
        fresh: bool,
        config: &Upstream,
    ) -> Result<Lease, Denial> {
        let mut slot = self.slot(config).await?;
        if !fresh {
            slot = match self.take_kept(slot, config) {
                Ok(lease) => return Ok(lease),
                Err(slot) => slot,
            };
        }
        let stream = self.connect(config).await?;
        let connection = Box::new(Connection::new(
            stream,
            self.buffer.clone(),
            self.timeouts.add(),
        ));
        Ok(Lease::new(connection, false, self.clone(), slot))
    }

    /// A kept connection that can be used; without one, the slot is returned.
    pub(super) fn take_kept(
        self: &Rc<Self>,
        slot: OwnedSemaphorePermit,
        config: &Upstream,
    ) -> Result<Lease, OwnedSemaphorePermit> {
        let now = clock::coarse_now();
        while let Some(idle) = self.pop() {
            if idle.is_fresh(config.pool_idle, now) {
                return Ok(Lease::new(idle.connection, true, self.clone(), slot));
            }
        }
        Err(slot)
    }

    /// A share of an HTTP/2 connection: of an open one, else of a new one.
    pub(super) async fn share(&self, config: &Upstream) -> Result<Share, Denial> {
        if let Some(share) = self.channels.find() {
            return Ok(share);
        }
        // The request that is opening a connection may be waiting for a server that does not
        // answer.
        let _turn = timeout(config.connect_timeout, self.channels.turn())
            .await
            .map_err(|_| Reason::UpstreamConnectTimeout.because(self.to_string()))?;
        // Another request may have opened one meanwhile.
        if let Some(share) = self.channels.find() {
            return Ok(share);
        }
        let slot = self.slot(config).await?;
        let stream = self.connect(config).await?;
        let gauges = [self.busy_gauge.clone(), self.idle_gauge.clone()];
        let opening = Channel::open(stream, self.to_string(), slot, gauges);
        match timeout(config.connect_timeout, opening).await {
            Err(_) => Err(Reason::UpstreamConnectTimeout.because(self.to_string())),
            Ok(Err(_)) => Err(Reason::UpstreamProtocol.because(format!("{self}: not HTTP/2"))),
            Ok(Ok(channel)) => Ok(self.channels.add(channel)),
        }
    }

    /// A slot among the connections.
    async fn slot(&self, config: &Upstream) -> Result<OwnedSemaphorePermit, Denial> {
        match self.slots.clone().try_acquire_owned() {
            Ok(slot) => Ok(slot),
            Err(_) => Ok(
                timeout(config.connect_timeout, self.slots.clone().acquire_owned())
                    .await
                    .map_err(|_| Reason::UpstreamBusy.because("`max_connections` are in use"))?
                    .map_err(|_| Reason::Internal)?,
            ),
        }
    }

    async fn connect(&self, config: &Upstream) -> Result<TcpStream, Denial> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let stream = match timeout(config.connect_timeout, connecting).await {
            Err(_) => return Err(Reason::UpstreamConnectTimeout.because(self.to_string())),
            Ok(Err(error)) => {
                return Err(Reason::UpstreamConnect.because(format!("{self}: {}", error.kind())));
            }
            Ok(Ok(stream)) => stream,
        };
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    fn pop(&self) -> Option<IdleConnection> {
        let idle = self.idle.borrow_mut().pop();
        if idle.is_some() {
            self.idle_gauge.dec();
        }
        idle
    }

    /// Keeps a connection that can be used again.
    pub(super) fn keep(&self, connection: Box<Connection>) {
        self.idle_gauge.inc();
        self.idle.borrow_mut().push(IdleConnection {
            connection,
            since: clock::coarse_now(),
        });
    }

    pub(super) fn lease_began(&self) {
        self.busy_gauge.inc();
    }

    pub(super) fn lease_ended(&self) {
        self.busy_gauge.dec();
    }

    pub(super) fn sweep(&self, pool_idle: Duration) {
        self.channels.sweep(pool_idle);
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        let now = clock::coarse_now();
        idle.retain(|idle| idle.is_fresh(pool_idle, now));
        self.idle_gauge
            .sub(i64::try_from(before - idle.len()).unwrap_or_default());
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.idle_gauge
            .sub(i64::try_from(self.idle.get_mut().len()).unwrap_or_default());
    }
}

impl IdleConnection {
    /// Whether it can be used: it was not idle for too long, and the server has neither closed it
    /// nor sent unsolicited bytes.
    fn is_fresh(&self, pool_idle: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < pool_idle && self.connection.is_quiet()
    }
}
