//! `access`, `credentials`, `apikey`: who may use a route, and which keys fit its access.
//!
//! A key that would look as if it protected something, and does not with this access, is refused.

use super::context::RouteContext;
use super::route::Route;
use crate::config::check::Checker;
use crate::config::wire::{Field, List};
use crate::policy::route::{Access, ApiKey, CredentialSource, Serve};

impl Checker<'_> {
    /// An API key can be required only where publishable keys are known.
    pub(super) fn apikey(
        &mut self,
        wire: &Route,
        context: &RouteContext<'_>,
    ) -> Option<Option<ApiKey>> {
        let serve = wire.serve.good().map(|serve| serve.value);
        wire.apikey.then(|demand| {
            if serve == Some(Serve::IdentityServer) {
                return self.report.refuse(
                    &demand.place,
                    "`serve: identity_server` requires a key itself, except for links in messages; remove `apikey`",
                );
            }
            if !context.has_identity {
                return self.report.refuse_instead(
                    &demand.place,
                    "no key is known: there is no `identity`",
                    "write `identity: { supabase: { url: …, publishable_keys: […] } }`, or remove `apikey`",
                );
            }
            Some(demand.value)
        })
    }

    pub(super) fn credentials(
        &mut self,
        field: &Field<List<CredentialSource>>,
    ) -> Option<Vec<CredentialSource>> {
        let Some(list) = field.optional()? else {
            return Some(vec![CredentialSource::Bearer]);
        };
        let sources = list.value.values()?;
        for (index, (source, item)) in sources.iter().zip(&list.value.items).enumerate() {
            if sources.iter().take(index).any(|other| other == source) {
                let message = "is written twice; remove one";
                self.report.problem(&item.place, message);
            }
        }
        Some(sources)
    }

    pub(super) fn fits_access(
        &mut self,
        wire: &Route,
        access: Option<Access>,
        context: &RouteContext<'_>,
    ) {
        let Some(access) = access else { return };
        if matches!(access, Access::User | Access::Optional) && !context.has_tokens {
            self.report.problem_instead(
                wire.access.place().unwrap_or(&wire.place),
                "no user can be authenticated: there are no `tokens`",
                "add `tokens`, or write `access: public`",
            );
        }
        let why = match access {
            Access::User => None,
            Access::Optional => Some("`access: optional`, which lets anonymous requests in"),
            Access::Public => Some("`access: public`, which reads no credential"),
            Access::Deny => Some("`access: deny`, which reads no credential"),
        };
        let reads = matches!(access, Access::User | Access::Optional);
        let credentials = wire.credentials.place().filter(|_| !reads);
        let clients = wire.clients.place().filter(|_| !reads);
        for (key, place) in wire
            .about_users()
            .into_iter()
            .chain([("credentials", credentials), ("clients", clients)])
        {
            if let (Some(why), Some(place)) = (why, place) {
                let message =
                    format!("has no effect with {why}; remove `{key}`, or write `access: user`");
                self.report.problem(place, message);
            }
        }
        if let Some(pass) = wire.pass_credentials.good()
            && pass.value
            && access != Access::Public
        {
            let message = "works with `access: public` only; elsewhere `authorization` of the upstream decides";
            self.report.problem(&pass.place, message);
        }
    }
}
