//! Values that a range can limit: whole numbers, durations and sizes.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::decode::Decode;
use super::field::Value;
use super::node::Node;
use super::problem::Report;
use super::units::{Size, written, written_size};

/// A value whose key declares a range.
pub(crate) trait Ranged: Copy + PartialOrd {
    /// How the file writes it, before the range is known.
    type Written: Decode;
    /// What it is called in messages.
    const NOUN: &str;

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

impl Ranged for Duration {
    type Written = Self;
    const NOUN: &str = "duration";

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
