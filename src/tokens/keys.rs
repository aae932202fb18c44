//! The key set of one issuer, each key bound to the algorithm it was published for, and the choice
//! of a key by a token's `kid` and `alg`.
//!
//! The binding prevents algorithm confusion: a token chooses neither the key's family nor its hash.
//! It names an algorithm, and a key that is not bound to it is never tried.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;
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
    ambiguous: Vec<String>,
    version: Digest,
}

/// A member of `keys`: an object without its `null` members, or why it is none.
type Jwk = Result<Map<String, Value>, &'static str>;

/// The document; members that are not listed are ignored (RFC 7517, section 5).
#[derive(Deserialize)]
struct Document<'d> {
    #[serde(borrow)]
    keys: Option<&'d RawValue>,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySet")
            .field("keys", &self.keys.len())
            .field("dropped", &self.dropped)
            .field("ambiguous", &self.ambiguous)
            .finish_non_exhaustive()
    }
}

impl KeySet {
    /// Parses a JWK set (RFC 7517, section 5). Keys that may not check signatures are dropped, and
    /// keys that cannot be told apart check none; a set without any other key is refused.
    pub fn parse(document: &[u8]) -> Result<Self, String> {
        Self::read(members(document)?, jwk::public_key)
    }

    /// Parses a set that may hold symmetric keys instead. Never for a set from elsewhere; see
    /// [`verify_signature`](super::verify_signature).
    pub(super) fn parse_vector(document: &[u8]) -> Result<Self, String> {
        let single = json::object(document).filter(|object| !object.contains_key("keys"));
        let keys = match single {
            Some(jwk) => vec![Ok(jwk)],
            None => members(document)?,
        };
        let is_symmetric = |jwk: &Jwk| {
            jwk.as_ref()
                .is_ok_and(|jwk| jwk.get("kty").is_some_and(|kty| kty == "oct"))
        };
        let one = match keys.iter().all(is_symmetric) {
            true => jwk::symmetric_key,
            false => jwk::public_key,
        };
        Self::read(keys, one)
    }

    fn read(
        jwks: Vec<Jwk>,
        one: fn(&Map<String, Value>) -> Result<Key, String>,
    ) -> Result<Self, String> {
        let (mut named, mut dropped) = (Vec::new(), Vec::new());
        for (index, jwk) in jwks.into_iter().enumerate() {
            let name = name_of(index, &jwk);
            let key = jwk.map_err(str::to_owned).and_then(|jwk| one(&jwk));
            match key {
                // The same key twice is one key.
                Ok(key)
                    if named
                        .iter()
                        .any(|(_, other): &(_, Arc<Key>)| other.id == key.id) =>
                {
                    dropped.push(format!("{name} left out: it occurs twice"));
                }
                Ok(key) => named.push((name, Arc::new(key))),
                Err(why) => dropped.push(format!("{name} left out: {why}")),
            }
        }
        if named.is_empty() {
            let why = dropped
                .first()
                .map(|why| format!(" ({why})"))
                .unwrap_or_default();
            return Err(format!("it has no usable key{why}"));
        }
        let ambiguous = ambiguous_pairs(&named);
        let keys: Vec<Arc<Key>> = named.into_iter().map(|(_, key)| key).collect();
        let version = digest::of_parts(keys.iter().map(|key| key.id.as_slice()));
        Ok(Self {
            keys,
            dropped,
            ambiguous,
            version,
        })
    }

    /// The dropped keys of the document, and why.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// The keys that check no signature because a token cannot say which of them it means.
    pub fn ambiguous(&self) -> &[String] {
        &self.ambiguous
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

    /// The key for a token: the one that has its `kid` and fits its algorithm, or for a token
    /// without `kid` the only one that fits. A `kid` may occur several times, for keys of different
    /// `kty`, `use` or `alg` (RFC 7517, section 4.5). Two keys that fit are ambiguous, and trying
    /// both would let a token choose.
    pub(super) fn select(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&Arc<Key>, Denial> {
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| kid.is_none() || key.kid.as_deref() == kid)
            .filter(|key| key.bound.fits(algorithm));
        let Some(first) = fitting.next() else {
            return Err(match kid {
                None => unknown("the token has no `kid` and no key fits"),
                Some(kid) if self.names(kid) => Reason::TokenAlgorithm
                    .because("the key with the token's `kid` is for another `alg`"),
                Some(_) => unknown("no usable key has the token's `kid`"),
            });
        };
        match fitting.all(|other| other.material == first.material) {
            true => Ok(first),
            false if kid.is_none() => Err(unknown("the token has no `kid` and several keys fit")),
            false => Err(unknown(
                "several keys have the token's `kid` and fit its `alg`",
            )),
        }
    }
}

/// Whether a document is a well-formed set without keys.
pub(super) fn is_empty(document: &[u8]) -> bool {
    members(document).is_ok_and(|members| members.is_empty())
}

/// The members of `keys`, each parsed alone, so that a bad one costs no other.
fn members(document: &[u8]) -> Result<Vec<Jwk>, String> {
    if document.len() > MAX_DOCUMENT {
        return Err(format!("it is longer than {MAX_DOCUMENT} bytes"));
    }
    let keys = list(document)?;
    if keys.len() > MAX_KEYS {
        return Err(format!("it has {} keys, more than {MAX_KEYS}", keys.len()));
    }
    Ok(keys.into_iter().map(member).collect())
}

fn list(document: &[u8]) -> Result<Vec<&RawValue>, String> {
    if json::has_byte_order_mark(document) {
        return Err(json::BYTE_ORDER_MARK.to_owned());
    }
    if !document.trim_ascii_start().starts_with(b"{") {
        return Err("it is not one JSON object".to_owned());
    }
    let parsed: Document<'_> =
        serde_json::from_slice(document).map_err(|error| match error.classify() {
            Category::Data => "it repeats the member `keys`".to_owned(),
            // The text of the error could quote the document.
            Category::Syntax | Category::Eof | Category::Io => format!(
                "it is not one JSON object (line {}, column {})",
                error.line(),
                error.column()
            ),
        })?;
    let keys = parsed.keys.map(RawValue::get);
    keys.and_then(|keys| serde_json::from_str(keys).ok())
        .ok_or_else(|| "it has no list `keys`".to_owned())
}

/// `null` is no value: some servers write it for members that a key does not have.
fn member(text: &RawValue) -> Jwk {
    if !text.get().starts_with('{') {
        return Err("not an object");
    }
    let jwk = json::object(text.get().as_bytes());
    let mut jwk = jwk.ok_or("it repeats a member, or is nested too deeply")?;
    jwk.retain(|_, value| !value.is_null());
    Ok(jwk)
}

/// Its number in the document, and its `kid`, shortened to what a log line may hold.
fn name_of(index: usize, jwk: &Jwk) -> String {
    let number = index + 1;
    let kid = jwk.as_ref().ok().and_then(|jwk| jwk.get("kid")?.as_str());
    kid.map_or_else(
        || format!("key {number}"),
        |kid| {
            let plain = kid.chars().filter(|c| !c.is_control());
            format!("key {number} (`{}`)", plain.take(64).collect::<String>())
        },
    )
}

/// The pairs of keys with one `kid` of which a token's `alg` does not choose one.
fn ambiguous_pairs(keys: &[(String, Arc<Key>)]) -> Vec<String> {
    let mut pairs = Vec::new();
    for (index, (name, key)) in keys.iter().enumerate() {
        let earlier = keys.iter().take(index);
        let same = earlier.filter(|(_, other)| {
            key.kid.is_some()
                && other.kid == key.kid
                && other.bound.overlaps(key.bound)
                && other.material != key.material
        });
        pairs.extend(same.map(|(other, _)| {
            format!(
                "{other} and {name} have one `kid` and fit one `alg`: tokens of both are refused"
            )
        }));
    }
    pairs
}

fn unknown(why: &'static str) -> Denial {
    Reason::TokenKeyUnknown.because(why)
}
