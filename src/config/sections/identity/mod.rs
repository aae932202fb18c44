//! `identity`: the identity server, its keys, and the sign-in routes.
//!
//! Decides: that passwords go over TLS unless the operator says otherwise, that no secret key is
//! handed to clients as a publishable one, and that an entry of `tokens` accepts what the server
//! issues.
//! Trusts: the operator, for which server it is. Not here: calling it (`sign_in`).

mod accounts;
pub(super) mod sign_in;
#[cfg(test)]
mod sign_in_tests;
mod supabase;
#[cfg(test)]
mod tests;
mod throttle;

use std::sync::Arc;

use self::sign_in::{Deadlines, Profile};
use self::supabase::Supabase;
use self::throttle::Throttle;
use crate::config::check::Checker;
use crate::config::macros::wire;
use crate::config::wire::Field;
use crate::policy::sign_in as checked;
use crate::policy::tokens::TokenIssuer;

wire! {
    /// Who signs users in, and how.
    struct Identity {
        supabase: Supabase => "write `supabase: { url: …, publishable_keys: […] }`",
        deadlines: Deadlines,
        throttle: Throttle,
        profile: Profile,
    }
}

impl Identity {
    /// The `iss` of the identity server, if it is well written.
    pub(crate) fn issuer(&self) -> Option<String> {
        self.supabase.good()?.value.issuer_text()
    }
}

impl Checker<'_> {
    /// The identity server. `Some(None)` if there is none.
    pub(crate) fn identity(
        &mut self,
        field: &Field<Identity>,
        tokens: Option<&[TokenIssuer]>,
    ) -> Option<Option<Arc<checked::Supabase>>> {
        field.then(|wire| {
            let supabase = wire.value.supabase.good()?;
            self.supabase(&supabase.value, tokens).map(Arc::new)
        })
    }
}
