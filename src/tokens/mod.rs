//! Tokens: whether a bearer token proves a user.
//!
//! Decides:  every `token_…` reason but `token_missing`, `tokens_too_many`, `service_key_refused`
//!           and `keys_unavailable`.
//! Trusts:   the configured issuers, for the users they sign for and nothing else.
//! Not here: finding the credential in the request, and what its user may do (`auth`).
//!
//! A token is parsed (`jws`), its `iss` and `alg` choose an entry, the entry's keys choose a key,
//! and only after the signature was checked are claims read. A verified token ([`Verified`]) is
//! cached in a [`VerifiedCache`]; keys that an issuer publishes are kept fresh by [`KeySources`].
//! Nearly every token is decided at once; only one whose key may just have been published waits.

mod cache;
mod check_limit;
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
mod verified;
mod verify;
mod worker_cache;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use self::cache::VerifiedCache;
pub use self::check_limit::{CheckLimit, RefusedTokens};
pub use self::claims::LONGEST_ID;
pub use self::fetch_context::FetchContext;
pub use self::keys::KeySet;
pub use self::metrics::KeyMetrics;
pub use self::proof::Proof;
pub use self::source::{Source, SourceStatus};
pub use self::sources::KeySources;
pub use self::verified::Verified;
pub(crate) use self::verify::claims_of;
pub use self::verify::{is_jws, is_public_api_key, is_service_key};
pub use self::worker_cache::WorkerCache;

use self::issuer::Issuer;
use self::jws::{Jws, Named};
use self::source::{Missing, Settled};
use self::verify::Refused;
use crate::denial::{Denial, Reason};
use crate::policy::tokens::TokenIssuer;
use crate::secrets::digest;

/// The issuers of one configuration, with the process-wide cache. Cheap to build on every reload:
/// fetched keys and verified tokens outlive it.
pub struct Tokens {
    issuers: Vec<Issuer>,
    cache: Arc<VerifiedCache>,
    /// The longest accepted token in bytes.
    longest: usize,
}

/// What a credential proves.
#[derive(Clone, Debug)]
pub enum Presented {
    /// A user.
    User(Arc<Verified>),
    /// Nothing: an API key that anybody may have (`sb_publishable_…`, or a token with the role
    /// `anon` and no subject).
    Nobody,
}

impl Tokens {
    /// Prepares the entries of `tokens`. Keys behind a URL come from `sources`, where a new URL is
    /// fetched at once. The error says which entry is unusable, and why.
    pub fn new(
        issuers: &[TokenIssuer],
        cache: Arc<VerifiedCache>,
        sources: &KeySources,
    ) -> Result<Self, String> {
        let issuers = issuers
            .iter()
            .map(|entry| Issuer::new(entry, sources))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            issuers,
            cache,
            longest: jws::DEFAULT_LENGTH,
        })
    }

    /// Accepts tokens of up to so many bytes.
    #[must_use]
    pub fn up_to(self, longest: usize) -> Self {
        Self { longest, ..self }
    }

    /// The longest accepted token in bytes.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Verifies `token`, the text after `Bearer `, at `now` in Unix seconds, with the cached keys.
    /// A key that is not cached may have been published since the last fetch, which is
    /// `keys_unavailable` here; [`verify_or_wait`](Self::verify_or_wait) finds out.
    pub fn verify(&self, token: &str, now: i64) -> Result<Presented, Denial> {
        self.decide(token, now, None)
            .map_err(|refused| refused.denial)
    }

    /// Verifies `token`, the text after `Bearer `. If its key is not cached, waits for the next
    /// fetch, at most a second. `clock` returns Unix seconds.
    pub async fn verify_or_wait(
        &self,
        token: &str,
        clock: fn() -> i64,
    ) -> Result<Presented, Denial> {
        match self.decide_at_once(token, clock(), None)? {
            Ok(presented) => Ok(presented),
            // Boxed, so that the future of a request that does not wait stays small.
            Err(missing) => Box::pin(self.wait(token, clock, missing, None)).await,
        }
    }

    /// The same as [`verify_or_wait`](Self::verify_or_wait), for a token that a client sent.
    ///
    /// # Errors
    ///
    /// The same, and 429 `tokens_too_many` if the token is not cached and the client is over its
    /// limit.
    pub async fn verify_limited(
        &self,
        token: &str,
        clock: fn() -> i64,
        limit: Option<CheckLimit<'_>>,
    ) -> Result<Presented, Denial> {
        match self.decide_at_once(token, clock(), limit)? {
            Ok(presented) => Ok(presented),
            Err(missing) => Box::pin(self.wait(token, clock, missing, limit)).await,
        }
    }

    /// The same as [`verify_limited`](Self::verify_limited), with the cache of this worker. Calls
    /// `first` with a token that no client has presented here before.
    ///
    /// # Errors
    ///
    /// The same.
    pub async fn verify_on<'l>(
        &self,
        worker_cache: &WorkerCache,
        token: &[u8],
        clock: fn() -> i64,
        limit: impl Fn() -> Option<CheckLimit<'l>>,
        first: impl FnOnce(&Arc<Verified>),
    ) -> Result<Presented, Denial> {
        if let Some(verified) = worker_cache.find(token) {
            if self.still_accepts(&verified, clock()) {
                self.cache.note_hit();
                return Ok(Presented::User(verified));
            }
            worker_cache.forget(token);
        }
        let token = std::str::from_utf8(token).map_err(|_| Reason::TokenMalformed)?;
        let presented = match self.decide_at_once(token, clock(), limit())? {
            Ok(presented) => presented,
            Err(missing) => Box::pin(self.wait(token, clock, missing, limit())).await?,
        };
        if let Presented::User(verified) = &presented {
            worker_cache.remember(token, verified);
            if verified.is_first_presented() {
                first(verified);
            }
        }
        Ok(presented)
    }

    /// What a token proves; if it has to wait, the keys that may yet arrive.
    fn decide_at_once(
        &self,
        token: &str,
        now: i64,
        limit: Option<CheckLimit<'_>>,
    ) -> Result<Result<Presented, Vec<Missing>>, Denial> {
        match self.decide(token, now, limit) {
            Ok(presented) => Ok(Ok(presented)),
            Err(refused) if refused.missing.is_empty() => Err(noted(refused.denial, limit)),
            Err(refused) => Ok(Err(refused.missing)),
        }
    }

    async fn wait(
        &self,
        token: &str,
        clock: fn() -> i64,
        missing: Vec<Missing>,
        limit: Option<CheckLimit<'_>>,
    ) -> Result<Presented, Denial> {
        let deadline = tokio::time::Instant::now() + source::MAX_WAIT;
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
            return Err(noted(unavailable(absent), limit));
        }
        self.decide(token, clock(), None)
            .map_err(|refused| match refused.missing.is_empty() {
                true => noted(refused.denial, limit),
                false => unavailable(refused.denial),
            })
    }

    fn decide(
        &self,
        token: &str,
        now: i64,
        limit: Option<CheckLimit<'_>>,
    ) -> Result<Presented, Refused> {
        // A text too long to be a token is not even hashed.
        if token.len() > self.longest {
            return Err(Reason::TokenTooLarge.into());
        }
        if let Some(outcome) = verify::opaque_key(token) {
            return Ok(outcome.map(|()| Presented::Nobody)?);
        }
        let digest = digest::of(token.as_bytes());
        let is_good = |verified: &Verified| self.still_accepts(verified, now);
        if let Some(verified) = self.cache.find(&digest, is_good) {
            return Ok(Presented::User(verified));
        }
        if let Some(limit) = limit {
            limit.admit()?;
        }
        let presented = verify::verify(&self.issuers, token, now)?;
        if let Presented::User(verified) = &presented {
            self.cache.insert(digest, verified);
        }
        Ok(presented)
    }

    /// Whether a verified token would still be accepted at `now`: its issuer, its key and its
    /// validity are unchanged.
    pub fn still_accepts(&self, verified: &Verified, now: i64) -> bool {
        self.issuers
            .iter()
            .any(|issuer| issuer.still_accepts(verified, now))
    }

    /// A verified token of the same session that is accepted at `now` and expires later.
    pub fn newer_of_session(&self, verified: &Verified, now: i64) -> Option<Arc<Verified>> {
        self.cache
            .longest_of_session(verified)
            .filter(|newer| newer.accepted_until() > verified.accepted_until())
            .filter(|newer| self.still_accepts(newer, now))
    }

    /// Verifies `token` without the cache: the cost of a token that is seen for the first time.
    #[doc(hidden)]
    pub fn verify_uncached(&self, token: &str, now: i64) -> Result<Presented, Denial> {
        verify::verify(&self.issuers, token, now).map_err(|refused| refused.denial)
    }

    /// Whether the keys of every issuer were available at least once since the process started,
    /// fetched or from the store. Before that the gateway is not ready. An issuer that publishes a
    /// set without keys, as it signs with a secret, needs another entry with keys: that for its
    /// future keys may be there before.
    pub fn has_all_keys(&self, now: i64) -> bool {
        let mut in_force = self.issuers.iter().filter(|issuer| issuer.is_in_force(now));
        in_force.all(|issuer| issuer.has_keys() || self.needs_none(issuer, now))
    }

    /// Whether an entry publishes no keys, and another one of its issuer has some.
    fn needs_none(&self, issuer: &Issuer, now: i64) -> bool {
        let mut in_force = self.issuers.iter().filter(|issuer| issuer.is_in_force(now));
        issuer.publishes_none()
            && in_force.any(|other| other.is_for_same(issuer) && other.has_keys())
    }

    /// The issuers whose keys are fetched, each with the age of its oldest key set in seconds.
    pub fn key_ages(&self, now: i64) -> BTreeMap<&str, i64> {
        let mut ages = BTreeMap::new();
        for (issuer, age) in self.issuers.iter().filter_map(|issuer| issuer.key_age(now)) {
            let oldest = ages.entry(issuer).or_insert(age);
            *oldest = age.max(*oldest);
        }
        ages
    }

    /// Whether the first fetch of some issuer's keys has not ended yet.
    pub fn awaits_keys(&self, now: i64) -> bool {
        let mut in_force = self.issuers.iter().filter(|issuer| issuer.is_in_force(now));
        in_force.any(|issuer| !issuer.has_keys() && issuer.fetch_error().is_none())
    }

    /// The issuers whose keys could not be fetched last time, and why.
    pub fn fetch_errors(&self, now: i64) -> Vec<(&str, String)> {
        let in_force = self.issuers.iter().filter(|issuer| issuer.is_in_force(now));
        in_force
            .filter(|issuer| !self.needs_none(issuer, now))
            .filter_map(Issuer::fetch_error)
            .collect()
    }

    /// Published keys that are not used, and why, for the log at start. Those behind a URL are
    /// logged when fetched.
    pub fn dropped_keys(&self) -> Vec<String> {
        self.issuers.iter().flat_map(Issuer::dropped_keys).collect()
    }
}

/// A refusal, counted for the client if it took a check.
fn noted(denial: Denial, limit: Option<CheckLimit<'_>>) -> Denial {
    if let Some(limit) = limit {
        limit.note(denial.reason);
    }
    denial
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("issuers", &self.issuers.len())
            .finish_non_exhaustive()
    }
}

/// For public test vectors, whose payloads are not claims: parses token and keys and checks the
/// signature as [`Tokens::verify`] does, without issuer and claims. `jwks` is one JWK or a set;
/// only here may a set hold symmetric keys, if it holds nothing else. Returns the payload.
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
