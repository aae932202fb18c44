//! The time, asked for in one place.
//!
//! Decides: nothing. Not here: time-outs of sockets, which belong to the runtime's timer.

use std::time::Instant;

/// Seconds since the Unix epoch, for claims and dates.
pub fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The monotonic time, for durations and deadlines.
pub fn now() -> Instant {
    Instant::now()
}
