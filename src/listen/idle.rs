//! The open connections of a worker, and which of them has been idle for the longest time: when all
//! connections are taken, that one is ended in favour of a new one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use crate::gateway::connection::{ConnectionState, PollClock};
use crate::weak_list::WeakList;

/// How many idle connections one search finds. A search looks at every connection.
const FOUND: usize = 64;

/// A connection, and since when it was idle when it was found.
type Idle = (u64, Weak<ConnectionState>);

/// The open connections of a worker, and the clock by which it times them.
#[derive(Clone, Default)]
pub(super) struct OpenConnections {
    pub(super) open: WeakList<ConnectionState>,
    pub(super) clock: PollClock,
    /// The connections that were idle for the longest time at the last search, and since when. No
    /// other can be idle for longer, as long as these stay idle.
    longest_idle: Rc<RefCell<VecDeque<Idle>>>,
}

/// What a worker answers when it is asked for its longest idle connection. Times are those of its
/// own [`PollClock`].
#[derive(Clone, Copy, Debug)]
pub(super) struct LongestIdle {
    /// For how long the connection has been idle.
    pub(super) idle: u64,
    /// When that was.
    pub(super) now: u64,
}

impl OpenConnections {
    /// The connection that has been idle for the longest time; `None` if none is idle.
    pub(super) fn longest_idle(&self) -> Option<LongestIdle> {
        let now = self.clock.now();
        let (since, connection) = self.take_longest_idle(now)?;
        let first = (since, Rc::downgrade(&connection));
        self.longest_idle.borrow_mut().push_front(first);
        let idle = now.saturating_sub(since);
        Some(LongestIdle { idle, now })
    }

    /// Ends so many connections, those first that have been idle for the longest time. Returns how
    /// many were idle. Of those that are idle since `before` or later it ends none: they may be the
    /// ones for which others were to end.
    pub(super) fn shed(&self, most: usize, before: u64) -> usize {
        let mut count = 0;
        while count < most
            && let Some((_, connection)) = self.take_longest_idle(before)
        {
            connection.shed();
            count += 1;
        }
        count
    }

    fn take_longest_idle(&self, before: u64) -> Option<(u64, Rc<ConnectionState>)> {
        let mut longest = self.longest_idle.borrow_mut();
        for searched in [false, true] {
            if searched {
                *longest = self.search(before);
            }
            while let Some((since, connection)) = longest.pop_front() {
                if let Some(connection) = connection.upgrade()
                    && connection.idle_since() == Some(since)
                    && since < before
                {
                    return Some((since, connection));
                }
            }
        }
        None
    }

    fn search(&self, before: u64) -> VecDeque<Idle> {
        let idle_since =
            |connection: &ConnectionState| connection.idle_since().filter(|since| *since < before);
        let mut idle = self.open.keyed(idle_since);
        idle.sort_unstable_by_key(|(since, _)| *since);
        idle.truncate(FOUND);
        idle.into()
    }
}
