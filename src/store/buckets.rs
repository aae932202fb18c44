//! Rate-limit buckets in this process: a table of fixed size, however many names use it.
//!
//! The table has sets of eight slots. A bucket whose set is full replaces the one that would drain
//! first: a heavy user keeps its bucket, and a million clients with one attempt each replace one
//! another. Names are kept only as keyed hashes, so that nobody can choose a name that falls into
//! another's set. `limit` has the arithmetic.

#![allow(
    clippy::disallowed_types,
    reason = "the lock is held for some look-ups in memory and never across an await; only limits that must be exact ask here"
)]

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::limit::{Bucket, Level, Outcome, apply};
use crate::clock;

/// Slots in one set.
const WAYS: usize = 8;

/// Number of sets: with [`WAYS`] slots of 16 bytes this is two megabytes, and 131,072 buckets.
const SETS: usize = 16_384;

/// A fixed-size table of buckets.
pub struct Buckets {
    hasher: RandomState,
    start: Instant,
    sets: Mutex<Vec<[Slot; WAYS]>>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// The hash that identifies the bucket.
    mark: u64,
    /// When it will have drained, in microseconds after [`Buckets::start`]; a drained slot is free.
    empty_at: i64,
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            start: clock::now(),
            sets: Mutex::new(vec![[Slot::default(); WAYS]; SETS]),
        }
    }
}

impl Buckets {
    /// Applies all draws at once; see [`Store::admit`](super::Store::admit).
    pub fn admit(&self, buckets: &[Bucket<'_>]) -> Vec<Level> {
        let now = clock::now().saturating_duration_since(self.start);
        // Later than the start, so that an unused slot is in the past.
        let now = i64::try_from(now.as_micros())
            .unwrap_or(i64::MAX)
            .saturating_add(1);
        self.admit_at(buckets, now)
    }

    fn admit_at(&self, buckets: &[Bucket<'_>], now: i64) -> Vec<Level> {
        let slots: Vec<(usize, u64)> = buckets
            .iter()
            .map(|bucket| self.slot(bucket.name))
            .collect();
        // A panic under the lock leaves the table consistent: each slot is written at once.
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let outcomes: Vec<Outcome> = buckets
            .iter()
            .zip(&slots)
            .map(|(bucket, (set, mark))| {
                let slot = sets
                    .get(*set)
                    .and_then(|set| set.iter().find(|slot| slot.mark == *mark));
                let empty_at = slot.map_or(0, |slot| slot.empty_at);
                apply(bucket.draw, bucket.rate, empty_at, now)
            })
            .collect();
        let is_admitted = outcomes.iter().all(|outcome| outcome.is_admitted);
        if is_admitted {
            for (outcome, (set, mark)) in outcomes.iter().zip(&slots) {
                if let Some(set) = sets.get_mut(*set) {
                    write(set, *mark, outcome.empty_at, now);
                }
            }
        }
        drop(sets);
        buckets
            .iter()
            .zip(outcomes)
            .map(|(bucket, outcome)| {
                let used = outcome.empty_at.saturating_sub(now);
                bucket.rate.level(outcome.is_admitted, used)
            })
            .collect()
    }

    fn slot(&self, name: &[u8]) -> (usize, u64) {
        let set = self.hasher.hash_one((name, "set"));
        let set = usize::try_from(set).unwrap_or(0) % SETS;
        (set, self.hasher.hash_one((name, "mark")))
    }
}

/// Writes a bucket to its slot, or to the slot of the bucket that would drain first. A drained
/// bucket needs no slot.
fn write(set: &mut [Slot; WAYS], mark: u64, empty_at: i64, now: i64) {
    let known = set.iter().position(|slot| slot.mark == mark);
    if known.is_none() && empty_at <= now {
        return;
    }
    let first = || {
        let slots = set.iter().enumerate();
        slots
            .min_by_key(|(_, slot)| slot.empty_at)
            .map(|(index, _)| index)
    };
    if let Some(slot) = known.or_else(first).and_then(|index| set.get_mut(index)) {
        *slot = Slot { mark, empty_at };
    }
}

impl std::fmt::Debug for Buckets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buckets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::super::limit::Draw;
    use super::*;
    use crate::policy::rate::Rate;

    fn take(name: &[u8]) -> Bucket<'_> {
        Bucket {
            name,
            rate: Rate::new(
                NonZeroU32::new(5).expect("not zero"),
                Duration::from_secs(60),
            ),
            draw: Draw::Take,
        }
    }

    #[test]
    fn a_million_other_names_do_not_displace_a_full_bucket() {
        let buckets = Buckets::default();
        for _ in 0..5 {
            assert!(buckets.admit_at(&[take(b"busy")], 1)[0].is_admitted);
        }
        for stranger in 0..1_000_000_u32 {
            buckets.admit_at(&[take(&stranger.to_be_bytes())], 2);
        }
        assert!(!buckets.admit_at(&[take(b"busy")], 3)[0].is_admitted);
        let sets = buckets
            .sets
            .lock()
            .expect("no test panicked under the lock");
        assert_eq!((sets.len(), sets.capacity()), (SETS, SETS));
    }

    #[test]
    fn a_refusal_by_one_bucket_changes_none() {
        let buckets = Buckets::default();
        for _ in 0..5 {
            buckets.admit_at(&[take(b"full")], 1);
        }
        for _ in 0..9 {
            let levels = buckets.admit_at(&[take(b"other"), take(b"full")], 1);
            assert!(!levels[1].is_admitted);
        }
        assert_eq!(buckets.admit_at(&[take(b"other")], 1)[0].left, 4);
    }
}
