//! What goes into a statement, and what comes out.
//!
//! Decides: which text can be a value of which type. Trusts: the database for the types of what it gives. Not here: what a value means.

use std::error::Error;

use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::policy::resources::ParamType;

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
