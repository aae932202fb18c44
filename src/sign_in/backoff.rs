//! How soon a refresh may be tried again whose call had no outcome.
//!
//! Decides:  that the same token is sent to the identity server again at once, and then less and less often. Trusts: nothing.
//! Not here: how many calls replicas make together (`flight`), which the store counts while it answers.
//!
//! A call that was sent and not answered may have used the token up, and the server forgives that for a moment only: to repeat it at once is what
//! saves the session, and to go on repeating it with every request that a client makes saves nothing. What the server said is not for this process
//! to guess, so there is no last try: the next one is at most [`LONGEST_PAUSE`] away, and until then the answer is that it is not known.

use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use crate::secrets::digest::Digest;

/// How many tokens are remembered. A choice.
const CAPACITY: usize = 10_000;

/// Calls that may be made one after the other: the first, and one repetition.
const IMMEDIATE_CALLS: u32 = 2;

/// The pause after those; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Tokens whose calls had no outcome.
pub(super) struct Backoff(Cache<Digest, UnansweredCalls>);

#[derive(Clone, Copy)]
struct UnansweredCalls {
    /// Calls in a row.
    calls: u32,
    last: Instant,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self(Cache::new(CAPACITY))
    }

    /// Whether the identity server may be sent this token at `now`.
    pub(super) fn permits(&self, token: &Digest, now: Instant) -> bool {
        self.0.get(token).is_none_or(|unanswered| {
            now.saturating_duration_since(unanswered.last) >= unanswered.pause()
        })
    }

    /// A call was sent, and what it did is not known.
    pub(super) fn record_unanswered(&self, token: &Digest, now: Instant) {
        let before = self.0.get(token).map_or(0, |unanswered| unanswered.calls);
        let unanswered = UnansweredCalls {
            calls: before.saturating_add(1),
            last: now,
        };
        self.0.insert(*token, unanswered);
    }

    /// The server answered.
    pub(super) fn clear(&self, token: &Digest) {
        self.0.remove(token);
    }
}

impl UnansweredCalls {
    fn pause(&self) -> Duration {
        match self.calls.checked_sub(IMMEDIATE_CALLS) {
            None => Duration::ZERO,
            Some(more) => FIRST_PAUSE
                .saturating_mul(1 << more.min(16))
                .min(LONGEST_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_without_an_outcome_is_sent_twice_and_then_ever_more_rarely() {
        let (backoff, token, other) = (Backoff::new(), [1; 32], [2; 32]);
        let start = crate::clock::now();
        let mut sent = Vec::new();
        // Somebody asks every 100 ms for five minutes.
        for tick in 0..3000_u64 {
            let now = start + Duration::from_millis(tick * 100);
            if backoff.permits(&token, now) {
                backoff.record_unanswered(&token, now);
                sent.push(tick / 10);
            }
        }
        assert_eq!(
            sent,
            [0, 0, 2, 6, 14, 30, 60, 90, 120, 150, 180, 210, 240, 270]
        );
        assert!(
            backoff.permits(&other, start),
            "another token is another matter"
        );
        backoff.clear(&token);
        assert!(backoff.permits(&token, start));
    }
}
