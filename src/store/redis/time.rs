//! The clock of Redis, as the last probe read it.
//!
//! A process that starts by a wrong clock would accept tokens that have expired. So Redis is used
//! only after its clock and that of this machine were found to agree. Its time is never taken over:
//! whoever can write to Redis could prolong credentials by it. A wrong clock in Redis only keeps
//! processes that start later from being used.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::clock;
use crate::fault::Fault;

/// How long a reading counts, in microseconds: some probes.
const LIFETIME: i64 = 2_000_000;

/// The longest call whose answer is a reading, in microseconds. The time is that of the middle of
/// the call, so a reading is wrong by at most half of this.
const LONGEST_CALL: i64 = 2_000_000;

/// How far two clocks that agree may be apart, in microseconds: the default leeway of a token's
/// times, within which nothing is decided by them, and the largest error of a reading.
const MOST_APART: u64 = 5_000_000 + LONGEST_CALL.unsigned_abs() / 2;

/// The last reading. Two threads may mix two readings, which are at most some probes apart.
pub(super) struct ServerClock {
    /// The Unix time at which this machine was started, in microseconds.
    boot: AtomicI64,
    /// When it was read, in microseconds after the start of this machine; 0 for never.
    read: AtomicI64,
    /// Whether the clock of this machine was once found to agree. [`clock::follow_system`] deals
    /// with what happens later.
    agreed: AtomicBool,
}

impl ServerClock {
    /// No reading yet.
    pub(super) fn new() -> Self {
        Self {
            boot: AtomicI64::new(0),
            read: AtomicI64::new(0),
            agreed: AtomicBool::new(false),
        }
    }

    /// Notes an answer to `TIME`: seconds and microseconds. It was asked for at `asked`, in
    /// microseconds after the start of this machine.
    pub(super) fn note(&self, asked: i64, parts: &[String]) {
        let [Ok(seconds), Ok(micros)] = [0, 1].map(|index| {
            let part = parts.get(index).map_or("", String::as_str);
            part.parse::<i64>()
        }) else {
            return;
        };
        let now = clock::since_boot();
        if now.saturating_sub(asked) > LONGEST_CALL {
            return;
        }
        let time = seconds.saturating_mul(1_000_000).saturating_add(micros);
        let boot = time.saturating_sub(asked.midpoint(now));
        self.boot.store(boot, Ordering::Relaxed);
        self.read.store(now, Ordering::Relaxed);
    }

    /// The Unix time at which this machine was started, by the clock of Redis, in microseconds.
    pub(super) fn boot(&self) -> Option<i64> {
        let read = self.read.load(Ordering::Relaxed);
        let is_fresh = read != 0 && clock::since_boot().saturating_sub(read) < LIFETIME;
        is_fresh.then(|| self.boot.load(Ordering::Relaxed))
    }

    /// Whether the clocks were once found to agree.
    pub(super) fn has_agreed(&self) -> bool {
        self.agreed.load(Ordering::Relaxed)
    }

    /// Compares the last reading, if there is a fresh one, with the clock of this machine.
    ///
    /// # Errors
    ///
    /// They do not agree.
    pub(super) fn compare(&self) -> Result<(), Fault> {
        let Some(theirs) = self.boot() else {
            return Ok(());
        };
        let ours = clock::boot_time();
        if !agree(ours, theirs) {
            return Err(apart(ours, theirs, clock::since_boot()));
        }
        self.agreed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn agree(ours: i64, theirs: i64) -> bool {
    ours.abs_diff(theirs) <= MOST_APART
}

/// Two clocks do not agree, `since_boot` microseconds after these Unix times.
fn apart(ours: i64, theirs: i64, since_boot: i64) -> Fault {
    let [ours, theirs] = [ours, theirs].map(|boot| clock::written(boot.saturating_add(since_boot)));
    Fault::lasting(format!(
        "its clock says {theirs}, and the clock of this machine says {ours}: set the one that is wrong"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_agree_within_the_leeway_of_a_token() {
        let second = 1_000_000;
        for apart in [0, 5, -5, 6, -6] {
            assert!(agree(0, apart * second), "{apart}");
        }
        for apart in [7, -7, 3600, -3600] {
            assert!(!agree(0, apart * second), "{apart}");
        }
        assert!(!agree(i64::MIN, i64::MAX));
    }

    #[test]
    fn a_wrong_time_or_none_is_no_agreement() {
        let clock = ServerClock::new();
        let text = |seconds: i64| [seconds.to_string(), "0".to_owned()];
        assert_eq!((clock.compare(), clock.has_agreed()), (Ok(()), false));
        // An answer that took long is none.
        let now = clock::since_boot();
        clock.note(now - 2 * LONGEST_CALL, &text(clock::unix_now()));
        assert_eq!((clock.compare(), clock.has_agreed()), (Ok(()), false));
        for wrong in [-3600, 3600] {
            clock.note(clock::since_boot(), &text(clock::unix_now() + wrong));
            assert!(clock.compare().is_err_and(|fault| fault.is_lasting()));
            assert!(!clock.has_agreed());
        }
        clock.note(clock::since_boot(), &text(clock::unix_now()));
        assert_eq!((clock.compare(), clock.has_agreed()), (Ok(()), true));
    }
}
