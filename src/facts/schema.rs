//! Compares the operator's queries with the live database: whether it accepts them, and which
//! columns of which types they return.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::database::{Database, DatabaseError, Description};
use crate::policy::Config;
use crate::policy::resources::{ParamType, Query, RowSource};

/// How long all descriptions may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// What a column must be.
#[derive(Clone, Copy, Debug)]
struct Column {
    name: &'static str,
    is_required: bool,
    holds: Holds,
}

#[derive(Clone, Copy, Debug)]
enum Holds {
    Boolean,
    /// An id or a subject of this type.
    Id(ParamType),
    /// Text, or an enumeration.
    Word,
    /// A list of teams.
    Json,
}

impl Holds {
    fn fits(self, kind: &str) -> bool {
        let is_text = matches!(kind, "text" | "varchar" | "bpchar" | "name");
        match self {
            Self::Boolean => kind == "bool",
            Self::Id(ParamType::Uuid) => kind == "uuid",
            Self::Id(ParamType::Text) => is_text,
            Self::Id(ParamType::Integer) => matches!(kind, "int2" | "int4" | "int8"),
            // A type of the operator's own is an enumeration, or cannot be read as a word; then
            // rows tell.
            Self::Word => is_text || !BUILT_IN.contains(&kind),
            Self::Json => matches!(kind, "json" | "jsonb"),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Id(kind) => kind.as_str(),
            Self::Word => "text",
            Self::Json => "jsonb: a list of objects with `team` and `access`",
        }
    }
}

/// Types that are surely no word.
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

/// What is known of the queries of the configuration in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Queries {
    /// The database could not be asked since the start.
    Unasked,
    /// It understands them, or there are none.
    Fit,
    /// It does not: what needs their facts is refused.
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
    let subject = config.facts.subject;
    let column = |name, is_required, holds| Column {
        name,
        is_required,
        holds,
    };
    let mut asked: Vec<(&Query, ParamType, Vec<Column>)> = Vec::new();
    if let Some(query) = &config.facts.caller {
        asked.push((query, subject, vec![column("active", true, Holds::Boolean)]));
    }
    if let Some(query) = &config.facts.memberships {
        asked.push((
            query,
            subject,
            vec![
                // Teams are compared as text, so any type of id will do that writes itself the same
                // everywhere.
                column("team", true, Holds::Id(ParamType::Uuid)),
                column("role", true, Holds::Word),
            ],
        ));
    }
    for kind in &config.resources {
        let RowSource::Query(query) = &kind.rows else {
            continue;
        };
        let outer = kind.within.and_then(|index| config.resources.get(index));
        let mut columns = vec![
            column("owner", outer.is_none(), Holds::Id(subject)),
            column("visibility", false, Holds::Word),
            column("teams", false, Holds::Json),
        ];
        columns.extend(outer.map(|outer| column("within", true, Holds::Id(outer.id))));
        if kind.has_parent {
            columns.push(column("parent", true, Holds::Id(kind.id)));
        }
        asked.push((query, kind.id, columns));
    }
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let statements = asked
        .iter()
        .map(|(query, id, _)| (Arc::from(query.sql.shown()), *id))
        .collect();
    let described = database
        .describe(statements, clock::now() + DEADLINE)
        .await?;
    let differences = asked
        .iter()
        .zip(described)
        .flat_map(|((query, _, columns), described)| {
            let found = match described {
                Err(refusal) => vec![(format!("the database refuses the query: {refusal}"), None)],
                Ok(description) => differences(&description, columns),
            };
            found.into_iter().map(|(message, instead)| Difference {
                key: query.key.clone(),
                line: query.line,
                column: query.column,
                message,
                instead,
            })
        });
    Ok(differences.collect())
}

fn differences(description: &Description, columns: &[Column]) -> Vec<(String, Option<String>)> {
    let mut told = Vec::new();
    for column in columns {
        let found: Vec<&str> = description
            .columns
            .iter()
            .filter(|(name, _)| name == column.name)
            .map(|(_, kind)| kind.as_str())
            .collect();
        match found[..] {
            [] if column.is_required => told.push((
                format!("gives no column `{}`", column.name),
                Some(format!("select it: `… as {}`", column.name)),
            )),
            [] => {}
            [kind] if column.holds.fits(kind) => {}
            [kind] => told.push((
                format!("gives `{}` as {kind}", column.name),
                Some(format!("let it be {}", column.holds.as_str())),
            )),
            _ => told.push((format!("gives `{}` more than once", column.name), None)),
        }
    }
    for (name, _) in &description.columns {
        if !columns.iter().any(|column| column.name == name) {
            let known: Vec<&str> = columns.iter().map(|column| column.name).collect();
            told.push((
                format!("gives a column `{name}`, which nothing reads here"),
                Some(format!("the columns are {}", known.join(", "))),
            ));
        }
    }
    told
}
