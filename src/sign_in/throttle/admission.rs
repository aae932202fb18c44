//! An admitted attempt, and how its outcome is counted.

use std::sync::Arc;

use aws_lc_rs::hmac;

use super::Throttle;
use super::attempt::{Attempt, Limit};
use crate::policy::rate::Rate;
use crate::sign_in::call::CallError;
use crate::sign_in::client::IdentityServer;
use crate::sign_in::grant::AuthError;
use crate::store::{Bucket, Draw};

/// An admitted attempt. Dropping it counts it as a failure.
#[derive(Debug)]
#[must_use = "settle it with its outcome"]
pub struct Admission {
    pub(super) throttle: Arc<Throttle>,
    pub(super) attempt: Attempt,
    pub(super) buckets: Vec<NamedBucket>,
    pub(super) is_local: bool,
    pub(super) is_settled: bool,
}

/// A rate limit bucket, from which a token was taken, or will be if the attempt fails.
#[derive(Clone, Debug)]
pub(super) struct NamedBucket {
    pub(super) limit: Option<Limit>,
    pub(super) name: hmac::Tag,
    pub(super) rate: Rate,
}

impl Admission {
    /// Records a success.
    pub fn succeeded(self) {
        match self.attempt.counts_failures() {
            true => self.settle(|limit| match limit {
                // The owner of the account mistyped the password before.
                Some(Limit::Account) => Draw::Empty,
                Some(Limit::Address | Limit::UnderWay | Limit::Waiting) | None => Draw::Return,
            }),
            false => self.failed(),
        }
    }

    /// Records that the identity server refused the attempt.
    pub fn failed(mut self) {
        self.count_failure();
    }

    /// Records that nothing was decided: the identity server was not called, or did not answer.
    pub fn undecided(self) {
        self.settle(|_| Draw::Return);
    }

    /// Records a call without a reply. If it may have been carried out, what counts by success, too,
    /// counts: a message that took the identity server too long is sent all the same.
    pub(in crate::sign_in) fn unanswered(self, error: CallError) {
        match error.may_be_done() && !self.attempt.counts_failures() {
            true => self.succeeded(),
            false => self.undecided(),
        }
    }

    /// Records that the identity server refused what the client chose, such as a weak password: no
    /// attempt on the account, but a call all the same.
    pub fn refused_choice(self) {
        self.settle(|limit| match limit {
            Some(Limit::Address) => Draw::Ask,
            Some(Limit::Account | Limit::UnderWay | Limit::Waiting) | None => Draw::Return,
        });
    }

    /// Records an error of the identity server. An attempt that reached it counts, whatever became
    /// of it, unless the server is away for all; that is found out in the background.
    pub(in crate::sign_in) fn refused(self, identity: &IdentityServer, error: AuthError) {
        if error.code == "weak_password" {
            return self.refused_choice();
        }
        if !error.status.is_server_error() {
            return self.failed();
        }
        let identity = identity.clone();
        let runtime = self.throttle.runtime.clone();
        runtime.spawn(async move {
            match identity.is_away_for_all(&error).await {
                true => self.undecided(),
                false => self.failed(),
            }
        });
    }

    fn count_failure(&mut self) {
        if !std::mem::replace(&mut self.is_settled, true) && !self.attempt.takes_first() {
            self.send(
                self.buckets_where(|limit| limit == Some(Limit::Address)),
                |_| Draw::Owe,
            );
        }
    }

    fn settle(mut self, draw: fn(Option<Limit>) -> Draw) {
        if !std::mem::replace(&mut self.is_settled, true) {
            let takes_first = self.attempt.takes_first();
            // Buckets that were only read have nothing to return.
            let is_taken = |limit| takes_first || limit == Some(Limit::UnderWay);
            self.send(self.buckets_where(is_taken), draw);
        }
    }

    fn buckets_where(&self, is_wanted: impl Fn(Option<Limit>) -> bool) -> Vec<NamedBucket> {
        let wanted = self.buckets.iter().filter(|bucket| is_wanted(bucket.limit));
        wanted.cloned().collect()
    }

    /// Updates the buckets in the background: no answer waits for it or depends on it.
    fn send(&self, buckets: Vec<NamedBucket>, draw: fn(Option<Limit>) -> Draw) {
        let throttle = self.throttle.clone();
        let is_local = self.is_local;
        self.throttle.runtime.spawn(async move {
            let draws = |bucket: &NamedBucket| draw(bucket.limit);
            if is_local {
                throttle.draw_locally(&buckets, draws);
                return;
            }
            let buckets: Vec<Bucket<'_>> = buckets
                .iter()
                .map(|bucket| bucket.with_draw(draws(bucket)))
                .collect();
            let _ = throttle.store.admit(&buckets).await;
        });
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.count_failure();
    }
}

impl NamedBucket {
    pub(super) fn with_draw(&self, draw: Draw) -> Bucket<'_> {
        Bucket {
            name: self.name.as_ref(),
            rate: self.rate,
            draw,
        }
    }
}
