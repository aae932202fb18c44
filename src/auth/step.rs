//! Runs one layer. This is the only place that times, waives and records layers.

use std::marker::PhantomData;

use super::layer::{AsyncCheck, Check, Layer};
use super::permit::StreamAuthorization;
use crate::denial::{Denial, Reason};
use crate::policy::layers::WaivedMode;
use crate::record::{Record, Verdict};
use crate::request::Inbound;

/// Proof that the layer `L` ran and let the request pass, or that the route waives it. Only this
/// module makes one.
pub(super) struct Passed<L>(PhantomData<L>);

impl<L: Layer> Passed<L> {
    /// The layer let the request of this stream pass when the stream began, and has nothing to
    /// check again.
    pub(super) fn earlier(_stream: &StreamAuthorization) -> Self {
        Self(PhantomData)
    }

    /// Another method of the layer checked a stream's request again, and returned this proof. The
    /// caller vouches for where the proof is from.
    pub(super) fn again(_proof: &L::Proof) -> Self {
        Self(PhantomData)
    }
}

/// Runs a layer that may have to wait.
pub(super) async fn enforce_async<L: AsyncCheck>(
    layer: &L,
    request: &Inbound,
    input: L::Input,
    record: &mut Record,
) -> Result<(L::Proof, Passed<L>), Denial> {
    const { assert!(!L::NAME.can_be_waived()) };
    let outcome = layer.check(request, input).await;
    let proof = noted(layer, request, outcome, record, Verdict::Denied)?;
    Ok((proof, Passed(PhantomData)))
}

/// Runs a layer that is always enforced.
pub(super) fn enforce<L: Check>(
    layer: &L,
    request: &Inbound,
    input: L::Input<'_>,
    record: &mut Record,
) -> Result<(L::Proof, Passed<L>), Denial> {
    const { assert!(!L::NAME.can_be_waived()) };
    let outcome = layer.check(request, input);
    let proof = noted(layer, request, outcome, record, Verdict::Denied)?;
    Ok((proof, Passed(PhantomData)))
}

/// Runs a layer that a route may waive. `None` means that the route waives it.
pub(super) fn step<L: Check>(
    layer: &L,
    request: &Inbound,
    input: L::Input<'_>,
    record: &mut Record,
) -> Result<(Option<L::Proof>, Passed<L>), Denial> {
    const { assert!(L::NAME.can_be_waived()) };
    let proof = match request.waived(L::NAME) {
        None => {
            let outcome = layer.check(request, input);
            Some(noted(layer, request, outcome, record, Verdict::Denied)?)
        }
        Some(WaivedMode::Shadow) => {
            let outcome = layer.check(request, input);
            // The verdict is recorded. The proof is discarded, so that a layer in shadow grants
            // nothing either.
            let _ = noted(layer, request, outcome, record, Verdict::Waived);
            None
        }
        Some(WaivedMode::Off) => {
            record.step(L::NAME, Verdict::Off);
            None
        }
    };
    Ok((proof, Passed(PhantomData)))
}

/// Records a layer's verdict with the time it took.
fn noted<L: Layer>(
    layer: &L,
    request: &Inbound,
    outcome: Result<L::Proof, Denial>,
    record: &mut Record,
    refused: fn(Reason) -> Verdict,
) -> Result<L::Proof, Denial> {
    match &outcome {
        Ok(_) if !layer.concerns(request) => record.idle_step(L::NAME),
        Ok(_) => record.step(L::NAME, Verdict::Passed),
        Err(denial) => record.step(L::NAME, refused(denial.reason)),
    }
    outcome
}
