//! What is told to the identity server behind an answer, and told again until it is done.
//!
//! Decides:  how many such calls wait, and when one is given up. Trusts: that nothing here depends on them: what must hold at once was done before.
//! Not here: what they say.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use tokio::time::sleep;

use super::{Call, IdentityServer};

/// How many may wait. Each holds a token of some kilobytes at most. A choice.
const MOST: usize = 10_000;

/// The first pause; each is twice as long as the one before, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);

const LONGEST: Duration = Duration::from_secs(60);

/// How often a call is made at most: with the pauses above, for an hour.
const ATTEMPTS: u32 = 64;

/// Calls behind answers.
#[derive(Debug)]
pub struct Later {
    waiting: Arc<AtomicUsize>,
    metrics: LaterMetrics,
}

/// Counts about them.
#[derive(Clone, Debug)]
pub struct LaterMetrics {
    waiting: IntGauge,
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

impl LaterMetrics {
    /// Registers everything.
    ///
    /// # Errors
    ///
    /// Two metrics of the same name, which a test would have found.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let waiting = IntGauge::new(
            "identity_later",
            "Calls to the identity server that are made behind answers, and are not done.",
        )?;
        registry.register(Box::new(waiting.clone()))?;
        let ended = IntCounterVec::new(
            Opts::new(
                "identity_later_total",
                "Calls to the identity server behind answers, by how they ended: done, refused, given_up or full.",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(ended.clone()))?;
        for outcome in ["done", "refused", "given_up", "full"] {
            ended.with_label_values(&[outcome]);
        }
        Ok(Self { waiting, ended })
    }

    fn ended(&self, outcome: &str) {
        self.ended.with_label_values(&[outcome]).inc();
    }
}

impl Later {
    /// None wait.
    pub fn new(metrics: LaterMetrics) -> Self {
        Self {
            waiting: Arc::default(),
            metrics,
        }
    }

    /// Makes a call behind the answer. Whether there is room for it.
    pub fn call(&self, identity: &IdentityServer, call: Call, again: Again) -> bool {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.metrics.ended("full");
            return false;
        }
        self.metrics.waiting.inc();
        let waits = Waits {
            waiting: self.waiting.clone(),
            metrics: self.metrics.clone(),
        };
        let server = identity.clone();
        identity.runtime().spawn(async move {
            let outcome = make(&server, &call, again).await;
            if outcome == "given_up" {
                tracing::error!(
                    call = call.operation.as_str(),
                    "a call to the identity server was given up"
                );
            }
            waits.metrics.ended(outcome);
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

struct Waits {
    waiting: Arc<AtomicUsize>,
    metrics: LaterMetrics,
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.metrics.waiting.dec();
    }
}
