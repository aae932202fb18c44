//! Metrics of client connections.

use prometheus::IntGauge;

use super::resets::ResetCode;
use crate::gateway::connection::CloseCause;
use crate::metrics::{Counters, metrics};

metrics! {
    /// Metrics of all listeners.
    pub(super) struct ListenMetrics {
        pub(super) connections: IntGauge = "connections",
            "Open client connections.";
        pub(super) h2_streams: IntGauge = "h2_streams",
            "Open requests over HTTP/2.";
        pub(super) unsent: IntGauge = "unsent_bytes",
            "Bytes of answers that their clients have not taken.";
        pub(super) resets: Counters<ResetCode> = "h2_resets_total"["code"],
            "Streams of HTTP/2 that the gateway reset, by error code: malformed requests among them (protocol_error).";
        pub(super) failed: Counters<CloseCause> = "connections_failed_total"["cause"],
            "Client connections that ended early, by cause: handshake, handshake_timeout, head_timeout, stalled, shed, protocol.";
    }
}
