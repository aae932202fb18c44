//! The only place that reads the time; `tests/clippy.toml` refuses any other. Socket timeouts
//! belong to the runtime's timer.

#![allow(clippy::disallowed_methods, reason = "this is the one place")]

use std::cell::RefCell;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Seconds since the Unix epoch, for claims and dates. From the coarse system clock, which lags by
/// a few milliseconds at most: a request reads it more than once, and the exact clock takes several
/// times as long.
pub fn unix_now() -> i64 {
    clock_gettime(ClockId::RealtimeCoarse).tv_sec
}

/// The time since the Unix epoch, with a lag of a few milliseconds at most.
pub fn coarse_unix() -> Duration {
    elapsed(ClockId::RealtimeCoarse)
}

/// Milliseconds since the Unix epoch, for intervals between processes.
pub fn unix_millis() -> i64 {
    Timestamp::now().as_millisecond()
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
    let now = Timestamp::now();
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
    use super::*;

    #[test]
    fn a_timestamp_is_rfc_3339_to_the_microsecond() {
        let before = Timestamp::now();
        let text = timestamp();
        let read: Timestamp = text.parse().expect("RFC 3339");
        assert_eq!(text.len(), "2026-01-01T00:00:00.000000Z".len());
        assert!(read.as_microsecond() >= before.as_microsecond() && read <= Timestamp::now());
    }
}
