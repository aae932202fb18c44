//! What is counted of connections to upstreams.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Metrics of all upstreams.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    connections: IntGaugeVec,
    retries: IntCounterVec,
}

impl UpstreamMetrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// Two metrics of the same name, which a test would have found.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let connections = IntGaugeVec::new(
            Opts::new(
                "upstream_connections",
                "Connections to an upstream, over all workers, by state: busy or idle.",
            ),
            &["upstream", "state"],
        )?;
        registry.register(Box::new(connections.clone()))?;
        let retries = IntCounterVec::new(
            Opts::new(
                "upstream_retries_total",
                "Requests sent again on a fresh connection.",
            ),
            &["upstream"],
        )?;
        registry.register(Box::new(retries.clone()))?;
        Ok(Self {
            connections,
            retries,
        })
    }

    /// Connections of an upstream that an exchange uses.
    pub(super) fn busy(&self, upstream: &str) -> IntGauge {
        self.connections.with_label_values(&[upstream, "busy"])
    }

    /// Connections of an upstream that are kept for the next exchange.
    pub(super) fn idle(&self, upstream: &str) -> IntGauge {
        self.connections.with_label_values(&[upstream, "idle"])
    }

    /// Requests to an upstream that were sent again.
    pub(super) fn retries(&self, upstream: &str) -> IntCounter {
        self.retries.with_label_values(&[upstream])
    }
}
