//! A key as it was written: absent, bad, or good. Its methods report what is wrong, so that a check
//! reads as a list of keys.

use std::borrow::Cow;

use super::decode::Decode;
#[cfg(test)]
use super::decode::KeysOf;
use super::node::{Node, Text};
use super::place::Place;
use super::problem::Report;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Value<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub place: Place,
}

impl Value<Text> {
    /// What `parse` makes of the text. If that is nothing, the problem is "`TEXT` IS_NOT".
    pub(crate) fn parse<T>(
        &self,
        parse: impl FnOnce(&str) -> Option<T>,
        is_not: &str,
        instead: &str,
        report: &mut Report,
    ) -> Option<T> {
        parse(&self.value.value).or_else(|| {
            let message = format!("`{}` {is_not}", self.value.shown());
            report.refuse_instead(&self.place, message, instead)
        })
    }
}

/// A key of a wire struct.
#[derive(Clone, Debug)]
pub(crate) enum Field<T> {
    /// Not written.
    Absent,
    /// Written or required, and already reported.
    Bad,
    /// Written, and of the right type.
    Good(Value<T>),
}

impl<T> Field<T> {
    /// The value, if a good one was written.
    pub(crate) fn good(&self) -> Option<&Value<T>> {
        match self {
            Self::Good(value) => Some(value),
            Self::Absent | Self::Bad => None,
        }
    }

    /// Where a good value was written.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.good().map(|value| &value.place)
    }

    /// Whether the key was written, well or badly.
    pub(crate) fn is_written(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// The value; `Some(None)` if nothing was written, `None` if a bad one was.
    pub(crate) fn optional(&self) -> Option<Option<&Value<T>>> {
        match self {
            Self::Absent => Some(None),
            Self::Bad => None,
            Self::Good(value) => Some(Some(value)),
        }
    }

    /// What `check` makes of the value; `Some(None)` if nothing was written.
    pub(crate) fn then<U>(&self, check: impl FnOnce(&Value<T>) -> Option<U>) -> Option<Option<U>> {
        match self.optional()? {
            Some(value) => check(value).map(Some),
            None => Some(None),
        }
    }

    /// The value; its absence in the mapping at `parent` is a problem.
    pub(crate) fn required(
        &self,
        parent: &Place,
        name: &str,
        instead: &str,
        report: &mut Report,
    ) -> Option<&Value<T>> {
        if !self.is_written() {
            report.problem_instead(&parent.below(name), "is missing", instead);
        }
        self.good()
    }

    /// The same, but its absence in the mapping at `parent` is a problem.
    pub(crate) fn or_missing(
        self,
        parent: &Place,
        name: &str,
        instead: &str,
        report: &mut Report,
    ) -> Self {
        match self.required(parent, name, instead, report) {
            Some(_) => self,
            None => Self::Bad,
        }
    }
}

impl<T: Clone> Field<T> {
    /// The value, or `default` if nothing was written.
    pub(crate) fn or(&self, default: T) -> Option<T> {
        self.or_else(|| default)
    }

    /// The value, or what `default` gives if nothing was written.
    pub(crate) fn or_else(&self, default: impl FnOnce() -> T) -> Option<T> {
        Some(match self.optional()? {
            Some(value) => value.value.clone(),
            None => default(),
        })
    }
}

impl<T: Section> Field<T> {
    /// The mapping, or an empty one if nothing was written.
    pub(crate) fn section(&self) -> Option<Cow<'_, T>> {
        Some(match self.optional()? {
            Some(value) => Cow::Borrowed(&value.value),
            None => Cow::Owned(T::absent()),
        })
    }
}

/// A mapping whose keys are known.
pub(crate) trait Section: Decode + Clone {
    /// The mapping with nothing in it.
    fn absent() -> Self;
}

impl<T: Decode> Decode for Value<T> {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let place = node.place.clone();
        Some(Self {
            value: T::decode(node, report)?,
            place,
        })
    }

    #[cfg(test)]
    fn keys(all: &mut Vec<KeysOf>) {
        T::keys(all);
    }
}
