//! Secrets that are never shown, keys derived from the gateway's own, and digests of what clients
//! present.
//!
//! Decides:  how a key is derived, and how parts are joined into a digest.
//! Trusts:   the configured secrets to have 32 random bytes.
//! Not here: what is sealed or signed with a key (`store`, `tokens`, `sessions`).

pub mod derive;
pub mod digest;
pub mod hex;
pub mod secret;

use crate::secrets::secret::Secret;

/// A master key of the gateway.
#[derive(Clone, Debug)]
pub struct MasterKey {
    /// Its id, which is stored with every sealed record.
    pub id: String,
    /// At least 32 bytes that look random.
    pub secret: Secret,
}
