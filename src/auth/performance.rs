//! Performance: the facts that the layers behind this one judge by, within the budget.
//!
//! Decides: nothing about the caller; 503 `facts_unavailable` or `budget_spent` for what could not be found out. Trusts: `facts`.
//! Not here: what a fact allows.
//!
//! All lookups of a request are made here at once, and the same ones whatever they find, so that the layers behind need none.

use std::sync::Arc;

use super::caller::Caller;
use super::identifiers::ValidIdentifiers;
use super::layer::{AsyncCheck, Layer};
use crate::budget::Budget;
use crate::denial::Denial;
use crate::facts::{Asking, Facts, Known, Named};
use crate::policy::outage::AccessClass;
use crate::policy::route::Access;
use crate::request::Inbound;

/// The step.
#[derive(Debug)]
pub struct Performance {
    facts: Arc<Facts>,
}

/// A caller, and what is known for judging what it asks. Only this step makes one.
#[derive(Debug)]
pub struct GatheredFacts {
    caller: Caller,
    known: Known,
}

impl GatheredFacts {
    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Who asks, once everybody has judged.
    pub(super) fn into_caller(self) -> Caller {
        self.caller
    }

    /// What is known.
    pub fn known(&self) -> &Known {
        &self.known
    }
}

impl Performance {
    /// Gathers these facts.
    pub fn new(facts: Arc<Facts>) -> Self {
        Self { facts }
    }

    async fn gather(
        &self,
        request: &Inbound,
        caller: &Caller,
        named: Vec<Named>,
        budget: Budget,
    ) -> Result<Known, Denial> {
        let rule = request.rule();
        let class = match rule.access {
            // Public to ask for; what is asked for has an owner all the same.
            Access::Public | Access::Deny => AccessClass::Read,
            Access::Optional | Access::User => {
                AccessClass::of(rule, request.method(), &request.in_force().config().roles)
            }
        };
        // Reading one thing may be writing another.
        let is_written = |named: &Named| !matches!(named.action.as_str(), "read" | "read:any");
        let class = match class == AccessClass::Read && named.iter().any(is_written) {
            true => AccessClass::Write,
            false => class,
        };
        let asking = Asking {
            caller: caller
                .verified()
                .map(|verified| (verified.issuer(), verified.subject())),
            class,
            deadline: budget.deadline(),
        };
        self.facts.gather(asking, named).await
    }

    /// The facts.
    pub(super) fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }
}

impl Layer for Performance {
    type Proof = GatheredFacts;

    fn concerns(&self, request: &Inbound) -> bool {
        self.facts.know_callers() || request.rule().names_resources()
    }
}

impl AsyncCheck for Performance {
    type Input = (ValidIdentifiers, Budget);

    async fn check(
        &self,
        request: &Inbound,
        (valid, budget): (ValidIdentifiers, Budget),
    ) -> Result<GatheredFacts, Denial> {
        let (caller, named) = valid.into_parts();
        // Boxed, so that a request that needs no facts does not carry room for it along.
        let known = match self.facts.are_needed(caller.verified().is_some(), &named) {
            true => Box::pin(self.gather(request, &caller, named, budget)).await?,
            false => Known::default(),
        };
        Ok(GatheredFacts { caller, known })
    }
}
