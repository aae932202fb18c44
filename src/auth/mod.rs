//! Judgement: the layers, and the permit that only the chain can make.
//!
//! Decides: whether a canonical request may be forwarded or served. Trusts: `request` for the head, `tokens` for signatures, the
//! configuration for the rules. Not here: nothing below this module reads a body, opens a socket, logs, counts, writes an answer or
//! knows an HTTP status.
//!
//! A layer is one file with one [`Check::check`] or [`Inquiry::inquire`]. The order is written once, in [`chain`]. Passing a layer yields a value that the next
//! one demands, and forwarding demands the [`Permit`], which has private fields and one maker:
//!
//! ```
//! use foregate::auth::Permit;
//! // Handing one on is what it is for; the two examples below differ from this one only in what they must not do.
//! fn keep(permit: Permit) -> Permit {
//!     permit
//! }
//! ```
//!
//! ```compile_fail,E0451
//! use foregate::auth::Permit;
//! // A permit cannot be written down outside the chain, not even inside this crate.
//! fn forge(permit: Permit) -> Permit {
//!     Permit { ..permit }
//! }
//! ```
//!
//! ```compile_fail,E0382
//! use foregate::auth::Permit;
//! // Nor can one permit forward two requests.
//! fn consume(_: Permit) {}
//! fn twice(permit: Permit) {
//!     consume(permit);
//!     consume(permit);
//! }
//! ```

pub mod caller;
pub mod chain;
pub mod identifiers;
pub mod identity;
pub mod lineage;
pub mod ownership;
pub mod performance;
pub mod rest;
pub mod roles;
pub mod snapshot;
pub mod when;

use std::future::Future;

pub use caller::Caller;
pub(crate) use chain::Spent;
pub use chain::{Chain, Permit, Standing};

use crate::denial::Denial;
use crate::record::Record;
use crate::request::Inbound;

/// One decision of the chain: a [`Check`], or an [`Inquiry`] where something may have to be waited for.
pub trait Layer {
    /// The name in the record, the metrics and the route map.
    const NAME: LayerName;
    /// What passing this one proves.
    type Proof;

    /// Whether the request gives the layer anything to judge. If not, its passing takes no time worth measuring.
    fn concerns(&self, _request: &Inbound) -> bool {
        true
    }

    /// Learns from the outcome; called once after the answer or its cancellation, off the request's way.
    fn settle(&self, _record: &Record) {}
}

/// A layer that judges by what it is given.
pub trait Check: Layer {
    /// What earlier layers must have proven.
    type Given<'a>;

    /// Judges a request. `Ok` is the proof; `Err` ends the request, unless the route waives this layer.
    fn check(&self, request: &Inbound, given: Self::Given<'_>) -> Result<Self::Proof, Denial>;
}

/// A layer that may have to wait: for a key, a session or a fact. None of them can be waived.
pub trait Inquiry: Layer {
    /// What earlier layers must have proven.
    type Given;

    /// Judges a request, like [`Check::check`].
    fn inquire(
        &self,
        request: &Inbound,
        given: Self::Given,
    ) -> impl Future<Output = Result<Self::Proof, Denial>>;
}

/// The layers, by the names of the route map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerName {
    /// Who is calling.
    Identity,
    /// Whether typed path parameters have their type.
    Identifiers,
    /// Whether tables behind PostgREST are granted.
    Rest,
    /// What is known for judging.
    Performance,
    /// Whether the caller's roles allow the action.
    Roles,
    /// Whether the route's own condition holds.
    When,
    /// Whether the caller may touch the things that the request names.
    Ownership,
    /// Whether what they were made from is in order.
    Lineage,
}

impl LayerName {
    /// Every layer, in the order of the chain.
    pub const ALL: &[Self] = &[
        Self::Identity,
        Self::Identifiers,
        Self::Rest,
        Self::Performance,
        Self::Roles,
        Self::When,
        Self::Ownership,
        Self::Lineage,
    ];

    /// The name in the route map, the log and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Identifiers => "identifiers",
            Self::Rest => "rest",
            Self::Performance => "performance",
            Self::Roles => "roles",
            Self::When => "when",
            Self::Ownership => "ownership",
            Self::Lineage => "lineage",
        }
    }

    /// Whether a route may put the layer into shadow or switch it off.
    pub const fn can_be_waived(self) -> bool {
        match self {
            Self::Identity | Self::Identifiers | Self::Rest | Self::Performance | Self::When => {
                false
            }
            Self::Roles | Self::Ownership | Self::Lineage => true,
        }
    }
}
