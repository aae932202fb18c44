//! Whether every change of what the queries read is told of, so that a fact may be believed for longer than it takes to be wrong.
//!
//! Decides:  which tables, events and columns nothing tells of.
//! Trusts:   a trigger whose function is called `foregate_tell…` to tell of the kind in its first argument, as those of `deploy/sql/notify.sql`
//!           do; the database for what a query reads.
//! Not here: what follows for ages (`shelf`), and whether notifications arrive (`notify`).
//!
//! What the plan of a query does not show cannot be proven: what a function of the operator's reads, and what is no table of its own. An update
//! of some columns only is taken to miss every other column whose name the query mentions.

use std::fmt;
use std::sync::Arc;

use crate::config::checked::{Config, Query, RowSource};
use crate::database::{ParamType, Reading, Table, Trigger};

/// How the functions of triggers that tell begin.
const FUNCTION: &str = "foregate_tell";

/// The function that tells whatever came from a changed thing.
const CHILDREN: &str = "foregate_tell_children";

/// A query whose facts may be believed for long if every change is told of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    /// What a notification calls these facts.
    pub kind: String,
    /// Where the query is written.
    pub key: String,
    /// The query.
    pub sql: Arc<str>,
    /// What it is given.
    pub id: ParamType,
    /// Whether a fact also says what became of a walk up the parents.
    pub has_parent: bool,
}

impl Asked {
    /// The queries of a configuration.
    pub fn all(config: &Config) -> Vec<Self> {
        let asked = |kind: &str, query: &Query, id, has_parent| Self {
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
            .map(|query| asked("caller", query, subject, false))
            .chain(memberships.map(|query| asked("memberships", query, subject, false)))
            .chain(config.resources.iter().filter_map(|kind| match &kind.rows {
                RowSource::Query(query) => Some(asked(&kind.name, query, kind.id, kind.has_parent)),
                RowSource::Static | RowSource::Learned => None,
            }))
            .collect()
    }
}

/// A table that a query reads, and what nothing tells of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// The table; of a function, its name with `()`.
    pub table: String,
    /// The facts that are read from it.
    pub kind: String,
    /// Where the query is written.
    pub key: String,
    /// What is missing; `None` if every change is told of.
    pub missing: Option<Missing>,
}

/// What nothing tells of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Missing {
    /// No change at all.
    Everything,
    /// These events.
    Events(Vec<&'static str>),
    /// Updates of these columns.
    Columns(Vec<String>),
    /// That a parent changed.
    Children,
    /// It is no table that triggers could watch.
    NoTable,
    /// It is a function, and what it reads is not known.
    Function,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table, kind, key, ..
        } = self;
        match &self.missing {
            None => write!(f, "changes of `{table}` are told of as `{kind}`"),
            Some(Missing::Everything) => write!(
                f,
                "nothing tells of changes of `{table}`, which `{key}` reads: it has no trigger for the kind `{kind}`"
            ),
            Some(Missing::Events(events)) => write!(
                f,
                "of `{table}`, which `{key}` reads, nothing tells the kind `{kind}` of {}",
                events.join(", ")
            ),
            Some(Missing::Columns(columns)) => write!(
                f,
                "of `{table}`, which `{key}` reads, nothing tells the kind `{kind}` of an UPDATE of {}",
                columns.join(", ")
            ),
            Some(Missing::Children) => write!(
                f,
                "of `{table}`, which `{key}` reads, nothing tells what was made from a changed row: it has no trigger with `{CHILDREN}`"
            ),
            Some(Missing::NoTable) => write!(
                f,
                "`{table}`, which `{key}` reads, is no table that triggers could tell of"
            ),
            Some(Missing::Function) => write!(
                f,
                "`{key}` calls `{table}`, and what that reads cannot be seen; write it out in the query"
            ),
        }
    }
}

/// What is told of each table that each query reads.
pub fn told(asked: &[Asked], readings: &[Reading]) -> Vec<Told> {
    let mut all = Vec::new();
    for (asked, reading) in asked.iter().zip(readings) {
        let mut tell = |table: String, missing| {
            all.push(Told {
                table,
                kind: asked.kind.clone(),
                key: asked.key.clone(),
                missing,
            });
        };
        for table in &reading.tables {
            tell(table.name.clone(), missing(asked, reading, table));
        }
        for function in &reading.functions {
            tell(format!("{function}()"), Some(Missing::Function));
        }
    }
    all
}

fn missing(asked: &Asked, reading: &Reading, table: &Table) -> Option<Missing> {
    if !table.is_table {
        return Some(Missing::NoTable);
    }
    let ours = |trigger: &&Trigger| trigger.function.starts_with(FUNCTION);
    // Whatever tells of everything names no kind.
    let is_meant =
        |trigger: &&Trigger| trigger.argument == asked.kind || trigger.argument.is_empty();
    let triggers: Vec<&Trigger> = table
        .triggers
        .iter()
        .filter(ours)
        .filter(is_meant)
        .collect();
    let of_kind: Vec<&Trigger> = triggers
        .iter()
        .copied()
        .filter(|trigger| trigger.argument == asked.kind)
        .collect();
    if of_kind.is_empty() {
        return Some(Missing::Everything);
    }
    let any = |is: fn(&Trigger) -> bool| of_kind.iter().any(|trigger| is(trigger));
    let events = [
        ("INSERT", any(|trigger| trigger.inserts)),
        ("UPDATE", any(|trigger| trigger.updates)),
        ("DELETE", any(|trigger| trigger.deletes)),
        ("TRUNCATE", triggers.iter().any(|trigger| trigger.truncates)),
    ];
    let untold: Vec<_> = events
        .into_iter()
        .filter(|(_, is_told)| !is_told)
        .map(|(event, _)| event)
        .collect();
    if !untold.is_empty() {
        return Some(Missing::Events(untold));
    }
    let updates: Vec<&&Trigger> = of_kind.iter().filter(|trigger| trigger.updates).collect();
    let is_told = |column: &String| {
        updates
            .iter()
            .any(|trigger| trigger.columns.is_empty() || trigger.columns.contains(column))
    };
    let is_read =
        |column: &&String| reading.reads_all || reading.words.contains(&column.to_lowercase());
    let columns: Vec<String> = table
        .columns
        .iter()
        .filter(is_read)
        .filter(|column| !is_told(column))
        .cloned()
        .collect();
    if !columns.is_empty() {
        return Some(Missing::Columns(columns));
    }
    let tells_children = || {
        table
            .triggers
            .iter()
            .any(|trigger| trigger.function.starts_with(CHILDREN))
    };
    (asked.has_parent && !tells_children()).then_some(Missing::Children)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(has_parent: bool) -> Asked {
        Asked {
            kind: "project".to_owned(),
            key: "resources.project.query".to_owned(),
            sql: "select owner from t where id = $1".into(),
            id: ParamType::Uuid,
            has_parent,
        }
    }

    fn trigger(function: &str, argument: &str, columns: &[&str]) -> Trigger {
        Trigger {
            function: function.to_owned(),
            argument: argument.to_owned(),
            inserts: true,
            updates: true,
            deletes: true,
            truncates: false,
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn everything() -> Trigger {
        Trigger {
            inserts: false,
            updates: false,
            deletes: false,
            truncates: true,
            ..trigger("foregate_tell_everything", "", &[])
        }
    }

    fn found(asked: &Asked, triggers: Vec<Trigger>, reads_all: bool) -> Option<Missing> {
        let reading = Reading {
            tables: vec![Table {
                name: "public.t".to_owned(),
                is_table: true,
                columns: vec!["owner".to_owned(), "title".to_owned()],
                triggers,
            }],
            words: ["select", "owner", "id"].map(str::to_owned).into(),
            reads_all,
            ..Reading::default()
        };
        let [told] = <[Told; 1]>::try_from(told(std::slice::from_ref(asked), &[reading]))
            .unwrap_or_else(|all| unreachable!("{all:?}"));
        told.missing
    }

    #[test]
    fn a_table_is_told_of_only_by_what_tells_its_kind_of_every_event_and_column() {
        let project = asked(false);
        let whole = trigger("foregate_tell", "project", &[]);
        let all = |one: Trigger| vec![one, everything()];
        assert_eq!(found(&project, all(whole.clone()), true), None);
        assert_eq!(
            found(&project, Vec::new(), false),
            Some(Missing::Everything)
        );
        assert_eq!(
            found(&project, all(trigger("foregate_tell", "file", &[])), false),
            Some(Missing::Everything)
        );
        assert_eq!(
            found(&project, all(trigger("audit", "project", &[])), false),
            Some(Missing::Everything)
        );
        assert_eq!(
            found(&project, vec![whole.clone()], false),
            Some(Missing::Events(vec!["TRUNCATE"]))
        );
        let owner = trigger("foregate_tell", "project", &["owner"]);
        assert_eq!(found(&project, all(owner.clone()), false), None);
        assert_eq!(
            found(&project, all(owner), true),
            Some(Missing::Columns(vec!["title".to_owned()]))
        );
        let title = trigger("foregate_tell", "project", &["title"]);
        assert_eq!(
            found(&project, all(title), false),
            Some(Missing::Columns(vec!["owner".to_owned()]))
        );
        let only_new = Trigger {
            updates: false,
            deletes: false,
            ..whole.clone()
        };
        assert_eq!(
            found(&project, all(only_new), false),
            Some(Missing::Events(vec!["UPDATE", "DELETE"]))
        );
        let parents = asked(true);
        assert_eq!(
            found(&parents, all(whole.clone()), false),
            Some(Missing::Children)
        );
        let children = trigger("foregate_tell_children", "project", &["parent"]);
        let both = vec![whole, children, everything()];
        assert_eq!(found(&parents, both, false), None);
    }
}
