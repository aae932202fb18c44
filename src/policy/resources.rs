//! Resource types, the queries for their facts, and where a request names resources. `facts` runs
//! the queries.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::policy::roles::Action;
use crate::policy::sql_template::Template;

/// The queries about callers.
#[derive(Debug)]
pub struct Facts {
    /// The type of subjects in the queries. Default uuid.
    pub subject: ParamType,
    /// Returns a row with `active` for the subject `$1`.
    pub caller: Option<Query>,
    /// Returns rows with `team` and `role` for the subject `$1`.
    pub memberships: Option<Query>,
}

/// A query and its position in the route map.
#[derive(Debug)]
pub struct Query {
    /// The SQL text.
    pub sql: Template,
    /// The path of its key in the route map.
    pub key: String,
    /// The line of its value.
    pub line: u32,
    /// The column of its value.
    pub column: u32,
}

/// A resource type.
#[derive(Debug)]
pub struct ResourceType {
    /// The name of the type in the route map.
    pub name: String,
    /// The type of its ids. Default uuid.
    pub id: ParamType,
    /// Where its rows come from.
    pub rows: RowSource,
    /// Index of the resource type to which the column `within` refers.
    pub within: Option<usize>,
    /// Whether the rows have a column `parent`, which refers to the same type.
    pub has_parent: bool,
}

/// Where the rows of a resource type come from.
#[derive(Debug)]
pub enum RowSource {
    /// The database.
    Query(Query),
    /// [`Config::static_facts`](crate::policy::Config::static_facts).
    Static,
    /// The responses of `learn` routes; there are no rows.
    Learned,
}

/// Facts that the configuration states itself.
#[derive(Debug, Default)]
pub struct StaticFacts {
    /// Subjects that are not active.
    pub inactive: HashSet<String>,
    /// The teams of each subject, with the role in each.
    pub memberships: HashMap<String, Vec<(String, String)>>,
    /// The rows, by resource type and id.
    pub rows: HashMap<(String, String), StaticRow>,
}

/// The row of one resource.
#[derive(Clone, Debug, Default)]
pub struct StaticRow {
    /// The owner's subject.
    pub owner: Option<String>,
    /// Who else may see it, as in [`crate::policy::relations::Visibility`].
    pub visibility: Option<String>,
    /// Teams, with the access level of each.
    pub teams: Vec<(String, String)>,
    /// The id of the resource that contains it.
    pub within: Option<String>,
    /// The id of the resource from which it was made.
    pub parent: Option<String>,
}

/// A resource that a request names and to which the caller needs access.
#[derive(Clone, Debug)]
pub struct Demand {
    /// The type of the resource, or the caller.
    pub of: DemandTarget,
    /// Where the request names it.
    pub id: IdPlace,
    /// The action on it. Default: the route's action.
    pub action: Option<Action>,
    /// Where the request names the resource that must contain it.
    pub within: Option<IdPlace>,
}

/// Resources that the JSON body of a request names and to which the caller needs access.
#[derive(Clone, Debug)]
pub struct BodyIds {
    /// The text in the route map, for messages.
    pub written: String,
    /// The path to the ids in the document.
    pub steps: Vec<BodyStep>,
    /// Index into [`Config::resources`](crate::policy::Config::resources).
    pub kind: usize,
    /// The largest number of ids. Default 100.
    pub max: usize,
    /// The action on them. Default: the route's action.
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

/// What a [`Demand`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemandTarget {
    /// The caller.
    Caller,
    /// Index into [`Config::resources`](crate::policy::Config::resources).
    Resource(usize),
}

/// Where a request names a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdPlace {
    /// A path parameter.
    Path(String),
    /// A query key.
    Query(String),
}

/// The ownership that is learned from the response of a route.
#[derive(Clone, Debug)]
pub struct Learn {
    /// Index into [`Config::resources`](crate::policy::Config::resources).
    pub kind: usize,
    /// The path to the id in the JSON of the response.
    pub field: Vec<String>,
    /// How long the ownership is kept. Default 24 h.
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

    /// The id in a JSON value, in its canonical spelling: a UUID that is not nil, hyphenated and in
    /// lower case, since servers accept either case; a text that is not empty; an integer from 0.
    /// `None` if the value is not of this type.
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
