//! What a statement reads: its tables with their change triggers, and the functions it calls.
//!
//! Decides:  what the plan of a statement says it reads ([`plan`]) and by which columns it finds
//!           rows ([`equality`]).
//! Trusts:   the database's planner, and its catalog ([`catalog`]).
//! Not here: whether the triggers are the ones that are needed (`facts::trigger_coverage`).
//!
//! A plan names every table a statement reads, also behind a view or a row-level security policy.
//! It is made for any parameter and never executed. It does not show which functions are behind
//! operators and casts that somebody defined; those are taken to read nothing.

mod catalog;
mod equality;
mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Error};

pub use self::catalog::definitions;
use super::statement::DatabaseError;
use super::transaction::meaning;
use crate::clock;
use crate::policy::resources::ParamType;

/// What one statement reads.
#[derive(Clone, Debug, Default)]
pub struct ReadSet {
    /// Its tables, by name.
    pub tables: Vec<Table>,
    /// User-defined functions that it calls; a plan does not show what they read.
    pub functions: Vec<String>,
    /// What it uses whose result may change while no row does, such as a clock.
    pub unstable: Vec<String>,
    /// Lower-case words of the statement and of the columns its plan compares and returns. Every
    /// column it reads is among them.
    pub words: BTreeSet<String>,
    /// Whether it reads all columns of some table.
    pub reads_all_columns: bool,
    /// Whether the plan shows everything it reads: at least one table, and every partition.
    pub is_complete: bool,
}

/// A table that a statement reads.
#[derive(Clone, Debug)]
pub struct Table {
    /// The name with its schema.
    pub name: String,
    /// Whether it holds its own rows. Foreign tables and materialised views change without
    /// triggers.
    pub is_table: bool,
    /// The column of its primary key, if that is a single one.
    pub key: Option<String>,
    /// All its columns.
    pub columns: Vec<String>,
    /// The columns that may hold a text such as `today`.
    pub texts: Vec<String>,
    /// Its enabled triggers.
    pub triggers: Vec<Trigger>,
    /// The functions of its enabled BEFORE UPDATE triggers.
    pub rewriters: Vec<Rewriter>,
    /// For each scan of the table, the columns that equal the statement's parameter; none where the
    /// scan finds its rows through other rows.
    pub scans: Vec<BTreeSet<String>>,
}

impl ReadSet {
    /// Whether the statement may read a column of this name.
    pub fn mentions(&self, column: &str) -> bool {
        self.reads_all_columns || words(column).all(|word| self.words.contains(&word))
    }
}

/// A trigger that is enabled and has no WHEN condition.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// The function it calls.
    pub function: String,
    /// Its first argument.
    pub argument: String,
    /// Its second argument: a column.
    pub key: String,
    /// Whether it runs for each row after an INSERT.
    pub inserts: bool,
    /// Whether it runs for each row after an UPDATE.
    pub updates: bool,
    /// Whether it runs for each row after a DELETE.
    pub deletes: bool,
    /// Whether it runs after a TRUNCATE.
    pub truncates: bool,
    /// Whether it also runs under `session_replication_role = replica`, as during a restore or
    /// logical replication.
    pub is_always: bool,
    /// The only columns whose updates it runs for; empty for all.
    pub columns: Vec<String>,
}

/// A trigger function that may change columns which the UPDATE does not name. A trigger for updates
/// of some columns does not run then.
#[derive(Clone, Debug)]
pub struct Rewriter {
    /// Its source in lower case; `None` if it is not written in PL/pgSQL.
    source: Option<String>,
}

/// What a function in PL/pgSQL says that may change columns without naming them.
const NAMELESS: [&str; 7] = [
    "execute",
    "populate",
    "#=",
    "into new",
    "into strict new",
    "new :=",
    "new =",
];

impl Rewriter {
    /// A function with this source in PL/pgSQL, or in another language.
    pub fn new(source: Option<String>) -> Self {
        let spaced = |source: String| {
            let lower = source.to_lowercase();
            lower.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        Self {
            source: source.map(spaced),
        }
    }

    /// Whether it may change this column: it names it, or may change any.
    pub fn may_change(&self, column: &str) -> bool {
        let Some(source) = &self.source else {
            return true;
        };
        let column = column.to_lowercase();
        NAMELESS.iter().any(|text| source.contains(text))
            || words(source).any(|word| word == column)
    }
}

/// The SQLSTATE `insufficient_privilege`.
const FORBIDDEN: &str = "42501";

/// How much earlier than the deadline the server ends a statement, so that the server has finished
/// when the deadline passes here.
const EARLIER: Duration = Duration::from_millis(500);

/// How long a plan waits for a table that somebody else has locked. A choice: a migration holds its
/// locks for less, or for much longer.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// The read set of each statement.
pub(super) async fn of(
    client: &Client,
    statements: &[(Arc<str>, ParamType)],
    deadline: Instant,
) -> Result<Vec<ReadSet>, Error> {
    let mut plans = Vec::with_capacity(statements.len());
    for (sql, id) in statements {
        plans.push(plan::explain(client, sql, std::slice::from_ref(id), deadline).await?);
    }
    client.batch_execute(&begin(deadline)).await?;
    let names: BTreeSet<&str> = plans.iter().flat_map(plan::Plan::tables).collect();
    let catalog = catalog::read(client, &Vec::from_iter(names)).await?;
    client.batch_execute("commit").await?;
    Ok(plans
        .into_iter()
        .map(|plan| plan.read_set(&catalog))
        .collect())
}

/// Whether the role may execute a statement: to describe one needs no permission to read, and a
/// plan does. For a refusal, the database's message.
///
/// # Errors
///
/// The database cannot be asked.
pub(super) async fn permits(
    client: &Client,
    sql: &str,
    params: &[ParamType],
    deadline: Instant,
) -> Result<Result<(), String>, DatabaseError> {
    let Err(error) = plan::explain(client, sql, params, deadline).await else {
        return Ok(Ok(()));
    };
    match (meaning(&error), error.as_db_error()) {
        (DatabaseError::Refused(code), Some(refusal)) if code == FORBIDDEN => Ok(Err(format!(
            "{} ({code}); grant the role of `database.url` what it reads or writes",
            refusal.message()
        ))),
        // It cannot be planned without a value; its columns were accepted.
        (DatabaseError::Refused(_), _) => Ok(Ok(())),
        (failure, _) => Err(failure),
    }
}

/// SQL that begins a transaction whose statements all end before the deadline.
pub(super) fn begin(deadline: Instant) -> String {
    let left = deadline.saturating_duration_since(clock::now());
    let statement = left
        .saturating_sub(EARLIER)
        .max(Duration::from_millis(1))
        .as_millis();
    let lock = statement.min(LOCK_TIMEOUT.as_millis());
    format!(
        "begin read only; set local statement_timeout = {statement}; set local lock_timeout = {lock}"
    )
}

/// The words of a text, in lower case.
fn words(text: &str) -> impl Iterator<Item = String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    text.split(move |c| !is_part(c))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}
