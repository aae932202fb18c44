//! Performance: looks up the facts that the later layers need, within the budget.
//!
//! Decides:  503 `facts_unavailable` or `budget_spent` if a fact could not be looked up; it never
//!           decides about the caller.
//! Trusts:   `facts`.
//! Not here: what a fact allows.
//!
//! All lookups of a request are made here at once, and the same lookups whatever they find, so that
//! the later layers need none.

use std::sync::Arc;
use std::time::Instant;

use super::caller::Caller;
use super::identifiers::ValidIdentifiers;
use super::layer::{AsyncCheck, Layer};
use crate::budget::Budget;
use crate::denial::Denial;
use crate::facts::{Facts, FactsVersion, KnownFacts, LookupContext, NamedResource};
use crate::policy::outage::AccessClass;
use crate::policy::route::Access;
use crate::request::Inbound;

/// The layer.
#[derive(Debug)]
pub struct Performance {
    facts: Arc<Facts>,
}

/// A caller, and the facts for authorizing its request. Only this layer makes one.
#[derive(Debug)]
pub struct GatheredFacts {
    caller: Caller,
    known: KnownFacts,
    /// From before they were looked up; `None` if none were needed.
    version: Option<FactsVersion>,
}

impl GatheredFacts {
    /// The caller that the facts are about.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What is kept of it after the last layer: the caller, and which invalidations the facts know.
    pub(super) fn into_parts(self) -> (Caller, Option<FactsVersion>) {
        (self.caller, self.version)
    }

    /// The facts about the caller and the resources of the request.
    pub fn known(&self) -> &KnownFacts {
        &self.known
    }
}

impl Performance {
    /// Looks facts up in this cache and its sources.
    pub fn new(facts: Arc<Facts>) -> Self {
        Self { facts }
    }

    async fn gather(
        &self,
        request: &Inbound,
        caller: &Caller,
        named: Vec<NamedResource>,
        budget: Budget,
    ) -> Result<KnownFacts, Denial> {
        let rule = request.rule();
        let class = match rule.access {
            // Anybody may call the route, but the resources that it names still have owners.
            Access::Public | Access::Deny => AccessClass::Read,
            Access::Optional | Access::User => request.access_class(),
        };
        // A request that reads one resource may write another.
        let is_written =
            |named: &NamedResource| !matches!(named.action.as_str(), "read" | "read:any");
        let class = match class == AccessClass::Read && named.iter().any(is_written) {
            true => AccessClass::Write,
            false => class,
        };
        let asking = LookupContext {
            caller: caller
                .verified()
                .map(|verified| (verified.issuer(), verified.subject())),
            row_since: self.row_since(caller),
            client: request.client().networks,
            class,
            deadline: budget.deadline(),
        };
        self.facts.gather(asking, named).await
    }

    /// If there is a caller who should have a row in the database, when their token was first seen.
    fn row_since(&self, caller: &Caller) -> Option<Instant> {
        let verified = caller.verified();
        let verified = verified.filter(|verified| self.facts.has_row(verified.is_anonymous()));
        verified.map(|verified| verified.since())
    }

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
        // Boxed, to keep the future small for requests that need no facts.
        let is_needed = self
            .facts
            .are_needed(self.row_since(&caller).is_some(), &named);
        let version = is_needed.then(|| self.facts.version());
        let known = match is_needed {
            true => Box::pin(self.gather(request, &caller, named, budget)).await?,
            false => KnownFacts::default(),
        };
        Ok(GatheredFacts {
            caller,
            known,
            version,
        })
    }
}
