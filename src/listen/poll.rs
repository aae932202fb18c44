//! What a worker polls ten times a second: time limits, its log lines and its idle upstream
//! connections.

use std::rc::Rc;
use std::thread;

use tokio::sync::watch;

use crate::gateway::Gateway;
use crate::gateway::connection::{ConnectionState, POLL_INTERVAL, PollClock};
use crate::weak_list::WeakList;

/// The upstream pools are swept every this many polls: every five seconds.
const POLLS_PER_SWEEP: u64 = 50;

/// The open connections of a worker, and the clock by which it times them.
#[derive(Clone, Default)]
pub(super) struct OpenConnections {
    pub(super) open: WeakList<ConnectionState>,
    pub(super) clock: PollClock,
}

/// Polls at every tick until the worker ends: the limits of connections and exchanges, the log
/// lines, and every few seconds the idle upstream connections.
pub(super) async fn poll_forever(
    mut ticks: watch::Receiver<u64>,
    gateway: Rc<Gateway>,
    connections: OpenConnections,
) {
    let mut swept = 0;
    while ticks.changed().await.is_ok() {
        // Before the work, so that a tick that arrives meanwhile leads to another poll.
        let sweep = *ticks.borrow_and_update() / POLLS_PER_SWEEP;
        connections.clock.advance();
        connections.open.each(ConnectionState::check_limits);
        gateway.pools().poll_timeouts();
        gateway.flush();
        // A busy worker misses ticks, and should miss no sweep.
        if sweep != swept {
            swept = sweep;
            gateway.pools().sweep();
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
