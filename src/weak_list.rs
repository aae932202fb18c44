//! Things of one worker that it looks at while they live.
//!
//! Decides: when those that are gone are forgotten. Trusts: their owners, who keep them alive. Not here: what is looked at (`listen`, `upstream::alarm`).

use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// What lives, and some that is gone already.
#[derive(Debug)]
pub(crate) struct Living<T>(Rc<RefCell<Vec<Weak<T>>>>);

impl<T> Living<T> {
    /// Adds one, and now and then forgets those that are gone.
    pub(crate) fn add(&self, one: &Rc<T>) {
        let mut all = self.0.borrow_mut();
        if all.len() == all.capacity() {
            all.retain(|one| one.strong_count() > 0);
            // Where most still live, room for as many again, or each newcomer would go through all of them.
            let live = all.len();
            all.reserve(live);
        }
        all.push(Rc::downgrade(one));
    }

    /// Looks at each that lives. `look` adds none.
    pub(crate) fn each(&self, look: impl Fn(&T)) {
        for one in self.0.borrow().iter().filter_map(Weak::upgrade) {
            look(&one);
        }
    }
}

impl<T> Clone for Living<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Living<T> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn who_is_gone_is_forgotten_and_who_lives_is_looked_at() {
        let (all, stays, looks) = (Living::default(), Rc::new("stays"), Cell::new(0));
        all.add(&stays);
        for _ in 0..10_000 {
            all.add(&Rc::new("is gone at once"));
        }
        assert!(all.0.borrow().len() < 100);
        all.each(|one| {
            assert_eq!(*one, "stays");
            looks.set(looks.get() + 1);
        });
        assert_eq!(looks.get(), 1);
    }
}
