//! What goes into a statement, and what comes out.
//!
//! Decides: which text can be a value of which type. Trusts: the database for the types of what it gives. Not here: what a value means.

use std::error::Error;

use serde_json::Value;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

/// What stands for `$1`, `$2`, …; its type is given with it, so that the server need not be asked for it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Param {
    /// `uuid`.
    Uuid(Uuid),
    /// `text`.
    Text(String),
    /// `bigint`.
    Integer(i64),
    /// `NULL`, as text.
    Null,
}

/// Types of [`Param`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ParamType {
    /// `uuid`.
    Uuid,
    /// `text`.
    Text,
    /// `bigint`.
    Integer,
}

impl ParamType {
    pub(super) const fn sql(self) -> Type {
        match self {
            Self::Uuid => Type::UUID,
            Self::Text => Type::TEXT,
            Self::Integer => Type::INT8,
        }
    }

    /// The name of the type, in SQL and in sentences.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Integer => "bigint",
        }
    }

    /// The id that a member of a JSON document names, in its one spelling: a UUID that is not nil, hyphenated and in lower case, since servers
    /// take either; a text that is not empty; a whole number from 0. `None` if it is none of this type.
    pub fn spelled(self, value: &Value) -> Option<String> {
        match (self, value) {
            (Self::Uuid, Value::String(text)) => Uuid::try_parse(text)
                .ok()
                .filter(|uuid| !uuid.is_nil() && text.len() == uuid::fmt::Hyphenated::LENGTH)
                .map(|uuid| uuid.hyphenated().to_string()),
            (Self::Text, Value::String(text)) if !text.is_empty() => Some(text.clone()),
            (Self::Integer, Value::Number(number)) => number
                .as_i64()
                .filter(|number| *number >= 0)
                .map(|number| number.to_string()),
            (Self::Uuid | Self::Text | Self::Integer, _) => None,
        }
    }

    /// A parameter of this type, if the text is one.
    pub fn param(self, text: &str) -> Option<Param> {
        match self {
            Self::Uuid => Uuid::try_parse(text).ok().map(Param::Uuid),
            // PostgreSQL's text cannot hold it, and would refuse the whole call.
            Self::Text if text.contains('\0') => None,
            Self::Text => Some(Param::Text(text.to_owned())),
            Self::Integer => text.parse().ok().map(Param::Integer),
        }
    }
}

impl Param {
    pub(super) const fn kind(&self) -> Type {
        match self {
            Self::Uuid(_) => Type::UUID,
            Self::Text(_) | Self::Null => Type::TEXT,
            Self::Integer(_) => Type::INT8,
        }
    }
}

impl ToSql for Param {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Uuid(uuid) => uuid.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Integer(number) => number.to_sql(kind, out),
            Self::Null => Ok(IsNull::Yes),
        }
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::UUID | Type::TEXT | Type::INT8)
    }

    to_sql_checked!();
}

/// The rows of a statement, in text.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rows {
    pub(super) rows: Vec<Vec<Option<String>>>,
    pub(super) changed: u64,
}

impl Rows {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text of a place; `None` for NULL, or where there is no such place.
    pub fn text(&self, row: usize, column: usize) -> Option<&str> {
        self.rows.get(row)?.get(column)?.as_deref()
    }

    /// How many rows the statement changed, or gave.
    pub fn changed(&self) -> u64 {
        self.changed
    }
}
