//! The types of values in an expression.

use super::variable::Field;

/// The type of a value, as far as it is known before evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    Bool,
    Text,
    /// Text, or `null` without a caller.
    TextOrNull,
    Number,
    List,
    Null,
    /// A claim, or a part of one, whose type is not known.
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

    /// Whether a value of this type can have one of these types.
    pub(super) fn is(self, kinds: &[Self]) -> bool {
        match self {
            Self::Any => true,
            Self::TextOrNull => kinds.contains(&Self::Text) || kinds.contains(&Self::Null),
            Self::Bool | Self::Text | Self::Number | Self::List | Self::Null => {
                kinds.contains(&self)
            }
        }
    }

    /// Whether values of the two types can be equal.
    pub(super) fn meets(self, other: Self) -> bool {
        match other {
            Self::Any => true,
            Self::TextOrNull => self.is(&[Self::Text, Self::Null, Self::TextOrNull]),
            Self::Bool | Self::Text | Self::Number | Self::List | Self::Null => self.is(&[other]),
        }
    }
}
