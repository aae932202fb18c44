//! Versions: which cached facts an invalidation has made stale.
//!
//! A counter rises with every invalidation, and each slot keeps the value of its last one. Facts
//! share slots by a hash of what they are about, so memory is bounded and an invalidation needs no
//! lookup. Two facts in one slot cost an unnecessary load, never a stale answer.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::writer::Writer;

/// How many slots; a power of two. Arbitrary: a mebibyte.
const SLOTS: usize = 1 << 16;

/// The slot of a fact.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Slot(u16);

impl Slot {
    /// The slot of the facts called `name` about the resource `id`; the same on every replica.
    pub(super) fn of(name: &str, id: &str) -> Self {
        let digest = digest(&SHA256, format!("{name}\0{id}").as_bytes());
        Self(
            digest
                .as_ref()
                .first_chunk()
                .map_or(0, |bytes| u16::from_be_bytes(*bytes)),
        )
    }

    pub(super) const fn number(self) -> u16 {
        self.0
    }

    pub(super) const fn from_number(number: u16) -> Self {
        Self(number)
    }
}

/// A value of the counter.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Stamp(u64);

impl Stamp {
    /// The number of invalidations so far, and one more.
    pub(super) fn count(self) -> NonZeroU64 {
        NonZeroU64::new(self.0).unwrap_or(NonZeroU64::MIN)
    }
}

/// All slots.
pub(super) struct Versions {
    newest: AtomicU64,
    /// Every fact from before this is stale.
    floor: AtomicU64,
    /// When the floor last rose, in Unix milliseconds.
    floor_when: AtomicI64,
    slots: Vec<LastInvalidation>,
    /// The slots whose last invalidations were all by the writes of one caller.
    written: DashMap<Slot, Written>,
}

#[derive(Default)]
struct LastInvalidation {
    at: AtomicU64,
    /// In Unix milliseconds.
    when: AtomicI64,
}

/// The invalidations of a slot by the writes of one caller.
struct Written {
    by: Writer,
    /// The last invalidation of the slot before them.
    since: u64,
}

impl Versions {
    pub(super) fn new() -> Self {
        Self {
            newest: AtomicU64::new(1),
            floor: AtomicU64::new(0),
            floor_when: AtomicI64::new(0),
            slots: (0..SLOTS).map(|_| LastInvalidation::default()).collect(),
            written: DashMap::new(),
        }
    }

    /// The current stamp. Must be taken before a load begins.
    pub(super) fn now(&self) -> Stamp {
        Stamp(self.newest.load(Ordering::SeqCst))
    }

    /// Makes facts that were loaded before stale. `by` is whose write it was, if it was a write;
    /// `when` is in Unix milliseconds.
    pub(super) fn invalidate(&self, slot: Slot, by: Option<Writer>, when: i64) {
        let Some(last) = self.slots.get(usize::from(slot.0)) else {
            return;
        };
        // Before the counter: a load that begins after it must not take an older record from the
        // store.
        last.when.fetch_max(when, Ordering::SeqCst);
        // Its lock puts the invalidations of the slot in order.
        let written = self.written.entry(slot);
        let since = last.at.load(Ordering::SeqCst);
        let at = self.newest.fetch_add(1, Ordering::SeqCst) + 1;
        last.at.fetch_max(at, Ordering::SeqCst);
        match (by, written) {
            (Some(by), Entry::Occupied(known)) if known.get().by == by => {}
            (Some(by), Entry::Occupied(mut known)) => {
                known.insert(Written { by, since });
            }
            (Some(by), Entry::Vacant(vacant)) => {
                vacant.insert(Written { by, since });
            }
            (None, Entry::Occupied(known)) => {
                known.remove();
            }
            (None, Entry::Vacant(_)) => {}
        }
    }

    /// Makes all facts that were loaded before stale, and all records in the store from before
    /// `when`, in Unix milliseconds.
    pub(super) fn invalidate_all(&self, when: i64) {
        // Before the floor: a load that begins above it must not take an older record from the
        // store.
        self.floor_when.fetch_max(when, Ordering::SeqCst);
        let at = self.newest.fetch_add(1, Ordering::SeqCst) + 1;
        self.floor.fetch_max(at, Ordering::SeqCst);
    }

    /// Whether a fact that was loaded from this stamp on is not stale.
    pub(super) fn is_current(&self, slot: Slot, stamp: Stamp) -> bool {
        let invalidated = self
            .slots
            .get(usize::from(slot.0))
            .map_or(u64::MAX, |last| last.at.load(Ordering::SeqCst));
        invalidated <= stamp.0 && self.floor.load(Ordering::SeqCst) <= stamp.0
    }

    /// Whether a fact that was loaded from this stamp on is not stale, or only by writes of this
    /// caller.
    pub(super) fn is_current_for(&self, writer: Writer, slot: Slot, stamp: Stamp) -> bool {
        let is_own = |written: &Written| written.by == writer && written.since <= stamp.0;
        let is_own = self.written.get(&slot).is_some_and(|one| is_own(&one));
        match is_own {
            true => self.floor.load(Ordering::SeqCst) <= stamp.0,
            false => self.is_current(slot, stamp),
        }
    }

    /// When the slot was last invalidated, in Unix milliseconds; 0 for never.
    pub(super) fn invalidated_when(&self, slot: Slot) -> i64 {
        self.slots
            .get(usize::from(slot.0))
            .map_or(i64::MAX, |last| last.when.load(Ordering::SeqCst))
            .max(self.floor_when.load(Ordering::SeqCst))
    }
}

impl std::fmt::Debug for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Versions")
            .field("newest", &self.newest)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_from_before_an_invalidation_are_stale_and_later_ones_are_not() {
        let versions = Versions::new();
        let (one, other) = (Slot(1), Slot(2));
        let before = versions.now();
        assert!(versions.is_current(one, before));
        versions.invalidate(one, None, 7);
        assert!(!versions.is_current(one, before));
        assert!(versions.is_current(other, before));
        assert_eq!(versions.invalidated_when(one), 7);
        let after = versions.now();
        assert!(versions.is_current(one, after));
        versions.invalidate_all(9);
        assert_eq!(versions.invalidated_when(one), 9);
        assert_eq!(versions.invalidated_when(other), 9);
        assert!(!versions.is_current(one, after));
        assert!(!versions.is_current(other, after));
        assert!(versions.is_current(other, versions.now()));
    }

    #[test]
    fn a_fact_is_stale_for_its_writer_only_after_an_invalidation_by_somebody_else() {
        let versions = Versions::new();
        let slot = Slot(1);
        let [writer, other] = [1, 2].map(Writer::for_test);
        let is_current = |stamp| {
            [writer, other].map(|caller| {
                assert!(!versions.is_current(slot, stamp));
                versions.is_current_for(caller, slot, stamp)
            })
        };
        let first = versions.now();
        versions.invalidate(slot, Some(writer), 1);
        versions.invalidate(slot, Some(writer), 2);
        assert_eq!(is_current(first), [true, false]);
        let second = versions.now();
        assert!(versions.is_current_for(other, slot, second));
        versions.invalidate(slot, Some(other), 3);
        assert_eq!(is_current(first), [false, false]);
        assert_eq!(is_current(second), [false, true]);
        // Whatever the writer does later, the other's write may have changed the fact.
        versions.invalidate(slot, Some(writer), 4);
        assert_eq!(is_current(second), [false, false]);
        for unknown in [&|| versions.invalidate(slot, None, 5), &|| {
            versions.invalidate_all(6)
        }] as [&dyn Fn(); 2]
        {
            let before = versions.now();
            versions.invalidate(slot, Some(writer), 5);
            assert_eq!(is_current(before), [true, false]);
            unknown();
            versions.invalidate(slot, Some(writer), 7);
            assert_eq!(is_current(before), [false, false]);
        }
    }

    #[test]
    fn a_slot_is_the_same_on_every_replica() {
        // Replicas of different versions must agree.
        assert_eq!(Slot::of("project", "x"), Slot::of("project", "x"));
        assert_ne!(Slot::of("project", "x"), Slot::of("projectx", ""));
        assert_eq!(Slot::of("caller", "a").number(), 35_137);
    }
}
