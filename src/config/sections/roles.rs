//! `roles`: where roles come from, and what they grant.
//!
//! `banned` grants nothing, and a listed subject can be only one issuer's. Users cannot write the
//! claim that roles come from.

use super::tokens::issuers;
use crate::auth::role_table::BANNED;
use crate::config::check::Checker;
use crate::config::decode::Decode;
use crate::config::macros::wire;
use crate::config::node::{Node, Text};
use crate::config::problem::Report;
use crate::config::wire::{Field, List, ManyOrEmpty, Named, Value};
use crate::policy::resources::ParamType;
use crate::policy::roles::{self as checked, Action, Grants};
use crate::policy::tokens::TokenIssuer;

wire! {
    /// The claim, subjects with roles that are listed here, and the actions of each role.
    struct Roles {
        from: Text,
        list: Named<ManyOrEmpty<Text>>,
        grants: Named<ManyOrEmpty<Text>>,
    }
}

impl Decode for Action {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        action(&Value::decode(node, report)?, report)
    }
}

fn action(text: &Value<Text>, report: &mut Report) -> Option<Action> {
    text.parse(
        Action::parse,
        "is not the name of an action",
        "write letters, digits and `_`, such as `read`, or `read:any`",
        report,
    )
}

impl Checker<'_> {
    /// Nothing written means the roles of a Supabase project.
    pub(crate) fn roles(
        &mut self,
        field: &Field<Roles>,
        tokens: Option<&[TokenIssuer]>,
    ) -> Option<checked::Roles> {
        let wire = field.section()?;
        let from = wire
            .from
            .then(|text| self.claim_path(&text.value.value, &text.place));
        let from =
            from.map(|path| path.unwrap_or_else(|| vec!["app_metadata".into(), "roles".into()]));
        let subject = tokens.and_then(|tokens| tokens.first());
        let subject = subject.map_or(ParamType::Text, |entry| entry.subject);
        let list = self.role_list(&wire.list, subject);
        let grants = self.grants(&wire.grants);
        let roles = checked::Roles {
            from: from?,
            list: list?,
            grants: grants?,
        };
        if let Some(place) = wire.list.place() {
            for (role, _) in &roles.list {
                if role != BANNED && !roles.grants.iter().any(|(granted, _)| granted == role) {
                    let message =
                        format!("the role `{role}` grants nothing; add it to `roles.grants`");
                    self.report.warn(place, message);
                }
            }
            if issuers(tokens).len() > 1 && !roles.list.is_empty() {
                self.report.problem_instead(
                    place,
                    "a subject is ambiguous when `tokens` has several issuers",
                    "let the issuers write the role into `app_metadata`, or keep to one issuer",
                );
            }
        }
        Some(roles)
    }

    /// The subjects of each role, in the spelling that callers have. Several issuers are refused.
    fn role_list(
        &mut self,
        field: &Field<Named<ManyOrEmpty<Text>>>,
        kind: ParamType,
    ) -> Option<Vec<(String, Vec<String>)>> {
        self.each_of(field, |checker, role, subjects| {
            let role = checker.name(&role.value, &role.place);
            let list = &subjects?.value.0;
            let subjects = checker.words(list)?;
            for (subject, item) in subjects.iter().zip(&list.items) {
                if kind.canonical(subject).is_none() {
                    let kind = kind.in_map();
                    let message = format!("is no caller's: `subject` of the issuer is `{kind}`");
                    checker.report.warn(&item.place, message);
                }
            }
            let subjects = subjects.iter();
            let subjects = subjects.map(|subject| kind.canonical_or_same(subject));
            Some((role?, subjects.collect()))
        })
    }

    fn grants(&mut self, field: &Field<Named<ManyOrEmpty<Text>>>) -> Option<Vec<(String, Grants)>> {
        let Some(named) = field.optional()? else {
            return default_grants();
        };
        self.each_named(&named.value, |checker, role, actions| {
            let name = checker.name(&role.value, &role.place);
            if role.value == BANNED {
                let message = "the role `banned` takes every right away, so it cannot grant any; remove it here";
                checker.report.problem(&role.place, message);
            }
            let actions = checker.actions(&actions?.value.0);
            name.zip(actions)
        })
    }

    fn actions(&mut self, list: &List<Text>) -> Option<Grants> {
        match list.items.iter().find(|item| item.value.value == "*") {
            Some(star) if list.written > 1 => self.report.refuse(
                &star.place,
                "`*` grants every action, so no other can be listed with it; write `[\"*\"]` alone",
            ),
            Some(_) => Some(Grants::All),
            None => self
                .each(list, |checker, text| action(text, checker.report))
                .map(Grants::Actions),
        }
    }
}

fn default_grants() -> Option<Vec<(String, Grants)>> {
    let user = vec![Action::parse("read")?, Action::parse("write")?];
    Some(vec![
        ("user".to_owned(), Grants::Actions(user)),
        ("admin".to_owned(), Grants::All),
    ])
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]
mod tests {
    use crate::config::tests::*;

    #[test]
    fn roles_never_come_from_what_users_write() {
        each_refused(
            &with_route("path: /a, access: public"),
            &[
                (
                    "roles: { from: user_metadata.roles }\n",
                    "roles.from",
                    "use `app_metadata`",
                ),
                (
                    "roles: { from: a..b }\n",
                    "roles.from",
                    "path into the claims",
                ),
                (
                    "roles: { grants: { banned: read } }\n",
                    "roles.grants.banned",
                    "cannot grant",
                ),
                (
                    "roles: { grants: { a: ['*', read] } }\n",
                    "roles.grants.a[0]",
                    "alone",
                ),
            ],
        );
        let roles = good(&with_route("path: /a, access: public")).config.roles;
        assert_eq!(roles.from, ["app_metadata", "roles"]);
        assert_eq!(roles.grants[1], ("admin".to_owned(), Grants::All));
    }

    #[test]
    fn a_listed_subject_belongs_to_the_only_issuer() {
        let listed = with_route("path: /a, access: user")
            + "roles: { list: { admin: [0190c2f4-0000-7000-8000-000000000001] } }\n";
        let with_another = |issuer: &str, text: &str| {
            let another = format!(
                " }}, {{ issuer: {issuer}, audience: a, algorithms: HS256, secret: fedcba9876543210fedcba9876543210 }}]"
            );
            let first = " }]\nupstreams";
            assert!(text.contains(first), "{text}");
            text.replacen(first, &format!("{another}\nupstreams"), 1)
        };
        let reported = reported(&with_another("https://other", &listed));
        assert_eq!(reported.len(), 1, "{reported:#?}");
        assert!(
            reported[0].starts_with("roles.list: ") && reported[0].contains("several issuers"),
            "{reported:#?}"
        );
        // Two entries of one issuer are how its keys are changed.
        for text in [
            with_another("https://i", &listed),
            with_another("https://other", &with_route("path: /a, access: user")),
            listed,
        ] {
            good(&text);
        }
    }
}
