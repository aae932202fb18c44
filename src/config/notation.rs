//! Sizes, durations, rates and numbers in the notation of this file, and what others are in it,
//! such as `10 KB/s`, `90 seconds` or `5 per minute`.
//!
//! Those others are not accepted: two spellings of one value make two files look different. Whoever
//! writes one is told the right one, unless it could mean something else.

use std::time::Duration;

use super::node::Kind;

/// A decimal number as a fraction, and the unit behind it.
struct Quantity<'a> {
    numerator: u128,
    denominator: u128,
    unit: &'a str,
}

/// Whether somebody wants to switch a limit off.
pub(crate) fn is_off(kind: &Kind) -> bool {
    const WORDS: [&str; 9] = [
        "off",
        "no",
        "none",
        "never",
        "disabled",
        "unlimited",
        "infinite",
        "infinity",
        "-1",
    ];
    match kind {
        Kind::Bool(is_on) => !is_on,
        Kind::Integer(number) => *number == -1,
        Kind::Text(text) => WORDS.contains(&text.value.to_lowercase().as_str()),
        Kind::Null | Kind::Float(_) | Kind::List(_) | Kind::Map(_) | Kind::Broken => false,
    }
}

/// A size, such as `1.5 mb` or `1KiB/s`. A `k` alone is taken for 1024.
pub(crate) fn size(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let quantity = Quantity::first(without_second(&text))?;
    let factor = match quantity.unit.trim() {
        "" | "b" | "byte" | "bytes" => 1,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "kb" => return quantity.with_unit("KB"),
        "mb" => return quantity.with_unit("MB"),
        "gb" => return quantity.with_unit("GB"),
        _ => return None,
    };
    Some(written_size(u64::try_from(quantity.times(factor)?).ok()?))
}

/// A duration, such as `90 seconds`, `1.5s` or `1h30m`.
pub(crate) fn duration(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let milliseconds = milliseconds(&text)?;
    let duration = Duration::from_millis(u64::try_from(milliseconds).ok()?);
    (!duration.is_zero()).then(|| written(duration))
}

/// A rate, such as `5 per minute`, `5r/m`, `100rps` or `5/10s`.
pub(crate) fn rate(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase().replace(" per ", "/");
    let (count, time) = match text.strip_suffix("rps").or(text.strip_suffix("/s")) {
        Some(count) => (count, "s"),
        None => text.split_once('/')?,
    };
    let count = Quantity::first(count.trim())?;
    if !matches!(count.unit.trim(), "" | "r" | "req" | "requests") {
        return None;
    }
    let count = count.times(1)?;
    let time = time.trim();
    // `5/m` has no number before its unit, `5/10s` has one.
    let time = match time.starts_with(|c: char| c.is_ascii_digit()) {
        true => milliseconds(time)?,
        false => unit_of_time(time)?,
    };
    let units = [
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    units.into_iter().find_map(|(unit, length)| {
        let scaled = count.checked_mul(length)?;
        let is_whole = scaled >= time && scaled.checked_rem(time)? == 0;
        is_whole.then(|| format!("{}/{unit}", scaled / time))
    })
}

/// A whole number, such as `10k`, `1_000` or `1e4`.
pub(crate) fn whole(kind: &Kind) -> Option<String> {
    let text = match kind.as_float() {
        Some(number) => number.to_string(),
        None => kind.as_plain()?.to_owned(),
    };
    let text = text.trim().to_lowercase().replace('_', "");
    let quantity = Quantity::first(&text)?;
    let factor = match quantity.unit.trim() {
        "" => 1,
        "k" => 1000,
        "m" => 1_000_000,
        _ => return None,
    };
    Some(quantity.times(factor)?.to_string())
}

/// A percentage, such as `25 %` or `0.25`, as a whole number.
pub(crate) fn percent(kind: &Kind) -> Option<String> {
    let text = match kind.as_float() {
        Some(number) => number.to_string(),
        None => kind.as_plain()?.to_owned(),
    };
    let quantity = Quantity::first(text.trim())?;
    let percent = match quantity.unit.trim() {
        "%" | "percent" => quantity.times(1)?,
        "" if quantity.numerator < quantity.denominator => quantity.times(100)?,
        "" => quantity.times(1)?,
        _ => return None,
    };
    (1..=100).contains(&percent).then(|| percent.to_string())
}

/// A duration as this file would write it.
pub(crate) fn written(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms == 0 {
        return "0s".to_owned();
    }
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ] {
        if ms.is_multiple_of(size) {
            return format!("{}{unit}", ms / size);
        }
    }
    format!("{ms}ms")
}

/// A size as this file would write it.
pub(crate) fn written_size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Without the `/s` of a size a second.
fn without_second(text: &str) -> &str {
    let ends = ["/s", "/sec", "/second", "ps", " per second"];
    let without = ends.iter().find_map(|end| text.strip_suffix(end));
    without.unwrap_or(text).trim_end()
}

/// One number and unit, or several behind each other.
fn milliseconds(text: &str) -> Option<u128> {
    let mut sum = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let quantity = Quantity::first(rest)?;
        let next = quantity.unit.find(|c: char| c.is_ascii_digit());
        let (unit, after) = quantity.unit.split_at(next.unwrap_or(quantity.unit.len()));
        sum = sum.checked_add(quantity.times(unit_of_time(unit.trim())?)?)?;
        rest = after;
    }
    Some(sum)
}

/// In milliseconds.
fn unit_of_time(unit: &str) -> Option<u128> {
    Some(match unit {
        "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        "w" | "week" | "weeks" => 604_800_000,
        _ => return None,
    })
}

impl<'a> Quantity<'a> {
    /// The number with which a text begins, and what follows it.
    fn first(text: &'a str) -> Option<Self> {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let end = text.find(|c| !is_number(c)).unwrap_or(text.len());
        let (number, unit) = text.split_at_checked(end)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // More digits than any limit has.
        if whole.is_empty() || whole.len() > 18 || fraction.len() > 9 || fraction.contains('.') {
            return None;
        }
        Some(Self {
            numerator: format!("{whole}{fraction}").parse().ok()?,
            denominator: 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?,
            unit,
        })
    }

    /// So many times the number, if that is whole.
    fn times(&self, factor: u128) -> Option<u128> {
        let product = self.numerator.checked_mul(factor)?;
        (product.checked_rem(self.denominator)? == 0).then(|| product / self.denominator)
    }

    /// The number, if it is whole, with another unit.
    fn with_unit(&self, unit: &str) -> Option<String> {
        Some(format!("{}{unit}", self.times(1)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::Text;

    type Notation = fn(&str) -> Option<String>;

    #[test]
    fn other_notations_are_understood_and_ambiguous_ones_are_not() {
        let cases: &[(Notation, &[(&str, &str)])] = &[
            (
                size,
                &[
                    ("1KiB/s", "1KiB"),
                    ("1 kib per second", "1KiB"),
                    ("10 KB/s", "10KB"),
                    ("1.5MiB", "1536KiB"),
                    ("64k", "64KiB"),
                    ("8Mi", "8MiB"),
                    ("1024 bytes", "1KiB"),
                    ("1kbit", ""),
                    ("1.5", ""),
                    ("25%", ""),
                    ("big", ""),
                    ("", ""),
                ],
            ),
            (
                duration,
                &[
                    ("10 s", "10s"),
                    ("1.5s", "1500ms"),
                    ("90 seconds", "90s"),
                    ("5min", "5m"),
                    ("1h30m", "90m"),
                    ("1 week", "7d"),
                    ("10us", ""),
                    ("10", ""),
                    ("0s", ""),
                    ("soon", ""),
                ],
            ),
            (
                rate,
                &[
                    ("5 per minute", "5/m"),
                    ("5/min", "5/m"),
                    ("5 / m", "5/m"),
                    ("5r/m", "5/m"),
                    ("100rps", "100/s"),
                    ("5/10s", "30/m"),
                    ("5", ""),
                    ("5/0s", ""),
                    ("1.5/s", ""),
                    ("5/fortnight", ""),
                ],
            ),
        ];
        for (notation, cases) in cases {
            for (text, instead) in *cases {
                assert_eq!(notation(text).unwrap_or_default(), *instead, "{text}");
            }
        }
    }

    #[test]
    fn numbers_and_percentages_are_whole() {
        let text = |text: &str| {
            Kind::Text(Text {
                value: text.to_owned(),
                written: None,
            })
        };
        for (kind, instead) in [
            (text("10k"), "10000"),
            (text("1_000"), "1000"),
            (Kind::Float(1e4), "10000"),
            (Kind::Float(0.5), ""),
            (text("25%"), ""),
        ] {
            assert_eq!(whole(&kind).unwrap_or_default(), instead, "{kind:?}");
        }
        for (kind, instead) in [
            (text("25%"), "25"),
            (text("25 %"), "25"),
            (text("0.25"), "25"),
            (Kind::Float(0.25), "25"),
            (Kind::Float(25.0), "25"),
            (Kind::Float(12.5), ""),
            (Kind::Float(-0.25), ""),
            (text("a quarter"), ""),
            (text("250%"), ""),
        ] {
            assert_eq!(percent(&kind).unwrap_or_default(), instead, "{kind:?}");
        }
    }
}
