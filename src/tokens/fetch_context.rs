//! What a key source needs besides its address.
//!
//! Decides: nothing. Trusts: `server`, which puts it together. Not here: fetching (`fetch`).

use std::sync::Arc;

use crate::http_client::SideCalls;
use crate::store::Store;

/// What fetching needs of the rest of the process.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// For calls to issuers.
    pub calls: SideCalls,
    /// Where keys are found again after a restart.
    pub store: Arc<dyn Store>,
    /// Unix time in seconds.
    pub clock: fn() -> i64,
}
