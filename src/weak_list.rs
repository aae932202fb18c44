//! Weakly held per-worker objects that are polled while they are alive.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// The objects, of which some may be dropped already.
#[derive(Debug)]
pub(crate) struct WeakList<T>(Rc<RefCell<Vec<Weak<T>>>>);

impl<T> WeakList<T> {
    /// Adds an object, and now and then removes the dropped ones.
    pub(crate) fn add(&self, one: &Rc<T>) {
        let mut all = self.0.borrow_mut();
        if all.len() == all.capacity() {
            all.retain(|one| one.strong_count() > 0);
            // Room for as many objects again, or each addition to a list of live objects would scan
            // all of them.
            let live = all.len();
            all.reserve(live);
        }
        all.push(Rc::downgrade(one));
    }

    /// The live objects that have a key, each with it.
    pub(crate) fn keyed<K>(&self, key: impl Fn(&T) -> Option<K>) -> Vec<(K, Weak<T>)> {
        let all = self.0.borrow();
        all.iter()
            .filter_map(|one| Some((key(&*one.upgrade()?)?, one.clone())))
            .collect()
    }

    /// Calls `poll` with each live object. `poll` must not add any.
    pub(crate) fn each(&self, poll: impl Fn(&T)) {
        for one in self.0.borrow().iter().filter_map(Weak::upgrade) {
            poll(&one);
        }
    }
}

impl<T> Clone for WeakList<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for WeakList<T> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn dropped_objects_are_removed_and_live_ones_polled() {
        let (all, stays, polls) = (WeakList::default(), Rc::new("stays"), Cell::new(0));
        all.add(&stays);
        for _ in 0..10_000 {
            all.add(&Rc::new("is dropped at once"));
        }
        assert!(all.0.borrow().len() < 100);
        all.each(|one| {
            assert_eq!(*one, "stays");
            polls.set(polls.get() + 1);
        });
        assert_eq!(polls.get(), 1);
    }
}
