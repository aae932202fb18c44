//! What a layer is.

use std::future::Future;

use crate::denial::Denial;
use crate::policy::layers::LayerName;
use crate::request::Inbound;

/// A row of the table of layers.
pub trait NamedLayer {
    /// The name in the record, the metrics and the route map.
    const NAME: LayerName;
}

/// One decision of the chain: a [`Check`], or an [`AsyncCheck`] where something may have to be waited for.
pub trait Layer: NamedLayer {
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
    type Input<'a>;

    /// Judges a request. `Ok` is the proof; `Err` ends the request, unless the route waives this layer.
    fn check(&self, request: &Inbound, input: Self::Input<'_>) -> Result<Self::Proof, Denial>;
}

/// A layer that may have to wait: for a key, a session or a fact. None of them can be waived.
pub trait AsyncCheck: Layer {
    /// What earlier layers must have proven.
    type Input;

    /// Judges a request, like [`Check::check`].
    fn check(
        &self,
        request: &Inbound,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Proof, Denial>>;
}
