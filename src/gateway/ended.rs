//! Whom this gateway ended to keep its resources for others, and how that is logged.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock;
use crate::log::LogThrottle;
use crate::metrics::labels;

labels! {
    /// Why a connection was ended in favour of others. What the client did wrong on it is a
    /// [`CloseCause`](super::connection::CloseCause).
    pub(crate) enum EndCause {
        /// The client's address has its share of the connections.
        AddressShare = "address_share",
        /// The networks around the client's address have their share of the connections.
        NetworkShare = "network_share",
        /// TLS handshakes from the client's address come faster than their rate.
        HandshakeRate = "handshake_rate",
        /// All connections are taken, and this one was idle for the longest time.
        IdleShed = "idle_shed",
        /// All connections are taken and none is idle, and this one's client had by far the most.
        ShareShed = "share_shed",
        /// The clients hold more answers than the process may hold for them, and this one most.
        Unsent = "unsent",
        /// On the admin listener: all places of its stage are taken, and this one was the oldest.
        AdminFull = "admin_full",
        /// On the admin listener: it stayed in one stage for too long.
        AdminSlow = "admin_slow",
    }
}

/// A log line that is written at most every ten seconds, with the number of events since the last
/// one.
#[derive(Debug)]
pub(crate) struct CountedLine {
    throttle: LogThrottle,
    events: AtomicU64,
}

impl CountedLine {
    pub(crate) const fn new() -> Self {
        Self {
            throttle: LogThrottle::new(),
            events: AtomicU64::new(0),
        }
    }

    /// Counts an event. If a line is due, how many events it stands for.
    pub(crate) fn count(&self) -> Option<u64> {
        self.events.fetch_add(1, Ordering::Relaxed);
        self.throttle
            .may_log(clock::unix_now())
            .then(|| self.events.swap(0, Ordering::Relaxed))
    }
}
