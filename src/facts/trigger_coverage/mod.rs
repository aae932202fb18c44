//! Trigger coverage: whether triggers report every change of what the queries read, so that facts
//! may have a long lifetime.
//!
//! Decides:  which tables, events and columns no trigger reports, and which queries use something
//!           whose result may change while no row does, such as a clock.
//! Trusts:   the database for what a query reads; a trigger function `foregate_tell` to report the
//!           resource type in its first argument and the id in the column of its second; functions
//!           `foregate_tell_…` to find all affected ids of that type by themselves. Those of
//!           `deploy/sql/notify.sql` do.
//! Not here: the lifetimes (`cache`), and whether notifications arrive (`notify`).
//!
//! What the plan of a query does not show cannot be covered: what user-defined functions read, and
//! what is not a table. A trigger for updates of some columns is taken to miss every other column
//! whose name the query mentions.
//!
//! The tables are found by the database's planner rather than listed by the operator. A list can be
//! wrong without anybody noticing, such as after a migration puts another table behind a view; what
//! it forgets is then stale for an hour.

mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use self::report::{Missing, TableCoverage};
use crate::database::{ReadSet, Table, Trigger};
use crate::policy::Config;
use crate::policy::resources::{ParamType, Query, RowSource};

/// The trigger function that reports the id in the column that its second argument names.
const FUNCTION: &str = "foregate_tell";

/// The prefix of trigger functions that find the affected ids, such as `foregate_tell_members`.
const PREFIX: &str = "foregate_tell_";

/// The trigger function that reports that anything may have changed.
const EVERYTHING: &str = "foregate_tell_everything";

/// The trigger function that reports all descendants of a changed row.
const CHILDREN: &str = "foregate_tell_children";

/// A query whose facts have a long lifetime if every change is reported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WatchedQuery {
    /// The name of its facts in notifications: a resource type, `caller` or `memberships`.
    pub kind: String,
    /// Its configuration key.
    pub key: String,
    /// The SQL.
    pub sql: Arc<str>,
    /// The type of its parameter.
    pub id: ParamType,
    /// Whether its facts include the walk up the parents.
    pub has_parent: bool,
}

impl WatchedQuery {
    /// All queries of a configuration.
    pub fn all(config: &Config) -> Vec<Self> {
        let watched = |kind: &str, query: &Query, id, has_parent| Self {
            kind: kind.to_owned(),
            key: query.key.clone(),
            sql: query.sql.shown().into(),
            id,
            has_parent,
        };
        let subject = config.facts.subject;
        let callers = config.facts.caller.iter();
        let memberships = config.facts.memberships.iter();
        callers
            .map(|query| watched("caller", query, subject, false))
            .chain(memberships.map(|query| watched("memberships", query, subject, false)))
            .chain(config.resources.iter().filter_map(|kind| match &kind.rows {
                RowSource::Query(query) => {
                    Some(watched(&kind.name, query, kind.id, kind.has_parent))
                }
                RowSource::Static | RowSource::Learned => None,
            }))
            .collect()
    }
}

/// The coverage of each table that each query reads.
pub fn coverage(queries: &[WatchedQuery], read_sets: &[ReadSet]) -> Vec<TableCoverage> {
    let mut all = Vec::new();
    for (query, read_set) in queries.iter().zip(read_sets) {
        let mut report = |table: String, missing| {
            all.push(TableCoverage {
                table,
                kind: query.kind.clone(),
                key: query.key.clone(),
                missing,
            });
        };
        for table in &read_set.tables {
            report(table.name.clone(), missing(query, read_set, table));
        }
        if !read_set.is_complete {
            report("?".to_owned(), Some(Missing::IncompletePlan));
        }
        for function in &read_set.functions {
            report(format!("{function}()"), Some(Missing::Function));
        }
        for expression in &read_set.unstable {
            report(expression.clone(), Some(Missing::Unstable));
        }
    }
    all
}

fn missing(query: &WatchedQuery, read_set: &ReadSet, table: &Table) -> Option<Missing> {
    if !table.is_table {
        return Some(Missing::NoTable);
    }
    if let Some(missing) = missing_triggers(query, read_set, table) {
        return Some(missing);
    }
    let mut always = table.clone();
    always.triggers.retain(|trigger| trigger.is_always);
    missing_triggers(query, read_set, &always).map(|_| Missing::Replication)
}

/// What the triggers of a table miss.
fn missing_triggers(query: &WatchedQuery, read_set: &ReadSet, table: &Table) -> Option<Missing> {
    let is_for_query = |trigger: &&Trigger| {
        trigger.argument == query.kind
            && (trigger.function == FUNCTION || trigger.function.starts_with(PREFIX))
            && ![CHILDREN, EVERYTHING].contains(&trigger.function.as_str())
    };
    let triggers: Vec<&Trigger> = table.triggers.iter().filter(is_for_query).collect();
    if triggers.is_empty() {
        return Some(Missing::Triggers);
    }
    let mut scans = table.scans.iter();
    scans.find_map(|bound| missing_for_scan(query, read_set, table, &triggers, bound))
}

/// What is missing for one scan, which finds its rows by these bound columns.
fn missing_for_scan(
    query: &WatchedQuery,
    read_set: &ReadSet,
    table: &Table,
    triggers: &[&Trigger],
    bound: &BTreeSet<String>,
) -> Option<Missing> {
    // A bound column holds the id to report. Where rows are found through other rows, only a
    // function that searches for the ids knows them.
    let reports_ids = |trigger: &&Trigger| match trigger.function == FUNCTION {
        true => bound.contains(&trigger.key),
        false => bound.is_empty(),
    };
    let triggers: Vec<&Trigger> = triggers.iter().copied().filter(reports_ids).collect();
    if triggers.is_empty() {
        return Some(Missing::Ids(bound.iter().cloned().collect()));
    }
    let mut events = missing_events(&triggers);
    let truncates = |trigger: &Trigger| trigger.function == EVERYTHING && trigger.truncates;
    if !table.triggers.iter().any(truncates) {
        events.push("TRUNCATE");
    }
    if !events.is_empty() {
        return Some(Missing::Events(events));
    }
    let columns = missing_columns(&triggers, read_set, table, bound);
    if !columns.is_empty() {
        return Some(Missing::Columns(columns));
    }
    let rewritten = rewritten_columns(&triggers, read_set, table, bound);
    if !rewritten.is_empty() {
        return Some(Missing::Rewritten(rewritten));
    }
    let is_for_children =
        |trigger: &&Trigger| trigger.function == CHILDREN && trigger.argument == query.kind;
    let children: Vec<&Trigger> = table.triggers.iter().filter(is_for_children).collect();
    let misses_children = query.has_parent
        && !(missing_events(&children).is_empty()
            && missing_columns(&children, read_set, table, bound).is_empty()
            && rewritten_columns(&children, read_set, table, bound).is_empty());
    misses_children.then_some(Missing::Children)
}

/// Events of a row for which none of these triggers runs.
fn missing_events(triggers: &[&Trigger]) -> Vec<&'static str> {
    let any = |is: fn(&Trigger) -> bool| triggers.iter().any(|trigger| is(trigger));
    let events = [
        ("INSERT", any(|trigger| trigger.inserts)),
        ("UPDATE", any(|trigger| trigger.updates)),
        ("DELETE", any(|trigger| trigger.deletes)),
    ];
    let missing = events.into_iter().filter(|(_, is_covered)| !is_covered);
    missing.map(|(event, _)| event).collect()
}

/// Columns that the query may read and for whose updates none of these triggers runs.
fn missing_columns(
    triggers: &[&Trigger],
    read_set: &ReadSet,
    table: &Table,
    bound: &BTreeSet<String>,
) -> Vec<String> {
    let is_covered = |column: &String| {
        let mut updates = triggers.iter().filter(|trigger| trigger.updates);
        updates.any(|trigger| trigger.columns.is_empty() || trigger.columns.contains(column))
    };
    read_columns(read_set, table, bound)
        .filter(|column| !is_covered(column))
        .cloned()
        .collect()
}

/// Columns that the query may read and that a BEFORE trigger may change in an UPDATE of others, for
/// which none of these triggers runs.
fn rewritten_columns(
    triggers: &[&Trigger],
    read_set: &ReadSet,
    table: &Table,
    bound: &BTreeSet<String>,
) -> Vec<String> {
    let mut updates = triggers.iter().filter(|trigger| trigger.updates);
    if updates.any(|trigger| trigger.columns.is_empty()) {
        return Vec::new();
    }
    let may_change = |column: &str| table.rewriters.iter().any(|one| one.may_change(column));
    read_columns(read_set, table, bound)
        .filter(|column| may_change(column))
        .cloned()
        .collect()
}

/// Columns that the query may read. A primary key that equals the parameter may be left out: an id
/// is never given to another resource.
fn read_columns<'a>(
    read_set: &'a ReadSet,
    table: &'a Table,
    bound: &'a BTreeSet<String>,
) -> impl Iterator<Item = &'a String> {
    table.columns.iter().filter(move |column| {
        let is_key = table.key.as_ref() == Some(column) && bound.contains(*column);
        !is_key && read_set.mentions(column)
    })
}
