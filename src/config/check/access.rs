//! Who may use a route: its access, its credentials, and what may stand beside its access.
//!
//! Decides: which of these keys would look as if they protected something and do not, which is refused. Trusts: `file` for the words. Not here: whose
//! the thing is (`facts`), and judging any request (`auth`).

use super::Checker;
use super::routes::Around;
use crate::config::file;
use crate::config::node::Text;
use crate::config::wire::{Field, List, Value};
use crate::policy::route::{Access, ApiKey, CredentialSource, Serve};

impl Checker<'_> {
    /// A key can be asked for only where it is known which are good.
    pub(super) fn apikey(
        &mut self,
        wire: &file::Route,
        around: &Around<'_>,
    ) -> Option<Option<ApiKey>> {
        let serve = wire.serve.good().map(|serve| serve.value);
        match &wire.apikey {
            Field::Absent => Some(None),
            Field::Bad => None,
            Field::Good(demand) if serve == Some(Serve::IdentityServer) => {
                self.report.problem(
                    &demand.place,
                    "`serve: identity_server` asks for a key itself, but where a link in a message leads; remove `apikey`",
                );
                None
            }
            Field::Good(demand) if around.has_identity => Some(Some(demand.value)),
            Field::Good(demand) => {
                self.report.problem_instead(
                    &demand.place,
                    "no key is known: there is no `identity`",
                    "write `identity: { supabase: { url: …, publishable_keys: […] } }`, or remove `apikey`",
                );
                None
            }
        }
    }

    pub(super) fn credentials(
        &mut self,
        field: &Field<List<Text>>,
    ) -> Option<Vec<CredentialSource>> {
        let list = match field {
            Field::Absent => return Some(vec![CredentialSource::Bearer]),
            Field::Bad => return None,
            Field::Good(list) => list,
        };
        list.value.at_least_one(&list.place, self.report);
        let sources = self.each(&list.value, Self::credential)?;
        for (index, (source, item)) in sources.iter().zip(&list.value.items).enumerate() {
            if sources.iter().take(index).any(|other| other == source) {
                self.report
                    .problem(&item.place, "is written twice; remove one");
            }
        }
        Some(sources)
    }

    fn credential(&mut self, text: &Value<Text>) -> Option<CredentialSource> {
        match text.value.value.as_str() {
            "bearer" => return Some(CredentialSource::Bearer),
            "cookie" => return Some(CredentialSource::Cookie),
            _ => {}
        }
        let name = text.value.value.strip_prefix("query.").filter(|name| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '~'))
        });
        if name.is_none() {
            let message = format!("`{}` is not a place for a credential", text.value.shown());
            self.report.problem_instead(
                &text.place,
                message,
                "write `bearer`, `cookie`, or `query.NAME` with letters, digits, `_`, `-`, `.` and `~`",
            );
        }
        name.map(|name| CredentialSource::Query(name.to_owned()))
    }

    /// Keys that would look as if they protected something, and do not with this access.
    pub(super) fn fits_access(
        &mut self,
        wire: &file::Route,
        access: Option<Access>,
        around: &Around<'_>,
    ) {
        let Some(access) = access else { return };
        let judged = matches!(access, Access::User | Access::Optional);
        if judged && !around.has_tokens {
            let place = wire
                .access
                .good()
                .map_or(&wire.place, |access| &access.place);
            self.report.problem_instead(
                place,
                "no user can be proven: there are no `tokens`",
                "add `tokens`, or write `access: public`",
            );
        }
        let judging = [
            ("aal", wire.aal.good().map(|value| &value.place)),
            ("action", wire.action.good().map(|value| &value.place)),
            ("anonymous", wire.anonymous.good().map(|value| &value.place)),
        ];
        let credentials = wire.credentials.good().map(|value| &value.place);
        let reading = std::iter::once(("credentials", credentials));
        let (reads, why) = match access {
            Access::User => return self.fits_pass_credentials(wire, access),
            Access::Optional => (true, "`access: optional`, which lets a stranger in"),
            Access::Public => (false, "`access: public`, which reads no credential"),
            Access::Deny => (false, "`access: deny`, which reads no credential"),
        };
        let idle = judging.into_iter().chain(reading.filter(|_| !reads));
        for (key, place) in idle {
            if let Some(place) = place {
                let message =
                    format!("has no effect with {why}; remove `{key}`, or write `access: user`");
                self.report.problem(place, message);
            }
        }
        self.fits_pass_credentials(wire, access);
    }

    fn fits_pass_credentials(&mut self, wire: &file::Route, access: Access) {
        if let Some(pass) = wire.pass_credentials.good()
            && pass.value
            && access != Access::Public
        {
            self.report.problem(&pass.place, "works with `access: public` only; elsewhere `authorization` of the upstream decides");
        }
    }
}
