//! The clock of Redis, as the last probe read it.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock;

/// How long a reading counts, in microseconds: some probes.
const LIFETIME: i64 = 2_000_000;

/// The last reading. Two threads may mix two readings, which are at most some probes apart.
pub(super) struct ServerClock {
    /// The Unix time at which this machine was started, in microseconds.
    boot: AtomicI64,
    /// When it was read, in microseconds after the start of this machine; 0 for never.
    read: AtomicI64,
}

impl ServerClock {
    /// No reading yet.
    pub(super) fn new() -> Self {
        Self {
            boot: AtomicI64::new(0),
            read: AtomicI64::new(0),
        }
    }

    /// Notes an answer to `TIME`: seconds and microseconds.
    pub(super) fn note(&self, parts: &[String]) {
        let [Ok(seconds), Ok(micros)] = [0, 1].map(|index| {
            let part = parts.get(index).map_or("", String::as_str);
            part.parse::<i64>()
        }) else {
            return;
        };
        let now = clock::since_boot();
        let time = seconds.saturating_mul(1_000_000).saturating_add(micros);
        self.boot.store(time.saturating_sub(now), Ordering::Relaxed);
        self.read.store(now, Ordering::Relaxed);
    }

    /// The Unix time at which this machine was started, by the clock of Redis, in microseconds.
    pub(super) fn boot(&self) -> Option<i64> {
        let read = self.read.load(Ordering::Relaxed);
        let is_fresh = read != 0 && clock::since_boot().saturating_sub(read) < LIFETIME;
        is_fresh.then(|| self.boot.load(Ordering::Relaxed))
    }
}
