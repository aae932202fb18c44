//! `tokens[].subject`: the type of an issuer's subjects. Queries and lists of subjects must mean
//! the same type, or they would speak of nobody.

use super::Issuer;
use crate::config::check::Checker;
use crate::config::place::Place;
use crate::policy::resources::ParamType;
use crate::policy::tokens::TokenIssuer;

/// What the type of subjects depends on besides their own entry.
pub(crate) struct SubjectContext<'a> {
    /// `facts.subject`, or its default.
    pub of_facts: ParamType,
    /// Where that is written.
    pub place: Option<&'a Place>,
    /// Whether queries or rows name subjects.
    pub has_facts: bool,
    /// The `iss` of Supabase Auth.
    pub supabase: Option<String>,
}

impl Checker<'_> {
    /// What the entry says, or its default: a UUID where Supabase Auth is the issuer, and what
    /// queries expect elsewhere.
    pub(super) fn subject(
        &mut self,
        wire: &Issuer,
        issuer: Option<&str>,
        context: &SubjectContext<'_>,
    ) -> Option<ParamType> {
        let is_supabase = issuer.is_some() && issuer == context.supabase.as_deref();
        let subject = match (wire.subject.optional()?, is_supabase) {
            (Some(written), _) => written.value,
            (None, true) => ParamType::Uuid,
            (None, false) => context.of_facts,
        };
        if context.has_facts && subject != context.of_facts {
            self.subjects_differ(wire, subject, context);
        }
        Some(subject)
    }

    fn subjects_differ(&mut self, wire: &Issuer, subject: ParamType, context: &SubjectContext<'_>) {
        let (own, of_facts) = (subject.in_map(), context.of_facts.in_map());
        match (wire.subject.place(), context.place) {
            (Some(place), written) => {
                let default = written.map_or(", its default", |_| "");
                self.report.problem_instead(
                    place,
                    format!(
                        "is `{own}`, and `facts.subject` is `{of_facts}`{default}: no subject would be found"
                    ),
                    format!("write `subject: {own}` under `facts`, or `subject: {of_facts}` here"),
                );
            }
            (None, place) => self.report.problem_instead(
                &wire.place.below("subject"),
                format!(
                    "is `{own}`, the default for Supabase Auth, and `facts.subject`{} is `{of_facts}`: no subject would be found",
                    place.map_or(String::new(), |place| format!(" in line {}", place.line)),
                ),
                format!("write `subject: {own}` under `facts`, or `subject: {of_facts}` here"),
            ),
        }
    }

    /// Entries of one issuer name the same users.
    pub(super) fn one_type_an_issuer(&mut self, place: &Place, tokens: &[TokenIssuer]) {
        let differs = |entry: &TokenIssuer| {
            let is_other = |other: &TokenIssuer| {
                other.issuer == entry.issuer && other.subject != entry.subject
            };
            tokens.iter().any(is_other)
        };
        if tokens.iter().any(differs) {
            self.report.problem_instead(
                place,
                "has entries of one issuer whose `subject` differs, though they name the same users",
                "write the same `subject` in all entries of an issuer",
            );
        }
    }
}
