//! `facts`, `resources` and `static_facts`: what is known of callers and resources, and from where.
//!
//! Decides: that each resource type has its rows in one place and at most one container, and that a
//! subject can be only one issuer's. Trusts: the queries to mean what they say. Not here: whether
//! they fit the database (`facts::schema`), and running them (`facts`).

mod resources;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

pub(crate) use self::resources::Resource;
pub(crate) use self::rows::StaticFacts;
use super::tokens::issuers;
use crate::config::check::Checker;
use crate::config::macros::{wire, words};
use crate::config::node::Text;
use crate::config::wire::{Field, Named, Value};
use crate::policy::resources::{self as checked, ParamType, Query, ResourceType, RowSource};
use crate::policy::spelling::nearest;
use crate::policy::sql_template::Template;
use crate::policy::tokens::TokenIssuer;

wire! {
    /// Queries about callers.
    struct Facts {
        subject: ParamType = ParamType::Uuid,
        caller: Text,
        memberships: Text,
        anonymous: bool = false,
    }
}

words! {
    impl ParamType {
        "uuid" => ParamType::Uuid,
        "text" => ParamType::Text,
        "integer" => ParamType::Integer,
    }
}

/// What is known of callers and resources.
pub(crate) struct Attributes {
    /// Queries about callers.
    pub facts: checked::Facts,
    /// The resource types; routes refer to them by index.
    pub kinds: Vec<ResourceType>,
    /// Rows that are written in the configuration.
    pub rows: checked::StaticFacts,
}

impl Attributes {
    /// The names of the resource types.
    pub(super) fn names(&self) -> Vec<&str> {
        self.kinds.iter().map(|kind| kind.name.as_str()).collect()
    }
}

/// The sections that say what facts are.
pub(crate) struct FactSections<'a> {
    /// Whether there is a database to query.
    pub has_database: bool,
    /// `facts`
    pub facts: &'a Field<Facts>,
    /// `resources`
    pub resources: &'a Field<Named<Resource>>,
    /// `static_facts`
    pub static_facts: &'a Field<StaticFacts>,
}

impl FactSections<'_> {
    /// Whether the configuration has facts.
    pub(crate) fn are_written(&self) -> bool {
        self.facts.is_written() || self.resources.is_written() || self.static_facts.is_written()
    }
}

/// The type of subjects, if all issuers have the same; else a UUID, the default.
fn only_type(tokens: &[TokenIssuer]) -> ParamType {
    let mut kinds = tokens.iter().map(|entry| entry.subject);
    match kinds.next() {
        Some(first) if kinds.all(|kind| kind == first) => first,
        Some(_) | None => ParamType::Uuid,
    }
}

impl Checker<'_> {
    pub(crate) fn attributes(
        &mut self,
        sections: &FactSections<'_>,
        tokens: Option<&[TokenIssuer]>,
    ) -> Option<Attributes> {
        let rows = self.static_facts(sections.static_facts);
        let facts = self.caller_facts(sections, tokens);
        let kinds = self.resources(sections);
        self.subjects_are_clear(sections, tokens);
        let (facts, rows) = (facts?, rows?);
        let attributes = Attributes {
            kinds: kinds?,
            rows: rows.with_subjects(facts.subject),
            facts,
        };
        self.static_facts_fit(sections.static_facts, &attributes);
        Some(attributes)
    }

    fn caller_facts(
        &mut self,
        sections: &FactSections<'_>,
        tokens: Option<&[TokenIssuer]>,
    ) -> Option<checked::Facts> {
        let wire = sections.facts.section()?;
        let has_database = sections.has_database;
        let caller = wire.caller.then(|text| self.query(text, has_database));
        let memberships = wire.memberships.then(|text| self.query(text, has_database));
        Some(checked::Facts {
            subject: match sections.are_written() {
                true => wire.subject()?,
                // Only `self` of a route uses it.
                false => only_type(tokens.unwrap_or_default()),
            },
            caller: caller?,
            memberships: memberships?,
            anonymous: wire.anonymous()?,
        })
    }

    /// A query of the database for one id or subject.
    pub(in crate::config::sections) fn query(
        &mut self,
        text: &Value<Text>,
        has_database: bool,
    ) -> Option<Query> {
        if !has_database {
            return self.report.refuse_instead(
                &text.place,
                "there is no `database` to query",
                "add `database`, or write the rows under `static_facts`",
            );
        }
        match Template::parse(&text.value.value) {
            Ok(sql) => Some(Query {
                sql,
                key: text.place.key.clone(),
                line: text.place.line,
                column: text.place.column,
            }),
            Err(why) => self.report.refuse(&text.place, why),
        }
    }

    /// The index of the resource type of that name.
    pub(super) fn kind_index(&mut self, text: &Value<Text>, names: &[&str]) -> Option<usize> {
        let index = names.iter().position(|name| *name == text.value.value);
        index.or_else(|| {
            let near = nearest(&text.value.value, names.iter().copied())
                .filter(|_| text.value.written.is_none());
            let instead = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => {
                    "add it under `resources`, or write `resource: none`".to_owned()
                }
                None => format!("the resource types are {}", names.join(", ")),
            };
            let shown = text.value.shown();
            let message = format!("there is no resource type `{shown}` under `resources`");
            self.report.refuse_instead(&text.place, message, instead)
        })
    }

    /// A subject identifies somebody only together with its issuer.
    fn subjects_are_clear(&mut self, sections: &FactSections<'_>, tokens: Option<&[TokenIssuer]>) {
        let places = [
            sections.facts.place(),
            sections.resources.place(),
            sections.static_facts.place(),
        ];
        if issuers(tokens).len() > 1
            && let Some(place) = places.into_iter().flatten().next()
        {
            self.report.problem_instead(
                place,
                "a subject is ambiguous when `tokens` has several issuers: either could issue a token for the other's owner",
                "keep to one issuer",
            );
        }
    }

    /// Static rows belong to resource types that have no query, and nothing is both static and
    /// queried.
    fn static_facts_fit(&mut self, field: &Field<StaticFacts>, attributes: &Attributes) {
        let Some(place) = field.place() else { return };
        let Attributes { facts, kinds, rows } = attributes;
        let mut reported = HashSet::new();
        for (kind, _) in rows.rows.keys() {
            let is_static = kinds
                .iter()
                .any(|known| known.name == *kind && matches!(known.rows, RowSource::Static));
            if !is_static && reported.insert(kind) {
                self.report.problem(
                    &place.below("resources").below(kind),
                    format!("`resources` has no type `{kind}` without a `query`; add `{kind}: {{}}` there"),
                );
            }
        }
        for (key, is_static, query) in [
            (
                "inactive",
                !rows.inactive.is_empty(),
                ("facts.caller", &facts.caller),
            ),
            (
                "memberships",
                !rows.memberships.is_empty(),
                ("facts.memberships", &facts.memberships),
            ),
        ] {
            if let (true, (other, Some(_))) = (is_static, query) {
                let message =
                    format!("is queried from the database, too (`{other}`); remove one of the two");
                self.report.problem(&place.below(key), message);
            }
        }
    }
}
