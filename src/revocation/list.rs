//! The revocation list as requests query it.
//!
//! A token that was seen before costs one load: it remembers the generation of the list at which it
//! was found clean ([`CleanAt`]), and is looked up again only after the list has grown. There is no
//! global lock; a look-up locks one shard of a map for reading.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use serde_json::{Map, Value};

use super::target::{Kind, Revocation, Target, canonical_id};
use crate::secrets::digest::Digest;

/// Clock difference in seconds to allow for between the identity server and whoever revokes. A
/// sign-in that close after a revocation is refused, too.
pub const LEEWAY: i64 = 5;

/// The revocation list.
#[derive(Debug)]
pub struct List {
    tokens: DashMap<Digest, i64>,
    sessions: DashMap<Box<str>, i64>,
    subjects: DashMap<Box<str>, Vec<NotBefore>>,
    issuers: DashMap<Box<str>, Vec<NotBefore>>,
    generation: AtomicU64,
}

/// The generation of the list at which a token was found clean; 0 is never.
#[derive(Debug, Default)]
pub struct CleanAt(AtomicU64);

/// What the list compares with its entries.
#[derive(Clone, Copy)]
pub struct Listed<'a> {
    /// See [`token_digest`](super::token_digest).
    pub token: &'a Digest,
    /// `iss`.
    pub issuer: &'a str,
    /// `sub`.
    pub subject: &'a str,
    /// `session_id`.
    pub session: Option<&'a str>,
    /// The payload: `amr` and `iat` matter when the subject or issuer is in the list.
    pub claims: &'a Map<String, Value>,
}

/// Refuses sign-ins up to a time.
#[derive(Clone, Debug, Eq, PartialEq)]
struct NotBefore {
    time: i64,
    except: Vec<String>,
    strict: bool,
    expires: i64,
}

/// Shows nothing of the user: claims do not belong into a log.
impl fmt::Debug for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listed")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl List {
    /// An empty list.
    pub fn new() -> Self {
        Self {
            tokens: DashMap::new(),
            sessions: DashMap::new(),
            subjects: DashMap::new(),
            issuers: DashMap::new(),
            generation: AtomicU64::new(1),
        }
    }

    /// Increases with every revocation; the first is 1.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The kind of entry that revokes a token at `now`, in Unix seconds. A clean token is not
    /// looked up again until the list grows.
    pub fn find(&self, clean: &CleanAt, listed: Listed<'_>, now: i64) -> Option<Kind> {
        // Read before the look-up, so that a concurrent revocation is found by the next one.
        let generation = self.generation();
        if clean.0.load(Ordering::Relaxed) == generation {
            return None;
        }
        let found = self.look_up(listed, now);
        if found.is_none() {
            clean.0.store(generation, Ordering::Relaxed);
        }
        found
    }

    fn look_up(&self, listed: Listed<'_>, now: i64) -> Option<Kind> {
        let Listed {
            token,
            issuer,
            subject,
            session,
            claims,
        } = listed;
        let lives = |expires: i64| now < expires;
        if self
            .tokens
            .get(token)
            .is_some_and(|expires| lives(*expires))
        {
            return Some(Kind::Token);
        }
        if session
            .and_then(|session| self.sessions.get(&*key(issuer, session)))
            .is_some_and(|expires| lives(*expires))
        {
            return Some(Kind::Session);
        }
        let refuses = |entries: &[NotBefore]| {
            entries
                .iter()
                .any(|entry| lives(entry.expires) && entry.refuses(session, claims))
        };
        if self
            .subjects
            .get(&*key(issuer, subject))
            .is_some_and(|entries| refuses(&entries))
        {
            return Some(Kind::Subject);
        }
        self.issuers
            .get(issuer)
            .is_some_and(|entries| refuses(&entries))
            .then_some(Kind::Issuer)
    }

    /// Whether the list has an entry for this very token or cookie at `now`, in Unix seconds.
    pub fn names_token(&self, token: &Digest, now: i64) -> bool {
        self.tokens.get(token).is_some_and(|expires| now < *expires)
    }

    /// The number of entries of each kind, in the order of [`Kind::ALL`].
    pub fn count(&self) -> [usize; Kind::ALL.len()] {
        [
            self.tokens.len(),
            self.sessions.len(),
            self.subjects.len(),
            self.issuers.len(),
        ]
    }

    /// Adds a revocation. It applies to every request from the return of this call.
    pub fn insert(&self, revocation: &Revocation) {
        let expires = revocation.expires;
        let later = |old: &mut i64| *old = expires.max(*old);
        match &revocation.target {
            Target::Token { sha256, .. } => {
                self.tokens
                    .entry(*sha256)
                    .and_modify(later)
                    .or_insert(expires);
            }
            Target::Session {
                issuer, session, ..
            } => {
                self.sessions
                    .entry(key(issuer, session))
                    .and_modify(later)
                    .or_insert(expires);
            }
            Target::Subject {
                issuer, subject, ..
            } => insert_into(
                &mut self.subjects.entry(key(issuer, subject)).or_default(),
                revocation,
            ),
            Target::Issuer { issuer, .. } => insert_into(
                &mut self.issuers.entry(issuer.as_str().into()).or_default(),
                revocation,
            ),
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Removes a revocation that has expired or was replaced by a wider one.
    pub fn remove(&self, revocation: &Revocation) {
        let others = |entries: &mut Vec<NotBefore>| {
            if let Some(entry) = NotBefore::of(revocation) {
                entries.retain(|one| !one.same(&entry));
            }
        };
        match &revocation.target {
            Target::Token { sha256, .. } => drop(self.tokens.remove(sha256)),
            Target::Session {
                issuer, session, ..
            } => drop(self.sessions.remove(&*key(issuer, session))),
            Target::Subject {
                issuer, subject, ..
            } => {
                let key = key(issuer, subject);
                if let Some(mut entries) = self.subjects.get_mut(&*key) {
                    others(&mut entries);
                }
                self.subjects.remove_if(&*key, |_, left| left.is_empty());
            }
            Target::Issuer { issuer, .. } => {
                if let Some(mut entries) = self.issuers.get_mut(issuer.as_str()) {
                    others(&mut entries);
                }
                self.issuers
                    .remove_if(issuer.as_str(), |_, left| left.is_empty());
            }
        }
    }
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

impl NotBefore {
    fn of(revocation: &Revocation) -> Option<Self> {
        let (time, except, strict) = match &revocation.target {
            Target::Token { .. } | Target::Session { .. } => return None,
            Target::Subject {
                not_before,
                except,
                strict,
                ..
            } => (*not_before, except.clone(), *strict),
            Target::Issuer { not_before, .. } => (*not_before, Vec::new(), false),
        };
        Some(Self {
            time,
            except,
            strict,
            expires: revocation.expires,
        })
    }

    fn same(&self, other: &Self) -> bool {
        self.time == other.time && self.strict == other.strict && self.except == other.except
    }

    fn refuses(&self, session: Option<&str>, claims: &Map<String, Value>) -> bool {
        let session = session.map(canonical_id);
        let stays = session.is_some_and(|session| self.except.iter().any(|id| *id == session));
        !stays && began(claims, self.strict) <= self.time.saturating_add(LEEWAY)
    }
}

fn insert_into(entries: &mut Vec<NotBefore>, revocation: &Revocation) {
    let Some(entry) = NotBefore::of(revocation) else {
        return;
    };
    match entries.iter_mut().find(|old| old.same(&entry)) {
        Some(old) => old.expires = old.expires.max(entry.expires),
        None => entries.push(entry),
    }
}

/// The time of sign-in in Unix seconds: the earliest time in `amr`, which survives refreshes; else
/// `iat`, unless `only_sign_in`. A token with neither could be from any time.
fn began(claims: &Map<String, Value>, only_sign_in: bool) -> i64 {
    let issued = || {
        claims
            .get("iat")
            .and_then(seconds)
            .filter(|_| !only_sign_in)
            .unwrap_or(i64::MIN)
    };
    signed_in(claims).unwrap_or_else(issued)
}

/// The earliest time in `amr`, in Unix seconds.
pub(crate) fn signed_in(claims: &Map<String, Value>) -> Option<i64> {
    let methods = claims.get("amr").and_then(Value::as_array);
    let times = methods
        .into_iter()
        .flatten()
        .filter_map(|method| method.get("timestamp").and_then(seconds));
    times.min()
}

/// Whole seconds, rounded down: a fraction never makes a token younger.
fn seconds(value: &Value) -> Option<i64> {
    // The cast saturates, and JSON has no NaN.
    value
        .as_i64()
        .or_else(|| value.as_f64().map(|fraction| fraction.floor() as i64))
}

/// Issuer and id in one key. The length prefix keeps two pairs from having the same key; all
/// spellings of an id have the same one.
fn key(issuer: &str, id: &str) -> Box<str> {
    format!("{}:{issuer}{}", issuer.len(), canonical_id(id)).into_boxed_str()
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
