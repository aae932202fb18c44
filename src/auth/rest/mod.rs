//! Tables behind PostgREST: whether a route's `rest:` grants what a request asks for.
//!
//! Decides:  403 `rest_denied` for a table, a column, a function, a schema or an embedded table
//!           that is not granted, and for every query that cannot be parsed. 400 and 415 for a body
//!           that must be inspected and cannot be come from `request::body`.
//! Trusts:   the canonical path, and a body that was read.
//! Not here: which rows the caller may see; PostgreSQL's row-level security decides that.
//!
//! A column that may not be read may not be used in a filter or an order either: the returned rows
//! and their order would reveal its values. A body is read only if some columns of the table may be
//! written and others may not.

mod headers;
mod query;
mod text;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use hyper::header::HeaderValue;
use hyper::{HeaderMap, Method};
use serde_json::Value;

use self::headers::RestHeaders;
use self::query::{Embed, Item, RestQuery};
use super::identifiers::ValidIdentifiers;
use super::layer::{Check, Layer};
use crate::denial::{Denial, Reason};
use crate::policy::path::{Pattern, Segment};
use crate::policy::rest::{self as rules, Columns, Embeds, RestRules, Table};
use crate::request::Inbound;

/// The layer.
#[derive(Debug)]
pub struct Rest;

/// What is not granted, for the operator.
type Detail = Cow<'static, str>;

impl Layer for Rest {
    type Proof = ValidIdentifiers;

    fn concerns(&self, request: &Inbound) -> bool {
        request.rule().rest.is_some()
    }
}

impl Check for Rest {
    type Input<'a> = ValidIdentifiers;

    fn check(
        &self,
        request: &Inbound,
        valid: ValidIdentifiers,
    ) -> Result<ValidIdentifiers, Denial> {
        let Some(rules) = &request.rule().rest else {
            return Ok(valid);
        };
        let body = request.inspected_body();
        if body.is_none() && inspects_body(request) {
            // Unreachable: the chain reads it first. Kept as defence in depth.
            return Err(Reason::Internal.because("the body was not read"));
        }
        let resource = resource(request).ok_or_else(|| denied("the path"))?;
        let key = request.rule().apikey.is_some().then_some("apikey");
        let query = query::read(request.target().query().unwrap_or_default(), key, resource)
            .map_err(denied)?;
        let headers = RestHeaders::read(request.headers(), &rules.schemas).map_err(denied)?;
        let granted = Request {
            rules,
            query: &query,
            headers: &headers,
            body,
        };
        granted
            .authorize(request.method(), resource)
            .map_err(denied)
            .map(|()| valid)
    }
}

fn denied(why: impl Into<Detail>) -> Denial {
    Reason::RestDenied.because(why)
}

/// Names the authorized schema where the client names none, because the default schema of PostgREST
/// may be another one.
pub(crate) fn name_schema(rules: &RestRules, method: &Method, fields: &mut HeaderMap) {
    let name = match *method {
        Method::GET | Method::HEAD => headers::ACCEPT_PROFILE,
        _ => headers::CONTENT_PROFILE,
    };
    let first = rules.schemas.first();
    if let Some(schema) = first.and_then(|schema| HeaderValue::from_str(schema).ok()) {
        fields.entry(name).or_insert(schema);
    }
}

/// Whether the layer has to inspect the body of this request.
pub fn inspects_body(request: &Inbound) -> bool {
    let Some(rules) = &request.rule().rest else {
        return false;
    };
    let writes = matches!(
        *request.method(),
        Method::POST | Method::PATCH | Method::PUT
    );
    let some_columns = |table: &Table| matches!(table.write, Columns::These(_));
    match resource(request) {
        Some(Resource::Table(name)) => writes && rules.tables.get(name).is_some_and(some_columns),
        Some(Resource::Root | Resource::Function(_)) | None => false,
    }
}

/// What a path means to PostgREST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource<'a> {
    /// The OpenAPI description.
    Root,
    /// A table or view.
    Table(&'a str),
    /// A function.
    Function(&'a str),
}

fn resource(request: &Inbound) -> Option<Resource<'_>> {
    let fixed = prefix(request.pattern()?);
    let path = request.target().path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut rest = path.split('/').skip(1 + fixed);
    match (rest.next(), rest.next(), rest.next()) {
        (None, ..) => Some(Resource::Root),
        (Some(table), None, _) => Some(Resource::Table(table)),
        (Some("rpc"), Some(function), None) => Some(Resource::Function(function)),
        _ => None,
    }
}

/// How many segments of a route's path come before the path that PostgREST sees.
pub fn prefix(pattern: &Pattern) -> usize {
    let segments = pattern.segments();
    let is_literal = |segment: &&Segment| matches!(segment, Segment::Literal(_));
    let fixed = segments.iter().take_while(is_literal).count();
    let ends_in_rpc = fixed < segments.len()
        && fixed
            .checked_sub(1)
            .and_then(|last| segments.get(last))
            .is_some_and(|last| matches!(last, Segment::Literal(text) if text == "rpc"));
    if ends_in_rpc { fixed - 1 } else { fixed }
}

/// The source of the columns that a query names.
#[derive(Clone, Copy)]
enum Scope<'r> {
    /// A table, some of whose columns may be read.
    Table(&'r Table),
    /// The result of a function, all of whose columns may be read.
    Result,
}

impl Scope<'_> {
    fn shows(self, column: &str) -> bool {
        match self {
            Self::Table(table) => table.read.has(column),
            Self::Result => true,
        }
    }

    fn shows_all(self) -> bool {
        match self {
            Self::Table(table) => table.read == Columns::All,
            Self::Result => true,
        }
    }

    fn shows_something(self) -> bool {
        match self {
            Self::Table(table) => table.read != Columns::None,
            Self::Result => true,
        }
    }
}

/// A request as PostgREST reads it, and the rules of its route.
struct Request<'a> {
    rules: &'a RestRules,
    query: &'a RestQuery,
    headers: &'a RestHeaders,
    body: Option<&'a Value>,
}

impl Request<'_> {
    fn authorize(&self, method: &Method, resource: Resource<'_>) -> Result<(), Detail> {
        match resource {
            Resource::Root => match *method {
                Method::GET | Method::HEAD if self.rules.openapi => {
                    match *self.query == RestQuery::default() {
                        true => Ok(()),
                        false => Err("a query to the root".into()),
                    }
                }
                _ => Err("the root".into()),
            },
            Resource::Function(name) => {
                let calls = matches!(*method, Method::GET | Method::HEAD | Method::POST);
                if !calls || !self.rules.rpc.contains(name) {
                    return Err("the function, or its method".into());
                }
                if !self.query.writes.is_empty() {
                    // For a function, `columns` chooses arguments.
                    return Err("`columns` or `on_conflict` of a function".into());
                }
                self.reads(Scope::Result, true)
            }
            Resource::Table(name) => {
                let table = self.rules.tables.get(name).ok_or("the table")?;
                self.table(table, method)
            }
        }
    }

    fn table(&self, table: &Table, method: &Method) -> Result<(), Detail> {
        let scope = Scope::Table(table);
        match *method {
            Method::GET | Method::HEAD => {
                if !scope.shows_something() {
                    return Err("to read the table".into());
                }
                if !self.query.writes.is_empty() {
                    return Err("`columns` or `on_conflict` of what is read".into());
                }
                return self.reads(scope, true);
            }
            Method::POST | Method::PATCH | Method::PUT => self.writes(&table.write)?,
            Method::DELETE if table.delete => {}
            _ => return Err("the method on the table".into()),
        }
        // `Location` holds the values of the primary key, and the rules do not know which column
        // that is.
        if self.headers.returns_location && !scope.shows_all() {
            return Err("`return=headers-only` on a table that may not be read whole".into());
        }
        self.reads(scope, self.headers.returns_rows)
    }

    /// Checks the columns that the query returns or refers to. Without `select`, returned rows have
    /// all columns.
    fn reads(&self, scope: Scope<'_>, returns_rows: bool) -> Result<(), Detail> {
        let all = [Item::All];
        let items = match &self.query.select {
            Some(items) => items.as_slice(),
            None if returns_rows => &all,
            None => &[],
        };
        self.shows(scope, items)?;
        for column in &self.query.column_refs {
            let scope = self.at(scope, items, &column.path)?;
            if !scope.shows(&column.column) {
                return Err(format!("to filter or order by `{}`", column.column).into());
            }
        }
        for path in &self.query.limited {
            self.at(scope, items, path)?;
        }
        Ok(())
    }

    fn shows(&self, scope: Scope<'_>, items: &[Item]) -> Result<(), Detail> {
        for item in items {
            match item {
                Item::All if scope.shows_all() => {}
                Item::All => return Err("every column of a table".into()),
                Item::Count if scope.shows_something() => {}
                Item::Count => return Err("to count a table".into()),
                Item::Column(name) if scope.shows(name) => {}
                Item::Column(name) => return Err(format!("to read `{name}`").into()),
                Item::Embed(embed) => self.shows(self.embedded(embed)?, &embed.items)?,
            }
        }
        Ok(())
    }

    fn embedded(&self, embed: &Embed) -> Result<Scope<'_>, Detail> {
        if self.rules.embeds == Embeds::Deny {
            return Err("an embedded table".into());
        }
        let table = self.rules.tables.get(&embed.table);
        let scope = table
            .map(Scope::Table)
            .filter(|scope| scope.shows_something());
        scope.ok_or_else(|| format!("to embed `{}`", embed.table).into())
    }

    /// The table at the end of a path of embeds.
    fn at<'r>(
        &'r self,
        scope: Scope<'r>,
        items: &[Item],
        path: &[String],
    ) -> Result<Scope<'r>, Detail> {
        let Some((first, rest)) = path.split_first() else {
            return Ok(scope);
        };
        let mut named = items.iter().filter_map(|item| match item {
            Item::Embed(embed) => {
                let names = embed.table == *first || embed.alias.as_ref() == Some(first);
                names.then_some(embed)
            }
            Item::All | Item::Count | Item::Column(_) => None,
        });
        match (named.next(), named.next()) {
            (Some(embed), None) => self.at(self.embedded(embed)?, &embed.items, rest),
            (None, _) => Err("a path to a table that is not embedded".into()),
            (Some(_), Some(_)) => Err("a path that could lead to two embedded tables".into()),
        }
    }

    /// Checks the columns that are written, in the query and in the body.
    fn writes(&self, granted: &Columns) -> Result<(), Detail> {
        if *granted == Columns::None {
            return Err("to write the table".into());
        }
        let may = |name: &str| -> Result<(), Detail> {
            match granted.has(name) {
                true => Ok(()),
                false if rules::is_name(name) => Err(format!("to write `{name}`").into()),
                false => Err("to write a column with an unusual name".into()),
            }
        };
        for name in &self.query.writes {
            may(name)?;
        }
        let rows = match self.body {
            None => return Ok(()),
            Some(Value::Array(rows)) => rows.as_slice(),
            Some(row) => std::slice::from_ref(row),
        };
        for row in rows {
            let row = row.as_object().ok_or("a row that is no object")?;
            for name in row.keys() {
                may(name)?;
            }
        }
        Ok(())
    }
}
