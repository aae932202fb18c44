//! The time limits of a connection, and why a connection ends early.

use std::time::Duration;

use super::clock::POLL_INTERVAL;
use crate::metrics::labels;
use crate::policy::listen::Connections;

/// The limits of a connection; times are in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) handshake: u64,
    pub(super) head: u64,
    pub(super) idle: u64,
    pub(super) body_idle: u64,
    pub(super) max_age: u64,
    /// In bytes.
    pub(super) unsent: usize,
}

impl Limits {
    pub(super) fn new(limits: &Connections) -> Self {
        // An event between two polls has the time of the first one. One interval is added, so that
        // no limit is cut short.
        let millis = |limit: Duration| {
            u64::try_from((limit + POLL_INTERVAL).as_millis()).unwrap_or(u64::MAX)
        };
        Self {
            handshake: millis(limits.handshake),
            head: millis(limits.head),
            idle: millis(limits.idle),
            body_idle: millis(limits.body_idle),
            max_age: limits.max_age.map_or(u64::MAX, millis),
            unsent: limits.unsent,
        }
    }
}

labels! {
    /// Why a connection ended early.
    pub(crate) enum CloseCause {
        /// The TLS handshake failed.
        Handshake = "handshake",
        /// The TLS handshake, or the HTTP/2 preface, took too long.
        HandshakeTimeout = "handshake_timeout",
        /// The client sent a part of a request head and not the rest in time.
        HeadTimeout = "head_timeout",
        /// The client did not read what was sent to it.
        Stalled = "stalled",
        /// It was ended in favour of others ([`EndCause`](crate::gateway::ended::EndCause)).
        Shed = "shed",
        /// The client violated HTTP.
        Protocol = "protocol",
    }
}
