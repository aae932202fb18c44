//! The time limits of a tunnel.

use std::time::Duration;

use tokio::time::Instant;

/// How long the closing handshake may take: for the current frame to end, and for the other side to
/// answer a close frame. A second is a choice.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// The time limits of a tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Without a byte in either direction.
    pub(crate) idle: Option<Duration>,
    /// How long the client may be told nothing before it is pinged.
    pub(crate) keepalive: Option<Duration>,
    /// For the whole tunnel.
    pub(crate) deadline: Option<Instant>,
    /// Until the client has authenticated, if it must do so by a message.
    pub(crate) first_token: Duration,
    /// For a client that does not read what is sent to it.
    pub(crate) stalled: Duration,
}
