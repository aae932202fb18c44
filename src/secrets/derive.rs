//! Key derivation (HKDF, RFC 5869): one key per purpose from each secret under `keys`. Each user
//! names its own purpose. The derivation never changes, or no sealed record opens any more.

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use crate::secrets::MasterKey;

/// A master key, prepared for derivation.
pub(crate) struct Derivation(Prk);

/// Output length of HKDF in bytes.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Derivation {
    /// From a listed key.
    pub(crate) fn of(key: &MasterKey) -> Self {
        Self::of_secret(key.secret.expose())
    }

    /// From a secret that is not listed, such as one that lives as long as the process.
    pub(crate) fn of_secret(secret: &[u8]) -> Self {
        Self(Salt::new(HKDF_SHA256, b"foregate keys 1").extract(secret))
    }

    /// Derives the key for one purpose.
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
