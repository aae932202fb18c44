//! One key for each purpose, out of each secret under `keys` (HKDF, RFC 5869).
//!
//! Decides:  how a key is derived; never changed, or nothing that was sealed opens any more. Trusts: the secrets to have 32 random bytes.
//! Not here: what the keys are used for; each user names its own purpose.

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use crate::secrets::MasterKey;

/// A master key, ready to derive from.
pub(crate) struct Derivation(Prk);

/// Bytes that HKDF shall give.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Derivation {
    /// Of a listed key.
    pub(crate) fn of(key: &MasterKey) -> Self {
        Self::of_secret(key.secret.expose())
    }

    /// Of a secret that is not listed, such as one that lives as long as the process.
    pub(crate) fn of_secret(secret: &[u8]) -> Self {
        Self(Salt::new(HKDF_SHA256, b"foregate keys 1").extract(secret))
    }

    /// The key for one purpose.
    ///
    /// # Errors
    ///
    /// The cryptographic library refuses the length.
    pub(crate) fn expand<const N: usize>(&self, purpose: &str) -> anyhow::Result<[u8; N]> {
        let mut key = [0; N];
        self.0
            .expand(&[purpose.as_bytes()], Length(N))?
            .fill(&mut key)?;
        Ok(key)
    }
}
