//! The grants of a route's `rest:` on tables and functions behind PostgREST. Everything that is not
//! named is not granted. `config` allows only plain identifiers; `auth::rest` compares
//! requests with the grants.

use std::collections::{BTreeMap, BTreeSet};

/// The grants of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestRules {
    /// Tables and views, by name.
    pub tables: BTreeMap<String, Table>,
    /// Which tables may be read through a foreign key.
    pub embeds: Embeds,
    /// Functions that may be called, with all columns of their results.
    pub rpc: BTreeSet<String>,
    /// Allowed values of `Accept-Profile` and `Content-Profile`. The first is used for requests
    /// without either.
    pub schemas: Vec<String>,
    /// Whether the root, which describes everything that the caller's role may see, may be read.
    pub openapi: bool,
}

/// Which tables may be read through a foreign key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Embeds {
    /// None.
    #[default]
    Deny,
    /// The tables of the same rules, each with its own `read`.
    Tables,
}

/// The grants on one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Columns that may be selected, filtered by and ordered by.
    pub read: Columns,
    /// Columns that may be written, by inserting or updating a row.
    pub write: Columns,
    /// Whether rows may be deleted.
    pub delete: bool,
}

/// Some columns of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// None.
    #[default]
    None,
    /// All, including columns that are added later.
    All,
    /// Only these.
    These(BTreeSet<String>),
}

impl Columns {
    /// Whether a column is one of them.
    pub fn has(&self, column: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(columns) => columns.contains(column),
        }
    }
}

/// Whether a text can be the name of a table, a column, a function or a schema in these rules:
/// plain identifiers, which have one spelling everywhere.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
