//! Verified tokens by the SHA-256 of their text, so that a signature is checked once and not once
//! per request.
//!
//! An entry is a fact (this text was verified then, by this entry with this key), never a decision:
//! every hit is checked again by `issuer`. The cache relies on SHA-256, since the token's text is
//! not kept: two tokens do not share a digest.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;

use super::verified::Verified;
use crate::secrets::digest::{self, Digest};

/// The process-wide cache of verified tokens. Refusals are not cached: each costs its sender as
/// much as the gateway, and strangers could fill the cache with them.
pub struct VerifiedCache {
    tokens: Cache<Digest, Arc<Verified>>,
    /// The longest-lived token of every session, which keeps the streams of that session open.
    sessions: Cache<Digest, Arc<Verified>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl VerifiedCache {
    /// A cache for at most `capacity` tokens.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            tokens: Cache::new(capacity.get()),
            sessions: Cache::new(capacity.get()),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Look-ups that found a valid token.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Look-ups that did not.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// Cached tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether no token is cached.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The token with this digest, if `is_good` accepts it. A token that is not accepted is
    /// removed.
    pub(super) fn find(
        &self,
        digest: &Digest,
        is_good: impl FnOnce(&Verified) -> bool,
    ) -> Option<Arc<Verified>> {
        let found = self.tokens.get(digest);
        if let Some(verified) = &found {
            if is_good(verified) {
                self.note_hit();
                return found;
            }
            self.tokens.remove(digest);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Counts a hit.
    pub(super) fn note_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Caches a token.
    pub(super) fn insert(&self, digest: Digest, verified: &Arc<Verified>) {
        self.tokens.insert(digest, Arc::clone(verified));
        if let Some(session) = session_of(verified) {
            let known = self.sessions.get(&session);
            if known.is_none_or(|known| known.accepted_until() < verified.accepted_until()) {
                self.sessions.insert(session, Arc::clone(verified));
            }
        }
    }

    /// The longest-lived of the tokens seen here of the same session, unless it was evicted.
    pub(super) fn longest_of_session(&self, verified: &Verified) -> Option<Arc<Verified>> {
        self.sessions.get(&session_of(verified)?)
    }
}

/// A key of issuer, subject and session together: session ids are unique per issuer only, and
/// nobody may extend another user's streams by reusing one.
fn session_of(verified: &Verified) -> Option<Digest> {
    let session = verified.session()?;
    let parts = [verified.issuer(), verified.subject(), session];
    Some(digest::of_parts(parts.map(str::as_bytes)))
}

impl std::fmt::Debug for VerifiedCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifiedCache")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
