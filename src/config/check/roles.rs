//! Where roles come from, and what they grant.
//!
//! Decides: that a listed role grants something, that `banned` grants nothing, and that a listed subject can be only one issuer's. Trusts: the
//! operator, that users cannot write the claim. Not here: judging by them (`auth::roles`).

use super::Checker;
use crate::auth::role_table::BANNED;
use crate::config::file;
use crate::config::node::Text;
use crate::config::wire::{Field, List, Many, Named, Value};
use crate::policy::roles::{Action, Grants, Roles};
use crate::policy::tokens::TokenIssuer;

impl Checker<'_> {
    /// The rules of roles; without a word, those of a Supabase project.
    pub(super) fn roles(&mut self, field: &Field<file::Roles>) -> Option<Roles> {
        let absent = file::Roles::absent();
        let wire = super::section(field, &absent)?;
        let from = match &wire.from {
            Field::Absent => Some(vec!["app_metadata".to_owned(), "roles".to_owned()]),
            Field::Bad => None,
            Field::Good(text) => self.claim_path(&text.value.value, &text.place),
        };
        let list = self.role_list(&wire.list);
        let grants = self.grants(&wire.grants);
        if let (Some(list), Some(grants), Some(named)) = (&list, &grants, wire.list.good()) {
            for (role, _) in list {
                if role != BANNED && !grants.iter().any(|(granted, _)| granted == role) {
                    self.report.warn(
                        &named.place,
                        format!("the role `{role}` grants nothing; add it to `roles.grants`"),
                    );
                }
            }
        }
        Some(Roles {
            from: from?,
            list: list?,
            grants: grants?,
        })
    }

    /// A subject means somebody only together with its issuer: with two issuers, either could name the other's administrator.
    pub(super) fn listed_subjects_are_clear(
        &mut self,
        field: &Field<file::Roles>,
        tokens: &[TokenIssuer],
        roles: &Roles,
    ) {
        let mut issuers: Vec<&str> = tokens.iter().map(|entry| entry.issuer.as_str()).collect();
        issuers.sort_unstable();
        issuers.dedup();
        let list = field.good().and_then(|roles| roles.value.list.good());
        if let Some(list) = list
            && issuers.len() > 1
            && !roles.list.is_empty()
        {
            self.report.problem_instead(
                &list.place,
                "a subject does not say whose it is when `tokens` has several issuers",
                "let the issuers write the role into `app_metadata`, or keep to one issuer",
            );
        }
    }

    fn role_list(
        &mut self,
        field: &Field<Named<Many<Text>>>,
    ) -> Option<Vec<(String, Vec<String>)>> {
        let named = match field {
            Field::Absent => return Some(Vec::new()),
            Field::Bad => return None,
            Field::Good(named) => &named.value.0,
        };
        let mut list = Vec::with_capacity(named.len());
        for (role, subjects) in named {
            let role = self.name(&role.value, &role.place);
            let subjects = subjects
                .as_ref()
                .and_then(|subjects| self.words(&subjects.value.0));
            list.extend(role.zip(subjects));
        }
        (list.len() == named.len()).then_some(list)
    }

    fn grants(&mut self, field: &Field<Named<Many<Text>>>) -> Option<Vec<(String, Grants)>> {
        let named = match field {
            Field::Absent => return default_grants(),
            Field::Bad => return None,
            Field::Good(named) => &named.value.0,
        };
        let mut grants = Vec::with_capacity(named.len());
        for (role, actions) in named {
            let name = self.name(&role.value, &role.place);
            if role.value == BANNED {
                self.report.problem(&role.place, "the role `banned` takes every right away, so it cannot grant any; remove it here");
            }
            let actions = actions
                .as_ref()
                .and_then(|actions| self.actions(&actions.value.0));
            grants.extend(name.zip(actions));
        }
        (grants.len() == named.len()).then_some(grants)
    }

    fn actions(&mut self, list: &List<Text>) -> Option<Grants> {
        if let Some(star) = list.items.iter().find(|item| item.value.value == "*") {
            if list.written > 1 {
                self.report.problem(&star.place, "`*` grants every action, so nothing can stand beside it; write `[\"*\"]` alone");
                return None;
            }
            return Some(Grants::All);
        }
        self.each(list, Self::action).map(Grants::Actions)
    }

    /// The name of an action.
    pub(super) fn action(&mut self, text: &Value<Text>) -> Option<Action> {
        let action = Action::parse(&text.value.value);
        if action.is_none() {
            let message = format!("`{}` is not the name of an action", text.value.shown());
            self.report.problem_instead(
                &text.place,
                message,
                "write letters, digits and `_`, such as `read`, or `read:any`",
            );
        }
        action
    }
}

fn default_grants() -> Option<Vec<(String, Grants)>> {
    let user = vec![Action::parse("read")?, Action::parse("write")?];
    Some(vec![
        ("user".to_owned(), Grants::Actions(user)),
        ("admin".to_owned(), Grants::All),
    ])
}
