//! Parses a query of PostgREST into the columns of each table that it returns, filters by, orders
//! by or writes. The layer decides whether they are granted.
//!
//! Written from PostgREST's documentation ("Tables and Views", "Resource Embedding", "Functions as
//! RPC"): `select` with aliases, JSON paths, casts, aggregates, hints and spreads; filters on
//! columns and on embedded tables; `and`, `or`, `order`, `limit`, `offset`; `columns` and
//! `on_conflict`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::Resource;
use super::text::{DEPTH, ParseError, Text};

/// A parsed query.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RestQuery {
    /// `select`, if it was written.
    pub(super) select: Option<Vec<Item>>,
    /// Columns of filters and orders, each with the path of embeds to its table.
    pub(super) column_refs: Vec<ColumnRef>,
    /// Paths of embeds with a `limit` or `offset`, which therefore must exist.
    pub(super) limited: Vec<Vec<String>>,
    /// `columns` and `on_conflict`: columns that are written.
    pub(super) writes: Vec<String>,
}

/// A part of `select`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// `*`
    All,
    /// `count()`
    Count,
    /// A column.
    Column(String),
    /// `alias:table!hint(…)` or `...table(…)`
    Embed(Embed),
}

/// Another table, through a foreign key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Embed {
    pub(super) alias: Option<String>,
    pub(super) table: String,
    pub(super) items: Vec<Item>,
}

/// A column that is used without being returned.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ColumnRef {
    pub(super) path: Vec<String>,
    pub(super) column: String,
}

/// Parses a query. `key` is the query key that only the gateway reads.
pub(super) fn read(
    text: &str,
    key: Option<&str>,
    of: Resource<'_>,
) -> Result<RestQuery, ParseError> {
    let mut query = RestQuery::default();
    // Some servers split at `;` as at `&`; PostgREST does.
    if text.contains(';') {
        return Err("a `;`, which must be written %3B");
    }
    let (mut has_columns, mut has_conflict) = (false, false);
    for pair in text.split('&').filter(|_| !text.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or("a key without a value")?;
        if key == Some(name) {
            continue;
        }
        let (name, value) = (decoded(name)?, decoded(value)?);
        match &*name {
            "select" => {
                let items = select(&value)?;
                if query.select.replace(items).is_some() {
                    return Err("`select` twice");
                }
            }
            "columns" | "on_conflict" => {
                let seen = match &*name {
                    "columns" => &mut has_columns,
                    _ => &mut has_conflict,
                };
                if std::mem::replace(seen, true) {
                    return Err("`columns` or `on_conflict` twice");
                }
                query.writes.extend(names(&value)?);
            }
            name => query.condition(name, &value, matches!(of, Resource::Function(_)))?,
        }
    }
    Ok(query)
}

impl RestQuery {
    /// Parses every key but `select`, `columns` and `on_conflict`. An argument of a function looks
    /// like a condition without an operator.
    fn condition(&mut self, name: &str, value: &str, is_call: bool) -> Result<(), ParseError> {
        let mut key = Text::new(name);
        let mut path = owned(key.path()?);
        key.json_path()?;
        key.end()?;
        let last = path.pop().ok_or("an empty key")?;
        let is_plain = !name.contains("->") && !name.contains('"');
        match last.as_str() {
            "limit" | "offset" if is_plain => {
                if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err("a limit that is not a number");
                }
                self.limited.push(path);
            }
            "order" if is_plain => self.order(&path, value)?,
            "and" | "or" if is_plain => {
                // `not.or`, `embedded.not.or`
                path.pop_if(|word| word == "not");
                if path.iter().any(|word| word == "not") {
                    return Err("a misplaced `not`");
                }
                let mut tree = Text::new(value);
                self.junction(&path, &mut tree, DEPTH)?;
                tree.end()?;
            }
            "limit" | "offset" | "order" | "and" | "or" => return Err("a keyword in quotes"),
            _ => {
                if !(is_call && path.is_empty()) {
                    Text::new(value).operator()?;
                }
                self.column_refs.push(ColumnRef { path, column: last });
            }
        }
        Ok(())
    }

    fn order(&mut self, path: &[String], value: &str) -> Result<(), ParseError> {
        let mut text = Text::new(value);
        loop {
            let mut name = text.name()?;
            let mut path = path.to_vec();
            // `table(column)`: by a column of an embedded table.
            if text.take("(") {
                path.push(name.to_owned());
                name = text.name()?;
                text.json_path()?;
                if !text.take(")") {
                    return Err("an unclosed bracket");
                }
            } else {
                text.json_path()?;
            }
            let _ = text.take(".asc") || text.take(".desc");
            let _ = text.take(".nullsfirst") || text.take(".nullslast");
            self.column_refs.push(ColumnRef {
                path,
                column: name.to_owned(),
            });
            if !text.comma() {
                return text.end();
            }
        }
    }

    /// `(a.eq.1,not.or(b.gt.2,c.is.null))`
    fn junction(
        &mut self,
        path: &[String],
        text: &mut Text<'_>,
        depth: usize,
    ) -> Result<(), ParseError> {
        let depth = depth.checked_sub(1).ok_or("brackets nested too deep")?;
        if !text.take("(") {
            return Err("`and` or `or` without brackets");
        }
        loop {
            let mut inner = *text;
            let _ = inner.take("not.");
            if (inner.take("and") || inner.take("or")) && inner.begins("(") {
                *text = inner;
                self.junction(path, text, depth)?;
            } else {
                let column = text.name()?.to_owned();
                text.json_path()?;
                if !text.take(".") {
                    return Err("a condition without an operator");
                }
                let operator = text.operator()?;
                text.inner_value(operator)?;
                self.column_refs.push(ColumnRef {
                    path: path.to_vec(),
                    column,
                });
            }
            if !text.comma() {
                break;
            }
        }
        match text.take(")") {
            true => Ok(()),
            false => Err("an unclosed bracket"),
        }
    }
}

fn select(value: &str) -> Result<Vec<Item>, ParseError> {
    let mut text = Text::new(value);
    let items = items(&mut text, DEPTH)?;
    text.end()?;
    Ok(items)
}

fn items(text: &mut Text<'_>, depth: usize) -> Result<Vec<Item>, ParseError> {
    let depth = depth.checked_sub(1).ok_or("brackets nested too deep")?;
    let mut items = Vec::new();
    loop {
        items.push(item(text, depth)?);
        if !text.comma() {
            return Ok(items);
        }
    }
}

fn item(text: &mut Text<'_>, depth: usize) -> Result<Item, ParseError> {
    if text.take("*") {
        return Ok(Item::All);
    }
    if text.take("...") {
        let table = text.name()?.to_owned();
        return embed(None, table, text, depth);
    }
    let mut name = text.name()?.to_owned();
    let mut alias = None;
    if text.begins(":") && !text.begins("::") && text.take(":") {
        alias = Some(std::mem::replace(&mut name, text.name()?.to_owned()));
    }
    if name == "count" && text.take("()") {
        text.cast()?;
        return Ok(Item::Count);
    }
    if text.begins("!") || text.begins("(") {
        return embed(alias, name, text, depth);
    }
    text.json_path()?;
    text.cast()?;
    text.aggregate()?;
    text.cast()?;
    Ok(Item::Column(name))
}

fn embed(
    alias: Option<String>,
    table: String,
    text: &mut Text<'_>,
    depth: usize,
) -> Result<Item, ParseError> {
    // A hint chooses the foreign key; `inner` and `left` choose the join. Neither names a column.
    while text.take("!") {
        text.name()?;
    }
    if !text.take("(") {
        return Err("an embedded table without its columns");
    }
    let items = match text.begins(")") {
        true => Vec::new(),
        false => items(text, depth)?,
    };
    match text.take(")") {
        true => Ok(Item::Embed(Embed {
            alias,
            table,
            items,
        })),
        false => Err("an unclosed bracket"),
    }
}

fn names(value: &str) -> Result<Vec<String>, ParseError> {
    let mut text = Text::new(value);
    let mut names = Vec::new();
    loop {
        names.push(text.name()?.to_owned());
        if !text.comma() {
            text.end()?;
            return Ok(names);
        }
    }
}

fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// Decodes a key or value of a form, in which `+` is a space. A `%` that begins no escape is
/// refused, since servers differ about it.
fn decoded(text: &str) -> Result<Cow<'_, str>, ParseError> {
    let is_escape = |index: usize| {
        let digits = text.as_bytes().get(index + 1..index + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.match_indices('%').all(|(index, _)| is_escape(index)) {
        return Err("a `%` that begins no escape");
    }
    if !text.contains(['%', '+']) {
        return Ok(Cow::Borrowed(text));
    }
    let decoded = percent_decode_str(&text.replace('+', " "))
        .decode_utf8()
        .map(Cow::into_owned)
        .map_err(|_| "text that is not UTF-8")?;
    // PostgreSQL's text cannot hold a NUL, and C code ends a string there.
    match decoded.contains('\0') {
        true => Err("a NUL"),
        false => Ok(Cow::Owned(decoded)),
    }
}
