//! An attempt that was let in, and what comes of it.

use std::sync::Arc;

use aws_lc_rs::hmac;

use super::Throttle;
use super::attempt::{Attempt, Limit};
use crate::policy::rate::Rate;
use crate::store::{Bucket, Draw};

/// An attempt that may go on. Dropped, it counts as a failure.
#[derive(Debug)]
#[must_use = "tell what came of it"]
pub struct Admission {
    pub(super) throttle: Arc<Throttle>,
    pub(super) attempt: Attempt,
    pub(super) taken: Vec<Taken>,
    pub(super) is_here: bool,
    pub(super) is_told: bool,
}

/// A place that was taken, or will be if the attempt fails.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) limit: Option<Limit>,
    pub(super) name: hmac::Tag,
    pub(super) rate: Rate,
}

impl Admission {
    /// It succeeded.
    pub fn succeeded(self) {
        match self.attempt.counts_failures() {
            true => self.tell(|limit| match limit {
                // Who knows the password of an account was no stranger when he mistyped it.
                Some(Limit::Account) => Draw::Empty,
                Some(Limit::Address | Limit::UnderWay | Limit::Waiting) | None => Draw::Return,
            }),
            false => self.failed(),
        }
    }

    /// It was refused by the identity server.
    pub fn failed(mut self) {
        self.count_failure();
    }

    /// Nothing is known: the identity server was not asked, or did not answer.
    pub fn undecided(self) {
        self.tell(|_| Draw::Return);
    }

    fn count_failure(&mut self) {
        if !std::mem::replace(&mut self.is_told, true) && !self.attempt.takes_first() {
            self.send(self.taken_as(|limit| limit == Some(Limit::Address)), |_| {
                Draw::Owe
            });
        }
    }

    fn tell(mut self, draw: fn(Option<Limit>) -> Draw) {
        if !std::mem::replace(&mut self.is_told, true) {
            let takes_first = self.attempt.takes_first();
            // What was only asked for was not taken.
            let is_taken = |limit| takes_first || limit == Some(Limit::UnderWay);
            self.send(self.taken_as(is_taken), draw);
        }
    }

    fn taken_as(&self, is_meant: impl Fn(Option<Limit>) -> bool) -> Vec<Taken> {
        let meant = self.taken.iter().filter(|place| is_meant(place.limit));
        meant.cloned().collect()
    }

    /// Behind the answer: nobody waits for it, and nothing depends on its success.
    fn send(&self, taken: Vec<Taken>, draw: fn(Option<Limit>) -> Draw) {
        let throttle = self.throttle.clone();
        let is_here = self.is_here;
        self.throttle.runtime.spawn(async move {
            let draws = |place: &Taken| draw(place.limit);
            if is_here {
                throttle.ask_here(&taken, draws);
                return;
            }
            let buckets: Vec<Bucket<'_>> = taken
                .iter()
                .map(|place| place.bucket(draws(place)))
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

impl Taken {
    pub(super) fn bucket(&self, draw: Draw) -> Bucket<'_> {
        Bucket {
            name: self.name.as_ref(),
            rate: self.rate,
            draw,
        }
    }
}
