//! Live streams as the record names them: which kind, and why one ended.
//!
//! Decides: which answers are streams. Trusts: the upstream's media type. Not here: ending them (`streams`).

use hyper::StatusCode;
use hyper::header::{self, HeaderMap};

use crate::denial::grpc;
use crate::metrics::labels;

labels! {
    /// What kind of stream it is.
    pub enum Kind {
        /// A tunnel (RFC 6455).
        Websocket = "websocket",
        /// `text/event-stream`.
        Sse = "sse",
        /// `application/grpc`.
        Grpc = "grpc",
    }
}

impl Kind {
    /// The kind of an upstream's answer, if it is a stream. What else takes long is a download, which ends by itself.
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

/// Whether a media type is that of Server-Sent Events, whatever its parameters.
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
    pub enum Cause {
        /// Both sides had finished.
        Finished = "finished",
        /// The client went away.
        ClientGone = "client_gone",
        /// The upstream went away.
        UpstreamGone = "upstream_gone",
        /// Neither side sent anything for `timeouts.stream_idle`.
        Idle = "idle",
        /// `timeouts.total` was over.
        TimeLimit = "time_limit",
        /// The client did not take what was sent to it.
        Stalled = "stalled",
        /// The process ends.
        Drained = "drained",
        /// Its proof expired.
        Expired = "expired",
        /// It was revoked.
        Revoked = "revoked",
        /// The configuration in force refuses it.
        Denied = "denied",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_by_their_media_type_alone() {
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
