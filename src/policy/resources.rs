//! What somebody owns, the queries that tell whose it is, and where a request names it.
//!
//! Decides: nothing; these are values. Trusts: `config::check`, which makes them. Not here: asking the queries (`facts`).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::policy::roles::Action;
use crate::policy::sql_template::Template;

/// What is asked about callers.
#[derive(Debug)]
pub struct Facts {
    /// The type that subjects have in the queries. Default uuid.
    pub subject: ParamType,
    /// Gives a row with `active` for `$1`, a subject.
    pub caller: Option<Query>,
    /// Gives rows with `team` and `role` for `$1`, a subject.
    pub memberships: Option<Query>,
}

/// A query, and where it was written.
#[derive(Debug)]
pub struct Query {
    /// The query.
    pub sql: Template,
    /// The path of its key.
    pub key: String,
    /// Its line.
    pub line: u32,
    /// Its column.
    pub column: u32,
}

/// A kind of thing that somebody owns.
#[derive(Debug)]
pub struct ResourceKind {
    /// Its name in the route map.
    pub name: String,
    /// The type of its ids. Default uuid.
    pub id: ParamType,
    /// Where its rows are.
    pub rows: RowSource,
    /// Index of the kind that the column `within` names one of.
    pub within: Option<usize>,
    /// Whether the column `parent` names another of the same kind.
    pub has_parent: bool,
}

/// Where the rows of a kind are.
#[derive(Debug)]
pub enum RowSource {
    /// In the database.
    Query(Query),
    /// In [`Config::static_facts`].
    Static,
    /// Nowhere: what is known is what answers of `learn` routes told.
    Learned,
}

/// Facts that are written down in the configuration.
#[derive(Debug, Default)]
pub struct StaticFacts {
    /// Subjects that may do nothing.
    pub inactive: HashSet<String>,
    /// By subject, the teams and the role in each.
    pub memberships: HashMap<String, Vec<(String, String)>>,
    /// By kind and id.
    pub rows: HashMap<(String, String), StaticRow>,
}

/// The row of one thing.
#[derive(Clone, Debug, Default)]
pub struct StaticRow {
    /// The owner's subject.
    pub owner: Option<String>,
    /// The word for who else may see it.
    pub visibility: Option<String>,
    /// Teams, with the access level of each.
    pub teams: Vec<(String, String)>,
    /// The id of what it lies in.
    pub within: Option<String>,
    /// The id of what it was made from.
    pub parent: Option<String>,
}

/// A thing that a request must be allowed to touch.
#[derive(Clone, Debug)]
pub struct Demand {
    /// What kind of thing.
    pub of: DemandOf,
    /// Where the request names it.
    pub id: IdPlace,
    /// What is done to it; what the route does, if nothing else was written.
    pub action: Option<Action>,
    /// Where the request names what it must lie in.
    pub within: Option<IdPlace>,
}

/// Things that a request must be allowed to touch, named in its JSON.
#[derive(Clone, Debug)]
pub struct BodyIds {
    /// The field, for messages.
    pub written: String,
    /// How to get there.
    pub steps: Vec<BodyStep>,
    /// Index into [`Config::resources`].
    pub kind: usize,
    /// How many there may be. Default 100.
    pub max: usize,
    /// What is done to them; what the route does, if nothing else was written.
    pub action: Option<Action>,
}

/// A step into a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// A member of an object.
    Member(String),
    /// Every item of a list.
    Items,
}

/// What kind of thing a [`Demand`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemandOf {
    /// The caller.
    Caller,
    /// Index into [`Config::resources`].
    Kind(usize),
}

/// Where a request names a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdPlace {
    /// A path parameter.
    Path(String),
    /// A query key.
    Query(String),
}

/// What the answer of a route teaches.
#[derive(Clone, Debug)]
pub struct Learn {
    /// Index into [`Config::resources`].
    pub kind: usize,
    /// The fields that lead to the id in the answer's JSON.
    pub field: Vec<String>,
    /// How long it is known. Default 24 h.
    pub keep: Duration,
}

/// The type of a path parameter, of an id and of a parameter of a query.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ParamType {
    /// A UUID with hyphens (RFC 9562), not nil. Upper-case digits are forwarded in lower case.
    Uuid,
    /// Any text that is not empty.
    Text,
    /// A decimal number from 0 to 2^63 - 1 without sign or leading zeros.
    Integer,
}

impl ParamType {
    /// The type with this name in a path of the route map.
    pub fn of_path(name: &str) -> Option<Self> {
        [Self::Uuid, Self::Text, Self::Integer]
            .into_iter()
            .find(|one| one.in_path() == name)
    }

    /// The name in a path of the route map: `{id:uuid}`.
    pub const fn in_path(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Integer => "int",
        }
    }

    /// The name in SQL and in messages.
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
}
