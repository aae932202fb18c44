//! Whether every change of what the queries read is told of, so that a fact may be believed for longer than it takes to be wrong.
//!
//! Decides:  which tables, events and columns nothing tells of.
//! Trusts:   a trigger whose function is called `foregate_tell` to tell of the kind in its first argument and the id in the column that is its
//!           second, and one called `foregate_tell_…` to find by itself all of that kind that a row is part of, as those of
//!           `deploy/sql/notify.sql` do; the database for what a query reads.
//! Not here: what follows for ages (`shelf`), and whether notifications arrive (`notify`).
//!
//! What the plan of a query does not show cannot be proven: what a function of the operator's reads, and what is no table of its own. An update
//! of some columns only is taken to miss every other column whose name the query mentions.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::database::{Reading, Table, Trigger};
use crate::policy::Config;
use crate::policy::resources::{ParamType, Query, RowSource};

/// The function that tells of the one thing whose id is in the column that its second argument names.
const FUNCTION: &str = "foregate_tell";

/// How functions begin that find whom to tell of by themselves, such as `foregate_tell_members`.
const OWN: &str = "foregate_tell_";

/// The function that says that everything may have changed.
const EVERYTHING: &str = "foregate_tell_everything";

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
    /// Whose facts they are: rows are found by these columns, or through other rows.
    Whose(Vec<String>),
    /// That a parent changed.
    Children,
    /// The plan does not show all that is read.
    Unseen,
    /// It is no table that triggers could watch.
    NoTable,
    /// It is a function, and what it reads is not known.
    Function,
    /// Its result may change while no row does.
    Unstable,
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
                "of `{table}`, which `{key}` reads, nothing tells what was made from a changed row: it has no trigger with `{CHILDREN}('{kind}')` for all of its events and columns"
            ),
            Some(Missing::Whose(columns)) if columns.is_empty() => write!(
                f,
                "rows of `{table}`, which `{key}` reads, are found through others: it has no trigger for the kind `{kind}` with a function `{OWN}…` that finds everybody to tell of"
            ),
            Some(Missing::Whose(columns)) => write!(
                f,
                "rows of `{table}`, which `{key}` reads, are found by {}: it has no trigger with `{FUNCTION}('{kind}', …)` and that column",
                columns.join(", ")
            ),
            Some(Missing::Unseen) => write!(
                f,
                "the plan of `{key}` does not show all that is read: it names no table, or leaves partitions out"
            ),
            Some(Missing::NoTable) => write!(
                f,
                "`{table}`, which `{key}` reads, is no table that triggers could tell of"
            ),
            Some(Missing::Function) => write!(
                f,
                "`{key}` calls `{table}`, and what that reads cannot be seen; write it out in the query"
            ),
            Some(Missing::Unstable) => write!(
                f,
                "`{key}` uses `{table}`, whose result may change while no row does: its facts keep the short lifetime (30 s)"
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
        if !reading.is_whole {
            tell("?".to_owned(), Some(Missing::Unseen));
        }
        for function in &reading.functions {
            tell(format!("{function}()"), Some(Missing::Function));
        }
        for function in &reading.unstable {
            tell(function.clone(), Some(Missing::Unstable));
        }
    }
    all
}

fn missing(asked: &Asked, reading: &Reading, table: &Table) -> Option<Missing> {
    if !table.is_table {
        return Some(Missing::NoTable);
    }
    let tells = |trigger: &&Trigger| {
        trigger.argument == asked.kind
            && (trigger.function == FUNCTION || trigger.function.starts_with(OWN))
            && ![CHILDREN, EVERYTHING].contains(&trigger.function.as_str())
    };
    let triggers: Vec<&Trigger> = table.triggers.iter().filter(tells).collect();
    if triggers.is_empty() {
        return Some(Missing::Everything);
    }
    let truncates = |trigger: &Trigger| trigger.function == EVERYTHING && trigger.truncates;
    let is_emptied = table.triggers.iter().any(truncates);
    for given in &table.scans {
        // Whoever is found by a column is told by that column; whoever is found through other rows only by a function that looks for them.
        let tells = |trigger: &&Trigger| match trigger.function == FUNCTION {
            true => given.contains(&trigger.key),
            false => given.is_empty(),
        };
        let triggers: Vec<&Trigger> = triggers.iter().copied().filter(tells).collect();
        if triggers.is_empty() {
            return Some(Missing::Whose(given.iter().cloned().collect()));
        }
        let mut events = events(&triggers);
        if !is_emptied {
            events.push("TRUNCATE");
        }
        if !events.is_empty() {
            return Some(Missing::Events(events));
        }
        let columns = columns(&triggers, reading, table, given);
        if !columns.is_empty() {
            return Some(Missing::Columns(columns));
        }
        if asked.has_parent {
            let tells =
                |trigger: &&Trigger| trigger.function == CHILDREN && trigger.argument == asked.kind;
            let triggers: Vec<&Trigger> = table.triggers.iter().filter(tells).collect();
            if !self::events(&triggers).is_empty()
                || !self::columns(&triggers, reading, table, given).is_empty()
            {
                return Some(Missing::Children);
            }
        }
    }
    None
}

/// Those of a row that none of these triggers tells of.
fn events(triggers: &[&Trigger]) -> Vec<&'static str> {
    let any = |is: fn(&Trigger) -> bool| triggers.iter().any(|trigger| is(trigger));
    let told = [
        ("INSERT", any(|trigger| trigger.inserts)),
        ("UPDATE", any(|trigger| trigger.updates)),
        ("DELETE", any(|trigger| trigger.deletes)),
    ];
    let untold = told.into_iter().filter(|(_, is_told)| !is_told);
    untold.map(|(event, _)| event).collect()
}

/// Those that may be read, and of whose updates none of these triggers tells. An id is not given to another thing, so that a key need not be
/// told of where it is what is asked for.
fn columns(
    triggers: &[&Trigger],
    reading: &Reading,
    table: &Table,
    given: &BTreeSet<String>,
) -> Vec<String> {
    let is_told = |column: &String| {
        let mut updates = triggers.iter().filter(|trigger| trigger.updates);
        updates.any(|trigger| trigger.columns.is_empty() || trigger.columns.contains(column))
    };
    let is_read = |column: &String| {
        let is_key = table.key.as_ref() == Some(column) && given.contains(column);
        !is_key && reading.names(column)
    };
    let columns = table.columns.iter();
    columns
        .filter(|column| is_read(column) && !is_told(column))
        .cloned()
        .collect()
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
            key: "id".to_owned(),
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
        found_by(asked, triggers, reads_all, &[&["id"]])
    }

    fn found_by(
        asked: &Asked,
        triggers: Vec<Trigger>,
        reads_all: bool,
        scans: &[&[&str]],
    ) -> Option<Missing> {
        let names = |names: &&[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let reading = Reading {
            tables: vec![Table {
                name: "public.t".to_owned(),
                is_table: true,
                key: Some("id".to_owned()),
                columns: ["id", "owner", "title"].map(str::to_owned).into(),
                triggers,
                scans: scans.iter().map(names).collect(),
            }],
            is_whole: true,
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
        for (children, missing) in [
            (trigger(CHILDREN, "project", &["owner"]), None),
            (trigger(CHILDREN, "file", &[]), Some(Missing::Children)),
            (
                trigger(CHILDREN, "project", &["parent"]),
                Some(Missing::Children),
            ),
            (
                trigger("foregate_tell_children_of", "project", &[]),
                Some(Missing::Children),
            ),
            (
                Trigger {
                    deletes: false,
                    ..trigger(CHILDREN, "project", &[])
                },
                Some(Missing::Children),
            ),
        ] {
            let all = vec![whole.clone(), children, everything()];
            assert_eq!(found(&parents, all, false), missing);
        }
        // It tells of what was made from a row, not of the row.
        let all = vec![trigger(CHILDREN, "project", &[]), everything()];
        assert_eq!(found(&parents, all, false), Some(Missing::Everything));
    }

    #[test]
    fn whoever_is_told_of_must_be_whoever_the_rows_are_found_for() {
        let project = asked(false);
        let direct = trigger(FUNCTION, "project", &[]);
        let own = trigger("foregate_tell_members", "project", &[]);
        let found = |triggers: &[&Trigger], scans: &[&[&str]]| {
            let mut all: Vec<Trigger> = triggers.iter().map(|one| (*one).clone()).collect();
            all.push(everything());
            found_by(&project, all, false, scans)
        };
        let whose = |columns: &[&str]| {
            let columns = columns.iter().map(|name| (*name).to_owned());
            Some(Missing::Whose(columns.collect()))
        };
        assert_eq!(found(&[&direct], &[&["id"]]), None);
        assert_eq!(found(&[&direct], &[&["owner"]]), whose(&["owner"]));
        assert_eq!(found(&[&direct], &[&[]]), whose(&[]));
        assert_eq!(found(&[&own], &[&[]]), None);
        assert_eq!(found(&[&own], &[&["id"]]), whose(&["id"]));
        assert_eq!(found(&[&own], &[&["id"], &[]]), whose(&["id"]));
        assert_eq!(found(&[&own, &direct], &[&["id"], &[]]), None);
        // A key that is not what is asked for may change like any other column.
        let narrow = trigger("foregate_tell_members", "project", &["owner"]);
        let id = Some(Missing::Columns(vec!["id".to_owned()]));
        assert_eq!(found(&[&narrow], &[&[]]), id);
    }
}
