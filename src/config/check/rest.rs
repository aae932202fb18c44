//! What a route grants of a PostgREST.
//!
//! Decides: that tables, columns, functions and schemas are plain names, and that the route's path says which table is meant. Trusts: the operator,
//! for what may be seen. Not here: what a request asks for, and whether it is granted (`auth::rest`).

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, or};
use crate::config::file;
use crate::config::node::Text;
use crate::config::place::Place;
use crate::config::wire::{Field, List, Value};
use crate::policy::path::{Pattern, Segment};
use crate::policy::rest::{self, Columns, Embeds, RestRules, Table};
use crate::policy::route::{Tail, Target};

impl Checker<'_> {
    /// `Some(None)` for a route that does not look at what is asked of its upstream.
    pub(super) fn rest(
        &mut self,
        wire: &file::Route,
        paths: &[Pattern],
        target: Option<Option<Target>>,
    ) -> Option<Option<RestRules>> {
        let value = match &wire.rest {
            Field::Absent => return Some(None),
            Field::Bad => return None,
            Field::Good(value) => value,
        };
        let fits = self.fits_rest(wire, &value.place, paths, target);
        let written = &value.value;
        let tables = self.rest_tables(written);
        let rpc = self.rest_names(&written.rpc, "function");
        let schemas = match &written.schemas {
            Field::Absent => Some(vec!["public".to_owned()]),
            Field::Bad => None,
            Field::Good(list) => {
                list.value.at_least_one(&list.place, self.report);
                self.rest_names(&written.schemas, "schema")
            }
        };
        let embeds = or(&written.embeds, Embeds::Deny);
        let openapi = or(&written.openapi, false);
        let granted = RestRules {
            tables: tables?,
            embeds: embeds?,
            rpc: rpc?.into_iter().collect(),
            schemas: schemas?,
            openapi: openapi?,
        };
        fits.then_some(Some(granted))
    }

    /// The path says which table it is, and says it in one way.
    fn fits_rest(
        &mut self,
        wire: &file::Route,
        place: &Place,
        paths: &[Pattern],
        target: Option<Option<Target>>,
    ) -> bool {
        let why = if !paths.iter().all(says_table) {
            Some(
                "each path must be where PostgREST is and then nothing, `{table}`, `rpc/{function}` or `{*rest}`, such as `/rest/v1/{table}`",
            )
        } else if or(&wire.tail, Tail::Canonical) == Some(Tail::Opaque) {
            Some(
                "a table's name must be read, and `tail: opaque` forwards it unread; remove `tail`",
            )
        } else if matches!(target, Some(None | Some(Target::Serve(_)))) {
            Some("there is no PostgREST behind this route; remove `rest`")
        } else {
            None
        };
        if let Some(why) = why {
            self.report.problem(place, why);
        }
        why.is_none()
    }

    fn rest_tables(&mut self, wire: &file::Rest) -> Option<BTreeMap<String, Table>> {
        let named = match &wire.tables {
            Field::Absent => return Some(BTreeMap::new()),
            Field::Bad => return None,
            Field::Good(named) => &named.value.0,
        };
        let mut tables = BTreeMap::new();
        for (name, table) in named {
            let known = self.rest_name(&name.value, &name.value, "table", &name.place);
            let table = table.as_ref().and_then(|table| {
                let (read, write) = (self.columns(&table.value.read), self.columns(&table.value.write));
                let delete = or(&table.value.delete, false);
                let table = Table {
                    read: read?,
                    write: write?,
                    delete: delete?,
                };
                if table == Table::default() {
                    self.report.warn(
                        &name.place,
                        format!("`{}` is granted nothing; write `read`, `write` or `delete`, or leave it out", name.value),
                    );
                }
                Some(table)
            });
            tables.extend(known.zip(table));
        }
        (tables.len() == named.len()).then_some(tables)
    }

    fn columns(&mut self, field: &Field<file::Columns>) -> Option<Columns> {
        match field {
            Field::Absent => Some(Columns::None),
            Field::Bad => None,
            Field::Good(Value {
                value: file::Columns::All(all),
                ..
            }) => Some(if *all { Columns::All } else { Columns::None }),
            Field::Good(Value {
                value: file::Columns::These(list),
                place,
            }) => {
                list.at_least_one(place, self.report);
                let names: BTreeSet<String> = self.each_name(list, "column")?.into_iter().collect();
                (!names.is_empty()).then_some(Columns::These(names))
            }
        }
    }

    fn rest_names(&mut self, field: &Field<List<Text>>, what: &str) -> Option<Vec<String>> {
        match field {
            Field::Absent => Some(Vec::new()),
            Field::Bad => None,
            Field::Good(list) => self.each_name(&list.value, what),
        }
    }

    fn each_name(&mut self, list: &List<Text>, what: &str) -> Option<Vec<String>> {
        self.each(list, |checker, text| {
            checker.rest_name(&text.value.value, text.value.shown(), what, &text.place)
        })
    }

    fn rest_name(&mut self, name: &str, shown: &str, what: &str, place: &Place) -> Option<String> {
        if !rest::is_name(name) {
            self.report.problem_instead(
                place,
                format!("`{shown}` is not the name of a {what} that can be granted"),
                "write letters, digits and `_`; what has another name can be granted as a view",
            );
            return None;
        }
        Some(name.to_owned())
    }
}

fn says_table(pattern: &Pattern) -> bool {
    let segments = pattern.segments();
    let is_literal = |segment: &&Segment| matches!(segment, Segment::Literal(_));
    let fixed = segments.iter().take_while(is_literal).count();
    fixed + 1 >= segments.len()
}
