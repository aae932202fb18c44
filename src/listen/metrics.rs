//! What is counted of client connections.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use crate::gateway::connection::Cause;

/// Metrics of all listeners.
#[derive(Clone, Debug)]
pub(super) struct ListenMetrics {
    /// Open client connections.
    pub(super) connections: IntGauge,
    failed: IntCounterVec,
}

impl ListenMetrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// Two metrics of the same name, which a test would have found.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let connections = IntGauge::new("connections", "Open client connections.")?;
        registry.register(Box::new(connections.clone()))?;
        let failed = IntCounterVec::new(
            Opts::new(
                "connections_failed_total",
                "Client connections that ended otherwise than by their own end: handshake, handshake_timeout, head_timeout, stalled, protocol.",
            ),
            &["cause"],
        )?;
        registry.register(Box::new(failed.clone()))?;
        // Counted from zero: a series that appears with its first event hides that event from `rate`.
        for cause in Cause::ALL {
            failed.with_label_values(&[cause.as_str()]);
        }
        Ok(Self {
            connections,
            failed,
        })
    }

    /// Counts a connection that ended otherwise than by its own end.
    pub(super) fn failed(&self, cause: Cause) {
        self.failed.with_label_values(&[cause.as_str()]).inc();
    }
}
