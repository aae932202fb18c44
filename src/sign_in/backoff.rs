//! Backoff of refreshes that got no answer: the same token is sent again at once, and then less and
//! less often.
//!
//! A call that was sent and not answered may have used the token up, and the server forgives that
//! only for a moment. An immediate repetition saves the session; repeating it with every request of
//! a client saves nothing. This process cannot guess what the server did, so there is no last
//! attempt: the next one is at most [`LONGEST_PAUSE`] away, and until then the outcome is unknown.
//! Calls of the time before the server was away do not count once it is back. How many calls the
//! replicas make together is counted in the store while that is reachable (`refresh_protocol`).

use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use crate::secrets::digest::Digest;

/// How many tokens are remembered. A choice.
const CAPACITY: usize = 10_000;

/// Calls that may be made without a pause: the first, and one repetition.
const IMMEDIATE_CALLS: u32 = 2;

/// The pause after those; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// The upper bound of a pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Tokens whose calls got no answer.
pub(super) struct Backoff(Cache<Digest, UnansweredCalls>);

#[derive(Clone, Copy)]
struct UnansweredCalls {
    /// Consecutive calls.
    calls: u32,
    last: Instant,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self(Cache::new(CAPACITY))
    }

    /// Whether the token may be sent to the identity server at `now`. `returned` is when that was
    /// last found to be back.
    pub(super) fn permits(&self, token: &Digest, now: Instant, returned: Option<Instant>) -> bool {
        self.since(token, returned).is_none_or(|unanswered| {
            now.saturating_duration_since(unanswered.last) >= unanswered.pause()
        })
    }

    /// Records a call that was sent and not answered.
    pub(super) fn record_unanswered(
        &self,
        token: &Digest,
        now: Instant,
        returned: Option<Instant>,
    ) {
        let before = self.since(token, returned);
        let before = before.map_or(0, |unanswered| unanswered.calls);
        let unanswered = UnansweredCalls {
            calls: before.saturating_add(1),
            last: now,
        };
        self.0.insert(*token, unanswered);
    }

    /// The calls with a token since the server returned.
    fn since(&self, token: &Digest, returned: Option<Instant>) -> Option<UnansweredCalls> {
        let unanswered = self.0.get(token)?;
        let is_older = returned.is_some_and(|returned| unanswered.last < returned);
        (!is_older).then_some(unanswered)
    }

    /// Forgets a token that the server answered about.
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
    fn an_unanswered_token_is_sent_twice_and_then_with_growing_pauses() {
        let (backoff, token, other) = (Backoff::new(), [1; 32], [2; 32]);
        let start = crate::clock::now();
        let mut sent = Vec::new();
        // A client asks every 100 ms for five minutes.
        for tick in 0..3000_u64 {
            let now = start + Duration::from_millis(tick * 100);
            if backoff.permits(&token, now, None) {
                backoff.record_unanswered(&token, now, None);
                sent.push(tick / 10);
            }
        }
        assert_eq!(
            sent,
            [0, 0, 2, 6, 14, 30, 60, 90, 120, 150, 180, 210, 240, 270]
        );
        assert!(
            backoff.permits(&other, start, None),
            "another token has its own backoff"
        );
        backoff.clear(&token);
        assert!(backoff.permits(&token, start, None));
    }

    #[test]
    fn a_server_that_is_back_is_asked_at_once_and_the_pauses_begin_again() {
        let (backoff, token) = (Backoff::new(), [1; 32]);
        let start = crate::clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in [0, 1, 10] {
            backoff.record_unanswered(&token, at(second), None);
        }
        assert!(!backoff.permits(&token, at(11), None));
        assert!(
            !backoff.permits(&token, at(11), Some(at(9))),
            "it was back before"
        );
        let returned = Some(at(11));
        for second in [12, 13] {
            assert!(backoff.permits(&token, at(second), returned), "{second}");
            backoff.record_unanswered(&token, at(second), returned);
        }
        assert!(!backoff.permits(&token, at(14), returned));
        assert!(backoff.permits(&token, at(15), returned));
    }
}
