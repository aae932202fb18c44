//! The kinds of live streams, by the upstream's media type, and the reasons why a stream ends.

use hyper::StatusCode;
use hyper::header::{self, HeaderMap};

use crate::denial::grpc;
use crate::metrics::labels;

labels! {
    /// The kind of a live stream.
    pub enum StreamKind {
        /// A WebSocket (RFC 6455).
        Websocket = "websocket",
        /// `text/event-stream`.
        Sse = "sse",
        /// `application/grpc`.
        Grpc = "grpc",
        /// Any other request of a user that has lasted for some seconds.
        Lasting = "lasting",
    }
}

impl StreamKind {
    /// The kind of an upstream's response, if it is known to be a stream by its head. Any other is
    /// one only once it has lasted.
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let kind = headers.get(header::CONTENT_TYPE)?.as_bytes();
        if status == StatusCode::OK && is_sse(kind) {
            Some(Self::Sse)
        } else if grpc::is_grpc_type(kind) {
            Some(Self::Grpc)
        } else {
            None
        }
    }
}

/// Whether a media type is that of Server-Sent Events, with any parameters.
pub(crate) fn is_sse(kind: &[u8]) -> bool {
    const SSE: &[u8] = b"text/event-stream";
    let (essence, parameters) = kind
        .trim_ascii_start()
        .split_at_checked(SSE.len())
        .unwrap_or_default();
    essence.eq_ignore_ascii_case(SSE)
        && matches!(parameters.trim_ascii_start().first(), None | Some(b';'))
}

labels! {
    /// Why a stream ended.
    pub enum StreamEnd {
        /// Both sides finished.
        Finished = "finished",
        /// The client went away.
        ClientGone = "client_gone",
        /// The upstream went away.
        UpstreamGone = "upstream_gone",
        /// Neither side sent anything for `timeouts.stream_idle`.
        Idle = "idle",
        /// `timeouts.total` elapsed.
        TimeLimit = "time_limit",
        /// The client did not read what was sent to it.
        Stalled = "stalled",
        /// The gateway shuts down.
        Drained = "drained",
        /// Its credential expired.
        Expired = "expired",
        /// Its credential was revoked.
        Revoked = "revoked",
        /// The configuration in force refuses it.
        Denied = "denied",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_sent_events_are_recognized_by_their_media_type() {
        for kind in [
            "text/event-stream",
            "text/event-stream; charset=utf-8",
            " Text/Event-Stream ;a=b",
            "text/event-stream ",
        ] {
            assert!(is_sse(kind.as_bytes()), "{kind}");
        }
        for kind in [
            "",
            "text/event",
            "text/event-streams",
            "text/event-stream+x",
            "x text/event-stream",
        ] {
            assert!(!is_sse(kind.as_bytes()), "{kind}");
        }
    }
}
