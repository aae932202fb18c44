//! What a worker looks at ten times a second.

use std::rc::Rc;
use std::thread;

use tokio::sync::watch;

use crate::gateway::Gateway;
use crate::gateway::connection::{ConnectionState, POLL_INTERVAL, PollClock};
use crate::weak_list::Living;

/// How many looks lie between two at the kept upstream connections: five seconds.
const POLLS_PER_SWEEP: u64 = 50;

/// The connections of a worker, and the clock by which it looks at them.
#[derive(Clone, Default)]
pub(super) struct OpenConnections {
    pub(super) open: Living<ConnectionState>,
    pub(super) clock: PollClock,
}

/// Looks around whenever it is told to, until the worker ends: at every connection and exchange, at
/// the log, and now and then at what is kept.
pub(super) async fn poll_forever(
    mut ticks: watch::Receiver<u64>,
    gateway: Rc<Gateway>,
    connections: OpenConnections,
) {
    let mut swept = 0;
    while ticks.changed().await.is_ok() {
        // Before the work, so that a beat that comes meanwhile is another look.
        let sweep = *ticks.borrow_and_update() / POLLS_PER_SWEEP;
        connections.clock.advance();
        connections.open.each(ConnectionState::check_limits);
        gateway.pools().poll_timeouts();
        gateway.flush();
        // A busy worker misses beats, and should miss no sweep.
        if sweep != swept {
            swept = sweep;
            gateway.pools().sweep();
        }
    }
}

/// Tells the workers when to look around, until they have ended. They have no timer of their own
/// for it: where one is set, every wait for events sets one in the kernel and takes it back when an
/// event comes, which costs more than this thread. It is one, so that nothing can keep it busy.
pub(super) fn tick(ticks: &watch::Sender<u64>) {
    while !ticks.is_closed() {
        #[allow(clippy::disallowed_methods, reason = "a thread that serves no request")]
        thread::sleep(POLL_INTERVAL);
        ticks.send_modify(|tick| *tick += 1);
    }
}
