//! Sealing: the encryption of records for a store that others can read and write, and the names
//! under which they are stored.
//!
//! Decides:  whether bytes from the store are an authentic record, for this name, and which of the
//!           listed keys opens it.
//! Trusts:   the secrets under `keys`, and nothing that comes from the store.
//! Not here: where records are kept (`redis`), and what happens to one that does not open.
//!
//! A record is AES-256-GCM-SIV (RFC 8452) under a key derived for this purpose alone. The seal
//! covers the version of the format, the kind, the whole name in the store and the key's mark, so
//! that a record moved to another name does not open; the expiry and the number in the log are
//! inside, so that neither can be changed. Nonces are random: after 2^32 records by one key the
//! chance that any two share one is 2^-33, and with GCM-SIV such a pair reveals only whether the
//! two are equal. Nothing else is lost, unlike with GCM. Rotate after that many records.
//!
//! Whoever can write to the store can deny service, and by deleting or restoring records undo them
//! for later readers. They cannot forge a record, widen one, prolong it, or move it to another
//! name.
//!
//! # Rotation
//!
//! The first key of the list seals; every key of the list opens. A record names its key: the key's
//! `id` and a mark derived from its secret, so that another secret under the same `id` is an
//! *unknown* key and not a forgery. Names are HMACs under a key derived from the first key, so a
//! record is looked up under the name of every listed key, newest first. To rotate: add the new key
//! at the end, on every replica; then put it first, on every replica; then, once the longest-lived
//! record of the old key has expired, remove the old one. A record whose key is no longer listed is
//! unreachable, not absent.

#[cfg(test)]
mod tests;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::contract::{Kind, Unreachable};
use crate::secrets::derive::Derivation;
use crate::secrets::{MasterKey, digest};

/// The first byte of a record. A record of another version does not open.
const VERSION: u8 = 1;

/// Length of the mark that distinguishes keys with the same id.
const MARK: usize = 8;

/// The word in the name of a bucket; no kind of record has it.
const BUCKET: &str = "bucket";

/// Lengths of a nonce and of a tag in bytes (RFC 8452, section 4).
const NONCE: usize = 12;
const TAG: usize = 16;

/// The derived keys.
pub(super) struct Seals {
    /// At least one; the first seals.
    keys: Vec<SealKey>,
    prefix: String,
}

struct SealKey {
    id: String,
    mark: [u8; MARK],
    seal: RandomizedNonceKey,
    name: hmac::Key,
}

/// The content of a record.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Opened {
    /// Number in the log; 0 for a record outside the log.
    pub seq: u64,
    /// Unix time in seconds.
    pub expires: i64,
    /// The plaintext.
    pub value: Vec<u8>,
}

/// Why a record did not open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Broken {
    /// None of our keys sealed it for this name: somebody else wrote or changed it.
    Tampered,
    /// It names a key that is not listed, so its authenticity is unknown.
    UnknownKey,
}

impl Seals {
    /// Derives a key for each purpose from every master key. Names in the store begin with
    /// `prefix`.
    ///
    /// # Errors
    ///
    /// There is no key, or the cryptographic library refuses one.
    pub(super) fn new(keys: &[MasterKey], prefix: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(!keys.is_empty(), "a store needs `keys`");
        let keys = keys
            .iter()
            .map(SealKey::derive)
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            keys,
            prefix: prefix.to_owned(),
        })
    }

    /// Every place where a record may be, the one to write first.
    pub(super) fn names(&self, kind: Kind, name: &[u8]) -> Vec<String> {
        let by = |key| self.name_by(key, kind, name);
        self.keys.iter().map(by).collect()
    }

    /// The tag in braces does not depend on the key, so that all places of a record are in one slot
    /// of a cluster. It is eight bits of a digest of the name: whoever reads the store and guesses
    /// a name learns that the guess is wrong, or one of 256 that may be right.
    fn name_by(&self, key: &SealKey, kind: Kind, name: &[u8]) -> String {
        let hidden = hidden(key, kind.as_str(), name);
        let slot = digest::of_parts([kind.as_str().as_bytes(), name]);
        let slot = slot.first().copied().unwrap_or_default();
        format!("{}:{}:{{{slot:02x}}}{hidden}", self.prefix, kind.as_str())
    }

    /// The name of a bucket. All buckets share a hash tag, so that one script may access several.
    pub(super) fn bucket(&self, name: &[u8]) -> Option<String> {
        let hidden = hidden(self.keys.first()?, BUCKET, name);
        Some(format!("{}:{{{BUCKET}}}:{hidden}", self.prefix))
    }

    /// Seals a record for a name of the store.
    ///
    /// # Errors
    ///
    /// The cryptographic library has no randomness.
    pub(super) fn seal(
        &self,
        kind: Kind,
        name: &str,
        seq: u64,
        expires: i64,
        value: &[u8],
    ) -> Result<Vec<u8>, Unreachable> {
        let key = self.keys.first().ok_or(Unreachable::UnknownKey)?;
        let mut inside = Vec::with_capacity(16 + value.len() + TAG);
        inside.extend_from_slice(&seq.to_be_bytes());
        inside.extend_from_slice(&expires.to_be_bytes());
        inside.extend_from_slice(value);
        let nonce = key
            .seal
            .seal_in_place_append_tag(Aad::from(key.covered(kind, name)), &mut inside)
            .map_err(|_| Unreachable::Answer)?;
        let mut record = key.head();
        record.extend_from_slice(nonce.as_ref());
        record.extend_from_slice(&inside);
        Ok(record)
    }

    /// Opens a record that was stored under this name.
    pub(super) fn open(&self, kind: Kind, name: &str, record: &[u8]) -> Result<Opened, Broken> {
        let (id, mark, rest) = parts(record).ok_or(Broken::Tampered)?;
        let key = self
            .keys
            .iter()
            .find(|key| key.id.as_bytes() == id && key.mark == mark)
            .ok_or(Broken::UnknownKey)?;
        key.open(kind, name, rest).ok_or(Broken::Tampered)
    }
}

/// A name that reveals nothing.
fn hidden(key: &SealKey, what: &str, name: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&key.name);
    for part in [what.as_bytes(), name] {
        // The length prefix keeps one pair from being mistaken for another.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    URL_SAFE_NO_PAD.encode(context.sign().as_ref())
}

/// The record's id, mark and rest, if it has the form of a record.
fn parts(record: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let rest = record.strip_prefix(&[VERSION])?;
    let (length, rest) = rest.split_first()?;
    let (id, rest) = rest.split_at_checked(usize::from(*length))?;
    let (mark, rest) = rest.split_at_checked(MARK)?;
    let is_id = !id.is_empty() && id.iter().all(u8::is_ascii_graphic);
    (is_id && rest.len() >= NONCE + TAG + 16).then_some((id, mark, rest))
}

impl SealKey {
    fn derive(key: &MasterKey) -> anyhow::Result<Self> {
        let from = Derivation::of(key);
        Ok(Self {
            id: key.id.clone(),
            mark: from.expand("mark")?,
            seal: RandomizedNonceKey::new(
                &AES_256_GCM_SIV,
                &from.expand::<32>("seal of records in the store")?,
            )?,
            name: hmac::Key::new(
                hmac::HMAC_SHA256,
                &from.expand::<32>("names of records in the store")?,
            ),
        })
    }

    fn head(&self) -> Vec<u8> {
        let mut head = vec![VERSION, u8::try_from(self.id.len()).unwrap_or(u8::MAX)];
        head.extend_from_slice(self.id.as_bytes());
        head.extend_from_slice(&self.mark);
        head
    }

    /// The associated data of the seal.
    fn covered(&self, kind: Kind, name: &str) -> Vec<u8> {
        let mut covered = self.head();
        for part in [kind.as_str(), name] {
            covered.extend_from_slice(&(part.len() as u64).to_be_bytes());
            covered.extend_from_slice(part.as_bytes());
        }
        covered
    }

    fn open(&self, kind: Kind, name: &str, rest: &[u8]) -> Option<Opened> {
        let (nonce, sealed) = rest.split_at_checked(NONCE)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut inside = sealed.to_vec();
        let inside = self
            .seal
            .open_in_place(nonce, Aad::from(self.covered(kind, name)), &mut inside)
            .ok()?;
        let (seq, inside) = inside.split_first_chunk()?;
        let (expires, value) = inside.split_first_chunk()?;
        Some(Opened {
            seq: u64::from_be_bytes(*seq),
            expires: i64::from_be_bytes(*expires),
            value: value.to_vec(),
        })
    }
}

impl std::fmt::Debug for Seals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<&str> = self.keys.iter().map(|key| key.id.as_str()).collect();
        f.debug_struct("Seals")
            .field("keys", &ids)
            .finish_non_exhaustive()
    }
}
