//! `rest`: what a route grants of a PostgREST.
//!
//! Tables, columns, functions and schemas are plain names, and the route's path says which table is
//! meant.

use std::collections::{BTreeMap, BTreeSet};

use super::route::Route;
use super::wire::{Columns, RestTable};
use crate::config::check::Checker;
use crate::config::node::Text;
use crate::config::place::Place;
use crate::config::wire::{Field, List, Named};
use crate::policy::path::{Pattern, Segment};
use crate::policy::rest::{self as checked, RestRules, Table, is_name};
use crate::policy::route::{Tail, Target};

impl Checker<'_> {
    /// `Some(None)` for a route whose requests to PostgREST are not inspected.
    pub(super) fn rest(
        &mut self,
        wire: &Route,
        paths: &[Pattern],
        target: Option<Option<Target>>,
    ) -> Option<Option<RestRules>> {
        wire.rest.then(|value| {
            let fits = self.fits_rest(wire, &value.place, paths, target);
            let wire = &value.value;
            let tables = self.rest_tables(&wire.tables);
            let rpc = wire
                .rpc
                .then(|list| self.rest_names(&list.value.0, "function"));
            let schemas = wire
                .schemas
                .then(|list| self.rest_names(&list.value, "schema"));
            let rules = RestRules {
                tables: tables?.into_iter().collect::<BTreeMap<_, _>>(),
                embeds: wire.embeds()?,
                rpc: rpc?.unwrap_or_default().into_iter().collect(),
                schemas: schemas?.unwrap_or_else(|| vec!["public".to_owned()]),
                openapi: wire.openapi()?,
            };
            fits.then_some(rules)
        })
    }

    /// The path says which table it is, and says it in one way.
    fn fits_rest(
        &mut self,
        wire: &Route,
        place: &Place,
        paths: &[Pattern],
        target: Option<Option<Target>>,
    ) -> bool {
        let why = if !paths.iter().all(names_table) {
            "each path must be where PostgREST is and then nothing, `{table}`, `rpc/{function}` or `{*rest}`, such as `/rest/v1/{table}`"
        } else if wire.tail() == Some(Tail::Opaque) {
            "a table's name must be read, and `tail: opaque` forwards it unread; remove `tail`"
        } else if matches!(target, Some(None | Some(Target::Serve(_)))) {
            "there is no PostgREST behind this route; remove `rest`"
        } else {
            return true;
        };
        self.report.problem(place, why);
        false
    }

    fn rest_tables(&mut self, field: &Field<Named<RestTable>>) -> Option<Vec<(String, Table)>> {
        self.each_of(field, |checker, name, wire| {
            let known = checker.rest_name(&name.value, &name.value, "table", &name.place);
            let wire = &wire?.value;
            let read = wire.read().and_then(|columns| checker.columns(columns));
            let write = wire.write().and_then(|columns| checker.columns(columns));
            let table = Table {
                read: read?,
                write: write?,
                delete: wire.delete()?,
            };
            if table == Table::default() {
                let message = format!(
                    "`{}` is granted nothing; write `read`, `write` or `delete`, or leave it out",
                    name.value
                );
                checker.report.warn(&name.place, message);
            }
            Some((known?, table))
        })
    }

    fn columns(&mut self, columns: Columns) -> Option<checked::Columns> {
        match columns {
            Columns::All(true) => Some(checked::Columns::All),
            Columns::All(false) => Some(checked::Columns::None),
            Columns::These(list) => {
                let names = self.rest_names(&list, "column")?;
                let names: BTreeSet<String> = names.into_iter().collect();
                Some(checked::Columns::These(names))
            }
        }
    }

    fn rest_names(&mut self, list: &List<Text>, what: &str) -> Option<Vec<String>> {
        self.each(list, |checker, text| {
            checker.rest_name(&text.value.value, text.value.shown(), what, &text.place)
        })
    }

    fn rest_name(&mut self, name: &str, shown: &str, what: &str, place: &Place) -> Option<String> {
        if !is_name(name) {
            return self.report.refuse_instead(
                place,
                format!("`{shown}` is not the name of a {what} that can be granted"),
                "write letters, digits and `_`; what has another name can be granted as a view",
            );
        }
        Some(name.to_owned())
    }
}

fn names_table(pattern: &Pattern) -> bool {
    let segments = pattern.segments();
    let is_literal = |segment: &&Segment| matches!(segment, Segment::Literal(_));
    let fixed = segments.iter().take_while(is_literal).count();
    fixed + 1 >= segments.len()
}
