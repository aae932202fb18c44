//! `resource`: the resources that a route is about, and where their ids are.
//!
//! Every path parameter that names something is either authorized or waived explicitly with
//! `resource: none`.

use super::context::RouteContext;
use super::route::Route;
use super::wire::{ResourceEntry, ResourceField, ResourceOf};
use crate::config::check::Checker;
use crate::config::node::Text;
use crate::config::place::Place;
use crate::config::sections::facts::Attributes;
use crate::config::wire::Value;
use crate::policy::path::{Pattern, Segment};
use crate::policy::resources::{Demand, DemandTarget, IdPlace, ParamType, ResourceType};
use crate::policy::route::Access;

impl Checker<'_> {
    /// The resources a route is about. A path with a parameter must say whose resource it names, or
    /// `none`.
    pub(super) fn resource(
        &mut self,
        wire: &Route,
        paths: Option<&[Pattern]>,
        access: Option<Access>,
        context: &RouteContext<'_>,
    ) -> Option<Vec<Demand>> {
        let Some(Value { value, place }) = wire.resource.optional()? else {
            let has_parameter = |path: &Pattern| path.parameters().next().is_some();
            if access != Some(Access::Deny) && paths.into_iter().flatten().any(has_parameter) {
                return self.report.refuse_instead(
                    &wire.place.below("resource"),
                    "is missing, and the path has a parameter that names something",
                    "write a type of `resources`, or `resource: none` if the upstream decides who owns it",
                );
            }
            return Some(Vec::new());
        };
        let ResourceField::All(entries) = value else {
            return Some(Vec::new());
        };
        if access == Some(Access::Deny) {
            let message = "has no effect with `access: deny`; remove `resource`";
            return self.report.refuse(place, message);
        }
        let (paths, attributes) = (paths?, context.attributes?);
        let demands: Vec<Demand> = entries
            .iter()
            .filter_map(|entry| self.demand(entry, paths, attributes))
            .collect();
        let caller = demands
            .iter()
            .position(|demand| demand.of == DemandTarget::Caller);
        if let (Some(Access::Public | Access::Optional), Some(index)) = (access, caller) {
            return self.report.refuse(
                &entries.get(index)?.place,
                "`self` is a user, and this route lets anonymous requests in; write `access: user`",
            );
        }
        (demands.len() == entries.len()).then_some(demands)
    }

    fn demand(
        &mut self,
        entry: &Value<ResourceEntry>,
        paths: &[Pattern],
        attributes: &Attributes,
    ) -> Option<Demand> {
        let at_entry = |text: &Text| Value {
            value: text.clone(),
            place: entry.place.clone(),
        };
        match &entry.value {
            ResourceEntry::Caller { id, action } => {
                let subject = attributes.facts.subject;
                Some(Demand {
                    of: DemandTarget::Caller,
                    id: self.id_place(&at_entry(id), subject, paths)?,
                    action: action.clone(),
                    within: None,
                })
            }
            ResourceEntry::Kind(kind) => {
                let index = self.kind_index(&at_entry(kind), &attributes.names())?;
                let known = attributes.kinds.get(index)?;
                Some(Demand {
                    of: DemandTarget::Resource(index),
                    id: self.only_parameter(&entry.place, known, paths)?,
                    action: None,
                    within: None,
                })
            }
            ResourceEntry::Of(of) => self.demand_of(of, &entry.place, paths, attributes),
        }
    }

    fn demand_of(
        &mut self,
        of: &ResourceOf,
        place: &Place,
        paths: &[Pattern],
        attributes: &Attributes,
    ) -> Option<Demand> {
        let names = attributes.names();
        let choice = format!("write one of {}", names.join(", "));
        let kind = of.kind.required(&of.place, "kind", &choice, self.report)?;
        let index = self.kind_index(kind, &names)?;
        let known = attributes.kinds.get(index)?;
        let id = match of.id.optional() {
            Some(Some(id)) => self.id_place(id, known.id, paths),
            Some(None) => self.only_parameter(place, known, paths),
            None => None,
        };
        let outer = known.within.and_then(|outer| attributes.kinds.get(outer));
        let within = of.within.then(|within| match outer {
            Some(outer) => self.id_place(within, outer.id, paths),
            None => {
                let message = format!("resources of the type `{}` have no container; remove it, or write `within` under `resources`", known.name);
                self.report.refuse(&within.place, message)
            }
        });
        Some(Demand {
            of: DemandTarget::Resource(index),
            id: id?,
            action: of.action.optional()?.map(|action| action.value.clone()),
            within: within?,
        })
    }

    /// The parameter that a type alone means: the one named after it, or the only one.
    fn only_parameter(
        &mut self,
        place: &Place,
        kind: &ResourceType,
        paths: &[Pattern],
    ) -> Option<IdPlace> {
        let first = paths.first()?;
        let named = format!("{}_id", kind.name);
        let names: Vec<&str> = first.parameters().collect();
        let name = match &names[..] {
            names if names.contains(&named.as_str()) => named,
            [only] => (*only).to_owned(),
            _ => {
                let name = &kind.name;
                return self.report.refuse_instead(
                    place,
                    format!("does not say which parameter names the {name}"),
                    format!("name it `{{{named}}}`, or write `{{ kind: {name}, id: path.NAME }}`"),
                );
            }
        };
        let id = IdPlace::Path(name);
        self.has_type(place, &id, kind.id, paths).then_some(id)
    }

    fn id_place(
        &mut self,
        text: &Value<Text>,
        kind: ParamType,
        paths: &[Pattern],
    ) -> Option<IdPlace> {
        let id = text.parse(
            id_place,
            "is not a place for an id",
            "write `path.NAME` or `query.NAME`",
            self.report,
        )?;
        self.has_type(&text.place, &id, kind, paths).then_some(id)
    }

    /// Whether every path has the parameter, typed so that a value that cannot be an id is refused
    /// before it is looked up.
    fn has_type(
        &mut self,
        place: &Place,
        id: &IdPlace,
        kind: ParamType,
        paths: &[Pattern],
    ) -> bool {
        let IdPlace::Path(name) = id else { return true };
        for path in paths {
            let message = match (parameter(path, name), pattern_type(kind)) {
                (None, _) => format!("the path `{}` has no parameter `{name}`", path.as_str()),
                (Some(found), Some((wanted, word))) if found != wanted => format!(
                    "`{name}` is looked up as {}; write `{{{name}:{word}}}` in the path `{}`, so that anything else is refused before",
                    kind.as_str(),
                    path.as_str()
                ),
                (Some(_), _) => continue,
            };
            self.report.problem(place, message);
            return false;
        }
        true
    }
}

fn id_place(text: &str) -> Option<IdPlace> {
    if let Some(name) = text.strip_prefix("path.") {
        return Some(IdPlace::Path(name.to_owned()));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    text.strip_prefix("query.")
        .filter(|name| !name.is_empty() && name.chars().all(plain))
        .map(|name| IdPlace::Query(name.to_owned()))
}

/// The type of a path's parameter, if the path has it.
fn parameter(path: &Pattern, name: &str) -> Option<ParamType> {
    path.segments().iter().find_map(|segment| match segment {
        Segment::Parameter { name: other, kind } if other == name => Some(*kind),
        Segment::Parameter { .. } | Segment::Literal(_) | Segment::Tail => None,
    })
}

/// The parameter type that an id needs, and its word in a pattern; any will do for text.
fn pattern_type(kind: ParamType) -> Option<(ParamType, &'static str)> {
    match kind {
        ParamType::Uuid => Some((ParamType::Uuid, "uuid")),
        ParamType::Integer => Some((ParamType::Integer, "int")),
        ParamType::Text => None,
    }
}
