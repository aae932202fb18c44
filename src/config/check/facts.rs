//! What is asked about callers and things, and which things a route is about.
//!
//! Decides: that each kind has its rows in one place and at most one outer kind, that every path parameter that names something is judged or waived
//! in so many words, and that a subject can be only one issuer's. Trusts: the queries to mean what they say; the database tells whether they fit it.
//! Not here: asking (`facts`), and what a relation allows (`auth::ownership`).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::routes::Around;
use super::{AllFacts, Checker, DAY, secs};
use crate::config::file::{self, File, ResourceField, ResourceThing};
use crate::config::node::Text;
use crate::config::place::Place;
use crate::config::wire::{Field, Named, Value};
use crate::policy::path::{Pattern, Segment};
use crate::policy::relations::{Level, Visibility};
use crate::policy::resources::{
    BodyIds, BodyStep, Demand, DemandOf, Facts, IdPlace, Learn, ParamType, Query, ResourceKind,
    RowSource, StaticFacts, StaticRow,
};
use crate::policy::route::{Access, Target};
use crate::policy::spelling::nearest;
use crate::policy::sql_template::Template;
use crate::policy::tokens::TokenIssuer;
use crate::request::body::JUDGED;

const NO_DATABASE: &str = "add `database`, or write the rows under `static_facts`";

/// `items[].id` and the like.
fn body_steps(text: &str) -> Option<Vec<BodyStep>> {
    let mut steps = Vec::new();
    for part in text.split('.') {
        let name = part.trim_end_matches("[]");
        let lists = (part.len() - name.len()) / 2;
        if name.is_empty() && !steps.is_empty() || name.contains(['[', ']']) {
            return None;
        }
        if !name.is_empty() {
            steps.push(BodyStep::Member(name.to_owned()));
        }
        steps.extend(std::iter::repeat_n(BodyStep::Items, lists));
    }
    (!steps.is_empty()).then_some(steps)
}

/// How long what an answer taught is known, unless something else is written.
const KEEP: Duration = DAY;

impl Checker<'_> {
    /// Facts and kinds of things.
    pub(super) fn facts(
        &mut self,
        file: &File,
        tokens: Option<&[TokenIssuer]>,
    ) -> Option<AllFacts> {
        let has_database = file.database.is_written();
        let static_facts = self.static_facts(&file.static_facts);
        let facts = self.callers(&file.facts, has_database);
        let resources = self.resources(file, has_database);
        if let (Some(facts), Some(resources), Some(static_facts)) =
            (&facts, &resources, &static_facts)
        {
            self.static_rows_have_kinds(&file.static_facts, resources, static_facts);
            if facts.caller.is_some() && !static_facts.inactive.is_empty() {
                self.told_twice(&file.static_facts, "inactive", "facts.caller");
            }
            if facts.memberships.is_some() && !static_facts.memberships.is_empty() {
                self.told_twice(&file.static_facts, "memberships", "facts.memberships");
            }
        }
        self.subjects_are_clear(file, tokens);
        Some((facts?, resources?, static_facts?))
    }

    fn callers(&mut self, field: &Field<file::Facts>, has_database: bool) -> Option<Facts> {
        let absent = file::Facts::absent();
        let wire = super::section(field, &absent)?;
        let subject = super::or(&wire.subject, ParamType::Uuid);
        let caller = self.optional_query(&wire.caller, has_database);
        let memberships = self.optional_query(&wire.memberships, has_database);
        Some(Facts {
            subject: subject?,
            caller: caller?,
            memberships: memberships?,
        })
    }

    fn optional_query(&mut self, field: &Field<Text>, has_database: bool) -> Option<Option<Query>> {
        match field {
            Field::Absent => Some(None),
            Field::Bad => None,
            Field::Good(text) => self.query(text, has_database).map(Some),
        }
    }

    fn query(&mut self, text: &Value<Text>, has_database: bool) -> Option<Query> {
        if !has_database {
            self.report
                .problem_instead(&text.place, "there is no `database` to ask", NO_DATABASE);
            return None;
        }
        match Template::parse(&text.value.value) {
            Ok(sql) => Some(Query {
                sql,
                key: text.place.key.clone(),
                line: text.place.line,
                column: text.place.column,
            }),
            Err(why) => {
                self.report.problem(&text.place, why);
                None
            }
        }
    }

    fn resources(&mut self, file: &File, has_database: bool) -> Option<Vec<ResourceKind>> {
        let named = match &file.resources {
            Field::Absent => return Some(Vec::new()),
            Field::Bad => return None,
            Field::Good(named) => &named.value.0,
        };
        let names: Vec<&str> = named.iter().map(|(name, _)| name.value.as_str()).collect();
        let kinds: Vec<ResourceKind> = named
            .iter()
            .filter_map(|(name, wire)| {
                let named = self.kind_name(name);
                let kind = self.kind(name, &wire.as_ref()?.value, &names, file, has_database)?;
                named.then_some(kind)
            })
            .collect();
        if kinds.len() != named.len() {
            return None;
        }
        self.nests_once(named, &kinds).then_some(kinds)
    }

    fn kind_name(&mut self, name: &Value<String>) -> bool {
        let text = name.value.as_str();
        let is_word = text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.len() <= 64
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let is_free = !matches!(text, "none" | "self" | "caller" | "memberships");
        if !is_word {
            self.report.problem(
                &name.place,
                "is not the name of a kind; write lower-case letters, digits and `_`",
            );
        } else if !is_free {
            self.report.problem(
                &name.place,
                "means something else where a kind stands; write another name",
            );
        }
        is_word && is_free
    }

    fn kind(
        &mut self,
        name: &Value<String>,
        wire: &file::Resource,
        names: &[&str],
        file: &File,
        has_database: bool,
    ) -> Option<ResourceKind> {
        let learned = super::or(&wire.learned, false)?;
        let rows = match (&wire.query, learned) {
            (Field::Bad, _) => None,
            (Field::Good(query), true) => {
                self.report.problem(
                    &query.place,
                    "cannot stand beside `learned: true`, which knows a thing only from answers; remove one of the two",
                );
                None
            }
            (Field::Good(query), false) => self.query(query, has_database).map(RowSource::Query),
            (Field::Absent, true) => Some(RowSource::Learned),
            (Field::Absent, false) if file.static_facts.is_written() => Some(RowSource::Static),
            (Field::Absent, false) => {
                self.report.problem_instead(
                    &name.place,
                    "does not say where its rows are",
                    "write a `query`, or `learned: true`, or its rows under `static_facts`",
                );
                None
            }
        };
        let id = super::or(&wire.id, ParamType::Uuid);
        let within = self.other_kind(&wire.within, names);
        let parent = self.other_kind(&wire.parent, names);
        if let (Some(Some(parent)), Some(place)) = (parent, wire.parent.good())
            && names.get(parent) != Some(&name.value.as_str())
        {
            self.report.problem(
                &place.place,
                "a parent is of the same kind; write its own name, or `within` for what it lies in",
            );
            return None;
        }
        if let (true, Some(place)) = (
            learned,
            wire.within
                .good()
                .or(wire.parent.good())
                .map(|text| &text.place),
        ) {
            self.report.problem(
                place,
                "is never known of a kind with `learned: true`; remove it",
            );
            return None;
        }
        Some(ResourceKind {
            name: name.value.clone(),
            id: id?,
            rows: rows?,
            within: within?,
            has_parent: parent?.is_some(),
        })
    }

    fn other_kind(&mut self, field: &Field<Text>, names: &[&str]) -> Option<Option<usize>> {
        match field {
            Field::Absent => Some(None),
            Field::Bad => None,
            Field::Good(text) => self.kind_index(text, names).map(Some),
        }
    }

    fn kind_index(&mut self, text: &Value<Text>, names: &[&str]) -> Option<usize> {
        let index = names.iter().position(|name| *name == text.value.value);
        if index.is_none() {
            let message = format!(
                "there is no kind `{}` under `resources`",
                text.value.shown()
            );
            let near = nearest(&text.value.value, names.iter().copied())
                .filter(|_| text.value.written.is_none());
            let instead = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => {
                    "add it under `resources`, or write `resource: none`".to_owned()
                }
                None => format!("the kinds are {}", names.join(", ")),
            };
            self.report.problem_instead(&text.place, message, instead);
        }
        index
    }

    /// What a thing lies in lies in nothing itself: deeper nesting is flattened by the query.
    fn nests_once(
        &mut self,
        named: &[(Value<String>, Option<Value<file::Resource>>)],
        kinds: &[ResourceKind],
    ) -> bool {
        let mut good = true;
        for ((name, _), kind) in named.iter().zip(kinds) {
            let Some(outer) = kind.within.and_then(|index| kinds.get(index)) else {
                continue;
            };
            let message = if outer.within.is_some() || outer.has_parent {
                "lies in a kind that has a `within` or a `parent` itself; let the query give the id of the outermost"
            } else if std::mem::discriminant(&outer.rows) != std::mem::discriminant(&kind.rows) {
                "lies in a kind whose rows are somewhere else; have both in the database, or both in `static_facts`"
            } else {
                continue;
            };
            self.report.problem(&name.place.below("within"), message);
            good = false;
        }
        good
    }

    /// A subject means somebody only together with its issuer.
    fn subjects_are_clear(&mut self, file: &File, tokens: Option<&[TokenIssuer]>) {
        let mut issuers: Vec<&str> = tokens
            .unwrap_or_default()
            .iter()
            .map(|entry| entry.issuer.as_str())
            .collect();
        issuers.sort_unstable();
        issuers.dedup();
        let written = [
            file.facts.good().map(|value| &value.place),
            file.resources.good().map(|value| &value.place),
            file.static_facts.good().map(|value| &value.place),
        ];
        if issuers.len() > 1
            && let Some(place) = written.into_iter().flatten().next()
        {
            self.report.problem_instead(
                place,
                "a subject does not say whose it is when `tokens` has several issuers: either could name the other's owner",
                "keep to one issuer",
            );
        }
    }

    /// Facts that are written down.
    pub(crate) fn static_facts(&mut self, field: &Field<file::StaticFacts>) -> Option<StaticFacts> {
        let absent = file::StaticFacts::absent();
        let wire = super::section(field, &absent)?;
        let inactive = match &wire.inactive {
            Field::Absent => Some(HashSet::new()),
            Field::Bad => None,
            Field::Good(list) => self
                .words(&list.value)
                .map(|words| words.into_iter().collect()),
        };
        let memberships = self.named(&wire.memberships, |checker, teams| {
            checker.pairs(teams, |role| {
                (Level::of_member(role) == Level::NONE).then_some(
                    "is no role of a team; write viewer, contributor, editor, admin or owner",
                )
            })
        });
        let rows = self.named(&wire.resources, |checker, rows| {
            checker.named_in(rows, |checker, row: &file::StaticRow| {
                checker.static_row(row)
            })
        });
        let mut all = HashMap::new();
        for (kind, rows) in rows? {
            for (id, row) in rows {
                all.insert((kind.clone(), id), row);
            }
        }
        Some(StaticFacts {
            inactive: inactive?,
            memberships: memberships?.into_iter().collect(),
            rows: all,
        })
    }

    fn static_row(&mut self, wire: &file::StaticRow) -> Option<StaticRow> {
        let text = |field: &Field<Text>| match field {
            Field::Absent => Some(None),
            Field::Bad => None,
            Field::Good(text) => Some(Some(text.value.value.clone())),
        };
        let teams = match &wire.teams {
            Field::Absent => Some(Vec::new()),
            Field::Bad => None,
            Field::Good(teams) => self.pairs(&teams.value, |level| {
                (Level::of_access(level) == Level::NONE)
                    .then_some("is no access level; write read, write or admin")
            }),
        };
        if let Field::Good(word) = &wire.visibility
            && !Visibility::is_known(&word.value.value)
        {
            self.report.problem(
                &word.place,
                "is no visibility; write private, team-only or public",
            );
            return None;
        }
        Some(StaticRow {
            owner: text(&wire.owner)?,
            visibility: text(&wire.visibility)?,
            teams: teams?,
            within: text(&wire.within)?,
            parent: text(&wire.parent)?,
        })
    }

    fn named<T, U>(
        &mut self,
        field: &Field<Named<T>>,
        make: impl FnMut(&mut Self, &T) -> Option<U>,
    ) -> Option<Vec<(String, U)>> {
        match field {
            Field::Absent => Some(Vec::new()),
            Field::Bad => None,
            Field::Good(named) => self.named_in(&named.value, make),
        }
    }

    fn named_in<T, U>(
        &mut self,
        named: &Named<T>,
        mut make: impl FnMut(&mut Self, &T) -> Option<U>,
    ) -> Option<Vec<(String, U)>> {
        let made: Vec<(String, U)> = named
            .0
            .iter()
            .filter_map(|(name, value)| {
                Some((name.value.clone(), make(self, &value.as_ref()?.value)?))
            })
            .collect();
        (made.len() == named.0.len()).then_some(made)
    }

    fn pairs(
        &mut self,
        named: &Named<Text>,
        wrong: impl Fn(&str) -> Option<&'static str>,
    ) -> Option<Vec<(String, String)>> {
        let mut pairs = Vec::with_capacity(named.0.len());
        for (name, value) in &named.0 {
            let Some(value) = value else { continue };
            match wrong(&value.value.value) {
                Some(why) => {
                    let message = format!("`{}` {why}", value.value.shown());
                    self.report.problem(&value.place, message);
                }
                None => pairs.push((name.value.clone(), value.value.value.clone())),
            }
        }
        (pairs.len() == named.0.len()).then_some(pairs)
    }

    fn static_rows_have_kinds(
        &mut self,
        field: &Field<file::StaticFacts>,
        kinds: &[ResourceKind],
        facts: &StaticFacts,
    ) {
        let Some(place) = field.good().map(|value| &value.place) else {
            return;
        };
        let mut told = HashSet::new();
        for (kind, _) in facts.rows.keys() {
            let is_static = kinds
                .iter()
                .any(|known| known.name == *kind && matches!(known.rows, RowSource::Static));
            if !is_static && told.insert(kind) {
                self.report.problem(
                    &place.below("resources").below(kind),
                    format!("`resources` has no kind `{kind}` without a `query`; add `{kind}: {{}}` there"),
                );
            }
        }
    }

    fn told_twice(&mut self, field: &Field<file::StaticFacts>, key: &str, other: &str) {
        if let Some(place) = field.good().map(|value| &value.place) {
            self.report.problem(
                &place.below(key),
                format!("is asked of the database, too (`{other}`); remove one of the two"),
            );
        }
    }

    /// The things a route is about. A path that names a thing must say whose it is, even if that is nobody's business.
    pub(super) fn resource(
        &mut self,
        wire: &file::Route,
        paths: Option<&[Pattern]>,
        access: Option<Access>,
        around: &Around<'_>,
    ) -> Option<Vec<Demand>> {
        let (field, place) = match &wire.resource {
            Field::Bad => return None,
            Field::Good(field) => (&field.value, &field.place),
            Field::Absent if access == Some(Access::Deny) => return Some(Vec::new()),
            Field::Absent => {
                let parameter = paths
                    .into_iter()
                    .flatten()
                    .any(|path| path.parameters().next().is_some());
                if parameter {
                    self.report.problem_instead(
                        &wire.place.below("resource"),
                        "is missing, and the path has a parameter that names something",
                        "write a kind of `resources`, or `resource: none` if the server behind judges who owns it",
                    );
                    return None;
                }
                return Some(Vec::new());
            }
        };
        let things = match field {
            ResourceField::Nothing => return Some(Vec::new()),
            ResourceField::Things(things) => things,
        };
        if access == Some(Access::Deny) {
            self.report.problem(
                place,
                "has no effect with `access: deny`; remove `resource`",
            );
            return None;
        }
        let (paths, facts) = (paths?, around.facts?);
        let demands: Vec<Demand> = things
            .iter()
            .filter_map(|thing| self.demand(thing, paths, facts))
            .collect();
        if let (Some(Access::Public | Access::Optional), Some(own)) = (
            access,
            demands
                .iter()
                .position(|demand| demand.of == DemandOf::Caller),
        ) && let Some(thing) = things.get(own)
        {
            self.report.problem(
                &thing.place,
                "`self` is a user, and this route lets strangers in; write `access: user`",
            );
            return None;
        }
        (demands.len() == things.len()).then_some(demands)
    }

    fn demand(
        &mut self,
        thing: &Value<ResourceThing>,
        paths: &[Pattern],
        (facts, kinds, _): &AllFacts,
    ) -> Option<Demand> {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
        let text = |text: &Text| Value {
            value: text.clone(),
            place: thing.place.clone(),
        };
        match &thing.value {
            ResourceThing::Caller { id, action } => {
                let place = self.id_place(&text(id), facts.subject, paths);
                let action = match action {
                    None => Some(None),
                    Some(action) => self.action(action).map(Some),
                };
                Some(Demand {
                    of: DemandOf::Caller,
                    id: place?,
                    action: action?,
                    within: None,
                })
            }
            ResourceThing::Kind(kind) => {
                let index = self.kind_index(&text(kind), &names)?;
                let known = kinds.get(index)?;
                Some(Demand {
                    of: DemandOf::Kind(index),
                    id: self.only_parameter(&thing.place, known, paths)?,
                    action: None,
                    within: None,
                })
            }
            ResourceThing::Of(of) => {
                let choice = format!("write one of {}", names.join(", "));
                let kind = of.kind.required(&of.place, "kind", &choice, self.report);
                let index = kind.and_then(|kind| self.kind_index(kind, &names))?;
                let known = kinds.get(index)?;
                let id = match &of.id {
                    Field::Absent => self.only_parameter(&thing.place, known, paths),
                    Field::Bad => None,
                    Field::Good(id) => self.id_place(id, known.id, paths),
                };
                let action = match &of.action {
                    Field::Absent => Some(None),
                    Field::Bad => None,
                    Field::Good(action) => self.action(action).map(Some),
                };
                let within = match &of.within {
                    Field::Absent => Some(None),
                    Field::Bad => None,
                    Field::Good(within) => match known.within.and_then(|outer| kinds.get(outer)) {
                        Some(outer) => self.id_place(within, outer.id, paths).map(Some),
                        None => {
                            self.report.problem(
                                &within.place,
                                format!("things of the kind `{}` lie in nothing; remove it, or write `within` under `resources`", known.name),
                            );
                            None
                        }
                    },
                };
                Some(Demand {
                    of: DemandOf::Kind(index),
                    id: id?,
                    action: action?,
                    within: within?,
                })
            }
        }
    }

    /// The parameter that a kind alone means: the one named after it, or the only one.
    fn only_parameter(
        &mut self,
        place: &Place,
        kind: &ResourceKind,
        paths: &[Pattern],
    ) -> Option<IdPlace> {
        let first = paths.first()?;
        let named = format!("{}_id", kind.name);
        let names: Vec<&str> = first.parameters().collect();
        let name = match &names[..] {
            names if names.contains(&named.as_str()) => named,
            [only] => (*only).to_owned(),
            _ => {
                self.report.problem_instead(
                    place,
                    format!("does not say which parameter names the {}", kind.name),
                    format!(
                        "name it `{{{named}}}`, or write `{{ kind: {}, id: path.NAME }}`",
                        kind.name
                    ),
                );
                return None;
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
        let written = text.value.value.as_str();
        let id = written
            .strip_prefix("path.")
            .map(|name| IdPlace::Path(name.to_owned()))
            .or_else(|| {
                let name = written.strip_prefix("query.")?;
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
                (!name.is_empty() && name.chars().all(plain))
                    .then(|| IdPlace::Query(name.to_owned()))
            });
        let Some(id) = id else {
            self.report.problem_instead(
                &text.place,
                format!("`{}` is not a place for an id", text.value.shown()),
                "write `path.NAME` or `query.NAME`",
            );
            return None;
        };
        self.has_type(&text.place, &id, kind, paths).then_some(id)
    }

    /// Whether every path has the parameter, typed so that what cannot be an id is refused before it is looked up.
    fn has_type(
        &mut self,
        place: &Place,
        id: &IdPlace,
        kind: ParamType,
        paths: &[Pattern],
    ) -> bool {
        let IdPlace::Path(name) = id else { return true };
        for path in paths {
            let found = path.segments().iter().find_map(|segment| match segment {
                Segment::Parameter { name: other, kind } if other == name => Some(*kind),
                Segment::Parameter { .. } | Segment::Literal(_) | Segment::Tail => None,
            });
            let wanted = match kind {
                ParamType::Uuid | ParamType::Integer => Some(kind),
                ParamType::Text => None,
            };
            match (found, wanted) {
                (None, _) => {
                    self.report.problem(
                        place,
                        format!("the path `{}` has no parameter `{name}`", path.as_str()),
                    );
                    return false;
                }
                (Some(found), Some(wanted)) if found != wanted => {
                    let word = wanted.in_path();
                    self.report.problem(
                        place,
                        format!("`{name}` is looked up as {}; write `{{{name}:{word}}}` in the path `{}`, so that anything else is refused before", kind.as_str(), path.as_str()),
                    );
                    return false;
                }
                (Some(_), _) => {}
            }
        }
        true
    }

    /// The things a body names.
    pub(super) fn body_ids(
        &mut self,
        wire: &file::Route,
        around: &Around<'_>,
    ) -> Option<Vec<BodyIds>> {
        let list = match &wire.body {
            Field::Absent => return Some(Vec::new()),
            Field::Bad => return None,
            Field::Good(body) => match &body.value.ids {
                Field::Absent => return Some(Vec::new()),
                Field::Bad => return None,
                Field::Good(list) => list,
            },
        };
        list.value.at_least_one(&list.place, self.report);
        if let Some(limit) = wire.body.good().and_then(|body| body.value.limit.good())
            && limit.value.0 > JUDGED
        {
            self.report.problem_instead(
                &limit.place,
                "is more than a body may be long that is read for its `ids`",
                "write 1MiB or less, or remove `ids`",
            );
            return None;
        }
        let (_, kinds, _) = around.facts?;
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
        self.each(&list.value, |checker, item| {
            let of = &item.value;
            let choice = format!("write one of {}", names.join(", "));
            let kind = of.kind.required(&of.place, "kind", &choice, checker.report);
            let kind = kind.and_then(|kind| checker.kind_index(kind, &names));
            let example = "write where the id is, such as `project_id` or `items[].id`";
            let field = of
                .field
                .required(&of.place, "field", example, checker.report);
            let steps = field.and_then(|field| {
                let steps = body_steps(&field.value.value);
                if steps.is_none() {
                    let message = format!("`{}` leads nowhere", field.value.shown());
                    checker
                        .report
                        .problem_instead(&field.place, message, example);
                }
                steps
            });
            let max = checker.number(&of.max, 1..=1000, 100_usize);
            let action = match &of.action {
                Field::Absent => Some(None),
                Field::Bad => None,
                Field::Good(action) => checker.action(action).map(Some),
            };
            Some(BodyIds {
                written: field?.value.value.clone(),
                steps: steps?,
                kind: kind?,
                max: max?,
                action: action?,
            })
        })
    }

    /// What the answer of a route teaches: `Some(None)` for nothing.
    pub(super) fn learn(
        &mut self,
        wire: &file::Route,
        access: Option<Access>,
        around: &Around<'_>,
    ) -> Option<Option<Learn>> {
        let learn = match &wire.learn {
            Field::Absent => return Some(None),
            Field::Bad => return None,
            Field::Good(learn) => learn,
        };
        let (_, kinds, _) = around.facts?;
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
        let choice = "write a kind of `resources` with `learned: true`";
        let kind = learn
            .value
            .kind
            .required(&learn.place, "kind", choice, self.report)
            .and_then(|kind| {
                let index = self.kind_index(kind, &names)?;
                let is_learned = kinds
                    .get(index)
                    .is_some_and(|kind| matches!(kind.rows, RowSource::Learned));
                if !is_learned {
                    self.report.problem_instead(
                        &kind.place,
                        "is a kind whose rows are known already",
                        choice,
                    );
                }
                is_learned.then_some(index)
            });
        let field = learn
            .value
            .field
            .required(
                &learn.place,
                "field",
                "write the field of the answer that holds the id, such as `generation_id` or `data.id`",
                self.report,
            )
            .and_then(|field| {
                let parts: Vec<String> =
                    field.value.value.split('.').map(str::to_owned).collect();
                let good = parts.iter().all(|part| !part.is_empty());
                if !good {
                    self.report.problem(&field.place, "has an empty part");
                }
                good.then_some(parts)
            });
        let keep = self.duration(&learn.value.keep, secs(60)..=DAY * 30, KEEP);
        if matches!(access, Some(access) if access != Access::User) {
            self.report.problem(
                &learn.place,
                "binds what it learns to the caller, so it needs `access: user`",
            );
            return None;
        }
        Some(Some(Learn {
            kind: kind?,
            field: field?,
            keep: keep?,
        }))
    }

    /// Only an upstream's answer teaches something.
    pub(super) fn learns_from_upstream(
        &mut self,
        wire: &file::Route,
        target: Option<Option<Target>>,
    ) {
        if let (Some(learn), Some(Some(Target::Serve(_)))) = (wire.learn.good(), target) {
            self.report.problem(
                &learn.place,
                "what is answered here teaches nothing; remove `learn`",
            );
        }
    }
}
