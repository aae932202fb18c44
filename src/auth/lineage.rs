//! Lineage: whether what a thing was made from is in order.
//!
//! Decides: 404 `lineage_cycle`, `lineage_missing` or `lineage_deep` for a thing whose parents lead in a circle, to nothing, or too far up.
//! Trusts: the walk that `facts` made. Not here: whose the thing is: an ancestor's owner never opens a child (`ownership`).

use super::layer::{Check, Layer};
use super::performance::GatheredFacts;
use crate::denial::{Denial, Reason};
use crate::facts::{Lineage as Walk, Seen};
use crate::request::Inbound;

/// The layer.
#[derive(Debug)]
pub struct Lineage;

/// Proof that all parents of the things were there, one above the other.
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
        for thing in &gathered.known().things {
            let walk = match thing.seen() {
                Seen::Row(row, _) => row.lineage,
                Seen::Caller | Seen::Absent | Seen::Learned(_) => Walk::Whole,
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
