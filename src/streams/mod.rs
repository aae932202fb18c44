//! Live streams: answers that go on for as long as their proof does.
//!
//! Decides: which answers are such streams, when one must end, and how its client is told. Trusts: [`crate::auth::Chain`] to judge again.
//! Not here: opening one; a stream begins as an ordinary request that passed every layer.
//!
//! A stream ends when its proof is accepted no longer, when a revocation names it, or when the configuration in force would refuse the
//! request it began with; nothing else ends it from our side but its time limits and the end of the process. A newer token of the same
//! session that was verified here prolongs it. While something that must be asked is away, nothing is known, and nothing is ended.
//!
//! | stream | is told | what for |
//! |---|---|---|
//! | WebSocket | close code 4401, and the reason's public code | the proof is gone: expired, revoked, its issuer or key removed |
//! | | close code 4403 | the configuration in force denies it |
//! | | close codes 1002, 1009 | where messages are judged: one that cannot be read, or that is too long |
//! | | close code 1013 | where messages are judged: a token cannot be judged now |
//! | | close code 1001 | the process ends, or a time limit was reached |
//! | SSE | `event: foregate` with `data: {"code":"…","status":…}` | the same; `status` is that of the refusal |
//! | gRPC | trailers with `grpc-status` 16, 7 or 14, and `grpc-message` | the same |
//!
//! A last frame or event is sent between two others, never inside one. If the one that is under way does not end within a second, the
//! stream is broken off without a word. In an answer that is compressed no event can be told, and it is broken off, too.

mod answer;
mod events;
mod frames;
mod messages;
mod metrics;
mod phoenix;
mod pipe;
mod registry;
mod tunnel;

use hyper::StatusCode;

pub(crate) use answer::Streaming;
pub use metrics::StreamMetrics;
pub(crate) use registry::Streams;
pub(crate) use tunnel::{Limits as TunnelLimits, Opening, Tunnel};

use crate::denial::Reason;
use crate::record::stream::Cause;

/// An end from our side, and what is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub cause: Cause,
    /// What the request would be refused for now.
    pub reason: Option<Reason>,
}

impl Ending {
    /// The process ends.
    pub const DRAINED: Self = Self {
        cause: Cause::Drained,
        reason: None,
    };
    /// Nothing was said.
    pub const IDLE: Self = Self {
        cause: Cause::Idle,
        reason: None,
    };
    /// The time for everything is over.
    pub const TIME_LIMIT: Self = Self {
        cause: Cause::TimeLimit,
        reason: None,
    };

    /// The end of what would be refused for this now.
    pub fn refused(reason: Reason) -> Self {
        let revoked = [
            Reason::TokenRevoked,
            Reason::SessionRevoked,
            Reason::SubjectRevoked,
            Reason::IssuerRevoked,
            Reason::SessionUnknown,
        ];
        let cause = if matches!(reason, Reason::TokenExpired | Reason::SessionExpired) {
            Cause::Expired
        } else if revoked.contains(&reason) {
            Cause::Revoked
        } else {
            Cause::Denied
        };
        Self {
            cause,
            reason: Some(reason),
        }
    }

    /// The status of the refusal; 503 where the stream was not refused, and may be begun again elsewhere.
    pub fn status(self) -> StatusCode {
        self.reason
            .map_or(StatusCode::SERVICE_UNAVAILABLE, Reason::status)
    }

    /// The word the client is told.
    pub fn code(self) -> &'static str {
        self.reason.map_or(self.cause.as_str(), Reason::public_code)
    }

    /// The close code of a WebSocket (RFC 6455, section 7.4).
    pub fn close_code(self) -> u16 {
        match self.reason {
            None => 1001,
            Some(Reason::MessageInvalid) => 1002,
            Some(Reason::BodyTooLarge) => 1009,
            Some(reason) if reason.status() == StatusCode::UNAUTHORIZED => 4401,
            // Nothing was said about the client: it may try again.
            Some(reason) if reason.status().is_server_error() => 1013,
            Some(_) => 4403,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_can_tell_a_lost_proof_from_a_denial() {
        let code = |reason| Ending::refused(reason).close_code();
        assert_eq!(code(Reason::TokenExpired), 4401);
        assert_eq!(code(Reason::SessionRevoked), 4401);
        assert_eq!(code(Reason::RoleInsufficient), 4403);
        assert_eq!(code(Reason::RouteDenied), 4403);
        assert_eq!(Ending::DRAINED.close_code(), 1001);
        assert_eq!(code(Reason::KeysUnavailable), 1013);
        assert_eq!(code(Reason::MessageInvalid), 1002);
        assert_eq!(
            Ending::refused(Reason::SubjectRevoked).cause,
            Cause::Revoked
        );
        assert_eq!(Ending::refused(Reason::RouteUnknown).code(), "not_found");
    }
}
