//! Parameters of statements, and the rows that they return.

use std::error::Error;

use tokio_postgres::types::{IsNull, Kind, ToSql, Type, to_sql_checked};
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
    /// An array of values of this type.
    Array(ParamType, Vec<Self>),
}

impl Param {
    pub(super) const fn kind(&self) -> Type {
        match self {
            Self::Array(ParamType::Uuid, _) => Type::UUID_ARRAY,
            Self::Array(ParamType::Text, _) => Type::TEXT_ARRAY,
            Self::Array(ParamType::Integer, _) => Type::INT8_ARRAY,
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
            Self::Array(_, values) => values.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        let is_one = |kind: &Type| matches!(*kind, Type::UUID | Type::TEXT | Type::INT8);
        is_one(kind) || matches!(kind.kind(), Kind::Array(member) if is_one(member))
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

    /// Splits rows by the number in their first column, from 1 to `groups`, and drops that column.
    /// `None` if a row has no such number.
    pub fn grouped(self, groups: usize) -> Option<Vec<Self>> {
        let mut all = vec![Self::default(); groups];
        for mut row in self.rows {
            if row.is_empty() {
                return None;
            }
            let number: usize = row.remove(0)?.parse().ok()?;
            let group = all.get_mut(number.checked_sub(1)?)?;
            group.rows.push(row);
            group.changed += 1;
        }
        Some(all)
    }

    /// How many rows the statement changed or returned.
    pub fn changed(&self) -> u64 {
        self.changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_grouped_by_the_number_in_their_first_column() {
        let row = |cells: &[&str]| cells.iter().map(|cell| Some((*cell).to_owned())).collect();
        let of = |rows: &[&[&str]]| Rows {
            rows: rows.iter().map(|cells| row(cells)).collect(),
            changed: 0,
        };
        let groups = of(&[&["1", "a"], &["3", "b"], &["1", "c"]]).grouped(3);
        let groups = groups.unwrap_or_default();
        let lengths: Vec<usize> = groups.iter().map(Rows::len).collect();
        assert_eq!(lengths, [2, 0, 1]);
        let texts = groups.iter().map(|group| group.text(0, 0));
        assert_eq!(texts.collect::<Vec<_>>(), [Some("a"), None, Some("b")]);
        for number in ["0", "4", "x", ""] {
            assert_eq!(of(&[&[number, "a"]]).grouped(3), None, "{number}");
        }
        assert_eq!(of(&[&[]]).grouped(3), None);
    }
}
