//! Background calls to the identity server: made after the answer was sent, and repeated until
//! done.
//!
//! Nothing may depend on them: what must hold at once was done before. Logouts and messages have
//! queues of their own, since strangers may request as many messages as they find accounts, and
//! these must not crowd out logouts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::call::{Call, Reply};
use super::client::IdentityServer;
use crate::metrics::{Counters, Gauges, labels, metrics};

/// How many calls of each kind may wait. Each holds a token of a few kilobytes at most. A choice.
const CAPACITY: usize = 10_000;

/// Each further pause is twice as long as the one before, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How often a call is made at most: with the pauses above, for an hour.
const ATTEMPTS: u32 = 64;

/// The background calls of this process.
#[derive(Debug)]
pub struct BackgroundCalls {
    logouts: QueueLength,
    messages: QueueLength,
    metrics: Arc<BackgroundCallMetrics>,
}

/// How many calls of one kind wait.
type QueueLength = Arc<AtomicUsize>;

labels! {
    /// What a background call is, which decides when it is repeated.
    pub enum CallKind {
        /// A logout, which may be done twice: repeated until the answer is not a failure.
        Logout = "logout",
        /// A message to a user, which must not be sent twice: repeated only if the call was never
        /// sent.
        Message = "message",
    }

    /// How a background call ended.
    enum Outcome {
        Done = "done",
        Refused = "refused",
        GivenUp = "given_up",
        Full = "full",
    }
}

metrics! {
    /// Metrics of background calls.
    pub struct BackgroundCallMetrics {
        waiting: Gauges<CallKind> = "identity_later"["kind"],
            "Unfinished background calls to the identity server, by kind: logout or message.";
        ended: Counters<(CallKind, Outcome)> = "identity_later_total"["kind", "outcome"],
            "Background calls to the identity server, by kind and outcome: done, refused, given_up or full.";
    }
}

impl BackgroundCalls {
    /// Creates empty queues.
    pub fn new(metrics: Arc<BackgroundCallMetrics>) -> Self {
        Self {
            logouts: Arc::default(),
            messages: Arc::default(),
            metrics,
        }
    }

    /// Starts a call that no answer waits for. `false` if the queue is full.
    pub fn call(&self, identity: &IdentityServer, call: Call, kind: CallKind) -> bool {
        self.call_then(identity, call, kind, |_| {})
    }

    /// The same; `answered` takes the reply that accepts or refuses the call.
    pub(super) fn call_then(
        &self,
        identity: &IdentityServer,
        call: Call,
        kind: CallKind,
        answered: impl FnOnce(&Reply) + Send + 'static,
    ) -> bool {
        let Some(slot) = self.acquire(kind) else {
            self.metrics.ended.inc((kind, Outcome::Full));
            return false;
        };
        let server = identity.clone();
        identity.runtime().spawn(async move {
            let (outcome, reply) = call_repeatedly(&server, &call, kind).await;
            reply.as_ref().map(answered);
            if outcome == Outcome::GivenUp {
                tracing::error!(
                    call = call.operation.as_str(),
                    "background call to the identity server given up"
                );
            }
            slot.metrics.ended.inc((kind, outcome));
            drop(slot);
        });
        true
    }

    fn acquire(&self, kind: CallKind) -> Option<QueueSlot> {
        let queue = match kind {
            CallKind::Logout => &self.logouts,
            CallKind::Message => &self.messages,
        };
        queue
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < CAPACITY).then_some(waiting + 1)
            })
            .ok()?;
        self.metrics.waiting.add(kind, 1);
        Some(QueueSlot {
            queue: queue.clone(),
            kind,
            metrics: self.metrics.clone(),
        })
    }
}

/// How the call ended, and the reply that accepts or refuses it.
async fn call_repeatedly(
    server: &IdentityServer,
    call: &Call,
    kind: CallKind,
) -> (Outcome, Option<Reply>) {
    let must_not_repeat = kind == CallKind::Message;
    let mut pause = FIRST_PAUSE;
    for _ in 0..ATTEMPTS {
        match server.call(call.clone()).await {
            Ok(reply) if reply.status.is_success() => return (Outcome::Done, Some(reply)),
            // An expired token or a session that is gone: nothing is left to do.
            Ok(reply) if reply.status.is_client_error() && reply.status != 429 => {
                return (Outcome::Refused, Some(reply));
            }
            Ok(_) if must_not_repeat => return (Outcome::GivenUp, None),
            Err(error) if must_not_repeat && error.may_be_done() => {
                return (Outcome::GivenUp, None);
            }
            Ok(_) | Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    (Outcome::GivenUp, None)
}

/// A place in a queue; dropping it frees the place.
struct QueueSlot {
    queue: QueueLength,
    kind: CallKind,
    metrics: Arc<BackgroundCallMetrics>,
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        self.queue.fetch_sub(1, Ordering::Relaxed);
        self.metrics.waiting.add(self.kind, -1);
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    /// The gauge of unfinished calls of a kind.
    fn waiting(registry: &Registry, kind: CallKind) -> f64 {
        let families = registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == "identity_later")
            .expect("the gauge is registered");
        let metric = family.get_metric().iter().find(|metric| {
            let labels = metric.get_label();
            labels.iter().any(|label| label.value() == kind.as_str())
        });
        metric.expect("every series exists").get_gauge().get_value()
    }

    #[test]
    fn a_full_queue_of_messages_leaves_room_for_logouts() {
        let registry = Registry::new();
        let metrics = BackgroundCallMetrics::new(&registry).expect("names are free");
        let background = BackgroundCalls::new(Arc::new(metrics));
        let mut messages: Vec<QueueSlot> = Vec::new();
        while let Some(slot) = background.acquire(CallKind::Message) {
            messages.push(slot);
        }
        assert_eq!(messages.len(), CAPACITY);
        assert_eq!(waiting(&registry, CallKind::Message), 10_000.0);
        let logout = background.acquire(CallKind::Logout);
        assert!(logout.is_some());
        messages.pop();
        assert!(background.acquire(CallKind::Message).is_some());
        drop((messages, logout));
        assert_eq!(background.messages.load(Ordering::Relaxed), 0);
        assert_eq!(waiting(&registry, CallKind::Logout), 0.0);
    }
}
