//! Lineage: whether the chain of a resource's parents is intact.
//!
//! Decides:  404 `lineage_cycle`, `lineage_missing` or `lineage_deep` for a resource whose chain of
//!           parents has a cycle, ends at a missing resource, or is too long.
//! Trusts:   the walk along the parents that `facts` made.
//! Not here: ownership. Owning an ancestor never grants access to a descendant (`ownership`).

use super::layer::{Check, Layer};
use super::performance::GatheredFacts;
use crate::denial::{Denial, Reason};
use crate::facts::{Lineage as Walk, ResourceState};
use crate::request::Inbound;

/// The layer.
#[derive(Debug)]
pub struct Lineage;

/// Proof that every resource of the request has an intact chain of parents.
#[derive(Clone, Copy, Debug)]
pub struct IntactLineage(());

impl Layer for Lineage {
    type Proof = IntactLineage;

    fn concerns(&self, request: &Inbound) -> bool {
        request.rule().names_resources()
    }
}

impl Check for Lineage {
    type Input<'a> = &'a GatheredFacts;

    fn check(&self, _request: &Inbound, gathered: &GatheredFacts) -> Result<IntactLineage, Denial> {
        for resource in &gathered.known().resources {
            let walk = match resource.state() {
                ResourceState::Row(row, _) => row.lineage,
                ResourceState::Caller | ResourceState::Absent | ResourceState::Learned(_) => {
                    Walk::Whole
                }
            };
            match walk {
                Walk::Whole => {}
                Walk::Cycle => return Err(Reason::LineageCycle.into()),
                Walk::Missing => return Err(Reason::LineageMissing.into()),
                Walk::TooDeep => return Err(Reason::LineageDeep.into()),
            }
        }
        Ok(IntactLineage(()))
    }
}
