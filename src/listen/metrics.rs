//! Metrics of client connections.

use prometheus::IntGauge;

use crate::gateway::connection::CloseCause;
use crate::metrics::{Counters, metrics};

metrics! {
    /// Metrics of all listeners.
    pub(super) struct ListenMetrics {
        pub(super) connections: IntGauge = "connections",
            "Open client connections.";
        pub(super) failed: Counters<CloseCause> = "connections_failed_total"["cause"],
            "Client connections that ended early, by cause: handshake, handshake_timeout, head_timeout, stalled, protocol.";
    }
}
