//! The tree that a file is parsed into: values, and where each was written.

use std::fmt;

use super::place::Place;

/// One value of the file.
#[derive(Debug)]
pub(crate) struct Node {
    /// Where it is, and under which key.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Nothing was written.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// A number with a fraction or an exponent; no key takes one.
    Float(f64),
    /// Text.
    Text(Text),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order it was written, repeated keys included.
    Map(Vec<Entry>),
    /// Already reported as a problem.
    Broken,
}

/// One line of a mapping.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The key.
    pub name: String,
    /// Where the key is.
    pub place: Place,
    /// Its value.
    pub value: Node,
}

/// Text, and how it may be shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Text {
    /// With its variables put in. May be a secret.
    pub value: String,
    /// As it was written, if it had variables.
    pub written: Option<String>,
}

impl Text {
    /// What may be shown in a message: the text as the file has it, never the value of a variable.
    pub(crate) fn shown(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.value)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(…)")
    }
}

impl Kind {
    /// The text, if it is text.
    pub(crate) fn as_text(&self) -> Option<&Text> {
        if let Self::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The text, if it holds no variable: what is near its value may be shown.
    pub(crate) fn as_plain(&self) -> Option<&str> {
        self.as_text()
            .filter(|text| text.written.is_none())
            .map(|text| text.value.as_str())
    }

    /// The text, if it holds a variable: such text may be a number or a boolean.
    pub(crate) fn as_interpolated(&self) -> Option<&str> {
        self.as_text()
            .filter(|text| text.written.is_some())
            .map(|text| text.value.as_str())
    }

    /// The number, if it has a fraction or an exponent.
    pub(crate) fn as_float(&self) -> Option<f64> {
        if let Self::Float(value) = self {
            Some(*value)
        } else {
            None
        }
    }

    /// The number, if it is a whole number.
    pub(crate) fn as_integer(&self) -> Option<i128> {
        if let Self::Integer(value) = self {
            Some(*value)
        } else {
            None
        }
    }

    /// What it is, in words.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a number",
            Self::Float(_) => "a number with a fraction",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
            Self::Broken => "broken",
        }
    }
}
