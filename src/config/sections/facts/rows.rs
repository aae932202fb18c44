//! `static_facts`: rows that are written in the configuration, in place of a database.

use std::collections::HashMap;

use crate::config::check::Checker;
use crate::config::macros::wire;
use crate::config::node::Text;
use crate::config::wire::{Field, ListOrEmpty, Named, Value};
use crate::policy::relations::{Level, Visibility};
use crate::policy::resources as checked;

wire! {
    /// The rows.
    struct StaticFacts {
        inactive: ListOrEmpty<Text>,
        memberships: Named<Named<Text>>,
        resources: Named<Named<StaticRow>>,
    }

    /// The row of one resource.
    struct StaticRow {
        owner: Text,
        visibility: Text,
        teams: Named<Text>,
        within: Text,
        parent: Text,
    }
}

impl Checker<'_> {
    /// The rows, also of a file of policy tests.
    pub(crate) fn static_facts(
        &mut self,
        field: &Field<StaticFacts>,
    ) -> Option<checked::StaticFacts> {
        let wire = field.section()?;
        let inactive = wire.inactive.then(|list| self.words(&list.value.0));
        let memberships = self.each_of(&wire.memberships, |checker, subject, teams| {
            let teams = checker.levels(&teams?.value, |role| {
                (Level::of_member(role) == Level::NONE).then_some(
                    "is not a team role; use viewer, contributor, editor, admin or owner",
                )
            });
            Some((subject.value.clone(), teams?))
        });
        let rows = self.each_of(&wire.resources, |checker, kind, rows| {
            checker.each_named(&rows?.value, |checker, id, row| {
                let row = checker.static_row(&row?.value)?;
                Some(((kind.value.clone(), id.value.clone()), row))
            })
        });
        Some(checked::StaticFacts {
            inactive: inactive?.unwrap_or_default().into_iter().collect(),
            memberships: memberships?.into_iter().collect(),
            rows: rows?.into_iter().flatten().collect::<HashMap<_, _>>(),
        })
    }

    fn static_row(&mut self, wire: &StaticRow) -> Option<checked::StaticRow> {
        let text = |text: &Value<Text>| Some(text.value.value.clone());
        let teams = wire.teams.then(|teams| {
            self.levels(&teams.value, |level| {
                (Level::of_access(level) == Level::NONE)
                    .then_some("is not an access level; use read, write or admin")
            })
        });
        let visibility = wire.visibility.then(|word| {
            word.parse(
                |text| Visibility::is_known(text).then(|| text.to_owned()),
                "is not a visibility",
                "use private, team-only or public",
                self.report,
            )
        });
        Some(checked::StaticRow {
            owner: wire.owner.then(text)?,
            visibility: visibility?,
            teams: teams?.unwrap_or_default(),
            within: wire.within.then(text)?,
            parent: wire.parent.then(text)?,
        })
    }

    /// Teams and the word written for each; `wrong` says why a word is none.
    fn levels(
        &mut self,
        named: &Named<Text>,
        wrong: impl Fn(&str) -> Option<&'static str>,
    ) -> Option<Vec<(String, String)>> {
        self.each_named(named, |checker, name, word| {
            let word = word?;
            if let Some(why) = wrong(&word.value.value) {
                let message = format!("`{}` {why}", word.value.shown());
                return checker.report.refuse(&word.place, message);
            }
            Some((name.value.clone(), word.value.value.clone()))
        })
    }
}
