//! The connection for commands is made, given up when the server turns out to be unusable, and made
//! again, less and less often while that fails.

use std::sync::Arc;
use std::time::Duration;

use fred::error::Error;
use fred::interfaces::ClientLike as _;
use fred::types::ConnectHandle;
use tokio::time::{sleep, timeout};

use super::Redis;
use super::meaning::{Meaning, closed_early, meaning, of_connecting};
use crate::fault::{Backoff, Fault};
use crate::store::contract::Unreachable;

impl Redis {
    /// Waits while a connection that has just ended is made again. Returns whether commands may be
    /// sent; false as soon as it turns out to be an outage.
    pub(super) async fn until_ready(&self, longest: Duration) -> bool {
        let mut ready = self.connection.ready.subscribe();
        let is_over = |ready: &bool| *ready || self.breaker.is_open();
        let _ = timeout(longest, ready.wait_for(is_over)).await;
        self.connection.is_ready()
    }

    /// Leaves a server that cannot be used, as an answer on this connection showed.
    pub(super) fn leave(&self, connection: Option<u64>, fault: Fault) {
        if connection.is_some_and(|number| self.connection.give_up(number)) {
            self.unusable(fault);
        }
    }

    /// Opens the breaker, and reports why.
    pub(super) fn unusable(&self, fault: Fault) {
        self.out_of_use(self.breaker.trip(), fault);
    }

    /// Counts a failure, which may be a glitch. Several open the breaker.
    pub(super) fn failed(&self, why: &Meaning) {
        if self.breaker.failed() {
            let fault = match why {
                Meaning::Silent => Fault::silent(),
                Meaning::Busy => {
                    Fault::passing("a script keeps it busy: end that with SCRIPT KILL, or wait")
                }
                Meaning::OtherType
                | Meaning::Full
                | Meaning::Refused
                | Meaning::Gone
                | Meaning::Unusable(_) => Fault::closed(),
            };
            self.out_of_use(true, fault);
        }
    }

    /// Keeps the fault for whoever asks, and logs it: at once if the breaker has just opened, else
    /// from time to time.
    fn out_of_use(&self, has_opened: bool, fault: Fault) {
        if has_opened {
            self.metrics.set_up(false);
            // Whoever waits for a new connection need not.
            self.connection.ready.send_modify(|_| {});
        }
        if self.broken_connections.may_log((self.now)()) || has_opened {
            tracing::error!(cause = %fault, "Redis cannot be used; circuit breaker open");
        }
        self.fault.store(Some(Arc::new(fault)));
    }
}

/// Keeps the connection for as long as the process runs.
pub(super) async fn stay_connected(store: Arc<Redis>) {
    let (mut backoff, mut number) = (Backoff::default(), 0);
    loop {
        let client = store.clients.renew();
        let fault = match client.init().await {
            Ok(task) => {
                number += 1;
                if number > 1 {
                    store.metrics.reconnected();
                }
                let (fault, was_ready) = store.connected(number, task).await;
                if was_ready {
                    backoff.reset();
                }
                fault
            }
            Err(error) => {
                let fault = of_connecting(&error, store.has_tls);
                store.metrics.unreachable(Unreachable::Disconnected);
                store.unusable(fault.clone());
                fault
            }
        };
        sleep(backoff.pause(&fault)).await;
    }
}

impl Redis {
    /// Returns why the connection has ended, and whether it was of use before.
    async fn connected(&self, number: u64, mut task: ConnectHandle) -> (Fault, bool) {
        self.connection.ready.send_replace(false);
        self.connection.current.send_replace(number);
        self.connected.notify_one();
        let ended = tokio::select! {
            ended = &mut task => Some(ended),
            () = self.connection.until_given_up(number) => None,
        };
        let was_ready = self.connection.ready.send_replace(false);
        self.connection.current.send_replace(0);
        let fault = match ended {
            None => {
                task.abort();
                let fault = self.fault.load_full();
                fault.map_or_else(Fault::closed, |fault| Fault::clone(&fault))
            }
            Some(outcome) => {
                let error = outcome.ok().and_then(Result::err);
                self.lost(error.as_ref(), was_ready)
            }
        };
        (fault, was_ready)
    }

    /// The connection has ended by itself. That may happen to a healthy one, and the next attempt
    /// shows whether it is an outage.
    fn lost(&self, error: Option<&Error>, was_ready: bool) -> Fault {
        let why = error.map(meaning);
        let fault = match why {
            Some(Meaning::Unusable(fault)) => fault,
            _ if was_ready => return Fault::closed(),
            _ => closed_early(self.has_tls),
        };
        self.unusable(fault.clone());
        fault
    }
}
