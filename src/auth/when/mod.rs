//! When: whether the route's own condition holds.
//!
//! Decides:  403 `when_refused` when it does not, and 403 `when_failed` when that cannot be computed, such as for a claim that the token
//! lacks. Trusts: what identity proved of the caller; the canonical request. Not here: what an expression may say (`condition`), and
//! anything that must be looked up: a condition sees no facts.

use super::performance::Informed;
use super::{Check, Layer};
use crate::denial::{Denial, Reason};
use crate::policy::condition::Scope;
use crate::policy::layers::LayerName;
use crate::request::Inbound;

/// The layer.
#[derive(Debug)]
pub struct When;

/// Proof that the route has no condition, or that it holds.
#[derive(Clone, Copy, Debug)]
pub struct Fits(());

impl Layer for When {
    const NAME: LayerName = LayerName::When;
    type Proof = Fits;

    fn concerns(&self, request: &Inbound) -> bool {
        request.rule().when.is_some()
    }
}

impl Check for When {
    type Given<'a> = &'a Informed;

    fn check(&self, request: &Inbound, informed: &Informed) -> Result<Fits, Denial> {
        if let Some(condition) = &request.rule().when {
            match condition.holds(&Scope::of(request, informed.caller())) {
                Ok(true) => {}
                Ok(false) => return Err(Reason::WhenRefused.into()),
                Err(why) => return Err(Reason::WhenFailed.because(why)),
            }
        }
        Ok(Fits(()))
    }
}
