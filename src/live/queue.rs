//! The streams that wait for the whole chain: a few run at a time, and one of each caller, in turn.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// How many streams of one worker are authorized by the whole chain at a time. A choice: as many as
/// a database has connections by default, so that requests do not wait for streams for long.
const RUNNERS: usize = 8;

/// The waiting streams, by caller.
#[derive(Debug)]
pub(super) struct Queue<C> {
    callers: HashMap<C, CallerStreams>,
    /// The callers of whom a stream waits and none runs.
    turns: VecDeque<C>,
    /// How many tasks take streams from here.
    runners: usize,
}

/// The streams of one caller.
#[derive(Debug, Default)]
struct CallerStreams {
    waiting: VecDeque<u64>,
    is_running: bool,
}

impl<C> Default for Queue<C> {
    fn default() -> Self {
        Self {
            callers: HashMap::new(),
            turns: VecDeque::new(),
            runners: 0,
        }
    }
}

impl<C: Copy + Eq + Hash> Queue<C> {
    /// Adds a stream of a caller. True if another task should take streams from here until there
    /// is none.
    pub(super) fn push(&mut self, caller: C, stream: u64) -> bool {
        let streams = self.callers.entry(caller).or_default();
        streams.waiting.push_back(stream);
        // Otherwise its turn comes, and a task that is there takes it.
        let is_turn = !streams.is_running && streams.waiting.len() == 1;
        if is_turn {
            self.turns.push_back(caller);
        }
        let wants_runner = is_turn && self.runners < RUNNERS;
        self.runners += usize::from(wants_runner);
        wants_runner
    }

    /// The next stream, of the caller whose turn it is. `None` if none may run now: then the task
    /// that asked has to end.
    pub(super) fn next(&mut self) -> Option<(C, u64)> {
        let next = self.turns.pop_front().and_then(|caller| {
            let streams = self.callers.get_mut(&caller)?;
            streams.is_running = true;
            Some((caller, streams.waiting.pop_front()?))
        });
        if next.is_none() {
            self.runners = self.runners.saturating_sub(1);
        }
        next
    }

    /// The caller's stream has run.
    pub(super) fn finish(&mut self, caller: C) {
        let Some(streams) = self.callers.get_mut(&caller) else {
            return;
        };
        streams.is_running = false;
        if streams.waiting.is_empty() {
            self.callers.remove(&caller);
        } else {
            self.turns.push_back(caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_take_turns_and_each_has_one_stream_running() {
        let mut queue = Queue::default();
        assert!(queue.push("many", 1));
        assert!(!queue.push("many", 2), "its first one is not done");
        queue.push("many", 3);
        assert!(queue.push("few", 4));
        assert_eq!(queue.next(), Some(("many", 1)));
        assert_eq!(queue.next(), Some(("few", 4)));
        assert_eq!(queue.next(), None);
        queue.finish("many");
        queue.finish("few");
        queue.push("few", 5);
        assert_eq!(queue.next(), Some(("many", 2)));
        assert_eq!(queue.next(), Some(("few", 5)));
        queue.finish("few");
        queue.finish("many");
        assert_eq!(queue.next(), Some(("many", 3)));
        queue.finish("many");
        assert_eq!(queue.next(), None);
        assert!(queue.callers.is_empty(), "nobody's streams wait");
    }

    #[test]
    fn there_are_as_many_tasks_as_callers_and_no_more_than_a_few() {
        let mut queue = Queue::default();
        let callers = RUNNERS + 3;
        let started = (0..callers).filter(|caller| queue.push(*caller, 1)).count();
        assert_eq!(started, RUNNERS);
        for _ in 0..callers {
            let (caller, _) = queue.next().expect("a stream");
            queue.finish(caller);
        }
        for _ in 0..RUNNERS {
            assert_eq!(queue.next(), None);
        }
        assert!(queue.push(0, 1), "the tasks have ended");
    }
}
