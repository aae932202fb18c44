//! Rate limits: how a bucket fills and drains (the generic cell rate algorithm, ITU-T I.371),
//! wherever it is kept: `buckets` in this process, `redis` for all replicas.
//!
//! A bucket is one number: the instant at which it will have drained. Each unit that is taken moves
//! that instant on by the time in which one unit drains. Whoever keeps the bucket provides the
//! time, and lets no other draw happen between the read and the write. `admit.lua` is the same
//! arithmetic for Redis; the contract tests hold the two together.

use std::time::Duration;

use crate::policy::rate::Rate;

/// An operation on a bucket.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Draw {
    /// Takes a unit if one is free, else is refused.
    Take,
    /// Checks whether a unit is free, without taking it.
    Ask,
    /// Takes a unit even if none is free: never refused, but the debt is at most `burst`. For what
    /// is delayed and not refused.
    Owe,
    /// Returns a unit.
    Return,
    /// Returns all units.
    Empty,
}

/// An operation on one bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket<'a> {
    /// The name of the bucket.
    pub name: &'a [u8],
    /// How fast it drains.
    pub rate: Rate,
    /// The operation.
    pub draw: Draw,
}

/// The state of a bucket after an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Level {
    /// Whether this bucket admitted the operation.
    pub is_admitted: bool,
    /// Units that are free.
    pub left: u32,
    /// Units that are owed.
    pub owed: u32,
    /// Time until a unit is free; zero if one is.
    pub wait: Duration,
}

/// A day, in microseconds: the longest time in which a unit may drain, so that all sums stay exact,
/// also in Lua.
const LONGEST: i64 = 24 * 60 * 60 * 1_000_000;

impl Draw {
    /// The word in `admit.lua`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Take => "take",
            Self::Ask => "ask",
            Self::Owe => "owe",
            Self::Return => "return",
            Self::Empty => "empty",
        }
    }
}

impl Rate {
    /// Microseconds in which a unit drains.
    pub(super) fn micros(self) -> i64 {
        i64::try_from(self.per.as_micros())
            .unwrap_or(i64::MAX)
            .clamp(1, LONGEST)
    }

    /// Microseconds in which a full bucket drains.
    fn room(self) -> i64 {
        self.micros().saturating_mul(self.burst.get().into())
    }

    /// The level of a bucket that drains in `used` microseconds.
    pub(super) fn level(self, is_admitted: bool, used: i64) -> Level {
        let per = self.micros();
        let free = self.room().saturating_sub(used);
        let units = |micros: i64| u32::try_from(micros).unwrap_or(u32::MAX);
        Level {
            is_admitted,
            left: units(free.max(0) / per),
            owed: units((-free).max(0).saturating_add(per - 1) / per),
            wait: Duration::from_micros(per.saturating_sub(free).max(0).unsigned_abs()),
        }
    }
}

/// Result of an operation on a bucket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Outcome {
    pub is_admitted: bool,
    /// When it will have drained, in microseconds on the caller's clock.
    pub empty_at: i64,
}

/// Applies one operation at `now` to a bucket that drains at `empty_at`, both in microseconds on
/// one clock.
pub(super) fn apply(draw: Draw, rate: Rate, empty_at: i64, now: i64) -> Outcome {
    let (per, room) = (rate.micros(), rate.room());
    let most = now.saturating_add(room.saturating_mul(2));
    let before = empty_at.clamp(now, most);
    let more = before.saturating_add(per);
    let fits = more.saturating_sub(now) <= room;
    let (is_admitted, empty_at) = match draw {
        Draw::Take if fits => (true, more),
        Draw::Take | Draw::Ask => (fits, before),
        Draw::Owe => (true, more.min(most)),
        Draw::Return => (true, before.saturating_sub(per).max(now)),
        Draw::Empty => (true, now),
    };
    Outcome {
        is_admitted,
        empty_at,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::num::NonZeroU32;

    use super::*;

    fn rate(count: u32, seconds: u64) -> Rate {
        Rate::new(
            NonZeroU32::new(count).expect("not zero"),
            Duration::from_secs(seconds),
        )
    }

    /// Levels of a bucket that is asked at these seconds.
    fn play(rate: Rate, draws: &[(Draw, i64)]) -> Vec<Level> {
        let mut empty_at = 0;
        draws
            .iter()
            .map(|(draw, second)| {
                let now = second * 1_000_000;
                let outcome = apply(*draw, rate, empty_at, now);
                empty_at = outcome.empty_at;
                rate.level(outcome.is_admitted, empty_at - now)
            })
            .collect()
    }

    fn admitted(levels: &[Level]) -> Vec<bool> {
        levels.iter().map(|level| level.is_admitted).collect()
    }

    #[test]
    fn a_burst_is_admitted_at_once_and_then_one_unit_at_a_time() {
        let levels = play(
            rate(3, 60),
            &[0, 0, 0, 0, 19, 20, 20, 60].map(|at| (Draw::Take, at)),
        );
        assert_eq!(
            admitted(&levels),
            [true, true, true, false, false, true, false, true]
        );
        let waits: Vec<u64> = levels.iter().map(|level| level.wait.as_secs()).collect();
        assert_eq!(waits, [0, 0, 20, 20, 1, 20, 20, 0]);
        let left: Vec<u32> = levels.iter().map(|level| level.left).collect();
        assert_eq!(left, [2, 1, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn owing_is_never_refused_and_the_debt_is_at_most_a_burst() {
        let mut draws = vec![(Draw::Owe, 0); 9];
        draws.push((Draw::Take, 0));
        draws.push((Draw::Take, 240));
        let levels = play(rate(4, 240), &draws);
        let owed: Vec<u32> = levels.iter().map(|level| level.owed).collect();
        assert_eq!(owed, [0, 0, 0, 0, 1, 2, 3, 4, 4, 4, 0]);
        assert!(levels[..9].iter().all(|level| level.is_admitted));
        assert!(!levels[9].is_admitted);
        assert_eq!(levels[9].wait.as_secs(), 300);
        assert!(!levels[10].is_admitted, "the debt has just been paid");
        assert_eq!(levels[10].wait.as_secs(), 60);
    }

    #[test]
    fn a_returned_unit_can_be_taken_again() {
        let draws = [
            (Draw::Take, 0),
            (Draw::Ask, 0),
            (Draw::Return, 0),
            (Draw::Return, 0),
            (Draw::Take, 0),
            (Draw::Empty, 0),
            (Draw::Ask, 0),
        ];
        let levels = play(rate(1, 60), &draws);
        assert_eq!(
            admitted(&levels),
            [true, false, true, true, true, true, true]
        );
        assert_eq!(levels[6].left, 1);
    }

    #[test]
    fn a_bucket_that_drains_in_the_far_future_is_cut_to_twice_a_burst() {
        let rate = rate(5, 60);
        let outcome = apply(Draw::Take, rate, i64::MAX, 0);
        assert!(!outcome.is_admitted);
        assert_eq!(outcome.empty_at, 120_000_000);
    }

    #[test]
    fn half_of_a_rate_keeps_a_burst_of_at_least_one() {
        assert_eq!(rate(1, 60).halved(), rate(1, 120));
        assert_eq!(rate(5, 60).halved().burst.get(), 2);
        assert_eq!(rate(5, 60).halved().per, Duration::from_secs(24));
    }
}
