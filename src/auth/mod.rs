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
pub mod role_table;
pub mod roles;
pub mod snapshot;
pub mod when;

use std::future::Future;

pub use caller::Caller;
pub(crate) use chain::Spent;
pub use chain::{Chain, Permit, Standing};

use crate::denial::Denial;
use crate::policy::layers::LayerName;
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
