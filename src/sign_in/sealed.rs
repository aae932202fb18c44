//! Seals the answer to a refresh that replicas keep for each other: only the holder of the old
//! refresh token can read the new one. How long it is kept is decided in `refresh`.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};

use super::call::Reply;
use crate::secrets::secret::Secret;

/// Seals and opens under a key that only the holder of the token can derive (RFC 5869).
pub(super) struct Seal(RandomizedNonceKey);

impl Seal {
    /// The seal for answers to this refresh token. `None` if the cryptographic library refuses.
    pub(super) fn of(token: &Secret) -> Option<Self> {
        let from = Salt::new(HKDF_SHA256, b"foregate refresh 1").extract(token.expose());
        let mut key = [0; 32];
        let info = [&b"seal of the answer"[..]];
        from.expand(&info, KeyLength).ok()?.fill(&mut key).ok()?;
        RandomizedNonceKey::new(&AES_256_GCM_SIV, &key)
            .ok()
            .map(Self)
    }

    /// Seals status and body of a reply. `None` without randomness.
    pub(super) fn close(&self, reply: &Reply) -> Option<Vec<u8>> {
        let mut inside = reply.status.as_u16().to_be_bytes().to_vec();
        inside.extend_from_slice(&reply.body);
        let nonce = self
            .0
            .seal_in_place_append_tag(associated_data(), &mut inside);
        let mut sealed = nonce.ok()?.as_ref().to_vec();
        sealed.extend_from_slice(&inside);
        Some(sealed)
    }

    /// Opens a sealed reply. `None` if it was not sealed under this key.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Reply> {
        let (nonce, inside) = sealed.split_first_chunk::<12>()?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut inside = inside.to_vec();
        let opened = self
            .0
            .open_in_place(nonce, associated_data(), &mut inside)
            .ok()?;
        let (status, body) = opened.split_first_chunk()?;
        Some(Reply {
            status: StatusCode::from_u16(u16::from_be_bytes(*status)).ok()?,
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body),
        })
    }
}

/// The associated data of the encryption.
fn associated_data() -> Aad<&'static [u8]> {
    Aad::from(b"answer to a refresh")
}

/// The length of the key that HKDF derives.
struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}
