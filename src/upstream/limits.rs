//! The time limits of one exchange, and how it may fail.

use std::time::{Duration, Instant as StdInstant};

use tokio::time::Instant;

use crate::denial::Reason;
use crate::http1::Malformed;
use crate::policy::route::Route;
use crate::policy::upstream::Upstream;
use crate::upstream::error::AnswerError;
use crate::upstream::upload::UploadError;

/// How long the client of a live stream may only receive if the route sets no limit.
const STREAM_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// The time limits of an exchange.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// For the head of the answer, from the last byte that was sent.
    pub(super) first_byte: Duration,
    /// Between two frames of the answer's body.
    pub(super) stream_idle: Option<Duration>,
    /// For the whole exchange.
    pub(super) deadline: Option<Instant>,
}

impl Limits {
    /// The route's limits where it has its own, else the upstream's, for a request that was
    /// authorized at `started`.
    pub(super) fn of(route: &Route, upstream: &Upstream, started: StdInstant) -> Self {
        let timeouts = &route.timeouts;
        Self {
            first_byte: timeouts.first_byte.unwrap_or(upstream.first_byte_timeout),
            stream_idle: timeouts.stream_idle,
            deadline: timeouts
                .total
                .map(|total| Instant::from_std(started + total)),
        }
    }

    /// Whether the deadline has passed.
    pub(super) fn is_over(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Which limit an answer has reached that took too long.
    pub(super) fn reached(&self) -> AnswerError {
        match self.is_over() {
            true => AnswerError::TimeLimit,
            false => AnswerError::Idle,
        }
    }

    /// How long the client of a live stream may send nothing.
    pub(super) fn stream_pause(&self) -> Duration {
        self.stream_idle.unwrap_or(STREAM_PAUSE)
    }

    pub(super) fn earlier(&self, other: Instant) -> Instant {
        self.deadline.map_or(other, |deadline| deadline.min(other))
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExchangeError {
    /// The connection ended, and nothing was written.
    Unsent,
    /// The connection ended after something was written, before the first byte of the answer.
    Silent,
    /// The connection ended in the head of the answer.
    Broken,
    /// The bytes are not one HTTP/1.1 answer.
    Protocol(Malformed),
    /// The client's body failed.
    Upload(UploadError),
    /// The head did not arrive in time.
    FirstByteTimeout,
    /// The deadline has passed.
    TotalTimeout,
    /// The request would be refused now, for this reason.
    Refused(Reason),
}
