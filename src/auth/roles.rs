//! Roles: whether the caller's roles and assurance level allow the action of the request.
//!
//! Decides:  403 `caller_banned`, `caller_inactive`, `caller_absent`, `anonymous_refused`,
//!           `aal_insufficient`, and `role_insufficient` for an action that no role grants and that
//!           no relation to the resources of the route could grant.
//! Trusts:   claims that only the identity server writes (`app_metadata`), the operator's list, and
//!           `facts.caller`; never `user_metadata` or a role in a profile row, which users write
//!           themselves.
//! Not here: the owner of a resource (`ownership`).

use super::layer::{Check, Layer};
use super::performance::GatheredFacts;
use crate::denial::{Denial, Reason};
use crate::facts::CallerState;
use crate::policy::route::Access;
use crate::request::Inbound;

/// The layer.
#[derive(Debug)]
pub struct Roles;

/// Proof that the caller's roles allow the action, or that a relation to a resource of the request
/// still may.
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
            // Identity lets a request without a user through only on public and optional routes.
            return Ok(RoleClearance(()));
        };
        if caller.roles().is_banned() {
            return Err(Reason::CallerBanned.into());
        }
        match gathered.known().caller {
            Some(CallerState::Absent) => return Err(Reason::CallerAbsent.into()),
            Some(CallerState::Inactive) => return Err(Reason::CallerInactive.into()),
            Some(CallerState::Active) | None => {}
        }
        // An optional route admits callers without a credential, so an authenticated caller must
        // not get less than they do.
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
        let action = rule.action_of(request.method());
        let resources = &gathered.known().resources;
        // A resource named in the body has an action of its own; it does not grant the route's
        // action.
        if rule.resources.is_empty() && !caller.roles().grants(action) {
            return Err(Reason::RoleInsufficient.because(format!("`{action}`")));
        }
        // Where a role does not grant the action, a relation may, which `ownership` checks. No
        // relation grants an action across ownership.
        let beyond = resources
            .iter()
            .map(|resource| resource.named.action.as_str())
            .find(|action| action.ends_with(":any") && !caller.roles().crosses(action));
        if let Some(action) = beyond {
            return Err(Reason::RoleInsufficient.because(format!("`{action}`")));
        }
        Ok(RoleClearance(()))
    }
}
