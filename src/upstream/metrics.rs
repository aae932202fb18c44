//! Metrics of connections to upstreams.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::metrics::metrics;

metrics! {
    /// Metrics of all upstreams.
    pub struct UpstreamMetrics {
        connections: IntGaugeVec = "upstream_connections"["upstream", "state"],
            "Connections to an upstream, over all workers, by state: busy or idle.";
        retries: IntCounterVec = "upstream_retries_total"["upstream"],
            "Requests sent again on a fresh connection.";
    }
}

impl UpstreamMetrics {
    /// Connections to an upstream that an exchange uses.
    pub(super) fn busy(&self, upstream: &str) -> IntGauge {
        self.connections.with_label_values(&[upstream, "busy"])
    }

    /// Connections to an upstream that are kept for the next exchange.
    pub(super) fn idle(&self, upstream: &str) -> IntGauge {
        self.connections.with_label_values(&[upstream, "idle"])
    }

    /// Requests to an upstream that were retried.
    pub(super) fn retries(&self, upstream: &str) -> IntCounter {
        self.retries.with_label_values(&[upstream])
    }
}
