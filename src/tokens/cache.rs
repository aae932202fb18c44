//! Verified tokens, remembered by the SHA-256 of their text, so that a signature is checked once and not once a request.
//!
//! Decides:  nothing; an entry is a fact (this text was verified then, by this entry with this key), never a verdict.
//! Trusts:   SHA-256: two tokens do not share a digest. The token's text itself is not kept.
//! Not here: whether a remembered token is still good (`issuer`), which is asked on every hit.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;

use super::Verified;
use crate::secrets::digest::{self, Digest};

/// The process-wide memory of verified tokens. Refusals are not remembered: each costs its sender as much as us, and a stranger
/// could fill the memory with them.
pub struct VerifiedCache {
    tokens: Cache<Digest, Arc<Verified>>,
    /// Of every session, the token that lives longest: what keeps the streams of that session open.
    sessions: Cache<Digest, Arc<Verified>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl VerifiedCache {
    /// A memory for at most `capacity` tokens.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            tokens: Cache::new(capacity.get()),
            sessions: Cache::new(capacity.get()),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// How often a remembered token was used.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// How often a token had to be verified.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// How many tokens are remembered.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The token with this digest, if `is_good` still says so. One that is not good any more is forgotten.
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

    /// A remembered token was used.
    pub(super) fn note_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Remembers a token.
    pub(super) fn insert(&self, digest: Digest, verified: &Arc<Verified>) {
        self.tokens.insert(digest, Arc::clone(verified));
        if let Some(session) = session_of(verified) {
            let known = self.sessions.get(&session);
            if known.is_none_or(|known| known.accepted_until() < verified.accepted_until()) {
                self.sessions.insert(session, Arc::clone(verified));
            }
        }
    }

    /// Of the tokens seen here that are of the same session, the one that lives longest. It may have been forgotten.
    pub(super) fn longest_of_session(&self, verified: &Verified) -> Option<Arc<Verified>> {
        self.sessions.get(&session_of(verified)?)
    }
}

/// A name for issuer, subject and session together: a session id is its issuer's, and nobody may prolong another's streams by it.
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
