//! The time limits of a tunnel.

use std::time::Duration;

use tokio::time::Instant;

/// How long last words may take: for a frame under way to end, for the other side to answer a
/// goodbye. A second is a choice.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// How long a tunnel may take for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Silence in both directions.
    pub(crate) idle: Option<Duration>,
    /// Everything.
    pub(crate) deadline: Option<Instant>,
    /// For a client that does not take what is sent to it.
    pub(crate) stalled: Duration,
}
