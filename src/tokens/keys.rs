//! The key set of one issuer, each key bound to the algorithm it was published for, and the choice
//! of a key by a token's `kid` and `alg`.
//!
//! The binding prevents algorithm confusion: a token chooses neither the key's family nor its hash.
//! It names an algorithm, and a key that is not bound to it is never tried.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::jwk;
use super::verified::Origin;
use crate::denial::{Denial, Reason};
use crate::json;
use crate::secrets::digest::{self, Digest};
use crate::tokens::key::Key;

/// The longest JWK set that is read.
pub(super) const MAX_DOCUMENT: usize = 256 * 1024;
/// The most keys in one set. Issuers publish two or three; the number is arbitrary.
const MAX_KEYS: usize = 64;

/// The usable keys of one document.
pub struct KeySet {
    keys: Vec<Arc<Key>>,
    dropped: Vec<String>,
    version: Digest,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySet")
            .field("keys", &self.keys.len())
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

impl KeySet {
    /// Parses a JWK set (RFC 7517, section 5). Keys that may not check signatures are dropped; a
    /// set without any other, or in which a `kid` occurs twice, is refused.
    pub fn parse(document: &[u8]) -> Result<Self, String> {
        Self::read(&members(document)?, jwk::public_key)
    }

    /// Parses a set that may hold symmetric keys instead. Never for a set from elsewhere; see
    /// [`verify_signature`](super::verify_signature).
    pub(super) fn parse_vector(document: &[u8]) -> Result<Self, String> {
        let document = json::object(document).ok_or("not one JSON object")?;
        let keys = match document.get("keys") {
            Some(_) => list(&document)?,
            None => vec![Value::Object(document)],
        };
        let all_symmetric = keys
            .iter()
            .all(|key| key.get("kty").is_some_and(|kty| kty == "oct"));
        Self::read(
            &keys,
            if all_symmetric {
                jwk::symmetric_key
            } else {
                jwk::public_key
            },
        )
    }

    fn read(
        jwks: &[Value],
        one: fn(&Map<String, Value>) -> Result<Key, String>,
    ) -> Result<Self, String> {
        if jwks.len() > MAX_KEYS {
            return Err(format!("it has more than {MAX_KEYS} keys"));
        }
        refuse_repeated_kid(jwks)?;
        let (mut keys, mut dropped) = (Vec::new(), Vec::new());
        for (index, value) in jwks.iter().enumerate() {
            match value
                .as_object()
                .map_or_else(|| Err("not an object".to_owned()), one)
            {
                Ok(key) => keys.push(Arc::new(key)),
                Err(why) => dropped.push(format!("key {} left out: {why}", index + 1)),
            }
        }
        if keys.is_empty() {
            let why = dropped
                .first()
                .map(|why| format!(" ({why})"))
                .unwrap_or_default();
            return Err(format!("it has no usable key{why}"));
        }
        let version = digest::of_parts(keys.iter().map(|key| key.id.as_slice()));
        Ok(Self {
            keys,
            dropped,
            version,
        })
    }

    /// The dropped keys of the document, and why.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// The number of usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never true: a set without usable keys is refused.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Identifies the content: sets with equal versions select and accept alike.
    pub(super) fn version(&self) -> &Digest {
        &self.version
    }

    /// Whether some key could check one of `algorithms`.
    pub(super) fn has_key_for(&self, algorithms: &[Algorithm]) -> bool {
        self.keys
            .iter()
            .any(|key| algorithms.iter().any(|one| key.bound.fits(*one)))
    }

    /// Whether a usable key has this `kid`.
    pub(super) fn names(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// Whether the same key would be chosen for a token again. An equal version decides at once;
    /// after a change the choice is repeated.
    pub(super) fn still_selects(&self, origin: &Origin) -> bool {
        self.version == origin.set
            || self
                .select(origin.kid.as_deref(), origin.algorithm)
                .is_ok_and(|key| key.id == origin.key)
    }

    /// The key for a token: the one with its `kid`, or for a token without `kid` the only one that
    /// fits its algorithm. Two that fit are ambiguous, and trying both would let a token choose.
    pub(super) fn select(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&Arc<Key>, Denial> {
        let Some(kid) = kid else {
            let mut fitting = self.keys.iter().filter(|key| key.bound.fits(algorithm));
            return match (fitting.next(), fitting.next()) {
                (Some(only), None) => Ok(only),
                (Some(_), Some(_)) => Err(unknown("the token has no `kid` and several keys fit")),
                (None, _) => Err(unknown("the token has no `kid` and no key fits")),
            };
        };
        let named = self.keys.iter().find(|key| key.kid.as_deref() == Some(kid));
        let key = named.ok_or_else(|| unknown("no usable key has the token's `kid`"))?;
        if key.bound.fits(algorithm) {
            Ok(key)
        } else {
            Err(Reason::TokenAlgorithm
                .because("the key with the token's `kid` is for another `alg`"))
        }
    }
}

fn members(document: &[u8]) -> Result<Vec<Value>, String> {
    if document.len() > MAX_DOCUMENT {
        return Err(format!("it is longer than {MAX_DOCUMENT} bytes"));
    }
    list(&json::object(document).ok_or("it is not one JSON object, or repeats a member")?)
}

fn list(document: &Map<String, Value>) -> Result<Vec<Value>, String> {
    document
        .get("keys")
        .and_then(Value::as_array)
        .cloned()
        .ok_or_else(|| "it has no list `keys`".to_owned())
}

/// A `kid` that occurs twice makes the choice of the key depend on the reader (RFC 7517, section
/// 4.5).
fn refuse_repeated_kid(jwks: &[Value]) -> Result<(), String> {
    let mut seen: Vec<&str> = jwks
        .iter()
        .filter_map(|jwk| jwk.get("kid")?.as_str())
        .collect();
    seen.sort_unstable();
    if seen.is_sorted_by(|one, next| one != next) {
        Ok(())
    } else {
        Err("two keys have the same `kid`".to_owned())
    }
}

fn unknown(why: &'static str) -> Denial {
    Reason::TokenKeyUnknown.because(why)
}
