//! The plan of a statement, as `explain (verbose, format json)` writes it.
//!
//! Decides:  which tables, columns and functions a statement reads, and whether it reads a clock.
//! Trusts:   PostgreSQL's plan.
//! Not here: whether changes of these are reported (`facts::trigger_coverage`).

mod clock;

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Map, Value};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::catalog::Catalog;
use super::equality::{self, PARAMETER, Scan};
use super::{ReadSet, Table, begin, words};
use crate::policy::resources::ParamType;

/// The name of the prepared statement, which exists inside one transaction.
const NAME: &str = "foregate_reading";

/// What a plan says.
#[derive(Default)]
pub(super) struct Plan {
    tables: BTreeSet<String>,
    words: BTreeSet<String>,
    reads_all_columns: bool,
    /// All its expressions, one per line.
    expressions: String,
    /// The same without their quoted parts. Names stand in a plan without quotes, so a mark in one
    /// of them must not reach the next line.
    unquoted: String,
    /// The statement itself.
    statement: String,
    /// The texts of its constants.
    constants: BTreeSet<String>,
    /// Whether its constants differ each time it is planned.
    has_changing_constant: bool,
    scans: Vec<Scan>,
    /// Whether it reads a random sample of some table.
    is_sampled: bool,
    /// Whether partitions are left out of it.
    is_pruned: bool,
    /// Whether an InitPlan's output has the name of the parameter, as up to PostgreSQL 16, so that
    /// `$1` may be either.
    is_parameter_ambiguous: bool,
}

/// Plans a statement for any parameter, twice: a clock that became a constant is another one the
/// second time.
pub(super) async fn explain(
    client: &Client,
    sql: &str,
    params: &[ParamType],
    deadline: Instant,
) -> Result<Plan, Error> {
    let explained = explain_once(client, sql, params, deadline).await?;
    let mut plan = Plan::of(sql, explained.as_ref());
    let explained = explain_once(client, sql, params, deadline).await?;
    let again = Plan::of(sql, explained.as_ref());
    plan.has_changing_constant = plan.constants != again.constants;
    Ok(plan)
}

/// In a transaction, which keeps a pooler on one connection, and leaves no prepared statement on
/// it.
async fn explain_once(
    client: &Client,
    sql: &str,
    params: &[ParamType],
    deadline: Instant,
) -> Result<Option<Value>, Error> {
    let types: Vec<&str> = params.iter().map(|kind| kind.as_str()).collect();
    let values = vec!["null"; params.len()];
    let script = format!(
        "{}; set local plan_cache_mode = force_generic_plan; prepare {NAME} ({}) as {sql}; explain (verbose, format json) execute {NAME} ({}); deallocate {NAME}; rollback",
        begin(deadline),
        types.join(", "),
        values.join(", ")
    );
    let messages = match client.simple_query(&script).await {
        Ok(messages) => messages,
        Err(error) => {
            // Not DEALLOCATE ALL: behind a pooler the other names belong to other clients.
            let clear = format!("rollback; deallocate {NAME}");
            client.batch_execute(&clear).await.ok();
            return Err(error);
        }
    };
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        SimpleQueryMessage::CommandComplete(_) | SimpleQueryMessage::RowDescription(_) | _ => None,
    });
    Ok(row.and_then(|text| serde_json::from_str(text).ok()))
}

impl Plan {
    fn of(sql: &str, explained: Option<&Value>) -> Self {
        let mut plan = Self {
            statement: sql.to_owned(),
            ..Self::default()
        };
        plan.add_words(sql);
        if let Some(explained) = explained {
            plan.walk(explained, true);
        }
        plan
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().map(String::as_str)
    }

    /// The read set that follows from the plan and the catalog.
    pub(super) fn read_set(self, catalog: &Catalog) -> ReadSet {
        let bound_columns = match self.is_parameter_ambiguous {
            true => vec![BTreeSet::new(); self.scans.len()],
            false => equality::bound_columns(&self.scans),
        };
        let tables: Vec<Table> = catalog
            .tables
            .iter()
            .filter(|table| self.tables.contains(&table.name))
            .map(|table| {
                let scans = self.scans.iter().zip(&bound_columns);
                let scans = scans.filter(|(scan, _)| scan.table == table.name);
                Table {
                    scans: scans.map(|(_, columns)| columns.clone()).collect(),
                    ..table.clone()
                }
            })
            .collect();
        let (opaque, unstable): (Vec<_>, Vec<_>) = catalog
            .functions
            .iter()
            .filter(|function| calls(&self.expressions, &function.name))
            .partition(|function| function.is_opaque);
        let folded = catalog.functions.iter().filter(|function| {
            let name = &function.name;
            function.is_folded && calls(&self.statement, name) && !calls(&self.expressions, name)
        });
        let unstable = unstable.into_iter().chain(folded);
        let unstable = unstable.map(|function| &function.name);
        let unstable = unstable.chain(&catalog.clock_functions);
        let unstable = unstable.map(|name| format!("{name}()"));
        let text = self.time_from_text(&tables);
        ReadSet {
            // A table that the catalog does not list was dropped meanwhile.
            is_complete: !self.is_pruned && !tables.is_empty() && tables.len() == self.tables.len(),
            tables,
            functions: opaque
                .iter()
                .map(|function| function.name.clone())
                .collect(),
            unstable: unstable
                .chain(self.unstable_expressions())
                .chain(text)
                .collect(),
            words: self.words,
            reads_all_columns: self.reads_all_columns,
        }
    }

    fn add_words(&mut self, text: &str) {
        self.reads_all_columns |= has_column_star(text);
        self.words.extend(words(text));
    }

    fn add_expression(&mut self, text: &str) {
        self.expressions.push_str(text);
        self.expressions.push('\n');
        self.unquoted.push_str(&equality::unquoted(text));
        self.unquoted.push('\n');
        let parts = text.split('\'');
        // Every second part is inside quotes.
        let constants = parts.skip(1).step_by(2).map(str::to_owned);
        self.constants.extend(constants);
    }

    /// `is_output_read` says whether somebody reads everything that a node outputs: the client, or
    /// the node above it.
    fn walk(&mut self, value: &Value, is_output_read: bool) {
        match value {
            Value::Array(values) => values
                .iter()
                .for_each(|value| self.walk(value, is_output_read)),
            Value::Object(node) => self.walk_node(node, is_output_read),
            Value::String(text) => {
                self.add_expression(text);
                self.add_words(text);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn walk_node(&mut self, node: &Map<String, Value>, is_output_read: bool) {
        self.note_node(node);
        for (key, value) in node {
            match (key.as_str(), value) {
                ("Output", Value::Array(values)) => {
                    for text in values.iter().filter_map(Value::as_str) {
                        self.add_expression(text);
                        if is_output_read {
                            self.add_words(text);
                        }
                    }
                }
                ("Plans", Value::Array(children)) => {
                    // Both arms of a union output what the union outputs. Elsewhere an inner node
                    // may output whole rows that nobody reads; the output of a subquery, a member
                    // or a subplan is read.
                    let is_union =
                        matches!(text(node, "Node Type"), Some("Recursive Union" | "SetOp"));
                    for child in children {
                        let relation = child.get("Parent Relationship").and_then(Value::as_str);
                        let is_inner = matches!(relation, Some("Outer" | "Inner"));
                        self.walk(child, is_union || !is_inner);
                    }
                }
                (_, other) => self.walk(other, is_output_read),
            }
        }
    }

    /// Notes the table that a node scans, and whatever makes the plan incomplete or ambiguous.
    fn note_node(&mut self, node: &Map<String, Value>) {
        if let (Some(schema), Some(name)) = (text(node, "Schema"), text(node, "Relation Name")) {
            let table = format!("{schema}.{name}");
            let alias = text(node, "Alias").unwrap_or(name);
            let conditions = ["Index Cond", "Recheck Cond", "Filter"];
            let conditions = conditions.into_iter().filter_map(|key| text(node, key));
            self.scans.push(Scan::new(&table, alias, conditions));
            self.tables.insert(table);
        }
        let outputs = text(node, "Subplan Name").and_then(|name| name.split_once("(returns "));
        self.is_parameter_ambiguous |= outputs.is_some_and(|(_, names)| {
            let mut names = names.trim_end_matches(')').split(',');
            names.any(|name| name.trim() == PARAMETER)
        });
        self.is_sampled |= node.contains_key("Sampling Method");
        let removed = node.get("Subplans Removed").and_then(Value::as_u64);
        self.is_pruned |= removed.is_some_and(|removed| removed > 0);
    }
}

fn text<'a>(node: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    node.get(key).and_then(Value::as_str)
}

/// Whether a text has a `*` that stands for columns: not the one of `count(*)` or of a product.
fn has_column_star(text: &str) -> bool {
    text.match_indices('*').any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default().trim_end();
        before.ends_with('.')
            || before.ends_with(',')
            || before
                .rsplit(|c: char| !c.is_alphanumeric())
                .next()
                .is_some_and(|word| word.eq_ignore_ascii_case("select"))
    })
}

/// Whether a text calls a function of this name.
fn calls(text: &str, function: &str) -> bool {
    text.match_indices(function).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + function.len()..).unwrap_or_default();
        let is_whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        is_whole && after.trim_start_matches('"').starts_with('(')
    })
}

#[cfg(test)]
mod tests;
