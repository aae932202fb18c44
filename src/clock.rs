//! The only place that reads the time; `tests/clippy.toml` refuses any other. Socket timeouts
//! belong to the runtime's timer.
//!
//! The Unix time here is the time since boot, which nobody sets and which also passes while the
//! machine is suspended, plus a correction that follows the system clock ([`follow_system`]). So a
//! step of the system clock is noticed before anything is judged by it. A step may make the clock
//! right or wrong. The store's clock, if there is one, decides which; it only chooses between the
//! time before the step and the time after it.

#![allow(clippy::disallowed_methods, reason = "this is the one place")]

use std::cell::RefCell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// The Unix time at boot, in microseconds. The correction that [`follow_system`] changes.
static BOOT: LazyLock<AtomicI64> = LazyLock::new(|| AtomicI64::new(boot_by_system()));

/// Whether the system clock is ignored, since it was set and another clock contradicts it.
static IS_HELD: AtomicBool = AtomicBool::new(false);

/// How far the system clock may move between two comparisons without being a step, in microseconds:
/// less than any leeway, more than a leap second.
const STEP: i64 = 2_000_000;

/// How far two readings of the time since boot may be apart for one of the system clock between
/// them to count, in microseconds: a thread that runs takes less.
const APART: i64 = 1_000;

/// How often the clocks are read before the closest readings count, however far apart.
const ATTEMPTS: usize = 10;

/// Seconds since the Unix epoch, for claims and dates.
pub fn unix_now() -> i64 {
    unix_micros().div_euclid(1_000_000)
}

/// The time since the Unix epoch.
pub fn since_epoch() -> Duration {
    Duration::from_micros(u64::try_from(unix_micros()).unwrap_or(0))
}

/// Milliseconds since the Unix epoch, for intervals between processes.
pub fn unix_millis() -> i64 {
    unix_micros().div_euclid(1000)
}

fn unix_micros() -> i64 {
    BOOT.load(Ordering::Relaxed).saturating_add(since_boot())
}

/// The Unix time at boot by the clock of this process, in microseconds.
pub(crate) fn boot_time() -> i64 {
    BOOT.load(Ordering::Relaxed)
}

/// Microseconds since this machine was started, those included in which it was suspended.
pub(crate) fn since_boot() -> i64 {
    micros(clock_gettime(ClockId::Boottime))
}

/// For how long this machine has been suspended since it was started, in microseconds.
pub(crate) fn suspended() -> i64 {
    since_boot().saturating_sub(micros(clock_gettime(ClockId::Monotonic)))
}

/// The Unix time at boot by the system clock, in microseconds.
fn boot_by_system() -> i64 {
    boot_by(since_boot, || micros(clock_gettime(ClockId::Realtime)))
}

/// The Unix time at boot by two clocks that cannot be read at once. A thread that is descheduled
/// between the two readings would see a step, so the time since boot is read before and after, and
/// the closest of some attempts counts.
fn boot_by(since_boot: impl Fn() -> i64, unix: impl Fn() -> i64) -> i64 {
    let mut closest = (i64::MAX, 0);
    for _ in 0..ATTEMPTS {
        let (before, unix, after) = (since_boot(), unix(), since_boot());
        let apart = after.saturating_sub(before);
        if apart < closest.0 {
            closest = (apart, unix.saturating_sub(before.midpoint(after)));
        }
        if apart < APART {
            break;
        }
    }
    closest.1
}

fn micros(time: Timespec) -> i64 {
    time.tv_sec
        .saturating_mul(1_000_000)
        .saturating_add(time.tv_nsec / 1000)
}

/// What the system clock did since the last comparison.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SystemClock {
    /// It runs as it should.
    Steady,
    /// It was set by so many microseconds, and is followed.
    Followed(i64),
    /// It was set by so many microseconds, and is ignored.
    Held(i64),
}

/// Compares the time with the system clock, and corrects it by that. `other` is the Unix time at
/// boot by another clock, in microseconds; `None` if no other clock is known at the moment.
pub(crate) fn follow_system(other: Option<i64>) -> SystemClock {
    let (ours, system) = (BOOT.load(Ordering::Relaxed), boot_by_system());
    let decision = decide(ours, system, other, IS_HELD.load(Ordering::Relaxed));
    let is_held = matches!(decision, SystemClock::Held(_));
    if !is_held {
        BOOT.store(system, Ordering::Relaxed);
    }
    IS_HELD.store(is_held, Ordering::Relaxed);
    decision
}

fn decide(ours: i64, system: i64, other: Option<i64>, is_held: bool) -> SystemClock {
    let step = system.saturating_sub(ours);
    if step.saturating_abs() < STEP {
        return SystemClock::Steady;
    }
    let is_wrong = match other {
        Some(other) => other.abs_diff(ours) < other.abs_diff(system),
        // Without another clock, the last decision stands; at first, the system clock is right.
        None => is_held,
    };
    match is_wrong {
        true => SystemClock::Held(step),
        false => SystemClock::Followed(step),
    }
}

/// The monotonic time, for durations and deadlines.
pub fn now() -> Instant {
    Instant::now()
}

/// The monotonic time with a lag of a few milliseconds, for intervals of seconds. Takes a fraction
/// of the time.
pub fn coarse_now() -> Instant {
    static BEGUN: LazyLock<(Instant, Duration)> =
        LazyLock::new(|| (Instant::now(), elapsed(ClockId::MonotonicCoarse)));
    let (instant, elapsed_then) = *BEGUN;
    instant + elapsed(ClockId::MonotonicCoarse).saturating_sub(elapsed_then)
}

/// The reading of a clock, at least zero.
fn elapsed(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

/// The time for a log line: RFC 3339, in UTC, to the microsecond.
pub fn timestamp() -> String {
    thread_local! {
        /// The last formatted second, since many lines fall into one.
        static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    let now = Timestamp::from_microsecond(unix_micros()).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, written)| {
        if *second != now.as_second() {
            *second = now.as_second();
            *written = now.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        let mut text = String::with_capacity(written.len() + 8);
        text.push_str(written);
        text.push('.');
        let mut rest = now.subsec_microsecond().unsigned_abs();
        for place in [100_000, 10_000, 1_000, 100, 10, 1] {
            text.push(char::from_digit(rest / place, 10).unwrap_or('0'));
            rest %= place;
        }
        text.push('Z');
        text
    })
}

/// A Unix time in microseconds for people: RFC 3339, in UTC, to the second.
pub(crate) fn written(micros: i64) -> String {
    let time = Timestamp::from_microsecond(micros).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Appends the time as `Date` has it (RFC 9110, section 5.6.7).
pub(crate) fn write_http_date(out: &mut Vec<u8>) {
    thread_local! {
        static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    let now = unix_now();
    SECOND.with_borrow_mut(|(second, written)| {
        if *second != now {
            *second = now;
            *written = Timestamp::from_second(now)
                .unwrap_or_default()
                .strftime("%a, %d %b %Y %H:%M:%S GMT")
                .to_string();
        }
        out.extend_from_slice(written.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_step_is_followed_unless_another_clock_contradicts_it() {
        let hour = 3_600_000_000;
        assert_eq!(decide(0, 1_000_000, None, false), SystemClock::Steady);
        for step in [hour, -hour] {
            let of = |other, is_held| decide(0, step, other, is_held);
            assert_eq!(of(None, false), SystemClock::Followed(step));
            // The machine was paused, or its clock was wrong before.
            assert_eq!(of(Some(step + 300_000), true), SystemClock::Followed(step));
            assert_eq!(of(Some(300_000), false), SystemClock::Held(step));
            assert_eq!(of(None, true), SystemClock::Held(step));
        }
        // The clock was set right again.
        assert_eq!(decide(0, -5, Some(9), true), SystemClock::Steady);
    }

    #[test]
    fn a_pause_between_the_readings_of_two_clocks_is_no_step() {
        let hour = 3_600_000_000;
        // The time passes with every reading, and for an hour with some of them.
        for paused in [vec![0], vec![1], vec![0, 3, 4], (0..9).collect()] {
            let (time, read) = (Cell::new(5 * hour), Cell::new(0));
            let reading = |time_at: i64| {
                let number = read.replace(read.get() + 1);
                let passed = if paused.contains(&number) { hour } else { 10 };
                time.set(time.get() + passed);
                time_at
            };
            let boot = boot_by(|| reading(time.get()), || reading(time.get()) + 70 * hour);
            assert!(boot.abs_diff(70 * hour) < 100, "{paused:?}: {boot}");
        }
        // No attempt was undisturbed: the closest one counts.
        let time = Cell::new(0);
        let now = || time.replace(time.get() + 2 * APART);
        assert!(boot_by(now, now).abs_diff(0) <= APART.unsigned_abs());
    }

    #[test]
    fn the_time_is_that_of_the_system() {
        let system = Timestamp::now().as_microsecond();
        assert!(unix_micros().abs_diff(system) < 1_000_000);
        assert!(unix_now().abs_diff(system / 1_000_000) <= 1);
    }

    #[test]
    fn a_timestamp_is_rfc_3339_to_the_microsecond() {
        let text = timestamp();
        let read: Timestamp = text.parse().expect("RFC 3339");
        assert_eq!(text.len(), "2026-01-01T00:00:00.000000Z".len());
        let now = Timestamp::now().as_microsecond();
        assert!(read.as_microsecond().abs_diff(now) < 1_000_000, "{text}");
    }
}
