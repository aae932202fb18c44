//! Values that a range can limit: whole numbers, durations and sizes.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::decode::Decode;
use super::field::Value;
use super::node::Node;
use super::notation::{is_off, written, written_size};
use super::problem::Report;
use super::units::{PerSecond, Percent, Size, WrittenPercent};

/// A value whose key declares a range.
pub(crate) trait Ranged: Copy + PartialOrd {
    /// How the file writes it, before the range is known.
    type Written: Decode;
    /// What it is called in messages.
    const NOUN: &str;
    /// Its zero, if that switches off what it is about.
    const OFF: Option<Self> = None;

    /// `None` if no range can hold it, such as a negative size.
    fn read(written: Self::Written) -> Option<Self>;

    /// As the file would write it.
    fn shown(self) -> String;
}

/// Reads a value within `range`.
pub(crate) fn within<T: Ranged>(
    node: Node,
    range: &RangeInclusive<T>,
    report: &mut Report,
) -> Option<Value<T>> {
    if is_off(&node.kind) {
        return refuse_off(&node, range, report);
    }
    let Value { value, place } = Value::<T::Written>::decode(node, report)?;
    match T::read(value).filter(|value| range.contains(value)) {
        Some(value) => Some(Value { value, place }),
        None => report.refuse(
            &place,
            format!(
                "is out of range; write a {} from {} to {}",
                T::NOUN,
                range.start().shown(),
                range.end().shown()
            ),
        ),
    }
}

/// Tells whoever wants no limit how to write that, or how far it can be raised.
fn refuse_off<T: Ranged, U>(
    node: &Node,
    range: &RangeInclusive<T>,
    report: &mut Report,
) -> Option<U> {
    if let Some(off) = T::OFF.filter(|off| range.contains(off)) {
        let message = format!("is not a {}", T::NOUN);
        let instead = format!("write `{}` for none", off.shown());
        return report.refuse_instead(&node.place, message, instead);
    }
    let instead = format!(
        "write a {} from {} to {}",
        T::NOUN,
        range.start().shown(),
        range.end().shown()
    );
    report.refuse_instead(&node.place, "cannot be switched off", instead)
}

impl Ranged for PerSecond {
    type Written = Size;
    const NOUN: &str = "size";
    const OFF: Option<Self> = Some(Self(0));

    fn read(written: Size) -> Option<Self> {
        Some(Self(written.0))
    }

    fn shown(self) -> String {
        written_size(self.0)
    }
}

impl Ranged for Percent {
    type Written = WrittenPercent;
    const NOUN: &str = "percentage";

    fn read(written: WrittenPercent) -> Option<Self> {
        usize::try_from(written.0).ok().map(Self)
    }

    fn shown(self) -> String {
        self.0.to_string()
    }
}

impl Ranged for Duration {
    type Written = Self;
    const NOUN: &str = "duration";
    const OFF: Option<Self> = Some(Self::ZERO);

    fn read(written: Self) -> Option<Self> {
        Some(written)
    }

    fn shown(self) -> String {
        written(self)
    }
}

impl Ranged for Size {
    type Written = Self;
    const NOUN: &str = "size";

    fn read(written: Self) -> Option<Self> {
        Some(written)
    }

    fn shown(self) -> String {
        written_size(self.0)
    }
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Ranged for $type {
            type Written = i128;
            const NOUN: &str = "number";
            const OFF: Option<Self> = Some(0);

            fn read(written: i128) -> Option<Self> {
                Self::try_from(written).ok()
            }

            fn shown(self) -> String {
                self.to_string()
            }
        }
    )*};
}

numbers! { u32 usize }
