//! Pools of connections to the servers of an upstream: which server and which connection a request
//! gets.
//!
//! Every worker has pools of its own, so taking a connection takes no lock. A kept connection has
//! no task: the request that uses it reads and writes itself, which saves a wake-up per request. It
//! is checked when it is taken and by a sweep, and discarded if the server has closed it or has
//! sent unsolicited bytes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use prometheus::IntCounter;

use super::http2::Share;
use super::lease::Lease;
use super::metrics::UpstreamMetrics;
use super::occupancy::Occupancies;
use super::timeouts::Timeouts;
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::http1::ReadBuffer;
use crate::policy::in_force::InForce;
use crate::policy::upstream::Upstream;
use crate::upstream::server::Server;

/// The pools of one worker.
#[derive(Debug)]
pub struct Pools {
    worker: usize,
    workers: usize,
    buffer: ReadBuffer,
    timeouts: Timeouts,
    metrics: Arc<UpstreamMetrics>,
    current: RefCell<Current>,
}

/// The pools of the configuration in force, by the index of the upstream.
#[derive(Debug, Default)]
struct Current {
    generation: u64,
    upstreams: Vec<Rc<Pool>>,
}

/// The servers of one upstream.
#[derive(Debug)]
pub struct Pool {
    config: Upstream,
    retries: IntCounter,
    servers: Vec<Rc<Server>>,
    pub(super) occupancies: Rc<Occupancies>,
    /// The number of the next request, by which servers take turns.
    next: Cell<usize>,
}

impl Current {
    /// The servers by upstream, host, port and share of the connections.
    fn servers(&self) -> HashMap<(String, String, u16, usize), Rc<Server>> {
        let mut servers = HashMap::new();
        for pool in &self.upstreams {
            for server in &pool.servers {
                let key = (
                    pool.config.name.clone(),
                    server.host.clone(),
                    server.port,
                    server.share,
                );
                servers.insert(key, server.clone());
            }
        }
        servers
    }
}

impl Pools {
    /// Empty pools of one worker out of `workers`.
    pub fn new(worker: usize, workers: usize, metrics: Arc<UpstreamMetrics>) -> Self {
        Self {
            worker,
            workers: workers.max(1),
            buffer: ReadBuffer::default(),
            timeouts: Timeouts::default(),
            metrics,
            current: RefCell::default(),
        }
    }

    /// The buffer into which the connections of this worker read.
    pub(crate) fn read_buffer(&self) -> &ReadBuffer {
        &self.buffer
    }

    /// The pool of an upstream. A configuration that is seen for the first time gets its pools,
    /// which share servers with the configuration before.
    pub fn get(&self, in_force: &InForce, upstream: usize) -> Option<Rc<Pool>> {
        let mut current = self.current.borrow_mut();
        // A request that began before a reload may come after one that began after it; pools are
        // only replaced by newer ones.
        if current.generation < in_force.generation() {
            *current = self.rebuild(&current, in_force);
        }
        if current.generation == in_force.generation() {
            return current.upstreams.get(upstream).cloned();
        }
        let config = in_force.upstream(upstream)?;
        let kept = current
            .upstreams
            .iter()
            .find(|pool| pool.config == *config)
            .cloned();
        kept.or_else(|| {
            self.rebuild(&current, in_force)
                .upstreams
                .get(upstream)
                .cloned()
        })
    }

    /// This worker's share of so many connections; the shares of all workers add up to it. `config`
    /// refuses fewer connections than workers, so no worker has none.
    fn share(&self, connections: usize) -> usize {
        let (each, left) = (connections / self.workers, connections % self.workers);
        each + usize::from(self.worker < left)
    }

    fn rebuild(&self, current: &Current, in_force: &InForce) -> Current {
        let known = current.servers();
        let upstreams = in_force.config().upstreams.iter().map(|upstream| {
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
                            (self.buffer.clone(), self.timeouts.clone()),
                            &self.metrics,
                        ))
                    })
            });
            let streams = self.share(upstream.max_streams.get());
            let occupancies = Occupancies::new(upstream, share, streams);
            let before = current
                .upstreams
                .iter()
                .find(|pool| pool.config.name == upstream.name)
                .map(|pool| &pool.occupancies)
                .filter(|before| before.is_equal(&occupancies));
            // Workers start with different servers, or all would start with the first.
            Rc::new(Pool {
                config: upstream.clone(),
                retries: self.metrics.retries(&upstream.name),
                occupancies: before.cloned().unwrap_or_else(|| Rc::new(occupancies)),
                servers: servers.collect(),
                next: Cell::new(self.worker),
            })
        });
        Current {
            generation: in_force.generation(),
            upstreams: upstreams.collect(),
        }
    }

    /// Wakes the exchanges that have waited too long. Called ten times a second.
    pub fn poll_timeouts(&self) {
        self.timeouts.expire(clock::now().into());
    }

    /// Discards connections that are too old or closed. Called every few seconds.
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
    pub(super) fn count_retry(&self) {
        self.retries.inc();
    }

    /// The upstream's configuration.
    pub fn config(&self) -> &Upstream {
        &self.config
    }

    /// How many servers there are.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// The turn of the next request. A request takes one and counts up from there, so that it tries
    /// every server even while others take turns, too.
    pub fn turn(&self) -> usize {
        let turn = self.next.get();
        self.next.set(turn.wrapping_add(1));
        turn
    }

    /// Takes a kept connection to a server if there is one and no wait is needed.
    pub fn take_kept(&self, turn: usize) -> Option<Lease> {
        let server = self.server(turn).ok()?;
        let slot = server.slots.clone().try_acquire_owned().ok()?;
        server.take_kept(slot, &self.config).ok()
    }

    /// Takes a connection to a server: a kept one unless `fresh`, else a new one.
    ///
    /// # Errors
    ///
    /// [`Reason::UpstreamBusy`], [`Reason::UpstreamConnect`], [`Reason::UpstreamConnectTimeout`];
    /// nothing was sent.
    pub async fn take(&self, turn: usize, fresh: bool) -> Result<Lease, Denial> {
        self.server(turn)?.take(fresh, &self.config).await
    }

    /// Takes a share of an HTTP/2 connection.
    ///
    /// # Errors
    ///
    /// As [`Self::take`], and [`Reason::UpstreamProtocol`]; nothing was sent.
    pub(super) async fn share(&self, turn: usize) -> Result<Share, Denial> {
        self.server(turn)?.share(&self.config).await
    }

    /// Takes no more requests on this connection. Those that are open may finish.
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
