//! Parameters of statements, and the rows that they return.

use std::error::Error;

use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::policy::resources::ParamType;

/// A parameter `$1`, `$2`, …; its type is sent with it, which saves asking the server for it.
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

impl Param {
    pub(super) const fn kind(&self) -> Type {
        match self {
            Self::Uuid(_) => Type::UUID,
            Self::Text(_) | Self::Null => Type::TEXT,
            Self::Integer(_) => Type::INT8,
        }
    }
}

impl ParamType {
    pub(super) const fn sql(self) -> Type {
        match self {
            Self::Uuid => Type::UUID,
            Self::Text => Type::TEXT,
            Self::Integer => Type::INT8,
        }
    }

    /// The text as a parameter of this type; `None` if it cannot be one.
    pub fn param(self, text: &str) -> Option<Param> {
        match self {
            Self::Uuid => Uuid::try_parse(text).ok().map(Param::Uuid),
            // PostgreSQL's `text` cannot hold NUL, and would refuse the whole call.
            Self::Text if text.contains('\0') => None,
            Self::Text => Some(Param::Text(text.to_owned())),
            Self::Integer => text.parse().ok().map(Param::Integer),
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

/// The rows that a statement returned, as text.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rows {
    pub(super) rows: Vec<Vec<Option<String>>>,
    pub(super) changed: u64,
}

impl Rows {
    /// How many rows the statement returned.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the statement returned no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text of a cell; `None` for NULL, and outside the rows and columns there are.
    pub fn text(&self, row: usize, column: usize) -> Option<&str> {
        self.rows.get(row)?.get(column)?.as_deref()
    }

    /// How many rows the statement changed or returned.
    pub fn changed(&self) -> u64 {
        self.changed
    }
}
