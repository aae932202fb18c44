//! `resources`: the resource types, and where the rows of each are.

use crate::config::check::Checker;
use crate::config::macros::wire;
use crate::config::node::Text;
use crate::config::sections::facts::FactSections;
use crate::config::wire::{Named, Value};
use crate::policy::resources::{ParamType, ResourceType, RowSource};

wire! {
    /// One resource type.
    struct Resource {
        query: Text,
        id: ParamType = ParamType::Uuid,
        within: Text,
        parent: Text,
        learned: bool = false,
    }
}

impl Checker<'_> {
    pub(super) fn resources(&mut self, sections: &FactSections<'_>) -> Option<Vec<ResourceType>> {
        let Some(named) = sections.resources.optional()? else {
            return Some(Vec::new());
        };
        let named = &named.value;
        let names: Vec<&str> = named
            .0
            .iter()
            .map(|(name, _)| name.value.as_str())
            .collect();
        let kinds = self.each_named(named, |checker, name, wire| {
            let is_name = checker.is_kind_name(name);
            let wire = &wire?.value;
            let rows = checker.row_source(name, wire, sections);
            let kind = checker.resource_kind(name, wire, rows, &names);
            kind.filter(|_| is_name)
        })?;
        self.nest_once(named, &kinds).then_some(kinds)
    }

    fn is_kind_name(&mut self, name: &Value<String>) -> bool {
        let text = name.value.as_str();
        let is_word = text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.len() <= 64
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let message = if !is_word {
            "is not the name of a resource type; write lower-case letters, digits and `_`"
        } else if matches!(text, "none" | "self" | "caller" | "memberships") {
            "is a reserved word where a resource type is named; write another name"
        } else {
            return true;
        };
        self.report.problem(&name.place, message);
        false
    }

    fn row_source(
        &mut self,
        name: &Value<String>,
        wire: &Resource,
        sections: &FactSections<'_>,
    ) -> Option<RowSource> {
        match (wire.query.optional()?, wire.learned()?) {
            (Some(query), true) => self.report.refuse(
                &query.place,
                "cannot be combined with `learned: true`, which knows a resource only from responses; remove one of the two",
            ),
            (Some(query), false) => self.query(query, sections.has_database).map(RowSource::Query),
            (None, true) => Some(RowSource::Learned),
            (None, false) if sections.static_facts.is_written() => Some(RowSource::Static),
            (None, false) => self.report.refuse_instead(
                &name.place,
                "does not say where its rows are",
                "write a `query`, or `learned: true`, or its rows under `static_facts`",
            ),
        }
    }

    fn resource_kind(
        &mut self,
        name: &Value<String>,
        wire: &Resource,
        rows: Option<RowSource>,
        names: &[&str],
    ) -> Option<ResourceType> {
        let within = wire.within.then(|text| self.kind_index(text, names));
        let parent = wire.parent.then(|text| self.kind_index(text, names));
        if let (Some(Some(parent)), Some(place)) = (parent, wire.parent.place())
            && names.get(parent) != Some(&name.value.as_str())
        {
            return self.report.refuse(
                place,
                "a parent is of the same type; write its own name, or `within` for the type that contains it",
            );
        }
        if let (Some(true), Some(place)) =
            (wire.learned(), wire.within.place().or(wire.parent.place()))
        {
            return self.report.refuse(
                place,
                "is never known of a resource type with `learned: true`; remove it",
            );
        }
        Some(ResourceType {
            name: name.value.clone(),
            id: wire.id()?,
            rows: rows?,
            within: within?,
            has_parent: parent?.is_some(),
        })
    }

    /// A containing type has no container itself: the query flattens deeper nesting.
    fn nest_once(&mut self, named: &Named<Resource>, kinds: &[ResourceType]) -> bool {
        let mut good = true;
        for ((name, _), kind) in named.0.iter().zip(kinds) {
            let Some(outer) = kind.within.and_then(|index| kinds.get(index)) else {
                continue;
            };
            let message = if outer.within.is_some() || outer.has_parent {
                "`within` cannot be nested, and that type has a `within` or a `parent` itself; return the outermost id from the query"
            } else if std::mem::discriminant(&outer.rows) != std::mem::discriminant(&kind.rows) {
                "the rows of that type come from somewhere else; have both in the database, or both in `static_facts`"
            } else {
                continue;
            };
            self.report.problem(&name.place.below("within"), message);
            good = false;
        }
        good
    }
}
