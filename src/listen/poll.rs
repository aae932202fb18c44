//! What a worker polls ten times a second: time limits, its log lines and its idle upstream
//! connections.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use tokio::sync::watch;

use super::idle::OpenConnections;
use super::metrics::ListenMetrics;
use super::refusals;
use crate::gateway::Gateway;
use crate::gateway::connection::{ConnectionState, POLL_INTERVAL};
use crate::gateway::ended::EndCause;
use crate::network::Network;
use crate::weak_list::WeakList;

/// The upstream pools are swept every this many polls: every five seconds.
const POLLS_PER_SWEEP: u64 = 50;

/// Held bytes below which no worker sheds: the least that can be configured, over many workers.
const SHED_FLOOR: usize = 16 * 1024;

/// Polls at every tick until the worker ends: the limits of connections and exchanges, the log
/// lines, and every few seconds the idle upstream connections.
pub(super) async fn poll_forever(
    mut ticks: watch::Receiver<u64>,
    gateway: Rc<Gateway>,
    connections: OpenConnections,
    metrics: Arc<ListenMetrics>,
    workers: usize,
) {
    let mut swept = 0;
    while ticks.changed().await.is_ok() {
        // Before the work, so that a tick that arrives meanwhile leads to another poll.
        let sweep = *ticks.borrow_and_update() / POLLS_PER_SWEEP;
        connections.clock.advance();
        connections.open.each(ConnectionState::check_limits);
        shed(&gateway, &connections.open, workers);
        let (bytes, streams) = gateway.held().change();
        metrics.unsent.add(bytes);
        metrics.h2_streams.add(streams);
        gateway.pools().poll_timeouts();
        gateway.flush();
        // A busy worker misses ticks, and should miss no sweep.
        if sweep != swept {
            swept = sweep;
            gateway.pools().sweep();
        }
    }
}

/// Ends connections of the clients that hold most, if the clients of this worker hold more than its
/// part of what the process may hold.
fn shed(gateway: &Gateway, open: &WeakList<ConnectionState>, workers: usize) {
    let bytes = gateway.held().bytes.get();
    // Below this there is nothing to look up.
    if bytes < SHED_FLOOR {
        return;
    }
    let snapshot = gateway.process().snapshot();
    let config = snapshot.config();
    let limit = config.connections.unsent_total / workers.max(1);
    let Some(mut excess) = bytes.checked_sub(limit) else {
        return;
    };
    let holding = |connection: &ConnectionState| {
        let held = Some(connection.unsent()).filter(|held| *held > 0)?;
        // A connection of a proxy is not one client's.
        let client = connection.facts().client_networks(&config.trusted_proxies);
        Some((held, client.map(|client| client.own)))
    };
    let mut all = open.keyed(holding);
    let mut sums: HashMap<Network, usize> = HashMap::new();
    for ((held, network), _) in &all {
        if let Some(network) = network {
            *sums.entry(*network).or_default() += held;
        }
    }
    let sum = |network: &Option<Network>| network.and_then(|network| sums.get(&network).copied());
    all.sort_by_key(|((held, network), _)| {
        std::cmp::Reverse((sum(network).unwrap_or(*held), *held))
    });
    for ((held, _), connection) in all {
        let Some(connection) = connection.upgrade() else {
            continue;
        };
        connection.end();
        let address = connection.facts().address();
        refusals::note(EndCause::Unsent, Some(address), gateway.process().metrics());
        excess = excess.saturating_sub(held);
        if excess == 0 {
            break;
        }
    }
}

/// Ticks until the workers have ended. Workers have no timer of their own for polling: where one is
/// set, every wait for events sets a timer in the kernel and cancels it when an event arrives,
/// which costs more than this thread. It is a thread of its own, so that nothing can keep it busy.
pub(super) fn tick(ticks: &watch::Sender<u64>) {
    while !ticks.is_closed() {
        #[allow(clippy::disallowed_methods, reason = "a thread that serves no request")]
        thread::sleep(POLL_INTERVAL);
        ticks.send_modify(|tick| *tick += 1);
    }
}
