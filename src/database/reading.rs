//! Which tables a statement reads, and which triggers tell of changes in them.
//!
//! Decides:  what the plan of a statement says it reads. Trusts: the database's planner and catalog.
//! Not here: whether the triggers are those that are needed (`facts::proof`).
//!
//! A plan names every table it reads, also behind a view or a policy. It is made for any parameter and never carried out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::scan::{self, Scan};
use crate::clock;
use crate::policy::resources::ParamType;

/// What one statement reads.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Its tables, by name.
    pub tables: Vec<Table>,
    /// Functions of the operator's that it calls: what those read is in no plan.
    pub functions: Vec<String>,
    /// What it calls whose result may change while no row does, such as a clock.
    pub unstable: Vec<String>,
    /// Lower-case words of the statement and of what its plan compares and gives: whatever column it reads is among them.
    pub words: BTreeSet<String>,
    /// Whether it reads all columns of something.
    pub reads_all: bool,
    /// Whether the plan shows all that it reads: some table, and every partition.
    pub is_whole: bool,
}

/// A table, and what tells of its changes.
#[derive(Clone, Debug)]
pub struct Table {
    /// With its schema.
    pub name: String,
    /// Whether it holds its own rows; a foreign table or a materialised view changes where no trigger sees it.
    pub is_table: bool,
    /// The column of its primary key, if that is one.
    pub key: Option<String>,
    /// Its columns.
    pub columns: Vec<String>,
    /// Its triggers.
    pub triggers: Vec<Trigger>,
    /// For each time that it is read, the columns that are what the statement is given; none where its rows are found through others.
    pub scans: Vec<BTreeSet<String>>,
}

impl Reading {
    /// Whether it may read a column of this name.
    pub fn names(&self, column: &str) -> bool {
        self.reads_all || words(column).all(|word| self.words.contains(&word))
    }
}

/// A trigger that is switched on, without a condition.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// The function it calls.
    pub function: String,
    /// The first argument that it gives.
    pub argument: String,
    /// The second one.
    pub key: String,
    /// Whether it is called for each row after an insertion.
    pub inserts: bool,
    /// The same for an update.
    pub updates: bool,
    /// The same for a deletion.
    pub deletes: bool,
    /// Whether it is called after everything was taken out at once.
    pub truncates: bool,
    /// The only columns whose updates it is called for; empty for all.
    pub columns: Vec<String>,
}

/// `pg_trigger.tgtype`.
const ROW: i32 = 1;
const BEFORE: i32 = 2;
const INSERT: i32 = 4;
const DELETE: i32 = 8;
const UPDATE: i32 = 16;
const TRUNCATE: i32 = 32;
const INSTEAD: i32 = 64;

/// How much earlier than its deadline the server ends a statement, so that it is over there when it is over here.
const EARLIER: Duration = Duration::from_millis(500);

/// How long a plan waits for a table that somebody changes. A choice: a migration holds its locks for less, or for much longer.
const LOCK: Duration = Duration::from_secs(1);

/// The name a plan is made under, inside one transaction.
const NAME: &str = "foregate_reading";

const TABLES: &str = "select n.nspname || '.' || c.relname, c.relkind in ('r', 'p'),
  array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
  (select a.attname::text from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
    where i.indrelid = c.oid and i.indisprimary and i.indnkeyatts = 1)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname || '.' || c.relname = any ($1)";

const TRIGGERS: &str = "select n.nspname || '.' || c.relname, p.proname::text,
  split_part(encode(t.tgargs, 'escape'), '\\000', 1), t.tgtype::int4,
  array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum = any (t.tgattr)),
  split_part(encode(t.tgargs, 'escape'), '\\000', 2)
from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
where t.tgenabled in ('O', 'A') and t.tgqual is null and n.nspname || '.' || c.relname = any ($1)";

/// Functions by name, and whether one of that name may read tables without the plan showing it: it is
/// written in a language that can, or is an aggregate of somebody's own. The others are not immutable.
const FUNCTIONS: &str = "select name, bool_or(is_opaque) from (
  select p.proname::text as name,
    n.nspname not in ('pg_catalog', 'information_schema') and (l.lanname not in ('internal', 'c') or p.prokind = 'a') as is_opaque,
    p.provolatile <> 'i' and not (n.nspname = 'pg_catalog' and p.proname = any ($1)) as is_unstable
  from pg_proc p join pg_language l on l.oid = p.prolang join pg_namespace n on n.oid = p.pronamespace) as f
where is_opaque or is_unstable group by name";

/// Built-in functions that are not immutable only because they write a value or read one by the
/// settings of the session, such as its time zone, which are the same on every connection of ours. They
/// read no clock and no rows.
const STEADY: [&str; 39] = [
    "array_to_json",
    "array_to_string",
    "concat",
    "concat_ws",
    "date",
    "date_part",
    "date_trunc",
    "format",
    "generate_series",
    "json_agg",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "json_populate_record",
    "json_populate_recordset",
    "json_to_record",
    "json_to_recordset",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "jsonb_populate_record",
    "jsonb_populate_recordset",
    "jsonb_to_record",
    "jsonb_to_recordset",
    "make_timestamptz",
    "quote_literal",
    "quote_nullable",
    "row_to_json",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "timezone",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_timestamp",
];

/// What a plan writes without parentheses, in capitals, and is the clock or who asks.
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

/// Texts that the date and time types read as the clock, such as `'today'::date`. A plan shows the
/// date in their place, so they are looked for in the statement, too.
const CLOCK_TEXTS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

/// What each of these reads.
pub(super) async fn of(
    client: &Client,
    statements: &[(Arc<str>, ParamType)],
    deadline: Instant,
) -> Result<Vec<Reading>, Error> {
    let mut plans = Vec::with_capacity(statements.len());
    for (sql, kind) in statements {
        plans.push(plan(client, sql, *kind, deadline).await?);
    }
    client.batch_execute(&begin(deadline)).await?;
    let steady: Vec<&str> = STEADY.to_vec();
    let functions: Vec<(String, bool)> = client
        .query_typed(FUNCTIONS, &[(&steady, Type::TEXT_ARRAY)])
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, Error>>()?;
    let names: BTreeSet<&String> = plans.iter().flat_map(|plan| &plan.tables).collect();
    let names: Vec<&String> = names.into_iter().collect();
    let mut tables = Vec::with_capacity(names.len());
    for row in client
        .query_typed(TABLES, &[(&names, Type::TEXT_ARRAY)])
        .await?
    {
        tables.push(Table {
            name: row.try_get(0)?,
            is_table: row.try_get(1)?,
            columns: row.try_get(2)?,
            key: row.try_get(3)?,
            triggers: Vec::new(),
            scans: Vec::new(),
        });
    }
    for row in client
        .query_typed(TRIGGERS, &[(&names, Type::TEXT_ARRAY)])
        .await?
    {
        let name: String = row.try_get(0)?;
        let kind: i32 = row.try_get(3)?;
        let is = |bits: i32| kind & bits == bits;
        let after = kind & (BEFORE | INSTEAD) == 0;
        let trigger = Trigger {
            function: row.try_get(1)?,
            argument: row.try_get(2)?,
            inserts: after && is(ROW | INSERT),
            updates: after && is(ROW | UPDATE),
            deletes: after && is(ROW | DELETE),
            truncates: after && is(TRUNCATE),
            columns: row.try_get(4)?,
            key: row.try_get(5)?,
        };
        if let Some(table) = tables.iter_mut().find(|table| table.name == name) {
            table.triggers.push(trigger);
        }
    }
    client.batch_execute("commit").await?;
    Ok(plans
        .into_iter()
        .map(|plan| plan.reading(&tables, &functions))
        .collect())
}

/// Begins a transaction of which no statement lives longer than until the deadline.
pub(super) fn begin(deadline: Instant) -> String {
    let left = deadline.saturating_duration_since(clock::now());
    let statement = left
        .saturating_sub(EARLIER)
        .max(Duration::from_millis(1))
        .as_millis();
    let lock = statement.min(LOCK.as_millis());
    format!(
        "begin read only; set local statement_timeout = {statement}; set local lock_timeout = {lock}"
    )
}

/// What a plan says.
#[derive(Default)]
struct Plan {
    tables: BTreeSet<String>,
    words: BTreeSet<String>,
    reads_all: bool,
    /// Everything in it that is computed.
    calls: String,
    /// Where it reads some rows at random.
    is_sampled: bool,
    /// Where it reads a table.
    scans: Vec<Scan>,
    /// Whether partitions are left out of it.
    is_cut: bool,
    /// Until PostgreSQL 16 a subselect's output has a name like a parameter's, so that `$1` may be either.
    names_outputs: bool,
}

/// A plan for any parameter. The transaction holds a pooler to one connection, and leaves no name on it.
async fn plan(
    client: &Client,
    sql: &str,
    kind: ParamType,
    deadline: Instant,
) -> Result<Plan, Error> {
    let asked = format!(
        "{}; set local plan_cache_mode = force_generic_plan; prepare {NAME} ({}) as {sql}; explain (verbose, format json) execute {NAME} (null); deallocate {NAME}; rollback",
        begin(deadline),
        kind.as_str()
    );
    let answer = match client.simple_query(&asked).await {
        Ok(answer) => answer,
        Err(error) => {
            // Behind a pooler other names on the connection are other clients'.
            let clear = format!("rollback; deallocate {NAME}");
            client.batch_execute(&clear).await.ok();
            return Err(error);
        }
    };
    let mut plan = Plan::default();
    plan.words(sql);
    for message in answer {
        if let SimpleQueryMessage::Row(row) = message
            && let Some(text) = row.get(0)
            && let Ok(told) = serde_json::from_str::<Value>(text)
        {
            plan.walk(&told, true);
        }
    }
    Ok(plan)
}

impl Plan {
    /// All of it, with what the catalog says.
    fn reading(self, tables: &[Table], functions: &[(String, bool)]) -> Reading {
        let called = |is_opaque: bool| {
            let functions = functions.iter().filter(move |(_, is)| *is == is_opaque);
            functions
                .map(|(name, _)| name)
                .filter(|name| calls(&self.calls, name))
        };
        let (opaque, unstable) = (called(true), called(false));
        let unstable = unstable.map(|name| format!("{name}()"));
        let unstable: Vec<String> = unstable.chain(self.clocks()).collect();
        let given = match self.names_outputs {
            true => vec![BTreeSet::new(); self.scans.len()],
            false => scan::given(&self.scans),
        };
        let tables: Vec<Table> = tables
            .iter()
            .filter(|table| self.tables.contains(&table.name))
            .map(|table| {
                let scans = self.scans.iter().zip(&given);
                let scans = scans.filter(|(scan, _)| scan.table == table.name);
                Table {
                    scans: scans.map(|(_, given)| given.clone()).collect(),
                    ..table.clone()
                }
            })
            .collect();
        Reading {
            // One that the catalog does not know any more was dropped meanwhile.
            is_whole: !self.is_cut && !tables.is_empty() && tables.len() == self.tables.len(),
            tables,
            functions: opaque.cloned().collect(),
            unstable,
            words: self.words,
            reads_all: self.reads_all,
        }
    }

    /// What reads the clock, tells who asks, or is random, and is no call of a function.
    fn clocks(&self) -> impl Iterator<Item = String> {
        let plain = scan::unquoted(&self.calls);
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let keywords = KEYWORDS.into_iter().filter(move |keyword| {
            let mut words = plain.split(|c| !is_part(c));
            words.any(|word| word == *keyword)
        });
        let texts = CLOCK_TEXTS.into_iter().filter(|text| {
            words(&self.calls).any(|word| word == *text) || self.words.contains(*text)
        });
        let sample = self.is_sampled.then_some("TABLESAMPLE");
        keywords.chain(texts).chain(sample).map(str::to_owned)
    }

    fn words(&mut self, text: &str) {
        self.reads_all |= reads_all(text);
        self.words.extend(words(text));
    }

    /// `gives` where everything that a node gives is read: by whoever asked, or by the node above it.
    fn walk(&mut self, value: &Value, gives: bool) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| self.walk(value, gives)),
            Value::Object(object) => {
                let text = |key: &str| object.get(key).and_then(Value::as_str);
                if let (Some(schema), Some(name)) = (text("Schema"), text("Relation Name")) {
                    let table = format!("{schema}.{name}");
                    let alias = text("Alias").unwrap_or(name);
                    let conditions = ["Index Cond", "Recheck Cond", "Filter"];
                    let conditions = conditions.into_iter().filter_map(text);
                    self.scans.push(Scan::new(&table, alias, conditions));
                    self.tables.insert(table);
                }
                let outputs = text("Subplan Name").and_then(|name| name.split_once("(returns "));
                self.names_outputs |= outputs.is_some_and(|(_, names)| {
                    let mut names = names.trim_end_matches(')').split(',');
                    names.any(|name| name.trim() == scan::GIVEN)
                });
                self.is_sampled |= object.contains_key("Sampling Method");
                let removed = object.get("Subplans Removed").and_then(Value::as_u64);
                self.is_cut |= removed.is_some_and(|removed| removed > 0);
                for (key, value) in object {
                    match (key.as_str(), value) {
                        ("Output", Value::Array(values)) => {
                            for text in values.iter().filter_map(Value::as_str) {
                                self.calls.push_str(text);
                                self.calls.push('\n');
                                if gives {
                                    self.words(text);
                                }
                            }
                        }
                        (_, Value::String(text)) => {
                            self.calls.push_str(text);
                            self.calls.push('\n');
                            self.words(text);
                        }
                        ("Plans", Value::Array(below)) => {
                            // Both arms of a union give what it gives. Elsewhere a node inside may give whole rows at which nobody looks; a
                            // subquery, a member or a subplan gives what is read.
                            let is_union =
                                matches!(text("Node Type"), Some("Recursive Union" | "SetOp"));
                            for node in below {
                                let relation =
                                    node.get("Parent Relationship").and_then(Value::as_str);
                                let is_inside = matches!(relation, Some("Outer" | "Inner"));
                                self.walk(node, is_union || !is_inside);
                            }
                        }
                        (_, other) => self.walk(other, gives),
                    }
                }
            }
            Value::String(text) => {
                self.calls.push_str(text);
                self.calls.push('\n');
                self.words(text);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// What a text is made of, in lower case.
fn words(text: &str) -> impl Iterator<Item = String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    text.split(move |c| !is_part(c))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// Whether a statement or a plan has a `*` that stands for columns: all but `count(*)` and a product.
fn reads_all(sql: &str) -> bool {
    sql.match_indices('*').any(|(at, _)| {
        let before = sql.get(..at).unwrap_or_default().trim_end();
        before.ends_with('.')
            || before.ends_with(',')
            || before
                .rsplit(|c: char| !c.is_alphanumeric())
                .next()
                .is_some_and(|word| word.eq_ignore_ascii_case("select"))
    })
}

/// Whether the text calls a function of this name.
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
    use super::*;

    #[test]
    fn a_star_that_stands_for_columns_is_seen() {
        for sql in ["select * from t", "SELECT t.* from t", "select a, * from t"] {
            assert!(reads_all(sql), "{sql}");
        }
        for sql in ["select count(*) from t", "select a * 2 from t", "select a"] {
            assert!(!reads_all(sql), "{sql}");
        }
    }

    #[test]
    fn only_a_whole_name_is_a_call() {
        assert!(calls("x\npublic.lookup(t.id)", "lookup"));
        assert!(calls("\"Look\"(t.id)", "Look"));
        assert!(!calls("is_lookup(t.id)", "lookup"));
        assert!(!calls("t.lookup", "lookup"));
    }

    #[test]
    fn a_clock_in_a_plan_or_a_statement_makes_it_unstable() {
        let functions = [("now".to_owned(), false), ("lookup".to_owned(), true)];
        let unstable = |sql: &str, told: Value| {
            let mut plan = Plan::default();
            plan.words(sql);
            plan.walk(&told, true);
            plan.reading(&[], &functions).unstable
        };
        let filter = |text: &str| serde_json::json!({ "Filter": text });
        for text in [
            "(t.lent_until > now())",
            "(t.lent_until > CURRENT_TIMESTAMP)",
            "(t.lent_until > LOCALTIMESTAMP(3))",
            "(t.lent_to = CURRENT_USER)",
            "(t.lent_until > ('now'::text)::date)",
        ] {
            assert!(!unstable("select 1", filter(text)).is_empty(), "{text}");
        }
        let date = filter("(t.lent_until > '2026-01-01'::date)");
        let sql = "select owner from t where id = $1 and lent_until > 'Today'::date";
        assert_eq!(unstable(sql, date.clone()), ["today"]);
        assert_eq!(unstable("select 1", date), [""; 0]);
        let sample = serde_json::json!({ "Sampling Method": "system" });
        assert_eq!(unstable("select 1", sample), ["TABLESAMPLE"]);
        for text in [
            r#"("user".id = 'USER'::text)"#,
            r#"(t."CURRENT_DATE" = t.current_user)"#,
            "(unknown(t.id))",
            "(lookup(t.id))",
        ] {
            assert_eq!(unstable("select 1", filter(text)), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_plan_names_its_tables_and_what_it_compares_but_not_the_whole_rows_below() {
        let told = serde_json::json!([{ "Plan": {
            "Node Type": "Nested Loop", "Output": ["a.owner"],
            "Plans": [{ "Parent Relationship": "Outer", "Schema": "public", "Relation Name": "a", "Output": ["a.owner", "a.secret"], "Filter": "a.shown" }]
        } }]);
        let mut plan = Plan::default();
        plan.walk(&told, true);
        assert_eq!(Vec::from_iter(plan.tables), ["public.a"]);
        assert!(plan.words.contains("owner") && plan.words.contains("shown"));
        assert!(!plan.words.contains("secret"));
    }

    #[test]
    fn what_a_subquery_or_a_member_gives_is_read() {
        for relation in ["Subquery", "Member", "InitPlan", "SubPlan"] {
            let told = serde_json::json!([{ "Plan": {
                "Node Type": "Append",
                "Plans": [{ "Parent Relationship": relation, "Output": ["(CASE WHEN a.archived THEN a.owner END)"] }]
            } }]);
            let mut plan = Plan::default();
            plan.walk(&told, true);
            assert!(plan.words.contains("archived"), "{relation}");
        }
    }

    #[test]
    fn a_row_that_is_compared_as_a_whole_reads_all() {
        let mut plan = Plan::default();
        plan.walk(&serde_json::json!({ "Filter": "(p.* IS NOT NULL)" }), true);
        assert!(plan.reads_all);
    }

    #[test]
    fn a_column_of_several_words_is_found() {
        let mut plan = Plan::default();
        plan.words(r#"select "Owner Id" from t"#);
        let reading = plan.reading(&[], &[]);
        assert!(reading.names("Owner Id") && !reading.names("Other Id"));
    }

    #[test]
    fn what_a_subselect_gives_is_not_taken_for_what_the_statement_is_given() {
        for (outputs, is_given) in [("$0", true), ("$0,$1", false), ("$1", false), ("$10", true)] {
            let told = serde_json::json!([{ "Plan": {
                "Schema": "public", "Relation Name": "a", "Alias": "a", "Filter": "(a.id = $1)",
                "Plans": [{ "Node Type": "Result", "Subplan Name": format!("InitPlan 2 (returns {outputs})") }]
            } }]);
            let mut plan = Plan::default();
            plan.walk(&told, true);
            assert_eq!(!plan.names_outputs, is_given, "{outputs}");
        }
    }

    #[test]
    fn a_plan_without_a_table_or_without_all_partitions_does_not_show_what_is_read() {
        let table = Table {
            name: "public.a".to_owned(),
            is_table: true,
            key: None,
            columns: Vec::new(),
            triggers: Vec::new(),
            scans: Vec::new(),
        };
        for (removed, name, is_whole) in [(0, "a", true), (1, "a", false), (0, "dropped", false)] {
            let told = serde_json::json!([{ "Plan": {
                "Node Type": "Append", "Subplans Removed": removed,
                "Plans": [{ "Schema": "public", "Relation Name": name, "Alias": name }]
            } }]);
            let mut plan = Plan::default();
            plan.walk(&told, true);
            let reading = plan.reading(std::slice::from_ref(&table), &[]);
            assert_eq!(reading.is_whole, is_whole, "{told}");
        }
        let mut plan = Plan::default();
        plan.walk(
            &serde_json::json!([{ "Plan": { "Node Type": "Result" } }]),
            true,
        );
        assert!(!plan.reading(&[table], &[]).is_whole);
    }
}
