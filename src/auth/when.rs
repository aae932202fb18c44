//! When: whether the route's own condition holds.
//!
//! Decides:  403 `when_refused` when it does not, and 403 `when_failed` when that cannot be computed, such as for a claim that the token
//! lacks. Trusts: what identity proved of the caller; the canonical request. Not here: what an expression may say (`condition`), and
//! anything that must be looked up: a condition sees no facts.

use super::chain::Outcome;
use super::condition::Scope;
use super::identifiers::Identified;
use super::roles::Roles;
use super::{Layer, LayerName};
use crate::denial::{Denial, Reason};
use crate::request::Inbound;

/// The layer.
#[derive(Debug)]
pub struct When;

/// Proof that the route has no condition, or that it holds.
#[derive(Debug)]
pub struct Fits {
    identified: Identified,
}

impl Fits {
    /// What was proven before.
    pub fn into_identified(self) -> Identified {
        self.identified
    }
}

impl Layer for When {
    const NAME: LayerName = LayerName::When;
    type Given = Outcome<Roles>;
    type Proof = Fits;

    async fn check(&self, request: &Inbound, roles: Outcome<Roles>) -> Result<Fits, Denial> {
        let identified = roles.into_identified();
        if let Some(condition) = &request.rule().when {
            match condition.holds(&Scope::of(request, identified.caller())) {
                Ok(true) => {}
                Ok(false) => return Err(Reason::WhenRefused.into()),
                Err(why) => return Err(Reason::WhenFailed.because(why)),
            }
        }
        Ok(Fits { identified })
    }
}
