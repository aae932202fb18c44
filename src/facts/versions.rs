//! Which facts are still worth something: a number that rises, and where each was last raised.
//!
//! Decides: whether what was loaded at some moment was overtaken since. Trusts: nothing. Not here: what raises (`shelf`).
//!
//! Facts share places by a hash of what they are about, so memory is bounded and raising needs no lookup. Two facts in one place cost a
//! load too many, never one too few.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};

/// How many places; a power of two. Arbitrary: a mebibyte.
const PLACES: usize = 1 << 16;

/// Where a fact is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place(u16);

impl Place {
    /// The place of what is about the thing `id` of the kind `name`; the same in every replica.
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

/// A moment between raises.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Moment(u64);

/// All places.
pub(super) struct Versions {
    newest: AtomicU64,
    /// Everything before this is worth nothing.
    floor: AtomicU64,
    /// When that was last raised, in Unix milliseconds.
    floor_when: AtomicI64,
    places: Vec<Raised>,
}

#[derive(Default)]
struct Raised {
    at: AtomicU64,
    /// In Unix milliseconds.
    when: AtomicI64,
}

impl Versions {
    pub(super) fn new() -> Self {
        Self {
            newest: AtomicU64::new(1),
            floor: AtomicU64::new(0),
            floor_when: AtomicI64::new(0),
            places: (0..PLACES).map(|_| Raised::default()).collect(),
        }
    }

    /// Now. To be asked before a load begins.
    pub(super) fn now(&self) -> Moment {
        Moment(self.newest.load(Ordering::SeqCst))
    }

    /// What was loaded before is worth nothing any more. `when` is in Unix milliseconds.
    pub(super) fn raise(&self, place: Place, when: i64) {
        let Some(raised) = self.places.get(usize::from(place.0)) else {
            return;
        };
        // Before the moment: whoever begins to load after it must not take from the store what is older.
        raised.when.fetch_max(when, Ordering::SeqCst);
        let at = self.newest.fetch_add(1, Ordering::SeqCst) + 1;
        raised.at.fetch_max(at, Ordering::SeqCst);
    }

    /// Nothing that was loaded here before is worth anything any more, nor what is kept elsewhere from before `when`, in Unix milliseconds.
    pub(super) fn raise_all(&self, when: i64) {
        // Before the floor: whoever begins to load above it must not take from the store what is older.
        self.floor_when.fetch_max(when, Ordering::SeqCst);
        let at = self.newest.fetch_add(1, Ordering::SeqCst) + 1;
        self.floor.fetch_max(at, Ordering::SeqCst);
    }

    /// Whether what was loaded from that moment on is still worth something.
    pub(super) fn is_current(&self, place: Place, since: Moment) -> bool {
        let raised = self
            .places
            .get(usize::from(place.0))
            .map_or(u64::MAX, |raised| raised.at.load(Ordering::SeqCst));
        raised <= since.0 && self.floor.load(Ordering::SeqCst) <= since.0
    }

    /// When it was last raised, in Unix milliseconds; 0 for never.
    pub(super) fn raised_when(&self, place: Place) -> i64 {
        self.places
            .get(usize::from(place.0))
            .map_or(i64::MAX, |raised| raised.when.load(Ordering::SeqCst))
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
    fn what_was_loaded_before_a_raise_is_overtaken_and_what_came_after_is_not() {
        let versions = Versions::new();
        let (one, other) = (Place(1), Place(2));
        let before = versions.now();
        assert!(versions.is_current(one, before));
        versions.raise(one, 7);
        assert!(!versions.is_current(one, before));
        assert!(versions.is_current(other, before));
        assert_eq!(versions.raised_when(one), 7);
        let after = versions.now();
        assert!(versions.is_current(one, after));
        versions.raise_all(9);
        assert_eq!(versions.raised_when(one), 9);
        assert_eq!(versions.raised_when(other), 9);
        assert!(!versions.is_current(one, after));
        assert!(!versions.is_current(other, after));
        assert!(versions.is_current(other, versions.now()));
    }

    #[test]
    fn a_place_is_the_same_everywhere() {
        // Replicas of different versions must agree.
        assert_eq!(Place::of("project", "x"), Place::of("project", "x"));
        assert_ne!(Place::of("project", "x"), Place::of("projectx", ""));
        assert_eq!(Place::of("caller", "a").number(), 35_137);
    }
}
