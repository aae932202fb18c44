//! When: whether the route's own condition holds.
//!
//! Decides:  403 `when_refused` if the condition is false, and 403 `when_failed` if it cannot be
//!           evaluated, for example because the token lacks a claim.
//! Trusts:   what identity proved of the caller; the canonical request.
//! Not here: the language of conditions (`policy::condition`). Facts: a condition sees none.

use super::layer::{Check, Layer};
use super::performance::GatheredFacts;
use crate::auth::caller::Caller;
use crate::denial::{Denial, Reason};
use crate::policy::condition::{CallerFields, Scope};
use crate::request::Inbound;
use crate::tokens::Verified;

/// The layer.
#[derive(Debug)]
pub struct When;

/// Proof that the route has no condition, or that its condition holds.
#[derive(Clone, Copy, Debug)]
pub struct ConditionMet(());

impl Layer for When {
    type Proof = ConditionMet;

    fn concerns(&self, request: &Inbound) -> bool {
        request.rule().when.is_some()
    }
}

impl Check for When {
    type Input<'a> = &'a GatheredFacts;

    fn check(&self, request: &Inbound, gathered: &GatheredFacts) -> Result<ConditionMet, Denial> {
        if let Some(condition) = &request.rule().when {
            match condition.holds(&scope(request, gathered.caller())) {
                Ok(true) => {}
                Ok(false) => return Err(Reason::WhenRefused.into()),
                Err(why) => return Err(Reason::WhenFailed.because(why)),
            }
        }
        Ok(ConditionMet(()))
    }
}

/// What a condition can read of a request and its caller.
fn scope<'a>(request: &'a Inbound, caller: &'a Caller) -> Scope<'a> {
    // A condition sees HEAD as GET.
    let method = match request.method().as_str() {
        "HEAD" => "GET",
        method => method,
    };
    Scope {
        method,
        path: request.target().path(),
        host: request.host().name(),
        address: request.client().text.to_str().unwrap_or_default(),
        caller: caller.verified().map(|verified| caller_fields(verified)),
        roles: caller.roles().names(),
    }
}

/// What a condition can read of a verified token.
pub fn caller_fields(verified: &Verified) -> CallerFields<'_> {
    CallerFields {
        subject: verified.subject(),
        issuer: verified.issuer(),
        session: verified.session(),
        aal: verified.aal(),
        is_anonymous: verified.is_anonymous(),
        claims: verified.claims(),
    }
}
