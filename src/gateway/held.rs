//! What the clients of one worker have open, and have not taken.

use std::cell::Cell;

/// How many bytes the clients of one worker have not taken, and how many streams they have open.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) bytes: Cell<usize>,
    pub(crate) streams: Cell<usize>,
    /// What the gauges show.
    shown: Cell<(usize, usize)>,
}

impl Held {
    /// What changed since the last call: bytes and streams.
    pub(crate) fn change(&self) -> (i64, i64) {
        let now = (self.bytes.get(), self.streams.get());
        let shown = self.shown.replace(now);
        (difference(now.0, shown.0), difference(now.1, shown.1))
    }
}

fn difference(now: usize, before: usize) -> i64 {
    let of = |count| i64::try_from(count).unwrap_or(i64::MAX);
    of(now) - of(before)
}
