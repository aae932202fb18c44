//! What the coverage of a table says to operators.

use std::fmt;

use super::{CHILDREN, FUNCTION, PREFIX};

/// A table that a query reads, and which of its changes are not reported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableCoverage {
    /// The table; for a function, its name with `()`.
    pub table: String,
    /// The facts that are read from it: a resource type, `caller` or `memberships`.
    pub kind: String,
    /// The configuration key of the query.
    pub key: String,
    /// What is missing; `None` if every change is reported.
    pub missing: Option<Missing>,
}

/// Why a query is not covered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Missing {
    /// No trigger reports changes of the table.
    Triggers,
    /// These events are not reported.
    Events(Vec<&'static str>),
    /// Updates of these columns are not reported.
    Columns(Vec<String>),
    /// A BEFORE trigger may change these columns in an UPDATE of others, which is not reported.
    Rewritten(Vec<String>),
    /// Changes are not reported for the right ids: the query finds rows by these columns, or
    /// through other rows if there are none.
    Ids(Vec<String>),
    /// Its triggers do not run under `session_replication_role = replica`.
    Replication,
    /// Changes are not reported for the children of a row.
    Children,
    /// The plan does not show everything that is read.
    IncompletePlan,
    /// It is not a table that can have triggers.
    NoTable,
    /// It is a function, and the plan does not show what that reads.
    Function,
    /// Its result may change while no row does.
    Unstable,
}

impl TableCoverage {
    /// Whether it says only that the query's result may change while no row does.
    pub(crate) fn is_unstable(&self) -> bool {
        self.missing == Some(Missing::Unstable)
    }
}

impl fmt::Display for TableCoverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table, kind, key, ..
        } = self;
        let Some(missing) = &self.missing else {
            return write!(f, "changes of `{table}` are reported as `{kind}`");
        };
        match missing {
            Missing::IncompletePlan => {
                return write!(
                    f,
                    "the plan of `{key}` does not show everything that is read: it names no table, or leaves partitions out"
                );
            }
            Missing::Function => {
                return write!(
                    f,
                    "`{key}` calls `{table}`, and a plan does not show what that reads; inline it in the query"
                );
            }
            Missing::Unstable => {
                return write!(
                    f,
                    "`{key}` uses `{table}`, whose result may change while no row does; its facts keep the short cache lifetime (30 s)"
                );
            }
            Missing::Triggers
            | Missing::Events(_)
            | Missing::Columns(_)
            | Missing::Rewritten(_)
            | Missing::Ids(_)
            | Missing::Replication
            | Missing::Children
            | Missing::NoTable => write!(f, "`{table}`, which `{key}` reads, ")?,
        }
        match missing {
            Missing::Triggers => write!(f, "has no trigger that reports changes for `{kind}`"),
            Missing::Events(events) => {
                write!(f, "has no trigger for `{kind}` on {}", events.join(", "))
            }
            Missing::Columns(columns) => write!(
                f,
                "has no trigger for `{kind}` on UPDATE of {}",
                columns.join(", ")
            ),
            Missing::Rewritten(columns) => write!(
                f,
                "has a BEFORE UPDATE trigger that may change {}, and no trigger for `{kind}` on UPDATE of all columns",
                columns.join(", ")
            ),
            Missing::Replication => f.write_str(
                "has triggers that do not run during a restore or logical replication (session_replication_role = replica): ALTER TABLE … ENABLE ALWAYS TRIGGER …",
            ),
            Missing::Children => write!(
                f,
                "has no trigger with `{CHILDREN}('{kind}')`, for the children of a changed row, on all its events and columns"
            ),
            Missing::Ids(columns) if columns.is_empty() => write!(
                f,
                "is searched through other tables: it has no trigger for `{kind}` with a function `{PREFIX}…` that finds all affected ids"
            ),
            Missing::Ids(columns) => write!(
                f,
                "is searched by {}: it has no trigger with `{FUNCTION}('{kind}', …)` and that column",
                columns.join(", ")
            ),
            Missing::NoTable => f.write_str("is not a table that can have triggers"),
            Missing::IncompletePlan | Missing::Function | Missing::Unstable => Ok(()),
        }
    }
}
