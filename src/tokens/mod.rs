//! Tokens: whether a bearer token proves a user.
//!
//! Decides:  every `token_…` reason but `token_missing`, `service_key_refused` and `keys_unavailable`.
//! Trusts:   the configured issuers, for the users they sign for and nothing else.
//! Not here: finding the credential in the request and what its user may do (`auth`).
//!
//! A token is taken apart (`jws`), its `iss` and `alg` choose an entry, the entry's keys choose a key, and only behind a
//! right signature are claims read. What was verified is remembered in a [`VerifiedCache`]; keys that an issuer publishes are
//! kept fresh by [`KeySources`]. Nearly every answer comes at once; only a token whose key may have been published a moment ago waits.

mod cache;
mod claims;
mod discovery;
mod fetch;
mod fetch_context;
mod issuer;

mod jwk;
mod jws;
mod key;
mod keys;
mod metrics;
pub mod mint;
mod proof;
mod refetch;
mod roca;
mod source;
mod sources;
mod stored;
#[cfg(test)]
mod tests;
mod verify;
mod worker_cache;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use hyper::header::HeaderValue;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

pub use self::cache::VerifiedCache;
pub use self::claims::LONGEST_ID;
pub use self::fetch_context::Surroundings;
pub use self::keys::KeySet;
pub use self::metrics::KeyMetrics;
pub use self::proof::Proof;
pub use self::source::{Source, SourceStatus};
pub use self::sources::KeySources;
pub(crate) use self::verify::claims_of;
pub use self::verify::{is_jws, is_service_key};
pub use self::worker_cache::Recent;

use self::claims::Facts;
use self::issuer::Issuer;
use self::jws::{Jws, Named};
use self::source::{Missing, Settled};
use self::verify::Refused;
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::line::{Members, text_key};
use crate::policy::tokens::TokenIssuer;
use crate::revocation::{CleanAt, Listed, Revocation};
use crate::secrets::digest::{self, Digest};
use crate::secrets::secret::Secret;

/// The issuers of one configuration, with the process-wide memory. Cheap to build on every reload: fetched keys and verified
/// tokens outlive it.
pub struct Tokens {
    issuers: Vec<Issuer>,
    cache: Arc<VerifiedCache>,
}

/// What a credential proves.
#[derive(Clone, Debug)]
pub enum Presented {
    /// A user.
    User(Arc<Verified>),
    /// Nothing: an API key that anybody may have (`sb_publishable_…`, or a token with the role `anon` and no subject).
    Nobody,
}

/// A user, as an issuer described them. Only [`Tokens::verify`] makes one, and nobody changes it.
pub struct Verified {
    issuer: Arc<str>,
    facts: Facts,
    claims: Map<String, Value>,
    /// The digest of what is signed in it.
    signed: Digest,
    origin: Origin,
    clean: CleanAt,
    since: Instant,
    told: Told,
}

/// How a user is told of, written once: most tokens come many times.
struct Told {
    members: Members,
    subject: Option<HeaderValue>,
    session: Option<HeaderValue>,
}

/// By what a token was verified: it dies with any of it.
struct Origin {
    /// The issuer entry.
    entry: Digest,
    /// The key.
    key: Digest,
    /// The content of the key's set then.
    set: Digest,
    /// What the key was chosen by.
    kid: Option<String>,
    algorithm: Algorithm,
}

impl Tokens {
    /// Prepares the entries of `tokens`. Keys behind a URL come from `sources`, where a new URL is fetched at once. The error
    /// says which entry is unusable, and why.
    pub fn new(
        issuers: &[TokenIssuer],
        cache: Arc<VerifiedCache>,
        sources: &KeySources,
    ) -> Result<Self, String> {
        let issuers = issuers
            .iter()
            .map(|entry| Issuer::new(entry, sources))
            .collect::<Result<_, _>>()?;
        Ok(Self { issuers, cache })
    }

    /// Judges `token`, the text behind `Bearer `, at `now` in Unix seconds, by the keys at hand. A key that is not may have been published since
    /// the last fetch, which is `keys_unavailable` here; [`verify_or_wait`](Self::verify_or_wait) finds out.
    pub fn verify(&self, token: &str, now: i64) -> Result<Presented, Denial> {
        self.judge(token, now).map_err(|refused| refused.denial)
    }

    /// Judges `token`, the text behind `Bearer `. If its key is not at hand, waits for the next fetch that may begin, at most a second. `clock`
    /// gives Unix seconds.
    pub async fn verify_or_wait(
        &self,
        token: &str,
        clock: fn() -> i64,
    ) -> Result<Presented, Denial> {
        match self.judge(token, clock()) {
            Ok(presented) => Ok(presented),
            Err(refused) if refused.missing.is_empty() => Err(refused.denial),
            // Boxed, so that a request that need not wait does not carry room for it along.
            Err(refused) => Box::pin(self.wait(token, clock, refused.missing)).await,
        }
    }

    /// [`verify_or_wait`](Self::verify_or_wait) for a token that may be among those that this worker proved of late.
    ///
    /// # Errors
    ///
    /// The same.
    pub async fn verify_on(
        &self,
        recent: &Recent,
        token: &[u8],
        clock: fn() -> i64,
    ) -> Result<Presented, Denial> {
        if let Some(verified) = recent.find(token) {
            if self.still_accepts(&verified, clock()) {
                self.cache.note_hit();
                return Ok(Presented::User(verified));
            }
            recent.forget(token);
        }
        let token = std::str::from_utf8(token).map_err(|_| Reason::TokenMalformed)?;
        let presented = self.verify_or_wait(token, clock).await?;
        if let Presented::User(verified) = &presented {
            recent.remember(token, verified);
        }
        Ok(presented)
    }

    async fn wait(
        &self,
        token: &str,
        clock: fn() -> i64,
        missing: Vec<Missing>,
    ) -> Result<Presented, Denial> {
        let deadline = tokio::time::Instant::now() + source::HOLD;
        let (mut appeared, mut unknown) = (false, None);
        for key in missing {
            match key.settle(clock, deadline).await {
                Settled::Appeared => appeared = true,
                Settled::Absent => {}
                Settled::Unknown(why) => unknown = Some(why),
            }
        }
        let unavailable = |denial| {
            unknown.map_or(denial, |why: &'static str| {
                Reason::KeysUnavailable.because(why)
            })
        };
        if !appeared {
            let absent =
                Reason::TokenKeyUnknown.because("the issuer does not publish the token's `kid`");
            return Err(unavailable(absent));
        }
        self.judge(token, clock())
            .map_err(|refused| match refused.missing.is_empty() {
                true => refused.denial,
                false => unavailable(refused.denial),
            })
    }

    fn judge(&self, token: &str, now: i64) -> Result<Presented, Refused> {
        if let Some(judgement) = verify::opaque_key(token) {
            return Ok(judgement.map(|()| Presented::Nobody)?);
        }
        // A token of any length is hashed only if it can be one.
        if token.len() > jws::MAX_LENGTH {
            return Err(Reason::TokenTooLarge.into());
        }
        let digest = digest::of(token.as_bytes());
        let is_good = |verified: &Verified| self.still_accepts(verified, now);
        if let Some(verified) = self.cache.find(&digest, is_good) {
            return Ok(Presented::User(verified));
        }
        let presented = verify::verify(&self.issuers, token, now)?;
        if let Presented::User(verified) = &presented {
            self.cache.insert(digest, verified);
        }
        Ok(presented)
    }

    /// Whether a token that was verified would still be accepted at `now`: its issuer, its key and its time are as they were.
    pub fn still_accepts(&self, verified: &Verified, now: i64) -> bool {
        self.issuers
            .iter()
            .any(|issuer| issuer.still_accepts(verified, now))
    }

    /// A token of the same session that was verified here, is accepted at `now`, and lives longer.
    pub fn newer_of_session(&self, verified: &Verified, now: i64) -> Option<Arc<Verified>> {
        self.cache
            .longest_of_session(verified)
            .filter(|newer| newer.accepted_until() > verified.accepted_until())
            .filter(|newer| self.still_accepts(newer, now))
    }

    /// Judges `token` without looking at the memory or adding to it: what the first look at a token costs.
    #[doc(hidden)]
    pub fn verify_uncached(&self, token: &str, now: i64) -> Result<Presented, Denial> {
        verify::verify(&self.issuers, token, now).map_err(|refused| refused.denial)
    }

    /// Whether the keys of every issuer have been there at least once since the process started, fetched or from the store. Before that the
    /// gateway is not ready.
    pub fn has_all_keys(&self, now: i64) -> bool {
        let mut in_force = self.issuers.iter().filter(|issuer| issuer.is_in_force(now));
        in_force.all(Issuer::has_keys)
    }

    /// The issuers whose keys are fetched, each with the age of its oldest set in seconds.
    pub fn key_ages(&self, now: i64) -> BTreeMap<&str, i64> {
        let mut ages = BTreeMap::new();
        for (issuer, age) in self.issuers.iter().filter_map(|issuer| issuer.key_age(now)) {
            let oldest = ages.entry(issuer).or_insert(age);
            *oldest = age.max(*oldest);
        }
        ages
    }

    /// Published keys that are not used, and why, for the start and the log. Those behind a URL are logged when fetched.
    pub fn dropped_keys(&self) -> Vec<String> {
        self.issuers.iter().flat_map(Issuer::dropped_keys).collect()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("issuers", &self.issuers.len())
            .finish_non_exhaustive()
    }
}

impl Told {
    fn of(issuer: &str, facts: &Facts) -> Self {
        // As bytes, so that text which is not ASCII passes.
        let field = |text: &str| HeaderValue::from_bytes(text.as_bytes()).ok();
        let session = facts.session.as_deref();
        Self {
            members: Members::of([
                (text_key!("issuer"), Some(issuer)),
                (text_key!("subject"), Some(&facts.subject)),
                (text_key!("session"), session),
            ]),
            subject: field(&facts.subject),
            session: session.and_then(field),
        }
    }
}

impl Verified {
    /// Revokes this token, whose text is `token`, until it expires. For one that names no session, it is all there is of its session.
    pub fn revocation(&self, token: &Secret) -> Revocation {
        Revocation::of_bearer(token, self.issuer(), self.subject(), self.accepted_until())
    }

    fn new(
        issuer: &Arc<str>,
        facts: Facts,
        claims: Map<String, Value>,
        signed: Digest,
        origin: Origin,
    ) -> Self {
        Self {
            told: Told::of(issuer, &facts),
            issuer: Arc::clone(issuer),
            facts,
            claims,
            signed,
            origin,
            clean: CleanAt::default(),
            since: clock::now(),
        }
    }

    /// Issuer, subject and session, as a log line says them.
    pub(crate) fn members(&self) -> &Members {
        &self.told.members
    }

    /// The subject as the value of a field; none if it holds what would end the field.
    pub(crate) fn subject_field(&self) -> Option<&HeaderValue> {
        self.told.subject.as_ref()
    }

    /// The session, likewise.
    pub(crate) fn session_field(&self) -> Option<&HeaderValue> {
        self.told.session.as_ref()
    }

    /// `iss`, as configured.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `sub`: never empty, and unique only together with the issuer.
    pub fn subject(&self) -> &str {
        &self.facts.subject
    }

    /// `session_id`, if it is there and not empty.
    pub fn session(&self) -> Option<&str> {
        self.facts.session.as_deref()
    }

    /// Whether another token is of the same session; without sessions, of the same user.
    pub fn is_same_session(&self, other: &Self) -> bool {
        self.issuer() == other.issuer()
            && self.subject() == other.subject()
            && self.session() == other.session()
    }

    /// `role`: the database role at Supabase, not one of the gateway's roles.
    pub fn role(&self) -> Option<&str> {
        self.facts.role.as_deref()
    }

    /// The authenticator assurance level: 1, or 2 after a second factor.
    pub fn aal(&self) -> u8 {
        self.facts.aal
    }

    /// Whether this is one of Supabase's anonymous users.
    pub fn is_anonymous(&self) -> bool {
        self.facts.anonymous
    }

    /// When its signature was checked here, which was the first time it was seen, or the first after it was forgotten.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// `exp`, in Unix seconds.
    pub fn expires(&self) -> i64 {
        self.facts.expires
    }

    /// Until when it is accepted, in Unix seconds: `exp` and the leeway of its issuer.
    pub fn accepted_until(&self) -> i64 {
        self.facts.valid.until()
    }

    /// What the list of revocations looks at.
    pub fn listed(&self) -> Listed<'_> {
        Listed {
            token: &self.signed,
            issuer: self.issuer(),
            subject: self.subject(),
            session: self.session(),
            claims: &self.claims,
        }
    }

    /// When it was last found not to be revoked.
    pub fn clean(&self) -> &CleanAt {
        &self.clean
    }

    /// The whole payload.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Subject, session and claims are the user's, and not for a log.
        f.debug_struct("Verified")
            .field("issuer", &self.issuer)
            .field("aal", &self.facts.aal)
            .field("anonymous", &self.facts.anonymous)
            .field("expires", &self.facts.expires)
            .finish_non_exhaustive()
    }
}

/// For public test vectors, whose payloads are not claims: the same reading of token and keys and the same signature check as
/// [`Tokens::verify`], without issuer and claims. `jwks` is one JWK or a set; only here may a set hold symmetric keys, if it
/// holds nothing else. Gives the payload.
#[doc(hidden)]
pub fn verify_signature(jwks: &[u8], token: &str) -> Result<Vec<u8>, Denial> {
    let jws = Jws::parse(token)?;
    let keys = KeySet::parse_vector(jwks).map_err(|why| Reason::TokenKeyUnknown.because(why))?;
    let Named::Known(algorithm) = jws.algorithm else {
        return Err(Reason::TokenAlgorithm.into());
    };
    keys.select(jws.kid.as_deref(), algorithm)?
        .check(&jws, algorithm)?;
    Ok(jws.payload)
}
