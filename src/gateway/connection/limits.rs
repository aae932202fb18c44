//! The time limits of a connection, and the causes for which it ends early.

use std::time::Duration;

use super::clock::POLL_INTERVAL;
use crate::metrics::labels;
use crate::policy::listen::Connections;

/// The limits of a connection, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) handshake: u64,
    pub(super) head: u64,
    pub(super) idle: u64,
    pub(super) body_idle: u64,
}

impl Limits {
    pub(super) fn new(limits: &Connections) -> Self {
        // What happened between two looks has the time of the first of them, so the real time may
        // be shorter by a pause.
        let millis = |limit: Duration| {
            u64::try_from((limit + POLL_INTERVAL).as_millis()).unwrap_or(u64::MAX)
        };
        Self {
            handshake: millis(limits.handshake),
            head: millis(limits.head),
            idle: millis(limits.idle),
            body_idle: millis(limits.body_idle),
        }
    }
}

labels! {
    /// Why a connection ended otherwise than by its own end.
    pub(crate) enum CloseCause {
        /// The TLS handshake failed.
        Handshake = "handshake",
        /// The handshake, or the first bytes of HTTP/2, took too long.
        HandshakeTimeout = "handshake_timeout",
        /// A head began and did not end in time.
        HeadTimeout = "head_timeout",
        /// The client did not take what was sent to it.
        Stalled = "stalled",
        /// The client broke the rules of HTTP.
        Protocol = "protocol",
    }
}
