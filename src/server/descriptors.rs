//! How the file descriptors of the process are divided, so that idle clients cannot take those of
//! probes, upstreams, the store and reloads.
//!
//! Every connection takes one. The soft limit is raised to the hard one first; it is low for
//! programs that use `select`, and this one does not. What is reserved comes off it, and client and
//! upstream connections share the rest: as configured if it suffices, otherwise fewer.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::policy::Config;
use crate::policy::upstream::{Protocol, Upstream};

/// Connections to the admin listener, if there are descriptors enough.
const ADMIN: usize = 512;

/// What the process has open besides connections and for every worker: the log, listeners, the
/// queues of events, watched folders, files of a reload, connections to the store and to servers of
/// keys. A generous estimate.
const BASE: usize = 64;

/// What a worker has open besides connections: its queue of events and its wakers.
const EACH_WORKER: usize = 8;

/// The fewest client connections that are worth a start.
const FEWEST_CLIENTS: usize = 16;

/// The limit of a process that has none: the kernel's own default.
const UNLIMITED: u64 = 1 << 20;

/// The number of connections of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Division {
    /// To the admin listener.
    pub(super) admin: usize,
    /// From clients.
    pub(super) clients: usize,
    /// To all servers of all upstreams.
    upstreams: usize,
}

/// Raises the soft limit to the hard one, and returns how many descriptors there may be.
pub(super) fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let highest = maximum.unwrap_or(UNLIMITED);
    let mut limit = current.unwrap_or(highest);
    if limit < highest {
        let raised = Rlimit {
            current: Some(highest),
            maximum,
        };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit = highest,
            Err(error) => tracing::warn!(%error, limit, "cannot raise the limit of open files"),
        }
    }
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl Division {
    /// Divides so many descriptors.
    ///
    /// # Errors
    ///
    /// They are too few for any client.
    pub(super) fn new(limit: usize, config: &Config) -> anyhow::Result<Self> {
        let admin = (limit / 8).min(ADMIN);
        let reserve = admin + reserve(config);
        let wanted = upstream_connections(&config.upstreams);
        let left = limit.saturating_sub(reserve);
        if left < 2 * FEWEST_CLIENTS {
            anyhow::bail!(
                "the limit of open files, {limit}, is too low: set `LimitNOFILE=` (systemd) or `ulimit -n` to at least {}",
                (reserve + 2 * FEWEST_CLIENTS) * 8 / 7 + 1
            );
        }
        // A client's request needs a connection of each kind.
        let upstreams = wanted.min((left / 2).max(left.saturating_sub(config.connections.max)));
        let clients = config.connections.max.min(left - upstreams);
        if clients < config.connections.max || upstreams < wanted {
            tracing::warn!(
                limit,
                client_connections = clients,
                upstream_connections = upstreams,
                "the limit of open files is too low for `connections.max`, and `max_connections` and `max_streams` of the upstreams, so there are fewer connections; set `LimitNOFILE=` (systemd) or `ulimit -n` to at least {}",
                ADMIN + self::reserve(config) + config.connections.max + wanted
            );
        }
        Ok(Self {
            admin,
            clients,
            upstreams,
        })
    }

    /// Divides the same descriptors after a reload, which changes upstreams and not the number of
    /// client connections.
    pub(super) fn again(clients: usize, config: &Config) -> Self {
        let limit = raise_limit();
        let admin = (limit / 8).min(ADMIN);
        Self {
            admin,
            clients,
            upstreams: limit.saturating_sub(admin + reserve(config) + clients),
        }
    }

    /// Lowers the connections of each upstream in proportion, if there are not enough descriptors
    /// for all of them. Each worker keeps one to each server.
    pub(super) fn fit(self, config: &mut Config) {
        let wanted = upstream_connections(&config.upstreams);
        if wanted <= self.upstreams {
            return;
        }
        for upstream in &mut config.upstreams {
            for limit in [&mut upstream.max_connections, &mut upstream.max_streams] {
                let share = limit.get() * self.upstreams / wanted;
                *limit = share
                    .try_into()
                    .unwrap_or(config.workers)
                    .max(config.workers);
            }
        }
    }
}

/// What is not for client and upstream connections, nor for the admin listener.
fn reserve(config: &Config) -> usize {
    let database = config.database.as_ref();
    // One more connection receives notifications.
    let database = database.map_or(0, |database| database.pool.get() + 1);
    let identity = config.identity.as_ref();
    let identity = identity.map_or(0, |identity| identity.concurrency.get());
    BASE + EACH_WORKER * config.workers.get() + database + identity
}

/// The connections to all servers of all upstreams, those of live streams among them.
fn upstream_connections(upstreams: &[Upstream]) -> usize {
    let connections = |upstream: &Upstream| {
        let streams = match upstream.protocol {
            Protocol::Http1 => upstream.max_streams.get(),
            // They share the connections of requests.
            Protocol::Http2 => 0,
        };
        upstream.servers.len() * (upstream.max_connections.get() + streams)
    };
    upstreams.iter().map(connections).sum()
}
