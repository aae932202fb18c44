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
const MOST: usize = 10_000;

/// The first pause; each is twice as long as the one before, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);

const LONGEST: Duration = Duration::from_secs(60);

/// How often a call is made at most: with the pauses above, for an hour.
const ATTEMPTS: u32 = 64;

/// Calls behind answers.
#[derive(Debug)]
pub struct Later {
    must: Line,
    messages: Line,
    metrics: LaterMetrics,
}

/// How many of one kind wait.
type Line = Arc<AtomicUsize>;

/// Counts about them.
#[derive(Clone, Debug)]
pub struct LaterMetrics {
    waiting: IntGaugeVec,
    ended: IntCounterVec,
}

/// When a call is made again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Again {
    /// Until it is answered by anything but a failure. For what may be done twice.
    UntilDone,
    /// Only if it was never sent. For what must not be done twice, such as sending a message.
    IfUnsent,
}

impl Again {
    /// The word in metrics.
    const fn kind(self) -> &'static str {
        match self {
            Self::UntilDone => "logout",
            Self::IfUnsent => "message",
        }
    }
}

impl LaterMetrics {
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
        for again in [Again::UntilDone, Again::IfUnsent] {
            waiting.with_label_values(&[again.kind()]);
            for outcome in ["done", "refused", "given_up", "full"] {
                ended.with_label_values(&[again.kind(), outcome]);
            }
        }
        Ok(Self { waiting, ended })
    }

    fn ended(&self, again: Again, outcome: &str) {
        self.ended.with_label_values(&[again.kind(), outcome]).inc();
    }

    fn waiting(&self, again: Again) -> IntGauge {
        self.waiting.with_label_values(&[again.kind()])
    }
}

impl Later {
    /// None wait.
    pub fn new(metrics: LaterMetrics) -> Self {
        Self {
            must: Arc::default(),
            messages: Arc::default(),
            metrics,
        }
    }

    /// Makes a call behind the answer. Whether there is room for it.
    pub fn call(&self, identity: &IdentityServer, call: Call, again: Again) -> bool {
        let line = match again {
            Again::UntilDone => &self.must,
            Again::IfUnsent => &self.messages,
        };
        let Some(waits) = Waits::begin(line, self.metrics.waiting(again)) else {
            self.metrics.ended(again, "full");
            return false;
        };
        let metrics = self.metrics.clone();
        let server = identity.clone();
        identity.runtime().spawn(async move {
            let outcome = make(&server, &call, again).await;
            if outcome == "given_up" {
                tracing::error!(
                    call = call.operation.as_str(),
                    "a call to the identity server was given up"
                );
            }
            metrics.ended(again, outcome);
            drop(waits);
        });
        true
    }
}

async fn make(server: &IdentityServer, call: &Call, again: Again) -> &'static str {
    let mut pause = FIRST;
    for _ in 0..ATTEMPTS {
        match server.call(call.clone()).await {
            Ok(reply) if reply.status.is_success() => return "done",
            // A token that has expired, a session that is gone: there is nothing left to do.
            Ok(reply) if reply.status.is_client_error() && reply.status != 429 => return "refused",
            Ok(_) if again == Again::IfUnsent => return "given_up",
            Err(error) if again == Again::IfUnsent && error.may_be_done() => return "given_up",
            Ok(_) | Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
    "given_up"
}

/// One more that waits, for as long as it lives.
struct Waits {
    line: Line,
    gauge: IntGauge,
}

impl Waits {
    /// `None` if there is no room.
    fn begin(line: &Line, gauge: IntGauge) -> Option<Self> {
        line.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            (waiting < MOST).then_some(waiting + 1)
        })
        .ok()?;
        gauge.inc();
        Some(Self {
            line: line.clone(),
            gauge,
        })
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.line.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_by_the_thousand_leave_room_for_the_ends_of_sessions() {
        let metrics = LaterMetrics::new(&Registry::new()).expect("names differ");
        let later = Later::new(metrics.clone());
        let begin = |line: &Line, again| Waits::begin(line, metrics.waiting(again));
        let mut messages: Vec<Waits> = Vec::new();
        while let Some(waits) = begin(&later.messages, Again::IfUnsent) {
            messages.push(waits);
        }
        assert_eq!(messages.len(), MOST);
        assert_eq!(metrics.waiting(Again::IfUnsent).get(), 10_000);
        let logout = begin(&later.must, Again::UntilDone);
        assert!(logout.is_some());
        messages.pop();
        assert!(begin(&later.messages, Again::IfUnsent).is_some());
        drop((messages, logout));
        assert_eq!(later.messages.load(Ordering::Relaxed), 0);
        assert_eq!(metrics.waiting(Again::UntilDone).get(), 0);
    }
}
