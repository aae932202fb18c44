//! The type of a value, as far as it is known before evaluation.

use super::variable::Field;

/// What can be known about a value before there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    Bool,
    Text,
    /// Text, or `null` for nobody.
    TextOrNull,
    Number,
    List,
    Null,
    /// A claim, or a part of one.
    Any,
}

impl ValueType {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Text | Self::TextOrNull => "text",
            Self::Number => "a number",
            Self::List => "a list",
            Self::Null => "`null`",
            Self::Any => "a claim",
        }
    }

    pub(super) const fn of(field: Field) -> Self {
        match field {
            Field::Method | Field::Path | Field::Host | Field::Address => Self::Text,
            Field::Known | Field::Anonymous => Self::Bool,
            Field::Subject | Field::Issuer | Field::Session | Field::Aal => Self::TextOrNull,
            Field::Roles => Self::List,
            Field::Claims => Self::Any,
        }
    }

    /// Whether it can be one of these.
    pub(super) fn is(self, kinds: &[Self]) -> bool {
        match self {
            Self::Any => true,
            Self::TextOrNull => kinds.contains(&Self::Text) || kinds.contains(&Self::Null),
            Self::Bool | Self::Text | Self::Number | Self::List | Self::Null => {
                kinds.contains(&self)
            }
        }
    }

    /// Whether two values can be equal.
    pub(super) fn meets(self, other: Self) -> bool {
        match other {
            Self::Any => true,
            Self::TextOrNull => self.is(&[Self::Text, Self::Null, Self::TextOrNull]),
            Self::Bool | Self::Text | Self::Number | Self::List | Self::Null => self.is(&[other]),
        }
    }
}
