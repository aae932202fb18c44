//! Durations, sizes, rates, dates and addresses, the way people write them: `500ms`, `1MiB`, `5/m`,
//! `2027-01-01`.
//!
//! One number and one unit: `1h30m` is refused, because two spellings of one value make two files
//! look different.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::decode::{Decode, wrong_instead};
use super::field::Value;
use super::node::{Node, Text};
use super::notation;
use super::problem::Report;
use crate::policy::rate::Rate;

const DURATION: &str =
    "a duration: a whole number with `ms`, `s`, `m`, `h` or `d`, such as `500ms` or `10s`";
const SIZE: &str = "a size: bytes, or a whole number with `KiB`, `MiB` or `GiB`, such as `20KiB`";
const RATE: &str = "a rate: a whole number, `/` and `s`, `m`, `h` or `d`, such as `5/m`";
const PERCENT: &str = "percent, as a whole number without a sign, such as `25`";
const DATE: &str = "a date such as `2027-01-01`, or a time such as `2027-01-01T12:00:00Z`";

impl Decode for Duration {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let duration = node.kind.as_text().and_then(|text| duration(&text.value));
        duration.or_else(|| {
            let number = node.kind.as_integer().filter(|number| *number > 0);
            let instead = match number {
                Some(number) => Some(format!("{number}s` or `{number}ms")),
                None => node.kind.as_plain().and_then(notation::duration),
            };
            refused(&node, DURATION, instead, report)
        })
    }
}

/// The shortest time limit that can be meant.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Sixty seconds.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// Sixty minutes.
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);
/// Twenty-four hours.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// So many milliseconds.
pub(crate) const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// So many seconds.
pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many minutes.
pub(crate) const fn mins(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// So many days.
pub(crate) const fn days(days: u64) -> Duration {
    Duration::from_secs(24 * 60 * 60 * days)
}

/// A number of bytes in a second; 0 for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PerSecond(pub u64);

/// Percent, as a whole number without a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Percent(pub usize);

/// Percent as written.
pub(crate) struct WrittenPercent(pub i128);

impl Decode for WrittenPercent {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let is_other = node.kind.as_plain().is_some() || node.kind.as_float().is_some();
        match is_other {
            true => wrong_instead(&node, PERCENT, notation::percent(&node.kind), report),
            false => i128::decode(node, report).map(Self),
        }
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub u64);

impl Decode for Size {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let size = match node.kind.as_text() {
            Some(text) => size(&text.value),
            None => node
                .kind
                .as_integer()
                .and_then(|bytes| u64::try_from(bytes).ok()),
        };
        size.map(Self).or_else(|| {
            let instead = node.kind.as_plain().and_then(notation::size);
            refused(&node, SIZE, instead, report)
        })
    }
}

impl Decode for Rate {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let rate = node.kind.as_text().and_then(|text| rate(&text.value));
        rate.or_else(|| {
            let number = node.kind.as_integer().filter(|number| *number > 0);
            let instead = match number {
                Some(number) => Some(format!("{number}/s` or `{number}/m")),
                None if notation::is_off(&node.kind) => Some(format!("{MOST}/s")),
                None => node.kind.as_plain().and_then(notation::rate),
            };
            refused(&node, RATE, instead, report)
        })
    }
}

/// An instant, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date(pub i64);

impl Decode for Date {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let date = node.kind.as_text().and_then(|text| date(&text.value));
        date.map(Self)
            .or_else(|| refused(&node, DATE, None, report))
    }
}

impl Decode for SocketAddr {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        Value::<Text>::decode(node, report)?.parse(
            |text| text.parse().ok(),
            "is not an address with a port",
            "write an IP address and a port, such as `0.0.0.0:8443` or `[::]:8443`",
            report,
        )
    }
}

fn refused<T>(node: &Node, needs: &str, instead: Option<String>, report: &mut Report) -> Option<T> {
    let Some(text) = node.kind.as_text() else {
        return wrong_instead(node, needs, instead, report);
    };
    let message = format!("`{}` is not {needs}", text.shown());
    match instead {
        Some(instead) => report.refuse_instead(&node.place, message, format!("write `{instead}`")),
        None => report.refuse(&node.place, message),
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(60 * 60).map(Duration::from_secs),
        "d" => number.checked_mul(24 * 60 * 60).map(Duration::from_secs),
        _ => None,
    }
}

/// As many as come in a time may come at once.
fn rate(text: &str) -> Option<Rate> {
    let (count, unit) = text.split_once('/')?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    let is_plain = count.bytes().all(|byte| byte.is_ascii_digit());
    let count = count.parse::<u32>().ok().filter(|_| is_plain)?;
    let count = NonZeroU32::new(count).filter(|count| count.get() <= MOST)?;
    Some(Rate::new(count, Duration::from_secs(seconds)))
}

/// The largest count of a rate. Beyond it a limit is none.
const MOST: u32 = 1_000_000;

fn size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit))
}

/// A day is its first second in UTC.
fn date(text: &str) -> Option<i64> {
    if text.len() == "2027-01-01".len() {
        let day: jiff::civil::Date = text.parse().ok()?;
        return Some(
            day.to_zoned(jiff::tz::TimeZone::UTC)
                .ok()?
                .timestamp()
                .as_second(),
        );
    }
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::notation::{written, written_size};

    #[test]
    fn durations_are_one_number_and_one_unit() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("2h"), Some(Duration::from_secs(7200)));
        assert_eq!(duration("1d"), Some(Duration::from_secs(86_400)));
        for bad in [
            "5",
            "s",
            "",
            "1h30m",
            "1.5s",
            "5 s",
            "-1s",
            "99999999999999999999s",
            "9999999999999999999d",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(written(Duration::from_secs(90)), "90s");
        assert_eq!(written(Duration::from_secs(600)), "10m");
    }

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        assert_eq!(size("512"), Some(512));
        assert_eq!(size("20KiB"), Some(20_480));
        assert_eq!(size("1MB"), Some(1_000_000));
        for bad in ["", "KiB", "1 KiB", "1kb", "1.5MiB", "99999999999GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        assert_eq!(written_size(20_480), "20KiB");
        assert_eq!(written_size(512), "512");
    }

    #[test]
    fn dates_are_days_or_times() {
        assert_eq!(date("1970-01-02"), Some(86_400));
        assert_eq!(date("1970-01-01T01:00:00+01:00"), Some(0));
        for bad in ["2027", "2027-13-01", "tomorrow", "2027-01-01T12:00:00", ""] {
            assert_eq!(date(bad), None, "{bad}");
        }
    }
}
