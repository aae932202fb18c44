//! Live streams as the record names them: which kind, and why one ended.
//!
//! Decides: which answers are streams. Trusts: the upstream's media type. Not here: ending them (`streams`).

use hyper::StatusCode;
use hyper::header::{self, HeaderMap};

use crate::denial::grpc;

/// What kind of stream it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A tunnel (RFC 6455).
    Websocket,
    /// `text/event-stream`.
    Sse,
    /// `application/grpc`.
    Grpc,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Websocket, Self::Sse, Self::Grpc];

    /// The word in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Sse => "sse",
            Self::Grpc => "grpc",
        }
    }

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

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Both sides had finished.
    Finished,
    /// The client went away.
    ClientGone,
    /// The upstream went away.
    UpstreamGone,
    /// Nothing was said for `timeouts.stream_idle`.
    Idle,
    /// `timeouts.total` was over.
    TimeLimit,
    /// The client did not take what was sent to it.
    Stalled,
    /// The process ends.
    Drained,
    /// Its proof expired.
    Expired,
    /// It was revoked.
    Revoked,
    /// The configuration in force refuses it.
    Denied,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 10] = [
        Self::Finished,
        Self::ClientGone,
        Self::UpstreamGone,
        Self::Idle,
        Self::TimeLimit,
        Self::Stalled,
        Self::Drained,
        Self::Expired,
        Self::Revoked,
        Self::Denied,
    ];

    /// The word in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::ClientGone => "client_gone",
            Self::UpstreamGone => "upstream_gone",
            Self::Idle => "idle",
            Self::TimeLimit => "time_limit",
            Self::Stalled => "stalled",
            Self::Drained => "drained",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Denied => "denied",
        }
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
