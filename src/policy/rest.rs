//! What a route's `rest:` grants of a PostgREST behind it.
//!
//! Decides: nothing; it holds the grants and answers questions about them. What it does not name is not granted. Trusts: `config::check`, which
//! allows only plain identifiers. Not here: what a request asks for (`asked`), and whether that is granted (the layer).

use std::collections::{BTreeMap, BTreeSet};

/// The grants of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestRules {
    /// Tables and views, by name.
    pub tables: BTreeMap<String, Table>,
    /// What may be read through a foreign key.
    pub embeds: Embeds,
    /// Functions that may be called, and whose results may be read whole.
    pub rpc: BTreeSet<String>,
    /// What `Accept-Profile` and `Content-Profile` may say. The first is for requests without either.
    pub schemas: Vec<String>,
    /// Whether the root, which describes everything the caller's role may see, may be read.
    pub openapi: bool,
}

/// What may be read through a foreign key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Embeds {
    /// Nothing.
    #[default]
    Deny,
    /// Tables of the same rules, each by its own `read`.
    Tables,
}

/// The grants on one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Columns that may be selected, filtered by and ordered by.
    pub read: Columns,
    /// Columns that may be written, by inserting or changing a row.
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
    /// All, also those that are added later.
    All,
    /// These.
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

/// Whether a text can be the name of a table, a column, a function or a schema in these rules: one that is spelled in one way everywhere.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
