//! Why this gateway ends a stream, and what its client is told.

use hyper::StatusCode;

use crate::denial::{Denial, Reason};
use crate::record::stream::StreamEnd;

/// Why this gateway ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The cause, for the record.
    pub(crate) cause: StreamEnd,
    /// The reason for which the request would be refused now.
    pub(crate) reason: Option<Reason>,
}

impl Ending {
    /// The process is draining.
    pub(crate) const DRAINED: Self = Self {
        cause: StreamEnd::Drained,
        reason: None,
    };
    /// Nothing was sent in either direction for too long.
    pub(crate) const IDLE: Self = Self {
        cause: StreamEnd::Idle,
        reason: None,
    };
    /// The deadline of the stream has passed.
    pub(crate) const TIME_LIMIT: Self = Self {
        cause: StreamEnd::TimeLimit,
        reason: None,
    };

    /// The end of a stream whose request would be refused now, unless the refusal says nothing
    /// about the request: a dependency is unavailable, or its user has too many other requests.
    pub(super) fn of(denial: &Denial) -> Option<Self> {
        let status = denial.reason.status();
        let is_decided = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
        is_decided.then(|| Self::refused(denial.reason))
    }

    /// The stream's request would be refused now, for this reason.
    pub(crate) fn refused(reason: Reason) -> Self {
        let revoked = [
            Reason::TokenRevoked,
            Reason::SessionRevoked,
            Reason::SubjectRevoked,
            Reason::IssuerRevoked,
            Reason::BucketRevoked,
            Reason::SessionUnknown,
        ];
        let cause = if matches!(reason, Reason::TokenExpired | Reason::SessionExpired) {
            StreamEnd::Expired
        } else if revoked.contains(&reason) {
            StreamEnd::Revoked
        } else {
            StreamEnd::Denied
        };
        Self {
            cause,
            reason: Some(reason),
        }
    }

    /// The status of the refusal; 503 if the stream was not refused, and may be opened again
    /// elsewhere.
    pub(crate) fn status(self) -> StatusCode {
        self.reason
            .map_or(StatusCode::SERVICE_UNAVAILABLE, Reason::status)
    }

    /// The public code that the client is told.
    pub(crate) fn code(self) -> &'static str {
        self.reason.map_or(self.cause.as_str(), Reason::public_code)
    }

    /// The close code of a WebSocket (RFC 6455, section 7.4).
    pub(crate) fn close_code(self) -> u16 {
        match self.reason {
            None => 1001,
            Some(Reason::MessageInvalid) => 1002,
            Some(Reason::BodyTooLarge) => 1009,
            Some(reason) if reason.status() == StatusCode::UNAUTHORIZED => 4401,
            // A dependency failed, which says nothing about the client: it may try again.
            Some(reason) if reason.status().is_server_error() => 1013,
            Some(_) => 4403,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_distinguish_an_invalid_token_from_a_denial() {
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
            StreamEnd::Revoked
        );
        assert_eq!(Ending::refused(Reason::RouteUnknown).code(), "not_found");
    }

    #[test]
    fn neither_an_outage_nor_a_limit_ends_a_stream() {
        let ends = |reason: Reason| Ending::of(&reason.into()).is_some();
        for reason in [
            Reason::FactsUnavailable,
            Reason::BudgetSpent,
            Reason::LookupsTooMany,
            Reason::SessionUnavailable,
            Reason::Internal,
        ] {
            assert!(!ends(reason), "{reason:?}");
        }
        for reason in [
            Reason::TokenExpired,
            Reason::SessionUnknown,
            Reason::NotYours,
            Reason::RouteUnknown,
        ] {
            assert!(ends(reason), "{reason:?}");
        }
    }
}
