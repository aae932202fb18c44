//! Secrets: values that are never shown, keys derived from the gateway's own, and digests of what clients present.
//!
//! Decides: nothing. Trusts: nothing. Not here: what is sealed or signed with a key (`store`, `tokens`, `sessions`).

pub mod derive;
pub mod digest;
pub mod secret;

use crate::secrets::secret::Secret;

/// A secret of the gateway's own.
#[derive(Clone, Debug)]
pub struct MasterKey {
    /// Its name, which stands in what it seals.
    pub id: String,
    /// At least 32 bytes that look random.
    pub secret: Secret,
}
