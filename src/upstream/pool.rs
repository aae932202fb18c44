//! Connections to the servers of an upstream: kept, counted, capped.
//!
//! Decides: which server and which connection a request takes. Trusts: the configuration for addresses. Not here: what is sent
//! (`exchange`).
//!
//! Every worker has pools of its own, so taking a connection takes no lock. A kept connection has no task: the request that uses it reads
//! and writes itself, which saves a wake-up per request. It is looked at when it is taken and by a sweep, and one that the server closed,
//! or that says something unasked, is thrown away.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::IntGauge;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::http1::{Connection, ReadBuffer};
use super::http2::{Channel, Channels, Share};
use super::lease::Lease;
use super::timeouts::Alarms;
use crate::auth::snapshot::Snapshot;
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::gateway::metrics::Metrics;
use crate::policy::upstream::Upstream;

/// The pools of one worker.
#[derive(Debug)]
pub struct Pools {
    worker: usize,
    workers: usize,
    buffer: ReadBuffer,
    alarms: Alarms,
    current: RefCell<Current>,
}

/// The pools of the configuration in force, by the index of the upstream.
#[derive(Debug, Default)]
struct Current {
    generation: u64,
    upstreams: Vec<Rc<Pool>>,
}

/// One upstream's servers.
#[derive(Debug)]
pub struct Pool {
    config: Upstream,
    servers: Vec<Rc<Server>>,
    /// Whose turn it is.
    next: Cell<usize>,
}

/// One server, as one worker sees it.
#[derive(Debug)]
pub struct Server {
    host: String,
    port: u16,
    buffer: ReadBuffer,
    alarms: Alarms,
    channels: Channels,
    /// The most recently used is taken first, so that superfluous ones grow old.
    idle: RefCell<Vec<Idle>>,
    /// This worker's share of `max_connections`.
    slots: Arc<Semaphore>,
    share: usize,
    busy_gauge: IntGauge,
    idle_gauge: IntGauge,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

impl Pools {
    /// Empty pools of one worker out of `workers`.
    pub fn new(worker: usize, workers: usize) -> Self {
        Self {
            worker,
            workers: workers.max(1),
            buffer: ReadBuffer::default(),
            alarms: Alarms::default(),
            current: RefCell::default(),
        }
    }

    /// The pool of an upstream. A configuration seen for the first time gets its pools, with the servers they share with the one before.
    pub fn get(&self, snapshot: &Snapshot, upstream: usize, metrics: &Metrics) -> Option<Rc<Pool>> {
        let mut current = self.current.borrow_mut();
        // A request that began before a reload may come after one that began behind it; pools are only ever replaced by newer ones.
        if current.generation < snapshot.generation() {
            *current = self.rebuild(&current, snapshot, metrics);
        }
        if current.generation == snapshot.generation() {
            return current.upstreams.get(upstream).cloned();
        }
        let config = snapshot.upstream(upstream)?;
        let kept = current
            .upstreams
            .iter()
            .find(|pool| pool.config == *config)
            .cloned();
        kept.or_else(|| {
            self.rebuild(&current, snapshot, metrics)
                .upstreams
                .get(upstream)
                .cloned()
        })
    }

    /// This worker's part of so many connections; the parts of all workers are so many. `check` sees to it that nobody has none.
    fn share(&self, connections: usize) -> usize {
        let (each, left) = (connections / self.workers, connections % self.workers);
        each + usize::from(self.worker < left)
    }

    fn rebuild(&self, current: &Current, snapshot: &Snapshot, metrics: &Metrics) -> Current {
        let mut known: HashMap<(String, String, u16, usize), Rc<Server>> = HashMap::new();
        for pool in &current.upstreams {
            for server in &pool.servers {
                known.insert(
                    (
                        pool.config.name.clone(),
                        server.host.clone(),
                        server.port,
                        server.share,
                    ),
                    server.clone(),
                );
            }
        }
        let upstreams = snapshot.config().upstreams.iter().map(|upstream| {
            let share = self.share(upstream.max_connections.get());
            let servers = upstream.servers.iter().map(|(host, port)| {
                known
                    .get(&(upstream.name.clone(), host.clone(), *port, share))
                    .cloned()
                    .unwrap_or_else(|| {
                        Rc::new(Server::new(
                            &upstream.name,
                            (host, *port),
                            share,
                            (self.buffer.clone(), self.alarms.clone()),
                            metrics,
                        ))
                    })
            });
            // Workers begin with different servers, or all would begin with the first.
            Rc::new(Pool {
                config: upstream.clone(),
                servers: servers.collect(),
                next: Cell::new(self.worker),
            })
        });
        Current {
            generation: snapshot.generation(),
            upstreams: upstreams.collect(),
        }
    }

    /// Looks whether an exchange has waited too long. Called ten times a second.
    pub fn look(&self) {
        self.alarms.look(clock::now().into());
    }

    /// Throws away connections that are too old or closed. Called every few seconds.
    pub fn sweep(&self) {
        let upstreams = self.current.borrow().upstreams.clone();
        for pool in upstreams {
            for server in &pool.servers {
                server.sweep(pool.config.pool_idle);
            }
        }
    }
}

impl Pool {
    /// The upstream's configuration.
    pub fn config(&self) -> &Upstream {
        &self.config
    }

    /// How many servers there are.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whose turn it is. A request asks once and goes on from there, so that it tries every server even while others ask, too.
    pub fn turn(&self) -> usize {
        let turn = self.next.get();
        self.next.set(turn.wrapping_add(1));
        turn
    }

    /// Takes a kept connection to a server, if there is one that need not be waited for.
    pub fn take_kept(&self, turn: usize) -> Option<Lease> {
        let server = self.server(turn).ok()?;
        let slot = server.slots.clone().try_acquire_owned().ok()?;
        server.take_kept(slot, &self.config).ok()
    }

    /// Takes a connection to a server: a kept one if `fresh` allows, else a new one.
    ///
    /// # Errors
    ///
    /// [`Reason::UpstreamBusy`], [`Reason::UpstreamConnect`], [`Reason::UpstreamConnectTimeout`]; nothing was sent.
    pub async fn take(&self, turn: usize, fresh: bool) -> Result<Lease, Denial> {
        self.server(turn)?.take(fresh, &self.config).await
    }
}

impl Pool {
    /// Takes a share of a connection that speaks HTTP/2.
    ///
    /// # Errors
    ///
    /// As [`Self::take`], and [`Reason::UpstreamProtocol`]; nothing was sent.
    pub(super) async fn share(&self, turn: usize) -> Result<Share, Denial> {
        self.server(turn)?.share(&self.config).await
    }

    /// Does not use this connection again. What runs on it may finish.
    pub(super) fn forget(&self, share: &Share) {
        for server in &self.servers {
            server.channels.forget(share);
        }
    }

    fn server(&self, turn: usize) -> Result<&Rc<Server>, Denial> {
        let place = turn.checked_rem(self.servers.len()).unwrap_or_default();
        Ok(self.servers.get(place).ok_or(Reason::Internal)?)
    }
}

impl Server {
    fn new(
        upstream: &str,
        (host, port): (&str, u16),
        share: usize,
        (buffer, alarms): (ReadBuffer, Alarms),
        metrics: &Metrics,
    ) -> Self {
        let gauge = |state: &str| {
            metrics
                .upstream_connections
                .with_label_values(&[upstream, state])
        };
        Self {
            host: host.to_owned(),
            port,
            buffer,
            alarms,
            channels: Channels::default(),
            idle: RefCell::default(),
            slots: Arc::new(Semaphore::new(share)),
            share,
            busy_gauge: gauge("busy"),
            idle_gauge: gauge("idle"),
        }
    }

    async fn take(self: &Rc<Self>, fresh: bool, config: &Upstream) -> Result<Lease, Denial> {
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
            self.alarms.add(),
        ));
        Ok(Lease::new(connection, false, self.clone(), slot))
    }

    /// A kept connection that may be used; without one, the slot comes back.
    fn take_kept(
        self: &Rc<Self>,
        slot: OwnedSemaphorePermit,
        config: &Upstream,
    ) -> Result<Lease, OwnedSemaphorePermit> {
        let now = clock::roughly_now();
        while let Some(idle) = self.pop() {
            if idle.is_fresh(config.pool_idle, now) {
                return Ok(Lease::new(idle.connection, true, self.clone(), slot));
            }
        }
        Err(slot)
    }

    /// A share of a connection that speaks HTTP/2: of one that is there, else of a new one.
    async fn share(&self, config: &Upstream) -> Result<Share, Denial> {
        if let Some(share) = self.channels.find() {
            return Ok(share);
        }
        // Whoever is before us may wait for a server that does not answer.
        let _turn = timeout(config.connect_timeout, self.channels.turn())
            .await
            .map_err(|_| Reason::UpstreamConnectTimeout.because(self.to_string()))?;
        // Somebody else may have opened one meanwhile.
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

    /// A place among the connections.
    async fn slot(&self, config: &Upstream) -> Result<OwnedSemaphorePermit, Denial> {
        match self.slots.clone().try_acquire_owned() {
            Ok(slot) => Ok(slot),
            Err(_) => Ok(
                timeout(config.connect_timeout, self.slots.clone().acquire_owned())
                    .await
                    .map_err(|_| Reason::UpstreamBusy)?
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

    fn pop(&self) -> Option<Idle> {
        let idle = self.idle.borrow_mut().pop();
        if idle.is_some() {
            self.idle_gauge.dec();
        }
        idle
    }

    /// Keeps a connection that can be used again.
    pub(super) fn keep(&self, connection: Box<Connection>) {
        self.idle_gauge.inc();
        self.idle.borrow_mut().push(Idle {
            connection,
            since: clock::roughly_now(),
        });
    }

    pub(super) fn lease_began(&self) {
        self.busy_gauge.inc();
    }

    pub(super) fn lease_ended(&self) {
        self.busy_gauge.dec();
    }

    fn sweep(&self, pool_idle: Duration) {
        self.channels.sweep(pool_idle);
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        let now = clock::roughly_now();
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

impl Idle {
    /// Whether it may be used: not kept for too long, and the server has neither closed it nor said anything unasked.
    fn is_fresh(&self, pool_idle: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < pool_idle && self.connection.is_quiet()
    }
}
