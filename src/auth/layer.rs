//! The traits of a layer: its name, its check, and what passing it proves.

use std::future::Future;

use crate::denial::Denial;
use crate::policy::layers::LayerName;
use crate::request::Inbound;

/// A row of the table of layers.
pub trait NamedLayer {
    /// The name in the record, the metrics and the route map.
    const NAME: LayerName;
}

/// One decision of the chain: a [`Check`], or an [`AsyncCheck`] if it may have to wait.
pub trait Layer: NamedLayer {
    /// What passing this layer proves.
    type Proof;

    /// Whether the request has anything for this layer to check. If not, its time is not recorded.
    fn concerns(&self, _request: &Inbound) -> bool {
        true
    }
}

/// A layer that decides from its input alone.
pub trait Check: Layer {
    /// What earlier layers must have proven.
    type Input<'a>;

    /// Checks a request. `Ok` is the proof; `Err` refuses the request, unless the route waives this
    /// layer.
    fn check(&self, request: &Inbound, input: Self::Input<'_>) -> Result<Self::Proof, Denial>;
}

/// A layer that may have to wait for a key, a session or a fact. Such a layer cannot be waived.
pub trait AsyncCheck: Layer {
    /// What earlier layers must have proven.
    type Input;

    /// Checks a request, like [`Check::check`].
    fn check(
        &self,
        request: &Inbound,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Proof, Denial>>;
}
