//! Ownership: whether the caller may perform the action on each resource that the request names.
//!
//! Decides:  404 `not_yours` for a resource to which no relation gives the caller access, 404
//!           `absent` for one that does not exist or is not under the parent named in the request;
//!           a client cannot tell the two apart. 503 `facts_unavailable` where stale facts are not
//!           enough.
//! Trusts:   facts, and the roles of the operator's table.
//! Not here: the parents of a resource (`lineage`).
//!
//! These relations allow an action, tried in this order:
//!
//! 1. the caller owns the resource;
//! 2. the caller owns the resource that contains it;
//! 3. the resource is visible to teams and shared with a team of the caller's: the caller's role in
//!    the team and the access level of the share must both allow the action;
//! 4. the resource is public, and the action is `read` or `download`;
//! 5. a role of the caller's grants `ACTION:any`. A grant without `:any` does not cross ownership.

use super::layer::{Check, Layer};
use super::performance::GatheredFacts;
use crate::denial::{Denial, Reason};
use crate::facts::{KnownFacts, Resource, ResourceState, Row};
use crate::policy::relations::Visibility;
use crate::record::relation::Relation;
use crate::request::Inbound;

/// The layer.
#[derive(Debug)]
pub struct Ownership;

/// Proof that the caller may act on every resource that the request names.
#[derive(Clone, Copy, Debug)]
pub struct ResourceAccess {
    relation: Option<Relation>,
}

impl ResourceAccess {
    /// The most distant relation that was needed for any resource; `None` if the request names no
    /// resource.
    pub fn relation(self) -> Option<Relation> {
        self.relation
    }
}

impl Ownership {
    fn authorize(gathered: &GatheredFacts, resource: &Resource) -> Result<Relation, Denial> {
        let (caller, known) = (gathered.caller(), gathered.known());
        let action = resource.named.action.as_str();
        let verified = caller.verified();
        let subject = verified.map(|verified| verified.subject());
        let crosses = || match caller.roles().crosses(action) {
            // The role may have been withdrawn since; stale facts would not show it.
            true if !known.is_stale => Some(Relation::Role),
            true | false => None,
        };
        let found = match resource.state() {
            ResourceState::Absent => return Err(absent(known)),
            ResourceState::Caller => (subject == Some(resource.named.id.as_str())
                && !is_crossing(action))
            .then_some(Relation::Caller),
            ResourceState::Learned(binding) => (verified.is_some_and(|verified| {
                verified.issuer() == binding.issuer && verified.subject() == binding.subject
            }) && !is_crossing(action))
            .then_some(Relation::Owner),
            ResourceState::Row(row, outer) => {
                if resource.named.within.is_some() && resource.named.within != row.within {
                    return Err(absent(known));
                }
                match is_crossing(action) {
                    true => None,
                    false => related(subject, known, row, outer, action),
                }
            }
        };
        found.or_else(crosses).ok_or_else(|| match known.is_stale {
            true => Reason::FactsUnavailable.because("stale facts do not prove access"),
            false => Reason::NotYours.into(),
        })
    }
}

/// The refusal of a resource without a row. Stale facts may not know a new resource yet.
fn absent(known: &KnownFacts) -> Denial {
    match known.is_stale {
        true => Reason::FactsUnavailable.because("stale facts do not show that it exists"),
        false => Reason::Absent.into(),
    }
}

/// Whether the action itself crosses ownership. Only a role grants such an action.
fn is_crossing(action: &str) -> bool {
    action.ends_with(":any")
}

/// The relation of the caller to a resource that allows the action, other than by role.
fn related(
    subject: Option<&str>,
    known: &KnownFacts,
    row: &Row,
    outer: Option<&Row>,
    action: &str,
) -> Option<Relation> {
    let owns = |row: &Row| row.owner.is_some() && row.owner.as_deref() == subject;
    if owns(row) {
        return Some(Relation::Owner);
    }
    if outer.is_some_and(owns) {
        return Some(Relation::OuterOwner);
    }
    // The visibility of the resource itself, or else of the resource that contains it.
    let visible = match row.visibility {
        Some(_) => row,
        None => outer?,
    };
    match visible.visibility? {
        Visibility::Private => None,
        Visibility::TeamOnly if known.is_stale => None,
        Visibility::TeamOnly => {
            subject?;
            let best = visible
                .teams
                .iter()
                .flat_map(|(team, access)| {
                    known
                        .memberships()
                        .iter()
                        .filter(move |(member_of, _)| member_of == team)
                        .map(move |(_, role)| *role.min(access))
                })
                .max()?;
            best.allows(action).then_some(Relation::Team)
        }
        Visibility::Public => matches!(action, "read" | "download").then_some(Relation::Public),
    }
}

impl Layer for Ownership {
    type Proof = ResourceAccess;

    fn concerns(&self, request: &Inbound) -> bool {
        request.rule().names_resources()
    }
}

impl Check for Ownership {
    type Input<'a> = &'a GatheredFacts;

    fn check(
        &self,
        _request: &Inbound,
        gathered: &GatheredFacts,
    ) -> Result<ResourceAccess, Denial> {
        let mut farthest = None;
        for resource in &gathered.known().resources {
            farthest = farthest.max(Some(Self::authorize(gathered, resource)?));
        }
        Ok(ResourceAccess { relation: farthest })
    }
}
