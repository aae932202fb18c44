//! Resource types, the queries for their facts, and where a request names resources. `facts` runs
//! the queries.

use std::borrow::Cow;
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
    /// Whether Supabase's anonymous users have a row, too. Default no: `caller` is not asked about
    /// them, and no row is inserted for them.
    pub anonymous: bool,
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

impl StaticFacts {
    /// The same facts, with subjects of this type in their canonical spelling, as callers have it.
    #[must_use]
    pub fn with_subjects(self, kind: ParamType) -> Self {
        let canonical = |subject: String| kind.canonical_or_same(&subject);
        let rows = self.rows.into_iter().map(|(name, row)| {
            let owner = row.owner.map(canonical);
            (name, StaticRow { owner, ..row })
        });
        let memberships = self.memberships.into_iter();
        Self {
            inactive: self.inactive.into_iter().map(canonical).collect(),
            memberships: memberships
                .map(|(subject, teams)| (canonical(subject), teams))
                .collect(),
            rows: rows.collect(),
        }
    }
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

/// The type of a path parameter, of an id, of a subject and of a parameter of a query.
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

    /// The name where the route map says the type of ids or subjects.
    pub const fn in_map(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Integer => "integer",
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

    /// Whether the text is of this type.
    pub fn accepts(self, text: &str) -> bool {
        match self {
            Self::Text => !text.is_empty(),
            // Only the hyphenated form: braces, URNs and bare digits are other spellings of the
            // same UUID. Any version is valid.
            Self::Uuid => {
                text.len() == uuid::fmt::Hyphenated::LENGTH
                    && Uuid::try_parse(text).is_ok_and(|uuid| !uuid.is_nil())
            }
            Self::Integer => {
                let plain = text == "0" || !text.starts_with('0');
                let has_digits = text.bytes().all(|byte| byte.is_ascii_digit());
                plain && has_digits && text.parse::<i64>().is_ok()
            }
        }
    }

    /// The text in its canonical spelling: a UUID in lower case, since servers read both cases as
    /// the same UUID (RFC 9562, section 4). `None` if it is not of this type.
    pub fn canonical(self, text: &str) -> Option<Cow<'_, str>> {
        self.accepts(text).then(|| match self {
            Self::Uuid if text.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                Cow::Owned(text.to_ascii_lowercase())
            }
            Self::Uuid | Self::Text | Self::Integer => Cow::Borrowed(text),
        })
    }

    /// The text in its canonical spelling if it is of this type, or else as it is.
    pub fn canonical_or_same(self, text: &str) -> String {
        self.canonical(text)
            .map_or_else(|| text.to_owned(), Cow::into_owned)
    }

    /// The id in a JSON value, in its [canonical](Self::canonical) spelling; an integer is a number
    /// there. `None` if the value is not of this type.
    pub fn spelled(self, value: &Value) -> Option<String> {
        match (self, value) {
            (Self::Uuid | Self::Text, Value::String(text)) => {
                self.canonical(text).map(Cow::into_owned)
            }
            (Self::Integer, Value::Number(number)) => number
                .as_i64()
                .filter(|number| *number >= 0)
                .map(|number| number.to_string()),
            (Self::Uuid | Self::Text | Self::Integer, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOWER: &str = "018f5b5e-0000-7000-8000-00000000000a";

    #[test]
    fn an_identifier_has_one_canonical_spelling() {
        for text in [LOWER, "ffffffff-ffff-ffff-ffff-ffffffffffff"] {
            for spelled in [text.to_owned(), text.to_uppercase()] {
                assert_eq!(ParamType::Uuid.canonical(&spelled).as_deref(), Some(text));
                let value = Value::from(spelled.as_str());
                assert_eq!(ParamType::Uuid.spelled(&value).as_deref(), Some(text));
            }
        }
        for text in ["0", "7", "9223372036854775807"] {
            assert_eq!(ParamType::Integer.canonical(text).as_deref(), Some(text));
        }
        for text in ["n1", "A", " a ", LOWER] {
            assert_eq!(ParamType::Text.canonical(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_is_not_of_the_type_is_refused() {
        for text in [
            "00000000-0000-0000-0000-000000000000",
            "018f5b5e000070008000000000000001",
            "{018f5b5e-0000-7000-8000-000000000001}",
            "urn:uuid:018f5b5e-0000-7000-8000-000000000001",
            "018f5b5e-0000-7000-8000-00000000000g",
            "018f5b5e-0000-7000-8000-00000000001",
            "018f5b5e-0000-7000-8000-00000000001 ",
            "018f5b5e-0000-7000-8000-000000000001,018f5b5e-0000-7000-8000-000000000001",
            "",
            "1",
        ] {
            assert_eq!(ParamType::Uuid.canonical(text), None, "{text}");
        }
        for text in [
            "",
            "-1",
            "+1",
            "01",
            "00",
            " 1",
            "1.0",
            "1e3",
            "\u{661}",
            "9223372036854775808",
        ] {
            assert_eq!(ParamType::Integer.canonical(text), None, "{text}");
        }
        assert_eq!(ParamType::Text.canonical(""), None);
    }
}
