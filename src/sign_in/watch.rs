//! Watches an identity server that failed to answer, or whose proxy had no answer: finds out whether
//! it is away, and when it is back.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use tokio::time::sleep;

use super::call::Call;
use super::client::Calls;
use super::operation::Operation;
use crate::clock;
use crate::fault::{Backoff, Fault};
use crate::http_client::pooled::Failure;

/// How long a probe may take. A choice.
pub(super) const PROBE_DEADLINE: Duration = Duration::from_secs(1);

/// When the server was last found to be back after it had been away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Returned {
    pub(super) at: Instant,
    /// The same in Unix milliseconds.
    pub(super) unix: i64,
}

impl Calls {
    pub(super) fn note_open(&self, fault: &Fault) {
        self.metrics.up.set(0);
        tracing::error!(cause = %fault, "the identity server does not answer; circuit breaker open");
    }

    /// Finds out whether the server is away, and then when it is back. One task does.
    pub(super) fn watch(self: &Arc<Self>, fault: Fault) {
        if !self.is_watched.swap(true, Ordering::AcqRel) {
            tokio::spawn(self.clone().probe_until_up(fault));
        }
    }

    /// Probes the server until it answers, then closes the breaker. A proxy that has no server for
    /// the probe, either, opens it: that it had none for a single call may be the call's fault.
    async fn probe_until_up(self: Arc<Self>, mut fault: Fault) {
        let mut backoff = Backoff::default();
        let mut was_away = false;
        loop {
            if was_away || self.breaker.is_open() {
                sleep(backoff.pause(&fault)).await;
            }
            match self.probe(clock::now() + PROBE_DEADLINE).await {
                Ok(status) if !status.is_server_error() => {
                    self.note_return(was_away);
                    was_away = false;
                    self.is_watched.store(false, Ordering::Release);
                    // Another call may have opened it meanwhile, and relied on this task.
                    if !self.breaker.is_open() || self.is_watched.swap(true, Ordering::AcqRel) {
                        return;
                    }
                    continue;
                }
                Ok(status) => {
                    fault = behind_proxy(status);
                    if self.breaker.trip() {
                        self.note_open(&fault);
                    }
                }
                Err(why) => fault = why,
            }
            was_away = true;
            self.fault.store(Some(Arc::new(fault.clone())));
        }
    }

    fn note_return(&self, was_away: bool) {
        self.fault.store(None);
        let now = clock::now();
        let was_open = self.breaker.close(now);
        if was_away || was_open {
            let unix = clock::unix_millis();
            self.returned
                .store(Some(Arc::new(Returned { at: now, unix })));
        }
        if was_open {
            self.metrics.up.set(1);
            tracing::info!("the identity server answers again; circuit breaker closed");
        }
    }

    /// Asks the server for its health. A proxy in front of it may answer 5xx while it is away; any
    /// other status shows that it is there.
    pub(super) async fn probe(&self, deadline: Instant) -> Result<StatusCode, Fault> {
        let mut probe = self.message(&Call::new(
            Operation::Health,
            Method::GET,
            "",
            IpAddr::from([127, 0, 0, 1]),
        ));
        probe.path = format!("{}/health", self.config.url.path);
        match self.client.send(&probe, deadline).await {
            Ok(whole) => Ok(whole.status),
            Err(Failure::Unsent(error) | Failure::Unknown(error)) => Err(error.fault()),
        }
    }
}

/// The fault behind a failure that a proxy may report.
pub(super) fn behind_proxy(status: StatusCode) -> Fault {
    Fault::passing(format!(
        "it answers with status {}: it is not healthy, or a proxy in front of it has no server",
        status.as_u16()
    ))
}
