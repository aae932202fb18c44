//! Asking one layer: the only place that times, shadows and records it.

use std::marker::PhantomData;

use super::layer::{Check, AsyncCheck, Layer};
use super::permit::StreamAuthorization;
use crate::denial::{Denial, Reason};
use crate::policy::layers::WaivedMode;
use crate::record::{Record, Verdict};
use crate::request::Inbound;

/// Proof that the layer `L` was asked, and let the request pass or is waived by its route. Only this module makes one.
pub(super) struct Passed<L>(PhantomData<L>);

impl<L: Layer> Passed<L> {
    /// The layer let the request of this stream pass when it began, and has nothing to decide again.
    pub(super) fn earlier(_stream: &StreamAuthorization) -> Self {
        Self(PhantomData)
    }

    /// Another method of the layer let a stream's request pass again, and returned its proof.
    pub(super) fn again(_proof: &L::Proof) -> Self {
        Self(PhantomData)
    }
}

/// Asks a layer that may have to wait.
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

/// Asks a layer that is always enforced.
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

/// Asks a layer that a route may waive. Without a proof the route waives it.
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
            // Its verdict is in the record. Its proof is not used, so that a shadow cannot widen anything either.
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
