//! Compares the operator's queries with the live database: whether it accepts them, and which
//! columns of which types they return.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock;
use crate::database::{Database, DatabaseError, Description, Inspected};
use crate::policy::Config;
use crate::policy::resources::{ParamType, Query, RowSource};
use crate::policy::sign_in::{Insert, MeSource};

/// How long all descriptions may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// A column that a query may or must return.
#[derive(Clone, Copy, Debug)]
struct Column<'a> {
    name: &'a str,
    is_required: bool,
    content: Content,
}

#[derive(Clone, Copy, Debug)]
enum Content {
    Boolean,
    /// An id or a subject of this type.
    Id(ParamType),
    /// Text, or an enumeration.
    Word,
    /// A list of teams.
    Json,
    /// Anything that has a form in JSON.
    Any,
}

impl Content {
    fn accepts(self, type_name: &str) -> bool {
        let is_text = matches!(type_name, "text" | "varchar" | "bpchar" | "name");
        match self {
            Self::Boolean => type_name == "bool",
            Self::Id(ParamType::Uuid) => type_name == "uuid",
            Self::Id(ParamType::Text) => is_text,
            Self::Id(ParamType::Integer) => matches!(type_name, "int2" | "int4" | "int8"),
            // A user-defined type may be an enumeration. If it is not, its rows are invalid.
            Self::Word => is_text || !BUILT_IN.contains(&type_name),
            Self::Json => matches!(type_name, "json" | "jsonb"),
            Self::Any => true,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Id(kind) => kind.as_str(),
            Self::Word => "text",
            Self::Json => "jsonb: a list of objects with `team` and `access`",
            Self::Any => "any type",
        }
    }
}

/// Built-in types that are not text.
const BUILT_IN: [&str; 16] = [
    "bool",
    "uuid",
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "numeric",
    "json",
    "jsonb",
    "bytea",
    "timestamp",
    "timestamptz",
    "date",
    "_text",
    "_uuid",
];

/// Whether the queries of the configuration in force fit the database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QueryStatus {
    /// The database could not be asked yet.
    Unchecked,
    /// The queries fit, or there are none.
    Fit,
    /// Some query does not fit; requests that need its facts are refused.
    Unfit,
}

/// One way in which a query does not fit the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Path of the query's key in the configuration.
    pub key: String,
    /// Line of the query in the configuration file.
    pub line: u32,
    /// Column of the query in the configuration file.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to write instead, if that can be said.
    pub instead: Option<String>,
}

/// Asks the database to describe every query of a configuration, and returns all differences; none
/// if the queries fit.
///
/// # Errors
///
/// The database cannot be asked.
pub async fn check(config: &Config, database: &Database) -> Result<Vec<Difference>, DatabaseError> {
    let expected: Vec<_> = inserts(config).chain(queries(config)).collect();
    if expected.is_empty() {
        return Ok(Vec::new());
    }
    let statements = expected.iter().map(|one| one.statement.clone()).collect();
    let described = database
        .describe(statements, clock::now() + DEADLINE)
        .await?;
    let differences = expected
        .iter()
        .zip(described)
        .flat_map(|(expected, described)| {
            let found = match (described, &expected.columns) {
                (Err(refusal), _) => {
                    vec![(
                        format!("the database refuses the statement: {refusal}"),
                        None,
                    )]
                }
                (Ok(description), Some(columns)) => differences(&description, columns),
                (Ok(_), None) => Vec::new(),
            };
            found.into_iter().map(|(message, instead)| Difference {
                key: expected.key.to_owned(),
                line: expected.line,
                column: expected.column,
                message,
                instead,
            })
        });
    Ok(differences.collect())
}

/// A warning for every query of which row-level security may hide rows from the role of
/// `database.url`. Such a query fails in silence: a ban in a table that it cannot see is no ban.
///
/// # Errors
///
/// The database cannot be asked.
pub async fn hidden_rows(
    config: &Config,
    database: &Database,
) -> Result<Vec<String>, DatabaseError> {
    let queries: Vec<_> = queries(config).collect();
    let statements = queries.iter().map(|one| one.statement.clone()).collect();
    let filtered = database
        .row_security(statements, clock::now() + DEADLINE)
        .await?;
    let warning = |(query, message): (&Expected<'_>, Option<String>)| {
        let (key, message) = (query.key, message?);
        Some(format!(
            "{key} (line {}) sees only the rows that policies of row-level security show the role of `database.url`, of `auth.users` none, so that bans there are never seen: {message}; let the role have BYPASSRLS (deploy/sql/least_privilege.sql)",
            query.line
        ))
    };
    Ok(queries.iter().zip(filtered).filter_map(warning).collect())
}

/// A statement of the configuration, and what it should return.
struct Expected<'a> {
    statement: Inspected,
    key: &'a str,
    line: u32,
    column: u32,
    /// The columns that it may return. `None` if nobody reads what it returns.
    columns: Option<Vec<Column<'a>>>,
}

impl<'a> Expected<'a> {
    fn query(query: &'a Query, param: ParamType, columns: Vec<Column<'a>>) -> Self {
        Self {
            statement: Inspected {
                sql: query.sql.shown().into(),
                params: vec![param],
            },
            key: &query.key,
            line: query.line,
            column: query.column,
            columns: Some(columns),
        }
    }
}

/// The statement that inserts a user's row, if there is one.
fn inserts(config: &Config) -> impl Iterator<Item = Expected<'_>> {
    let sign_in = config.sign_in.iter();
    let inserts = sign_in.filter_map(|sign_in| sign_in.profile.as_ref());
    inserts.map(|insert| Expected {
        statement: Inspected {
            sql: insert.sql.clone(),
            params: Insert::PARAMS.into(),
        },
        key: &insert.key,
        line: insert.line,
        column: insert.column,
        columns: None,
    })
}

/// Every query, with the type of its parameter and the columns it may return.
fn queries(config: &Config) -> impl Iterator<Item = Expected<'_>> {
    let subject = config.facts.subject;
    let caller = config.facts.caller.as_ref().map(|query| {
        let columns = vec![column("active", true, Content::Boolean)];
        Expected::query(query, subject, columns)
    });
    let memberships = config.facts.memberships.as_ref().map(|query| {
        let columns = vec![
            // Teams are compared as text, so any type of id is accepted whose text form is unique.
            column("team", true, Content::Id(ParamType::Uuid)),
            column("role", true, Content::Word),
        ];
        Expected::query(query, subject, columns)
    });
    let resources = config.resources.iter().filter_map(move |resource| {
        let RowSource::Query(query) = &resource.rows else {
            return None;
        };
        let outer = resource
            .within
            .and_then(|index| config.resources.get(index));
        let mut columns = vec![
            column("owner", outer.is_none(), Content::Id(subject)),
            column("visibility", false, Content::Word),
            column("teams", false, Content::Json),
        ];
        columns.extend(outer.map(|outer| column("within", true, Content::Id(outer.id))));
        if resource.has_parent {
            columns.push(column("parent", true, Content::Id(resource.id)));
        }
        Some(Expected::query(query, resource.id, columns))
    });
    let profile = profile(config).map(|(query, columns)| Expected::query(query, subject, columns));
    let of_callers = caller.into_iter().chain(memberships);
    of_callers.chain(resources).chain(profile)
}

const fn column(name: &str, is_required: bool, content: Content) -> Column<'_> {
    Column {
        name,
        is_required,
        content,
    }
}

/// The query for the row that `me` shows, with the columns that it names.
fn profile(config: &Config) -> Option<(&Query, Vec<Column<'_>>)> {
    let me = &config.sign_in.as_ref()?.me;
    let mut names = BTreeSet::new();
    for (_, source) in &me.members {
        match source {
            MeSource::Column(name) => {
                names.insert(name.as_str());
            }
            MeSource::AppMetadata(_) | MeSource::UserMetadata(_) => {}
        }
    }
    let columns = names.into_iter();
    let columns = columns.map(|name| column(name, true, Content::Any));
    Some((me.row.as_ref()?, columns.collect()))
}

fn differences(description: &Description, columns: &[Column<'_>]) -> Vec<(String, Option<String>)> {
    let mut differences = Vec::new();
    for column in columns {
        let found: Vec<&str> = description
            .columns
            .iter()
            .filter(|(name, _)| name == column.name)
            .map(|(_, type_name)| type_name.as_str())
            .collect();
        match found[..] {
            [] if column.is_required => differences.push((
                format!("returns no column `{}`", column.name),
                Some(format!("select it: `… as {}`", column.name)),
            )),
            [] => {}
            [type_name] if column.content.accepts(type_name) => {}
            [type_name] => differences.push((
                format!("returns `{}` as {type_name}", column.name),
                Some(format!("return {}", column.content.as_str())),
            )),
            _ => differences.push((format!("returns `{}` more than once", column.name), None)),
        }
    }
    for (name, _) in &description.columns {
        if !columns.iter().any(|column| column.name == name) {
            let known: Vec<&str> = columns.iter().map(|column| column.name).collect();
            differences.push((
                format!("returns a column `{name}`, which is not used here"),
                Some(format!("the columns are {}", known.join(", "))),
            ));
        }
    }
    differences
}
