//! Metrics of live streams. All series exist from the start, at zero.

use crate::metrics::{Counters, Gauges, metrics};
use crate::record::stream::{StreamEnd, StreamKind};

metrics! {
    /// Metrics of live streams.
    pub(crate) struct StreamMetrics {
        open: Gauges<StreamKind> = "streams_open"["kind"],
            "Live streams by kind: websocket, sse, grpc, or lasting: another request of a user that has lasted for five seconds, or whose head was sent before its body.";
        ended: Counters<(StreamKind, StreamEnd)> = "streams_ended_total"["kind", "cause"],
            "Live streams that ended, by kind and cause: finished, client_gone, upstream_gone, idle, time_limit, stalled, drained, expired, revoked, denied.";
    }
}

impl StreamMetrics {
    /// Counts a stream that began.
    pub(super) fn began(&self, kind: StreamKind) {
        self.open.add(kind, 1);
    }

    /// Counts an open stream as one of another kind.
    pub(super) fn changed(&self, before: StreamKind, kind: StreamKind) {
        self.open.add(before, -1);
        self.open.add(kind, 1);
    }

    /// Counts a stream that ended.
    pub(super) fn ended(&self, kind: StreamKind, cause: StreamEnd) {
        self.open.add(kind, -1);
        self.ended.inc((kind, cause));
    }
}
