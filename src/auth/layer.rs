//! What a layer is.

use std::future::Future;

use crate::denial::Denial;
use crate::policy::layers::LayerName;
use crate::request::Inbound;

/// A row of the table of layers.
pub trait Named {
    /// The name in the record, the metrics and the route map.
    const NAME: LayerName;
}

/// One decision of the chain: a [`Check`], or an [`Inquiry`] where something may have to be waited for.
pub trait Layer: Named {
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
