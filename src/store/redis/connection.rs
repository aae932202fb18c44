//! The state of the connection for commands.

use tokio::sync::watch;

/// The state of the connection. Connections have numbers, so that a late answer on one does not end
/// the next.
pub(super) struct Connection {
    /// The number of the connection that is up; 0 while there is none.
    pub(super) current: watch::Sender<u64>,
    /// The number of the newest connection that was given up.
    given_up: watch::Sender<u64>,
    /// Whether the server was found usable on the current connection.
    pub(super) ready: watch::Sender<bool>,
}

impl Connection {
    /// No connection yet.
    pub(super) fn new() -> Self {
        Self {
            current: watch::Sender::new(0),
            given_up: watch::Sender::new(0),
            ready: watch::Sender::new(false),
        }
    }

    /// The number of the connection that is up.
    pub(super) fn number(&self) -> Option<u64> {
        Some(*self.current.borrow()).filter(|number| *number != 0)
    }

    /// Follows the number: 0 while there is no connection.
    pub(super) fn numbers(&self) -> watch::Receiver<u64> {
        self.current.subscribe()
    }

    /// Whether commands may be sent.
    pub(super) fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Notes that the server is usable on the connection of this number.
    pub(super) fn set_ready(&self, number: u64) {
        if self.number() == Some(number) {
            self.ready.send_replace(true);
        }
    }

    /// Gives the connection of this number up. Returns false if it has ended already.
    pub(super) fn give_up(&self, number: u64) -> bool {
        let is_current = self.number() == Some(number);
        if is_current {
            self.given_up.send_replace(number);
        }
        is_current
    }

    pub(super) async fn until_given_up(&self, number: u64) {
        // The sender lives as long as `self`.
        let _ = self
            .given_up
            .subscribe()
            .wait_for(|left| *left >= number)
            .await;
    }
}
