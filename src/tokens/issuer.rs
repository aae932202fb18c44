//! One entry of `tokens`: an `iss` with the algorithms, keys and rules that apply to its tokens. It
//! refuses with `token_key_unknown`, `token_algorithm` or `keys_unavailable`.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::claims::Rules;
use super::jws::Jws;
use super::key::Key;
use super::keys::KeySet;
use super::source::{Missing, Source};
use super::sources::KeySources;
use super::verified::{Origin, Verified};
use crate::denial::{Denial, Reason};
use crate::policy::tokens::{KeySource, TokenIssuer};
use crate::secrets::digest::{self, Digest};

/// An entry, prepared.
pub(super) struct Issuer {
    name: Arc<str>,
    algorithms: Vec<Algorithm>,
    rules: Rules,
    until: Option<i64>,
    keys: Keys,
    fingerprint: Digest,
}

/// The source of the entry's keys.
enum Keys {
    /// One secret; a token's `kid` is ignored, since it can change nothing.
    Secret(Arc<Key>),
    /// A key set from the configuration.
    Set(Arc<KeySet>),
    /// A fetched key set, which may change or not be available yet.
    Published(Arc<Source>),
}

/// The chosen key, and the version of its key set.
struct Choice {
    key: Arc<Key>,
    version: Digest,
}

/// How far a token came before it was refused. Of several entries the farthest decides the reason,
/// since it says most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    /// No key was found.
    Key,
    /// A key was found, but did not make the signature.
    Signature,
    /// The key may be published but is not cached, so this entry may yet accept the token: not the
    /// token's fault (`keys_unavailable`).
    Unavailable,
    /// The signature is right, the claims are not.
    Claims,
}

/// A refusal by one entry.
pub(super) type Refusal = (Progress, Denial);

impl Issuer {
    /// Prepares an entry. The error names the entry.
    pub(super) fn new(entry: &TokenIssuer, sources: &KeySources) -> Result<Self, String> {
        let keys =
            Keys::of(entry, sources).map_err(|why| format!("issuer `{}`: {why}", entry.issuer))?;
        let require = entry.require.iter();
        Ok(Self {
            name: Arc::from(entry.issuer.as_str()),
            algorithms: entry.algorithms.clone(),
            rules: Rules {
                audience: entry.audience.clone(),
                require: require
                    .map(|(path, values)| {
                        (path.split('.').map(str::to_owned).collect(), values.clone())
                    })
                    .collect(),
                subject: entry.subject,
                leeway: i64::try_from(entry.leeway.as_secs()).unwrap_or(i64::MAX),
                clients: entry.clients.clone(),
            },
            until: entry.until,
            fingerprint: fingerprint(entry, &keys),
            keys,
        })
    }

    /// Whether the entry is for `iss` at `now`.
    pub(super) fn is_named(&self, iss: &str, now: i64) -> bool {
        *self.name == *iss && self.is_in_force(now)
    }

    /// Whether the entry accepts tokens of `algorithm`.
    pub(super) fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether the keys were ever available.
    pub(super) fn has_keys(&self) -> bool {
        match &self.keys {
            Keys::Secret(_) | Keys::Set(_) => true,
            Keys::Published(source) => source.has_keys(),
        }
    }

    /// Whether the issuer publishes a set without keys, and always did.
    pub(super) fn publishes_none(&self) -> bool {
        match &self.keys {
            Keys::Secret(_) | Keys::Set(_) => false,
            Keys::Published(source) => source.status().has_none,
        }
    }

    /// Whether the entry is for the same `iss` as another one.
    pub(super) fn is_for_same(&self, other: &Self) -> bool {
        self.name == other.name
    }

    /// The issuer and the age of its keys in seconds; `None` if they were never fetched, or are not
    /// fetched at all.
    pub(super) fn key_age(&self, now: i64) -> Option<(&str, i64)> {
        match &self.keys {
            Keys::Secret(_) | Keys::Set(_) => None,
            Keys::Published(source) => Some((&self.name, source.age(now)?)),
        }
    }

    /// The issuer, and why its keys could not be fetched; `None` after a good fetch.
    pub(super) fn fetch_error(&self) -> Option<(&str, String)> {
        match &self.keys {
            Keys::Secret(_) | Keys::Set(_) => None,
            Keys::Published(source) => Some((&self.name, source.status().error?)),
        }
    }

    /// The key to wait for, if that of a token with this `kid` is not cached.
    pub(super) fn missing(&self, kid: Option<&str>) -> Option<Missing> {
        match &self.keys {
            Keys::Secret(_) | Keys::Set(_) => None,
            Keys::Published(source) => Some(Missing {
                source: Arc::clone(source),
                kid: kid.map(str::to_owned),
            }),
        }
    }

    /// Which published keys are not used, and why.
    pub(super) fn dropped_keys(&self) -> Vec<String> {
        match &self.keys {
            Keys::Secret(_) | Keys::Published(_) => Vec::new(),
            Keys::Set(set) => set
                .dropped()
                .iter()
                .chain(set.ambiguous())
                .map(|why| format!("issuer `{}`: {why}", self.name))
                .collect(),
        }
    }

    /// Verifies a token whose `iss` and `alg` are this entry's.
    pub(super) fn verify(
        &self,
        jws: &Jws<'_>,
        algorithm: Algorithm,
        claims: &Map<String, Value>,
        now: i64,
    ) -> Result<Verified, Refusal> {
        let kid = jws.kid.as_deref();
        let choice = self.keys.choose(kid, algorithm, now)?;
        choice
            .key
            .check(jws, algorithm)
            .map_err(|denial| (Progress::Signature, denial))?;
        let facts = self
            .rules
            .check(claims, now)
            .map_err(|denial| (Progress::Claims, denial))?;
        let origin = Origin {
            entry: self.fingerprint,
            key: *choice.key.id(),
            set: choice.version,
            kid: jws.kid.clone(),
            algorithm,
        };
        let (claims, signed) = (claims.clone(), jws.digest());
        Ok(Verified::new(&self.name, facts, claims, signed, origin))
    }

    /// The result of an earlier [`Self::verify`], if it was by this entry, which would still accept
    /// the token at `now`.
    pub(super) fn recall(&self, jws: &Jws<'_>, origin: Origin, now: i64) -> Option<Verified> {
        if origin.entry != self.fingerprint {
            return None;
        }
        let claims = jws.claims().ok()?;
        let facts = self.rules.check(&claims, now).ok()?;
        let verified = Verified::new(&self.name, facts, claims, jws.digest(), origin);
        let is_named = verified.claims.get("iss").and_then(Value::as_str) == Some(&*self.name);
        (is_named && self.still_accepts(&verified, now)).then_some(verified)
    }

    /// Whether this entry would accept, at `now`, a token that an equal entry accepted before. The
    /// fingerprint covers everything but the clock, the entry's end and its keys.
    pub(super) fn still_accepts(&self, verified: &Verified, now: i64) -> bool {
        self.fingerprint == verified.origin.entry
            && self.is_in_force(now)
            && verified.facts.valid.contains(now)
            && self.keys.still_choose(&verified.origin, now)
    }

    pub(super) fn is_in_force(&self, now: i64) -> bool {
        self.until.is_none_or(|until| now <= until)
    }
}

impl Keys {
    fn of(entry: &TokenIssuer, sources: &KeySources) -> Result<Self, String> {
        match &entry.keys {
            KeySource::Secret(secret) => {
                let key = Key::secret(None, secret.expose(), &entry.algorithms)?;
                Ok(Self::Secret(Arc::new(key)))
            }
            KeySource::Set { json, file } => {
                let set = KeySet::parse(json.as_bytes())
                    .map_err(|why| format!("jwks_file {}: {why}", file.display()))?;
                if !set.has_key_for(&entry.algorithms) {
                    let file = file.display();
                    return Err(format!("jwks_file {file}: no key fits `algorithms`"));
                }
                Ok(Self::Set(Arc::new(set)))
            }
            KeySource::Published(publication) => Ok(Self::Published(
                sources.get_or_insert(&entry.issuer, publication),
            )),
        }
    }

    fn choose(&self, kid: Option<&str>, algorithm: Algorithm, now: i64) -> Result<Choice, Refusal> {
        let chosen = match self {
            Self::Secret(key) => Ok((Arc::clone(key), *key.id())),
            Self::Set(set) => set
                .select(kid, algorithm)
                .map(|key| (Arc::clone(key), *set.version())),
            Self::Published(source) => source
                .select(kid, algorithm, now)
                .ok_or_else(|| (Progress::Unavailable, Reason::KeysUnavailable.into()))?,
        };
        let (key, version) = chosen.map_err(|denial| (Progress::Key, denial))?;
        Ok(Choice { key, version })
    }

    /// Whether the same key would be chosen for the token again.
    fn still_choose(&self, origin: &Origin, now: i64) -> bool {
        match self {
            Self::Secret(key) => *key.id() == origin.key,
            Self::Set(set) => set.still_selects(origin),
            Self::Published(source) => source.still_selects(origin, now),
        }
    }
}

/// Identifies the rules of an entry. A cached token is only valid under the rules that accepted it,
/// so the fingerprint covers all of them; `until` is not covered, since every hit checks it.
fn fingerprint(entry: &TokenIssuer, keys: &Keys) -> Digest {
    let source = match (&entry.keys, keys) {
        // The id of the key is a digest: the secret itself is not used.
        (KeySource::Secret(_), Keys::Secret(key)) => format!("secret {:?}", key.id()),
        (KeySource::Set { file, .. }, _) => format!("file {file:?}"),
        (KeySource::Published(publication), _) => format!("published {publication:?}"),
        (KeySource::Secret(_), Keys::Set(_) | Keys::Published(_)) => String::new(),
    };
    let TokenIssuer {
        issuer,
        audience,
        algorithms,
        keys: _,
        require,
        subject,
        leeway,
        clients,
        until: _,
    } = entry;
    let rules = format!(
        "{issuer:?} {audience:?} {algorithms:?} {require:?} {subject:?} {leeway:?} {clients:?}"
    );
    digest::of_parts([rules.as_bytes(), source.as_bytes()])
}
