//! Ownership: whether the caller may do this to these things.
//!
//! Decides: 404 `not_yours` for a thing that nothing lets the caller touch, 404 `absent` for one that is not there or does not lie where
//! the request says; both look the same from outside. 503 `facts_unavailable` where old facts are not enough.
//! Trusts: facts, and the roles of the operator's table. Not here: where a thing came from (`lineage`).
//!
//! What lets a caller do something, in this order: owning the thing; owning what it lies in; a team, if the thing is for teams and shared with
//! one of the caller's, as far as both the role in the team and the access level go; reading or downloading what is public; and a role that
//! grants `ACTION:any`. What a role grants without `:any` crosses no ownership.

use super::layer::{Check, Layer};
use super::performance::GatheredFacts;
use crate::denial::{Denial, Reason};
use crate::facts::{Known, Row, Seen, Thing};
use crate::policy::relations::Visibility;
use crate::record::via::Via;
use crate::request::Inbound;

/// The layer.
#[derive(Debug)]
pub struct Ownership;

/// Proof that the caller may touch every thing the request names.
#[derive(Clone, Copy, Debug)]
pub struct ResourceAccess {
    via: Option<Via>,
}

impl ResourceAccess {
    /// Of several things, how the farthest is reached; `None` if there is no thing.
    pub fn via(self) -> Option<Via> {
        self.via
    }
}

impl Ownership {
    fn authorize(gathered: &GatheredFacts, thing: &Thing) -> Result<Via, Denial> {
        let (caller, known) = (gathered.caller(), gathered.known());
        let action = thing.named.action.as_str();
        let verified = caller.verified();
        let subject = verified.map(|verified| verified.subject());
        let crosses = || match caller.roles().crosses(action) {
            // A role may have been taken away, and old facts do not say so.
            true if !known.is_old => Some(Via::Role),
            true | false => None,
        };
        let found = match thing.seen() {
            Seen::Absent => return Err(absent(known)),
            Seen::Caller => (subject == Some(thing.named.id.as_str()) && !is_crossing(action))
                .then_some(Via::Caller),
            Seen::Learned(binding) => (verified.is_some_and(|verified| {
                verified.issuer() == binding.issuer && verified.subject() == binding.subject
            }) && !is_crossing(action))
            .then_some(Via::Owner),
            Seen::Row(row, outer) => {
                if thing.named.within.is_some() && thing.named.within != row.within {
                    return Err(absent(known));
                }
                match is_crossing(action) {
                    true => None,
                    false => related(subject, known, row, outer, action),
                }
            }
        };
        found.or_else(crosses).ok_or_else(|| match known.is_old {
            true => Reason::FactsUnavailable.because("old facts do not say that it is allowed"),
            false => Reason::NotYours.into(),
        })
    }
}

/// Old facts may not know of it yet.
fn absent(known: &Known) -> Denial {
    match known.is_old {
        true => Reason::FactsUnavailable.because("old facts do not say that it is there"),
        false => Reason::Absent.into(),
    }
}

/// Whether the action itself is one across ownership, which no relation grants.
fn is_crossing(action: &str) -> bool {
    action.ends_with(":any")
}

fn related(
    subject: Option<&str>,
    known: &Known,
    row: &Row,
    outer: Option<&Row>,
    action: &str,
) -> Option<Via> {
    let owns = |row: &Row| row.owner.is_some() && row.owner.as_deref() == subject;
    if owns(row) {
        return Some(Via::Owner);
    }
    if outer.is_some_and(owns) {
        return Some(Via::OuterOwner);
    }
    // The nearest that says who may see it.
    let place = match row.visibility {
        Some(_) => row,
        None => outer?,
    };
    match place.visibility? {
        Visibility::Private => None,
        Visibility::TeamOnly if known.is_old => None,
        Visibility::TeamOnly => {
            subject?;
            let best = place
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
            best.allows(action).then_some(Via::Team)
        }
        Visibility::Public => matches!(action, "read" | "download").then_some(Via::Public),
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

    fn check(&self, _request: &Inbound, gathered: &GatheredFacts) -> Result<ResourceAccess, Denial> {
        let mut farthest = None;
        for thing in &gathered.known().things {
            farthest = farthest.max(Some(Self::authorize(gathered, thing)?));
        }
        Ok(ResourceAccess { via: farthest })
    }
}
