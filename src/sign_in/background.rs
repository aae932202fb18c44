//! What is told to the identity server behind an answer, and told again until it is done.
//!
//! Decides:  how many such calls wait, and when one is given up. Trusts: that nothing here depends on them: what must hold at once was done before.
//! Not here: what they say.
//!
//! What must be done waits in one line, and messages in another: strangers may ask for as many messages as they find accounts, and shall
//! not crowd out the ends of sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use tokio::time::sleep;

use super::call::Call;
use super::client::IdentityServer;

/// How many of each kind may wait. Each holds a token of some kilobytes at most. A choice.
const CAPACITY: usize = 10_000;

/// The first pause; each is twice as long as the one before, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How often a call is made at most: with the pauses above, for an hour.
const ATTEMPTS: u32 = 64;

/// Calls behind answers.
#[derive(Debug)]
pub struct BackgroundCalls {
    logouts: QueueLength,
    messages: QueueLength,
    metrics: BackgroundCallMetrics,
}

/// How many of one kind wait.
type QueueLength = Arc<AtomicUsize>;

/// Counts about them.
#[derive(Clone, Debug)]
pub struct BackgroundCallMetrics {
    waiting: IntGaugeVec,
    ended: IntCounterVec,
}

/// When a call is made again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retry {
    /// Until it is answered by anything but a failure. For what may be done twice.
    UntilDone,
    /// Only if it was never sent. For what must not be done twice, such as sending a message.
    IfUnsent,
}

impl Retry {
    /// The word in metrics.
    const fn kind(self) -> &'static str {
        match self {
            Self::UntilDone => "logout",
            Self::IfUnsent => "message",
        }
    }
}

impl BackgroundCallMetrics {
    /// Registers everything.
    ///
    /// # Errors
    ///
    /// Two metrics of the same name, which a test would have found.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let waiting = IntGaugeVec::new(
            Opts::new(
                "identity_later",
                "Calls to the identity server that are made behind answers, and are not done, by kind: logout or message.",
            ),
            &["kind"],
        )?;
        registry.register(Box::new(waiting.clone()))?;
        let ended = IntCounterVec::new(
            Opts::new(
                "identity_later_total",
                "Calls to the identity server behind answers, by kind and by how they ended: done, refused, given_up or full.",
            ),
            &["kind", "outcome"],
        )?;
        registry.register(Box::new(ended.clone()))?;
        for retry in [Retry::UntilDone, Retry::IfUnsent] {
            waiting.with_label_values(&[retry.kind()]);
            for outcome in ["done", "refused", "given_up", "full"] {
                ended.with_label_values(&[retry.kind(), outcome]);
            }
        }
        Ok(Self { waiting, ended })
    }

    fn ended(&self, retry: Retry, outcome: &str) {
        self.ended.with_label_values(&[retry.kind(), outcome]).inc();
    }

    fn waiting(&self, retry: Retry) -> IntGauge {
        self.waiting.with_label_values(&[retry.kind()])
    }
}

impl BackgroundCalls {
    /// None wait.
    pub fn new(metrics: BackgroundCallMetrics) -> Self {
        Self {
            logouts: Arc::default(),
            messages: Arc::default(),
            metrics,
        }
    }

    /// Makes a call behind the answer. Whether there is room for it.
    pub fn call(&self, identity: &IdentityServer, call: Call, retry: Retry) -> bool {
        let queue = match retry {
            Retry::UntilDone => &self.logouts,
            Retry::IfUnsent => &self.messages,
        };
        let Some(slot) = QueueSlot::begin(queue, self.metrics.waiting(retry)) else {
            self.metrics.ended(retry, "full");
            return false;
        };
        let metrics = self.metrics.clone();
        let server = identity.clone();
        identity.runtime().spawn(async move {
            let outcome = repeat(&server, &call, retry).await;
            if outcome == "given_up" {
                tracing::error!(
                    call = call.operation.as_str(),
                    "a call to the identity server was given up"
                );
            }
            metrics.ended(retry, outcome);
            drop(slot);
        });
        true
    }
}

async fn repeat(server: &IdentityServer, call: &Call, retry: Retry) -> &'static str {
    let mut pause = FIRST_PAUSE;
    for _ in 0..ATTEMPTS {
        match server.call(call.clone()).await {
            Ok(reply) if reply.status.is_success() => return "done",
            // A token that has expired, a session that is gone: there is nothing left to do.
            Ok(reply) if reply.status.is_client_error() && reply.status != 429 => return "refused",
            Ok(_) if retry == Retry::IfUnsent => return "given_up",
            Err(error) if retry == Retry::IfUnsent && error.may_be_done() => return "given_up",
            Ok(_) | Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    "given_up"
}

/// One more that waits, for as long as it lives.
struct QueueSlot {
    queue: QueueLength,
    gauge: IntGauge,
}

impl QueueSlot {
    /// `None` if there is no room.
    fn begin(queue: &QueueLength, gauge: IntGauge) -> Option<Self> {
        queue
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < CAPACITY).then_some(waiting + 1)
            })
            .ok()?;
        gauge.inc();
        Some(Self {
            queue: queue.clone(),
            gauge,
        })
    }
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        self.queue.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_by_the_thousand_leave_room_for_the_ends_of_sessions() {
        let metrics = BackgroundCallMetrics::new(&Registry::new()).expect("names differ");
        let background = BackgroundCalls::new(metrics.clone());
        let begin = |queue: &QueueLength, retry| QueueSlot::begin(queue, metrics.waiting(retry));
        let mut messages: Vec<QueueSlot> = Vec::new();
        while let Some(slot) = begin(&background.messages, Retry::IfUnsent) {
            messages.push(slot);
        }
        assert_eq!(messages.len(), CAPACITY);
        assert_eq!(metrics.waiting(Retry::IfUnsent).get(), 10_000);
        let logout = begin(&background.logouts, Retry::UntilDone);
        assert!(logout.is_some());
        messages.pop();
        assert!(begin(&background.messages, Retry::IfUnsent).is_some());
        drop((messages, logout));
        assert_eq!(background.messages.load(Ordering::Relaxed), 0);
        assert_eq!(metrics.waiting(Retry::UntilDone).get(), 0);
    }
}
