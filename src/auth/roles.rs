//! Roles: whether what the caller is allows what the request does.
//!
//! Decides: 403 `caller_banned`, `caller_inactive`, `anonymous_refused`, `aal_insufficient`, and `role_insufficient` for an action that
//! neither a role grants nor any relation to the things of the route could.
//! Trusts: claims that only the identity server writes (`app_metadata`), the operator's list, and `facts.caller`; never `user_metadata` or a
//! role in a profile row, which users write themselves. Not here: whose a thing is (`ownership`).

use super::layer::{Check, Layer};
use super::performance::GatheredFacts;
use crate::denial::{Denial, Reason};
use crate::policy::roles::Action;
use crate::policy::route::Access;
use crate::request::Inbound;

/// The layer.
#[derive(Debug)]
pub struct Roles;

/// Proof that the caller's roles allow the action, or a relation to the things that it names may.
#[derive(Clone, Copy, Debug)]
pub struct RoleClearance(());

impl Layer for Roles {
    type Proof = RoleClearance;
}

impl Check for Roles {
    type Input<'a> = &'a GatheredFacts;

    fn check(&self, request: &Inbound, gathered: &GatheredFacts) -> Result<RoleClearance, Denial> {
        let rule = request.rule();
        let caller = gathered.caller();
        let Some(verified) = caller.verified() else {
            // Identity lets a stranger through only on public and optional routes.
            return Ok(RoleClearance(()));
        };
        if caller.roles().is_banned() {
            return Err(Reason::CallerBanned.into());
        }
        if gathered.known().is_active == Some(false) {
            return Err(Reason::CallerInactive.into());
        }
        // An optional route lets a stranger in, so a known caller may not be worse off for having said who it is.
        if rule.access == Access::Optional {
            return Ok(RoleClearance(()));
        }
        if verified.aal() < rule.aal {
            return Err(Reason::AalInsufficient.because(format!(
                "aal{} of aal{}",
                verified.aal(),
                rule.aal
            )));
        }
        if verified.is_anonymous() && !rule.anonymous {
            return Err(Reason::AnonymousRefused.into());
        }
        let action = Action::of(rule, request.method());
        let things = &gathered.known().things;
        // What a body names beside is judged by its own action; it does not grant the route's.
        if rule.resources.is_empty() && !caller.roles().grants(action) {
            return Err(Reason::RoleInsufficient.because(format!("`{action}`")));
        }
        // A relation may grant what no role does, but nothing across ownership. Which it is, is for `ownership` to say.
        let beyond = things
            .iter()
            .map(|thing| thing.named.action.as_str())
            .find(|action| action.ends_with(":any") && !caller.roles().crosses(action));
        if let Some(action) = beyond {
            return Err(Reason::RoleInsufficient.because(format!("`{action}`")));
        }
        Ok(RoleClearance(()))
    }
}
