//! What a worker polls ten times a second: time limits, its log lines and its idle upstream
//! connections.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::thread;

use tokio::sync::watch;

use super::idle::OpenConnections;
use super::load::Load;
use super::metrics::ListenMetrics;
use super::refusals;
use crate::gateway::Gateway;
use crate::gateway::connection::{ConnectionState, POLL_INTERVAL};
use crate::gateway::ended::EndCause;
use crate::gateway::overload::{Budget, largest};
use crate::network::{Network, Networks};
use crate::policy::listen::TrustedProxies;
use crate::weak_list::WeakList;

/// The upstream pools are swept every this many polls: every five seconds.
const POLLS_PER_SWEEP: u64 = 50;

/// Fewer connections are not many, however few there may be. A choice: a browser has six.
const FEW: usize = 8;

/// Held bytes below which no worker sheds: the least that can be configured, over many workers.
const SHED_FLOOR: usize = 16 * 1024;

/// Polls at every tick until the worker ends: the limits of connections and exchanges, the log
/// lines, and every few seconds the idle upstream connections.
pub(super) async fn poll_forever(
    mut ticks: watch::Receiver<u64>,
    gateway: Rc<Gateway>,
    connections: OpenConnections,
    metrics: Arc<ListenMetrics>,
    load: Arc<Load>,
    workers: usize,
) {
    let mut swept = 0;
    while ticks.changed().await.is_ok() {
        // Before the work, so that a tick that arrives meanwhile leads to another poll.
        let sweep = *ticks.borrow_and_update() / POLLS_PER_SWEEP;
        connections.clock.advance();
        connections.open.each(ConnectionState::check_limits);
        shed(&gateway, &connections.open, workers);
        note_largest(&gateway, &connections.open, &load, workers);
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
    let mut all = holding(open, &config.trusted_proxies, ConnectionState::unsent);
    let sums = sums(&all);
    let sum = |client: &Option<Networks>| client.and_then(|client| sums.get(&client.own).copied());
    all.sort_by_key(|((held, client), _)| std::cmp::Reverse((sum(client).unwrap_or(*held), *held)));
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

/// What a connection holds, and for whom; a connection of a proxy is not one client's.
type Holding = (usize, Option<Networks>);

/// The connections that hold any of something.
fn holding(
    open: &WeakList<ConnectionState>,
    trusted: &TrustedProxies,
    amount: impl Fn(&ConnectionState) -> usize,
) -> Vec<(Holding, Weak<ConnectionState>)> {
    open.keyed(|connection| {
        let held = Some(amount(connection)).filter(|held| *held > 0)?;
        Some((held, connection.facts().client_networks(trusted)))
    })
}

/// How much the connections of each client hold.
fn sums(all: &[(Holding, Weak<ConnectionState>)]) -> HashMap<Network, usize> {
    let mut sums: HashMap<Network, usize> = HashMap::new();
    for ((held, client), _) in all {
        for network in client.iter().flat_map(|client| client.all()) {
            *sums.entry(network).or_default() += held;
        }
    }
    sums
}

/// Notes which clients hold most of what is short, so that their next requests are refused. Each
/// worker looks at its own part.
fn note_largest(gateway: &Gateway, open: &WeakList<ConnectionState>, load: &Load, workers: usize) {
    let process = gateway.process();
    let snapshot = process.snapshot();
    let config = snapshot.config();
    let (limits, trusted) = (&config.connections, &config.trusted_proxies);
    // An address that may have all connections is not one client's.
    let max = process.max_connections();
    if limits.max_per_address.is_some_and(|most| most >= max) {
        return gateway.overload().replace(Vec::new());
    }
    let mut all = Vec::new();
    let mut add = |budget, found: Vec<Network>| {
        all.extend(found.into_iter().map(|network| (network, budget)));
    };
    if let Some(whole) = load.scarce(|| connections_of(open)) {
        // One without a request makes room for a new one at any time.
        let busy = holding(open, trusted, |connection| {
            usize::from(connection.idle_since().is_none())
        });
        add(
            Budget::Connections,
            largest(whole, busy.len(), FEW, sums(&busy)),
        );
    }
    let (whole, used) = (
        limits.unsent_total / workers.max(1),
        gateway.held().bytes.get(),
    );
    if used > whole - whole / 4 {
        let unsent = holding(open, trusted, ConnectionState::unsent);
        add(Budget::Unsent, largest(whole, used, 1, sums(&unsent)));
    }
    gateway.overload().replace(all);
}

fn connections_of(open: &WeakList<ConnectionState>) -> usize {
    let count = Cell::new(0);
    open.each(|_| count.set(count.get() + 1));
    count.get()
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
