//! Callers whose writes invalidated facts, as replicas name them to each other.
//!
//! A message about invalidated facts is not sealed, so it must not tell who wrote: a caller is a
//! keyed hash. While keys are rotated replicas may use different ones; then a writer is taken for
//! somebody else, which only refuses more.

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use aws_lc_rs::rand;

use crate::secrets::MasterKey;
use crate::secrets::derive::Derivation;

/// A caller whose write invalidated facts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Writer(u64);

/// The key by which callers become [`Writer`]s.
pub struct WriterKey(Key);

impl Writer {
    pub(super) const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    pub(super) const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    #[cfg(test)]
    pub(super) const fn for_test(number: u64) -> Self {
        Self(number)
    }
}

impl WriterKey {
    /// The key of replicas with these master keys; without any, a key of this process.
    ///
    /// # Errors
    ///
    /// The key cannot be derived, or there is no randomness.
    pub fn new(keys: &[MasterKey]) -> anyhow::Result<Self> {
        let mut key = [0; 32];
        match keys.first() {
            Some(first) => key = Derivation::of(first).expand("foregate fact writers 1")?,
            None => rand::fill(&mut key)?,
        }
        Ok(Self(Key::new(HMAC_SHA256, &key)))
    }

    /// A caller, by issuer and subject.
    pub(super) fn writer(&self, (issuer, subject): (&str, &str)) -> Writer {
        let mut context = Context::with_key(&self.0);
        // With its length, so that no other pair has the same bytes.
        context.update(&(issuer.len() as u64).to_be_bytes());
        context.update(issuer.as_bytes());
        context.update(subject.as_bytes());
        let tag = context.sign();
        Writer::from_bytes(tag.as_ref().first_chunk().copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::secret::Secret;

    #[test]
    fn replicas_name_a_caller_alike_and_nobody_else() {
        let key = |secret: &str| {
            let key = MasterKey {
                id: "k".to_owned(),
                secret: Secret::new(secret),
            };
            WriterKey::new(&[key]).unwrap_or_else(|error| unreachable!("{error}"))
        };
        let (one, same, other) = (key("a"), key("a"), key("b"));
        let caller = ("issuer", "subject");
        assert_eq!(one.writer(caller), same.writer(caller));
        assert_ne!(one.writer(caller), other.writer(caller));
        assert_ne!(one.writer(caller), one.writer(("issuers", "ubject")));
        assert_ne!(one.writer(caller), one.writer(("", "issuersubject")));
    }
}
