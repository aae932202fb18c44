//! The revocation list as requests query it.
//!
//! A token that was seen before costs one load: it remembers the generation of the list at which it
//! was found clean ([`CleanAt`]), and is looked up again only after the list has grown. There is no
//! global lock; a look-up locks one shard of a map for reading.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use dashmap::DashMap;
use serde_json::{Map, Value};

use super::exemption::Exemption;
use super::target::{Kind, Revocation, Target, bucket_of, canonical_id, widened};
use crate::secrets::digest::Digest;

/// Clock difference in seconds to allow for between the identity server and whoever revokes. A
/// sign-in that close after a revocation is refused, too, unless it came through the gateway.
pub const LEEWAY: i64 = 5;

/// The revocation list.
#[derive(Debug)]
pub struct List {
    tokens: DashMap<Digest, i64>,
    sessions: DashMap<Box<str>, i64>,
    subjects: DashMap<Box<str>, Vec<NotBefore>>,
    issuers: DashMap<Box<str>, Vec<NotBefore>>,
    buckets: DashMap<Box<str>, Vec<NotBefore>>,
    /// Every number of bits that a bucket here had so far, as bits of this number.
    bucket_bits: AtomicU32,
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
    /// When the session began through the gateway, in Unix milliseconds, if that is known.
    pub begun: Option<i64>,
    /// By how many seconds the issuer's clock may be ahead of this one: the leeway of its entry.
    pub leeway: i64,
}

/// The entry that refuses a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hit {
    /// The kind of the entry.
    pub kind: Kind,
    /// The token is good after all if its session began through the gateway later than this, in
    /// Unix milliseconds. `None`: it is refused whenever it began.
    pub unless_begun_after: Option<i64>,
}

/// Refuses sign-ins up to a time.
#[derive(Clone, Debug, Eq, PartialEq)]
struct NotBefore {
    time: i64,
    except: Vec<Exemption>,
    strict: bool,
    expires: i64,
    /// When it was received, in Unix milliseconds: sessions that began through the gateway later
    /// are exempt. `None`: no session is.
    received_at: Option<i64>,
}

/// Whether an entry refuses a token.
enum Verdict {
    Passes,
    Refuses,
    /// See [`Hit::unless_begun_after`].
    RefusesUnlessBegunAfter(i64),
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
            buckets: DashMap::new(),
            bucket_bits: AtomicU32::new(0),
            generation: AtomicU64::new(1),
        }
    }

    /// Increases with every revocation; the first is 1.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The entry that revokes a token at `now`, in Unix seconds. A clean token is not looked up
    /// again until the list grows.
    pub fn find(&self, clean: &CleanAt, listed: Listed<'_>, now: i64) -> Option<Hit> {
        // Read before the look-up, so that a concurrent revocation is found by the next one.
        let generation = self.generation();
        if clean.0.load(Ordering::Relaxed) == generation {
            return None;
        }
        let found = self.look_up(&listed, now);
        if found.is_none() {
            clean.0.store(generation, Ordering::Relaxed);
        }
        found
    }

    fn look_up(&self, listed: &Listed<'_>, now: i64) -> Option<Hit> {
        let (issuer, subject) = (listed.issuer, listed.subject);
        let lives = |expires: i64| now < expires;
        let always = |kind| Hit {
            kind,
            unless_begun_after: None,
        };
        if self
            .tokens
            .get(listed.token)
            .is_some_and(|expires| lives(*expires))
        {
            return Some(always(Kind::Token));
        }
        if listed
            .session
            .and_then(|session| self.sessions.get(&*key(issuer, session)))
            .is_some_and(|expires| lives(*expires))
        {
            return Some(always(Kind::Session));
        }
        let subject_hit = self.subjects.get(&*key(issuer, subject));
        let subject_hit = subject_hit.and_then(|found| hit(Kind::Subject, &found, listed, now));
        let is_final = |hit: Hit| hit.unless_begun_after.is_none() && hit.kind != Kind::Token;
        if subject_hit.is_some_and(is_final) {
            return subject_hit;
        }
        let issuer_hit = self.issuers.get(issuer);
        let issuer_hit = issuer_hit.and_then(|found| hit(Kind::Issuer, &found, listed, now));
        let bucket_hit = || self.bucket_hit(listed, now);
        issuer_hit.or_else(|| stricter(subject_hit, bucket_hit()))
    }

    fn bucket_hit(&self, listed: &Listed<'_>, now: i64) -> Option<Hit> {
        let used = self.bucket_bits.load(Ordering::Acquire);
        if used == 0 {
            return None;
        }
        let bucket = bucket_of(listed.issuer, listed.subject);
        let mut found = None;
        for bits in (0..=16_u8).filter(|bits| used & (1 << bits) != 0) {
            let key = bucket_key(listed.issuer, bits, widened(bucket, 16, bits));
            let entries = self.buckets.get(&*key);
            let one = entries.and_then(|entries| hit(Kind::Bucket, &entries, listed, now));
            found = stricter(found, one);
        }
        found
    }

    /// Whether the list has an entry for this very token or cookie at `now`, in Unix seconds.
    pub fn names_token(&self, token: &Digest, now: i64) -> bool {
        self.tokens.get(token).is_some_and(|expires| now < *expires)
    }

    /// The number of entries of each kind, in the order of [`Kind::ALL`]: of users, issuers and
    /// buckets that have any.
    pub fn count(&self) -> [usize; Kind::ALL.len()] {
        [
            self.tokens.len(),
            self.sessions.len(),
            self.subjects.len(),
            self.issuers.len(),
            self.buckets.len(),
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
            Target::Bucket {
                issuer,
                bits,
                prefix,
                ..
            } => {
                let key = bucket_key(issuer, *bits, *prefix);
                insert_into(&mut self.buckets.entry(key).or_default(), revocation);
                let used = 1_u32.checked_shl((*bits).into()).unwrap_or(0);
                self.bucket_bits.fetch_or(used, Ordering::Release);
            }
            // It refuses nothing.
            Target::Undone { .. } => return,
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Removes a revocation that has expired, was replaced by a wider one, or was undone.
    pub fn remove(&self, revocation: &Revocation) {
        match &revocation.target {
            Target::Token { sha256, .. } => drop(self.tokens.remove(sha256)),
            Target::Session {
                issuer, session, ..
            } => drop(self.sessions.remove(&*key(issuer, session))),
            Target::Subject {
                issuer, subject, ..
            } => remove_from(&self.subjects, &key(issuer, subject), revocation),
            Target::Issuer { issuer, .. } => remove_from(&self.issuers, issuer, revocation),
            Target::Bucket {
                issuer,
                bits,
                prefix,
                ..
            } => {
                let key = bucket_key(issuer, *bits, *prefix);
                remove_from(&self.buckets, &key, revocation);
            }
            Target::Undone { .. } => {}
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
        let received_at = Some(revocation.received_at);
        let (time, except, strict, received_at) = match &revocation.target {
            Target::Token { .. } | Target::Session { .. } | Target::Undone { .. } => return None,
            Target::Subject {
                not_before,
                except,
                strict,
                ..
            } => {
                let except = except.iter().map(|text| Exemption::from_text(text));
                (*not_before, except.collect(), *strict, received_at)
            }
            Target::Bucket {
                not_before, strict, ..
            } => (*not_before, Vec::new(), *strict, received_at),
            Target::Issuer { not_before, .. } => (*not_before, Vec::new(), false, None),
        };
        Some(Self {
            time,
            except,
            strict,
            expires: revocation.expires,
            received_at,
        })
    }

    fn same(&self, other: &Self) -> bool {
        self.time == other.time && self.strict == other.strict && self.except == other.except
    }

    /// Whether it refuses single tokens, and not their sessions.
    fn is_of_tokens(&self) -> bool {
        self.except.contains(&Exemption::IssuedLater)
    }

    fn verdict(&self, listed: &Listed<'_>) -> Verdict {
        let session = listed.session.map(canonical_id);
        let covers = |one: &Exemption| one.covers(session.as_deref(), listed.claims, self.time);
        let leeway = listed.leeway.max(LEEWAY);
        if self.except.iter().any(covers)
            || began(listed.claims, self.strict) > self.time.saturating_add(leeway)
        {
            return Verdict::Passes;
        }
        if self.is_of_tokens() {
            return Verdict::Refuses;
        }
        // A sign-in before that, by any clock in the leeway, cannot have been after the revocation,
        // whatever the clock of the replica said at which it began.
        let is_recent = began(listed.claims, false) >= self.time.saturating_sub(leeway);
        let Some(received_at) = self.received_at.filter(|_| is_recent) else {
            return Verdict::Refuses;
        };
        match listed.begun {
            Some(begun) if begun > received_at => Verdict::Passes,
            None if listed.session.is_some() => Verdict::RefusesUnlessBegunAfter(received_at),
            Some(_) | None => Verdict::Refuses,
        }
    }
}

/// The hit among the entries of one user, issuer or bucket, at `now` in Unix seconds.
fn hit(kind: Kind, entries: &[NotBefore], listed: &Listed<'_>, now: i64) -> Option<Hit> {
    let live = entries.iter().filter(|entry| now < entry.expires);
    let hits = live.map(|entry| match entry.verdict(listed) {
        Verdict::Passes => None,
        Verdict::Refuses => Some(Hit {
            kind: if entry.is_of_tokens() {
                Kind::Token
            } else {
                kind
            },
            unless_begun_after: None,
        }),
        Verdict::RefusesUnlessBegunAfter(time) => Some(Hit {
            kind,
            unless_begun_after: Some(time),
        }),
    });
    hits.fold(None, stricter)
}

/// Of two hits, the one that exempts less.
fn stricter(one: Option<Hit>, other: Option<Hit>) -> Option<Hit> {
    let (Some(first), Some(second)) = (one, other) else {
        return one.or(other);
    };
    let is_second = match (first.unless_begun_after, second.unless_begun_after) {
        // The end of a session outweighs that of a token.
        (None, None) => first.kind == Kind::Token,
        (None, Some(_)) => false,
        (Some(_), None) => true,
        (Some(first), Some(second)) => second > first,
    };
    Some(if is_second { second } else { first })
}

fn insert_into(entries: &mut Vec<NotBefore>, revocation: &Revocation) {
    let Some(entry) = NotBefore::of(revocation) else {
        return;
    };
    match entries.iter_mut().find(|old| old.same(&entry)) {
        Some(old) => {
            old.expires = old.expires.max(entry.expires);
            old.received_at = old.received_at.max(entry.received_at);
        }
        None => entries.push(entry),
    }
}

fn remove_from(map: &DashMap<Box<str>, Vec<NotBefore>>, key: &str, revocation: &Revocation) {
    if let Some(entry) = NotBefore::of(revocation)
        && let Some(mut entries) = map.get_mut(key)
    {
        entries.retain(|one| !one.same(&entry));
    }
    map.remove_if(key, |_, left| left.is_empty());
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
pub(super) fn seconds(value: &Value) -> Option<i64> {
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

/// Issuer and bucket in one key. The issuer is last, so no two buckets have the same key.
fn bucket_key(issuer: &str, bits: u8, prefix: u16) -> Box<str> {
    format!("{bits}:{prefix}:{issuer}").into_boxed_str()
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
