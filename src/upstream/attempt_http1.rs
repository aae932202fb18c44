//! One HTTP/1.1 request: which server it is sent to, and when it is retried, by the table in
//! `upstream`.

use hyper::Method;
use tokio::time::{Instant, timeout_at};

use crate::denial::{Denial, Reason};
use crate::http1::Malformed;
use crate::upstream::exchange::{self, PendingRequest};
use crate::upstream::http1::AnswerHead;
use crate::upstream::lease::Lease;
use crate::upstream::limits::{ExchangeError, Limits};
use crate::upstream::pool::Pool;

/// One request and the servers that it may be sent to.
pub(super) struct Attempt<'a> {
    pub(super) request: PendingRequest<'a>,
    pool: &'a Pool,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(request: PendingRequest<'a>, pool: &'a Pool) -> Self {
        Self { request, pool }
    }

    pub(super) async fn run(
        &mut self,
        limits: &Limits,
        began: Instant,
    ) -> Result<(AnswerHead, Lease), Denial> {
        let mut fresh = false;
        loop {
            let (mut lease, mut began) = self.connect(fresh, limits, began).await?;
            if self.request.waiting.is_outdated(began) {
                // Boxed, as it is rare.
                Box::pin(self.request.waiting.authorize_again()).await?;
                began = Instant::now();
            }
            let sending = exchange::send(&mut lease, &mut self.request, limits, began);
            let failure = match sending.await {
                Ok(head) => return Ok((head, lease)),
                Err(failure) => failure,
            };
            // Only a kept connection can be stale.
            let may_repeat = lease.reused
                && match failure {
                    ExchangeError::Unsent => true,
                    ExchangeError::Silent => self.is_repeatable(),
                    ExchangeError::Broken
                    | ExchangeError::Protocol(_)
                    | ExchangeError::Upload(_)
                    | ExchangeError::FirstByteTimeout
                    | ExchangeError::TotalTimeout
                    | ExchangeError::Refused(_) => false,
                };
            if !may_repeat {
                return Err(denial(failure, &lease));
            }
            self.request.outgoing.rewind();
            fresh = true;
            self.pool.count_retry();
        }
    }

    /// Connects to each server once; the last refusal if none accepts. Also returns since when the
    /// request could be sent.
    async fn connect(
        &self,
        fresh: bool,
        limits: &Limits,
        now: Instant,
    ) -> Result<(Lease, Instant), Denial> {
        let turn = self.pool.turn();
        if !fresh && let Some(lease) = self.pool.take_kept(turn) {
            return Ok((lease, now));
        }
        // Boxed: most requests find a kept connection, and their future should have no room for
        // this.
        let lease = Box::pin(self.open(turn, fresh, limits)).await?;
        Ok((lease, Instant::now()))
    }

    async fn open(&self, turn: usize, fresh: bool, limits: &Limits) -> Result<Lease, Denial> {
        let mut refusal = None;
        for offset in 0..self.pool.len() {
            if limits.is_over() {
                return Err(Reason::UpstreamTotalTimeout.into());
            }
            let taking = self.pool.take(turn.wrapping_add(offset), fresh);
            let taken = match limits.deadline {
                None => taking.await,
                Some(deadline) => timeout_at(deadline, taking)
                    .await
                    .map_err(|_| Reason::UpstreamTotalTimeout)?,
            };
            match taken {
                Ok(lease) => return Ok(lease),
                Err(denial) => refusal = Some(denial),
            }
        }
        Err(refusal.unwrap_or_else(|| Reason::Internal.into()))
    }

    fn is_repeatable(&self) -> bool {
        self.request.outgoing.upload().is_none()
            && matches!(
                *self.request.outgoing.method(),
                Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
            )
    }
}

fn denial(failure: ExchangeError, lease: &Lease) -> Denial {
    let server = lease.server().to_string();
    match failure {
        ExchangeError::Upload(error) => error.reason().into(),
        ExchangeError::Unsent | ExchangeError::Silent | ExchangeError::Broken => {
            Reason::UpstreamClosed.because(server)
        }
        ExchangeError::Protocol(Malformed(what)) => {
            Reason::UpstreamProtocol.because(format!("{server}: {what}"))
        }
        ExchangeError::FirstByteTimeout => Reason::UpstreamFirstByteTimeout.because(server),
        ExchangeError::TotalTimeout => Reason::UpstreamTotalTimeout.because(server),
        ExchangeError::Refused(reason) => reason.into(),
    }
}
