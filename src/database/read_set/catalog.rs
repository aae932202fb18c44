//! The database's catalog: tables with their triggers, and the functions that a covered query must
//! not call.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::{Rewriter, Table, Trigger};

/// What the catalog says about the tables of plans, and about all functions.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// Those of the asked tables that exist.
    pub(super) tables: Vec<Table>,
    /// All functions that are opaque or unstable.
    pub(super) functions: Vec<Function>,
    /// Functions that may hide a clock from a plan: SQL functions with the text of one, such as
    /// `'today'`, for which the planner may put the body in place of the call and the date in place
    /// of the text; and functions that read one though they are declared immutable, for which it
    /// may put the result in place of the call.
    pub(super) clock_functions: Vec<String>,
}

/// A function that keeps the facts of a query that calls it from being covered.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) name: String,
    /// Whether it may read tables without the plan showing them. If not, it is not immutable: its
    /// result may change while no row does.
    pub(super) is_opaque: bool,
    /// Whether it is opaque and says that it is immutable, so that its result may be in a plan in
    /// place of its call.
    pub(super) is_folded: bool,
}

/// Bits of `pg_trigger.tgtype`.
const ROW: i32 = 1;
const BEFORE: i32 = 2;
const INSERT: i32 = 4;
const DELETE: i32 = 8;
const UPDATE: i32 = 16;
const TRUNCATE: i32 = 32;
const INSTEAD: i32 = 64;

const TABLES: &str = "select n.nspname || '.' || c.relname, c.relkind in ('r', 'p'),
  array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
  array(select a.attname::text from pg_attribute a join pg_type t on t.oid = a.atttypid where a.attrelid = c.oid and t.typcategory in ('E', 'S', 'U')),
  (select a.attname::text from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
    where i.indrelid = c.oid and i.indisprimary and i.indnkeyatts = 1)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname || '.' || c.relname = any ($1)";

const TRIGGERS: &str = "select n.nspname || '.' || c.relname, p.proname::text,
  split_part(encode(t.tgargs, 'escape'), '\\000', 1), t.tgtype::int4,
  array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum = any (t.tgattr)),
  split_part(encode(t.tgargs, 'escape'), '\\000', 2), t.tgenabled = 'A'
from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
where t.tgenabled in ('O', 'A') and t.tgqual is null and n.nspname || '.' || c.relname = any ($1)";

/// The functions of BEFORE UPDATE triggers; the source only in a language that [`Rewriter`] reads.
/// The extension `moddatetime` changes the column in its argument.
const REWRITERS: &str = "select n.nspname || '.' || c.relname,
  case when l.lanname = 'plpgsql' then p.prosrc when l.lanname = 'c' and p.proname = 'moddatetime' then encode(t.tgargs, 'escape') end
from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_language l on l.oid = p.prolang join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
where t.tgenabled <> 'D' and t.tgtype & 19 = 19 and n.nspname || '.' || c.relname = any ($1)";

/// Opaque are functions that somebody defined in a language that can read tables, and aggregates,
/// whose parts may be such functions. A name counts by the worst function that has it.
const FUNCTIONS: &str = "select name, bool_or(is_opaque), bool_or(is_opaque and is_immutable) from (
  select p.proname::text as name, p.provolatile = 'i' as is_immutable,
    n.nspname not in ('pg_catalog', 'information_schema') and (l.lanname not in ('internal', 'c') or p.prokind = 'a') as is_opaque,
    p.provolatile <> 'i' and not (n.nspname = 'pg_catalog' and p.proname = any ($1)) as is_unstable
  from pg_proc p join pg_language l on l.oid = p.prolang join pg_namespace n on n.oid = p.pronamespace) as f
where is_opaque or is_unstable group by name order by name";

/// A body that is parsed when the function is created (`prosqlbody`) has an empty `prosrc`: its
/// texts became dates then. Its calls are in the definition.
const CLOCK_FUNCTIONS: &str = "select distinct p.proname::text
from pg_proc p join pg_language l on l.oid = p.prolang join pg_namespace n on n.oid = p.pronamespace
where n.nspname not in ('pg_catalog', 'information_schema') and l.lanname not in ('internal', 'c') and (
  l.lanname = 'sql' and p.prosrc ~* '[''$][^''$;]*(?:\\m|_)(?:now(?![a-z]|\\s*\\()|(?:today|tomorrow|yesterday)(?![a-z]))'
  or p.provolatile = 'i' and case when p.prokind = 'f' then pg_get_functiondef(p.oid) end
    ~* '\\m(?:current_(?:date|time|timestamp)|local(?:time|timestamp)|(?:clock|statement|transaction)_timestamp|(?:now|timeofday|age|random)\\s*\\()')
order by 1";

/// Built-in functions that are declared stable only because they format or parse values by settings
/// of the session, such as its time zone, which are the same on all our connections. They read no
/// rows, and no clock unless a row holds a text such as `today` or a time of day with a zone.
const SETTINGS_ONLY: &[&str] = &[
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
    "timezone",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_timestamp",
];

/// A digest of every definition by which a plan, its tables and their triggers are what they are:
/// the named tables with their triggers and partitions, and all views, policies, functions, and
/// settings of roles. `xmin` is the transaction that wrote a row of the catalog, so something that
/// was changed and changed back has another digest; a new `relfilenode` may have other rows.
const DEFINITIONS: &str = "select md5(coalesce(string_agg(part, ',' order by part), '')) from (
  select concat_ws(' ', 'table', c.oid, c.xmin, c.relfilenode) as part from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname || '.' || c.relname = any ($1)
  union all select concat_ws(' ', 'trigger', t.oid, t.xmin) from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname || '.' || c.relname = any ($1)
  union all select concat_ws(' ', 'view', oid, xmin) from pg_rewrite where oid >= 16384
  union all select concat_ws(' ', 'function', oid, xmin) from pg_proc where oid >= 16384
  union all select concat_ws(' ', 'policy', oid, xmin) from pg_policy
  union all select concat_ws(' ', 'part', inhrelid, inhparent, xmin) from pg_inherits
  union all select concat_ws(' ', 'setting', setdatabase, setrole, xmin) from pg_db_role_setting) as parts";

/// A digest of the definitions that queries of these tables depend on. It changes whenever one of
/// them does.
///
/// # Errors
///
/// The database did not answer.
pub async fn definitions(client: &Client, tables: &[String]) -> Result<String, Error> {
    let rows = client
        .query_typed(DEFINITIONS, &[(&tables, Type::TEXT_ARRAY)])
        .await?;
    rows.first().map_or(Ok(String::new()), |row| row.try_get(0))
}

/// What the catalog says about the tables of these names, and about all functions.
pub(super) async fn read(client: &Client, tables: &[&str]) -> Result<Catalog, Error> {
    let clocks = client.query_typed(CLOCK_FUNCTIONS, &[]).await?;
    Ok(Catalog {
        functions: functions(client).await?,
        clock_functions: clocks
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()?,
        tables: self::tables(client, tables).await?,
    })
}

/// The tables of these names that exist, with their triggers.
async fn tables(client: &Client, names: &[&str]) -> Result<Vec<Table>, Error> {
    let names = names.to_vec();
    let rows = client
        .query_typed(TABLES, &[(&names, Type::TEXT_ARRAY)])
        .await?;
    let mut tables = Vec::with_capacity(rows.len());
    for row in rows {
        tables.push(Table {
            name: row.try_get(0)?,
            is_table: row.try_get(1)?,
            columns: row.try_get(2)?,
            texts: row.try_get(3)?,
            key: row.try_get(4)?,
            triggers: Vec::new(),
            rewriters: Vec::new(),
            scans: Vec::new(),
        });
    }
    for row in client
        .query_typed(REWRITERS, &[(&names, Type::TEXT_ARRAY)])
        .await?
    {
        let name: String = row.try_get(0)?;
        let rewriter = Rewriter::new(row.try_get(1)?);
        if let Some(table) = tables.iter_mut().find(|table| table.name == name) {
            table.rewriters.push(rewriter);
        }
    }
    for row in client
        .query_typed(TRIGGERS, &[(&names, Type::TEXT_ARRAY)])
        .await?
    {
        let name: String = row.try_get(0)?;
        let bits: i32 = row.try_get(3)?;
        let is = |wanted: i32| bits & wanted == wanted;
        let after = bits & (BEFORE | INSTEAD) == 0;
        let trigger = Trigger {
            function: row.try_get(1)?,
            argument: row.try_get(2)?,
            inserts: after && is(ROW | INSERT),
            updates: after && is(ROW | UPDATE),
            deletes: after && is(ROW | DELETE),
            truncates: after && is(TRUNCATE),
            columns: row.try_get(4)?,
            key: row.try_get(5)?,
            is_always: row.try_get(6)?,
        };
        if let Some(table) = tables.iter_mut().find(|table| table.name == name) {
            table.triggers.push(trigger);
        }
    }
    Ok(tables)
}

/// All functions that are opaque or unstable.
async fn functions(client: &Client) -> Result<Vec<Function>, Error> {
    let settings_only = SETTINGS_ONLY.to_vec();
    let rows = client
        .query_typed(FUNCTIONS, &[(&settings_only, Type::TEXT_ARRAY)])
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Function {
                name: row.try_get(0)?,
                is_opaque: row.try_get(1)?,
                is_folded: row.try_get(2)?,
            })
        })
        .collect()
}
