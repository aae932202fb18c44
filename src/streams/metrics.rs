//! What is counted of live streams.
//!
//! Decides: names and labels. Trusts: the registry, for what began and why it ended. Not here: ending any.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::record::stream::{Cause, Kind};

/// Counters of live streams. Every combination is there from the start, at zero.
#[derive(Clone, Debug)]
pub struct StreamMetrics {
    open: IntGaugeVec,
    ended: IntCounterVec,
}

impl StreamMetrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// Two metrics of the same name.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let open = IntGaugeVec::new(
            Opts::new(
                "streams_open",
                "Live streams by kind: websocket, sse or grpc.",
            ),
            &["kind"],
        )?;
        let causes = Cause::ALL.map(Cause::as_str).join(", ");
        let ended = IntCounterVec::new(
            Opts::new(
                "streams_ended_total",
                format!("Live streams that ended, by kind and cause: {causes}."),
            ),
            &["kind", "cause"],
        )?;
        registry.register(Box::new(open.clone()))?;
        registry.register(Box::new(ended.clone()))?;
        for kind in Kind::ALL {
            open.with_label_values(&[kind.as_str()]);
            for cause in Cause::ALL {
                ended.with_label_values(&[kind.as_str(), cause.as_str()]);
            }
        }
        Ok(Self { open, ended })
    }

    /// A stream began.
    pub fn began(&self, kind: Kind) {
        self.open.with_label_values(&[kind.as_str()]).inc();
    }

    /// A stream ended.
    pub fn ended(&self, kind: Kind, cause: Cause) {
        self.open.with_label_values(&[kind.as_str()]).dec();
        self.ended
            .with_label_values(&[kind.as_str(), cause.as_str()])
            .inc();
    }
}
