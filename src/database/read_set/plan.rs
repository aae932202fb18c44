//! The plan of a statement, as `explain (verbose, format json)` writes it, and what it says is
//! read.

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

/// Expressions that a plan writes as capitals without parentheses: clocks, and session properties.
const KEYWORDS: [&str; 12] = [
    "CURRENT_CATALOG",
    "CURRENT_DATE",
    "CURRENT_ROLE",
    "CURRENT_SCHEMA",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "SESSION_USER",
    "SYSTEM_USER",
    "USER",
];

/// The type of a time of day with a zone. A cast to it takes the offset of today, and a plan shows
/// no function for it.
const TIME_WITH_ZONE: &str = "time with time zone";

/// Texts that date and time types read as the clock, such as `'today'::date`. The parser puts the
/// date in their place, so only the statement shows them, and the
/// catalog those of functions.
const CLOCK_WORDS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

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
    scans: Vec<Scan>,
    /// Whether it reads a random sample of some table.
    is_sampled: bool,
    /// Whether partitions are left out of it.
    is_pruned: bool,
    /// Whether an InitPlan's output has the name of the parameter, as up to PostgreSQL 16, so that
    /// `$1` may be either.
    is_parameter_ambiguous: bool,
}

/// Plans a statement for any parameter. The transaction keeps a pooler on one connection, and
/// leaves no prepared statement on it.
pub(super) async fn explain(
    client: &Client,
    sql: &str,
    id: ParamType,
    deadline: Instant,
) -> Result<Plan, Error> {
    let script = format!(
        "{}; set local plan_cache_mode = force_generic_plan; prepare {NAME} ({}) as {sql}; explain (verbose, format json) execute {NAME} (null); deallocate {NAME}; rollback",
        begin(deadline),
        id.as_str()
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
    let mut plan = Plan::default();
    plan.add_words(sql);
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message
            && let Some(text) = row.get(0)
            && let Ok(explained) = serde_json::from_str::<Value>(text)
        {
            plan.walk(&explained, true);
        }
    }
    Ok(plan)
}

impl Plan {
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
        let unstable = unstable.iter().map(|function| &function.name);
        let unstable = unstable.chain(&catalog.clock_functions);
        let unstable = unstable.map(|name| format!("{name}()"));
        ReadSet {
            // A table that the catalog does not list was dropped meanwhile.
            is_complete: !self.is_pruned && !tables.is_empty() && tables.len() == self.tables.len(),
            tables,
            functions: opaque
                .iter()
                .map(|function| function.name.clone())
                .collect(),
            unstable: unstable.chain(self.unstable_expressions()).collect(),
            words: self.words,
            reads_all_columns: self.reads_all_columns,
        }
    }

    /// What depends on a clock, the session or chance without being a function call.
    fn unstable_expressions(&self) -> impl Iterator<Item = String> {
        let is_keyword = |keyword: &&str| {
            let is_other = |c: char| !c.is_alphanumeric() && c != '_';
            let mut words = self.unquoted.split(is_other);
            words.any(|word| word == *keyword)
        };
        let is_clock = |text: &&str| {
            self.words.contains(*text) || words(&self.expressions).any(|word| word == *text)
        };
        KEYWORDS
            .into_iter()
            .filter(is_keyword)
            .chain(CLOCK_WORDS.into_iter().filter(is_clock))
            .chain(
                self.unquoted
                    .contains(TIME_WITH_ZONE)
                    .then_some(TIME_WITH_ZONE),
            )
            .chain(self.is_sampled.then_some("TABLESAMPLE"))
            .map(str::to_owned)
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
mod tests {
    use super::super::catalog::Function;
    use super::*;
    use serde_json::json;

    fn walked(explained: &Value) -> Plan {
        let mut plan = Plan::default();
        plan.walk(explained, true);
        plan
    }

    #[test]
    fn a_star_that_stands_for_columns_is_found() {
        for sql in ["select * from t", "SELECT t.* from t", "select a, * from t"] {
            assert!(has_column_star(sql), "{sql}");
        }
        for sql in ["select count(*) from t", "select a * 2 from t", "select a"] {
            assert!(!has_column_star(sql), "{sql}");
        }
    }

    #[test]
    fn only_a_whole_function_name_is_a_call() {
        assert!(calls("x\npublic.lookup(t.id)", "lookup"));
        assert!(calls("\"Look\"(t.id)", "Look"));
        assert!(!calls("is_lookup(t.id)", "lookup"));
        assert!(!calls("t.lookup", "lookup"));
    }

    #[test]
    fn a_clock_in_a_plan_or_a_statement_is_unstable() {
        let function = |name: &str, is_opaque| Function {
            name: name.to_owned(),
            is_opaque,
        };
        let catalog = Catalog {
            functions: vec![function("now", false), function("lookup", true)],
            ..Catalog::default()
        };
        let unstable = |sql: &str, explained: &Value| {
            let mut plan = walked(explained);
            plan.add_words(sql);
            plan.read_set(&catalog).unstable
        };
        let filter = |text: &str| json!({ "Filter": text });
        for text in [
            "(t.lent_until > now())",
            "(t.lent_until > CURRENT_TIMESTAMP)",
            "(t.lent_until > LOCALTIMESTAMP(3))",
            "(t.lent_to = CURRENT_USER)",
            "(t.lent_until > ('now'::text)::date)",
            "((t.opens)::time with time zone > t.closes)",
        ] {
            assert!(!unstable("select 1", &filter(text)).is_empty(), "{text}");
        }
        let date = filter("(t.lent_until > '2026-01-01'::date)");
        let sql = "select owner from t where id = $1 and lent_until > 'Today'::date";
        assert_eq!(unstable(sql, &date), ["today"]);
        assert_eq!(unstable("select 1", &date), [""; 0]);
        let sample = json!({ "Sampling Method": "system" });
        assert_eq!(unstable("select 1", &sample), ["TABLESAMPLE"]);
        for text in [
            r#"("user".id = 'USER'::text)"#,
            r#"(t."CURRENT_DATE" = t.current_user)"#,
            "(unknown(t.id))",
            "(lookup(t.id))",
            "(t.until > '2026-01-01 00:00:00+00'::timestamp with time zone)",
        ] {
            assert_eq!(unstable("select 1", &filter(text)), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_quotation_mark_in_a_name_hides_no_clock() {
        for alias in ["o'neil", "5\" screen", "'", "\"'"] {
            let filter = "(x.until > CURRENT_TIMESTAMP)";
            let plan = walked(&json!([{ "Alias": alias, "Filter": filter }]));
            let unstable = plan.read_set(&Catalog::default()).unstable;
            assert_eq!(unstable, ["CURRENT_TIMESTAMP"], "{alias}");
        }
    }

    #[test]
    fn a_function_that_hides_a_clock_makes_every_query_unstable() {
        let catalog = Catalog {
            clock_functions: vec!["cutoff".to_owned()],
            ..Catalog::default()
        };
        let plan = walked(&json!({ "Filter": "(t.until > '2026-01-01'::date)" }));
        assert_eq!(plan.read_set(&catalog).unstable, ["cutoff()"]);
    }

    #[test]
    fn a_plan_shows_tables_and_compared_columns_but_not_whole_rows_of_inner_nodes() {
        let plan = walked(&json!([{ "Plan": {
            "Node Type": "Nested Loop", "Output": ["a.owner"],
            "Plans": [{ "Parent Relationship": "Outer", "Schema": "public", "Relation Name": "a", "Output": ["a.owner", "a.secret"], "Filter": "a.shown" }]
        } }]));
        assert_eq!(Vec::from_iter(plan.tables), ["public.a"]);
        assert!(plan.words.contains("owner") && plan.words.contains("shown"));
        assert!(!plan.words.contains("secret"));
    }

    #[test]
    fn the_output_of_a_subquery_or_a_member_is_read() {
        for relation in ["Subquery", "Member", "InitPlan", "SubPlan"] {
            let plan = walked(&json!([{ "Plan": {
                "Node Type": "Append",
                "Plans": [{ "Parent Relationship": relation, "Output": ["(CASE WHEN a.archived THEN a.owner END)"] }]
            } }]));
            assert!(plan.words.contains("archived"), "{relation}");
        }
    }

    #[test]
    fn comparing_a_whole_row_reads_all_columns() {
        let plan = walked(&json!({ "Filter": "(p.* IS NOT NULL)" }));
        assert!(plan.reads_all_columns);
    }

    #[test]
    fn a_column_name_of_several_words_is_found() {
        let mut plan = Plan::default();
        plan.add_words(r#"select "Owner Id" from t"#);
        let read_set = plan.read_set(&Catalog::default());
        assert!(read_set.mentions("Owner Id") && !read_set.mentions("Other Id"));
    }

    #[test]
    fn the_output_of_an_init_plan_is_not_taken_for_the_parameter() {
        for (outputs, is_parameter) in
            [("$0", true), ("$0,$1", false), ("$1", false), ("$10", true)]
        {
            let plan = walked(&json!([{ "Plan": {
                "Schema": "public", "Relation Name": "a", "Alias": "a", "Filter": "(a.id = $1)",
                "Plans": [{ "Node Type": "Result", "Subplan Name": format!("InitPlan 2 (returns {outputs})") }]
            } }]));
            assert_eq!(!plan.is_parameter_ambiguous, is_parameter, "{outputs}");
        }
    }

    #[test]
    fn a_plan_without_tables_or_with_pruned_partitions_is_incomplete() {
        let table = Table {
            name: "public.a".to_owned(),
            is_table: true,
            key: None,
            columns: Vec::new(),
            triggers: Vec::new(),
            rewriters: Vec::new(),
            scans: Vec::new(),
        };
        let catalog = Catalog {
            tables: vec![table],
            ..Catalog::default()
        };
        for (removed, name, is_complete) in [(0, "a", true), (1, "a", false), (0, "dropped", false)]
        {
            let explained = json!([{ "Plan": {
                "Node Type": "Append", "Subplans Removed": removed,
                "Plans": [{ "Schema": "public", "Relation Name": name, "Alias": name }]
            } }]);
            let read_set = walked(&explained).read_set(&catalog);
            assert_eq!(read_set.is_complete, is_complete, "{explained}");
        }
        let plan = walked(&json!([{ "Plan": { "Node Type": "Result" } }]));
        assert!(!plan.read_set(&catalog).is_complete);
    }
}
