//! What key fetches need from the process.

use std::sync::Arc;

use crate::http_client::HttpClients;
use crate::store::Store;

/// Clients, store and clock for key fetches.
#[derive(Clone, Debug)]
pub struct FetchContext {
    /// For calls to issuers.
    pub calls: HttpClients,
    /// Restores keys after a restart.
    pub store: Arc<dyn Store>,
    /// Returns Unix time in seconds.
    pub clock: fn() -> i64,
}
