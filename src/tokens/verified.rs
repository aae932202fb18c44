//! A verified user: the result of a verification, and the entry and key that made it.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hyper::header::HeaderValue;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::claims::Facts;
use crate::clock;
use crate::line::{Members, text_key};
use crate::revocation::{CleanAt, Listed, Revocation};
use crate::secrets::digest::Digest;
use crate::secrets::secret::Secret;

/// A user, as an issuer described them. Only [`Tokens::verify`](super::Tokens::verify) makes one,
/// and it never changes.
pub struct Verified {
    issuer: Arc<str>,
    pub(super) facts: Facts,
    pub(super) claims: Map<String, Value>,
    /// The digest of the signed part, by which the token is revoked.
    signed: Digest,
    pub(super) origin: Origin,
    clean: CleanAt,
    since: Instant,
    presented: AtomicBool,
    encoded: Encoded,
    /// A hash of issuer and subject.
    subject_hash: u64,
}

/// The user in log lines and header fields, encoded once, since most tokens are presented many
/// times.
struct Encoded {
    members: Members,
    subject: Option<HeaderValue>,
    session: Option<HeaderValue>,
}

/// The entry and the key that verified a token. The cached token is valid only while they are in
/// force.
pub(super) struct Origin {
    /// The issuer entry.
    pub(super) entry: Digest,
    /// The key.
    pub(super) key: Digest,
    /// The content of the key set at that time.
    pub(super) set: Digest,
    /// The `kid` that chose the key.
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
}

impl Encoded {
    fn of(issuer: &str, facts: &Facts) -> Self {
        // As bytes, so that text that is not ASCII is allowed.
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
    /// Revokes this token, whose text is `token`, until it expires. A token that names no session
    /// is the whole of its session.
    pub fn revocation(&self, token: &Secret) -> Revocation {
        Revocation::of_bearer(token, self.issuer(), self.subject(), self.accepted_until())
    }

    pub(super) fn new(
        issuer: &Arc<str>,
        facts: Facts,
        claims: Map<String, Value>,
        signed: Digest,
        origin: Origin,
    ) -> Self {
        Self {
            encoded: Encoded::of(issuer, &facts),
            subject_hash: subject_hash(issuer, &facts.subject),
            issuer: Arc::clone(issuer),
            facts,
            claims,
            signed,
            origin,
            clean: CleanAt::default(),
            since: clock::now(),
            presented: AtomicBool::new(false),
        }
    }

    /// Issuer, subject and session as members of a log line.
    pub(crate) fn members(&self) -> &Members {
        &self.encoded.members
    }

    /// The subject as a field value; `None` if it has bytes that a field may not have.
    pub(crate) fn subject_field(&self) -> Option<&HeaderValue> {
        self.encoded.subject.as_ref()
    }

    /// The session as a field value; likewise.
    pub(crate) fn session_field(&self) -> Option<&HeaderValue> {
        self.encoded.session.as_ref()
    }

    /// `iss`, as configured.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `sub`: never empty, and unique only together with the issuer.
    pub fn subject(&self) -> &str {
        &self.facts.subject
    }

    /// A hash of issuer and subject, by which what one user holds is counted. Issuers choose
    /// subjects, so no user finds another one with the same hash.
    pub(crate) fn subject_hash(&self) -> u64 {
        self.subject_hash
    }

    /// `session_id`, if it is there and not empty.
    pub fn session(&self) -> Option<&str> {
        self.facts.session.as_deref()
    }

    /// Whether another token is of the same session, or without sessions, of the same user.
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

    /// When its signature was checked here: the first time it was seen, or the first time after it
    /// was evicted from the cache.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The application of a third party that the token was issued to, `client_id`, unless its entry
    /// says that it may act as the user everywhere.
    pub fn client(&self) -> Option<&str> {
        self.facts.client.as_deref()
    }

    /// Whether this is the first call: a client presents the token for the first time since its
    /// signature was checked here.
    pub(crate) fn is_first_presented(&self) -> bool {
        !self.presented.swap(true, Ordering::Relaxed)
    }

    /// `exp`, in Unix seconds.
    pub fn expires(&self) -> i64 {
        self.facts.expires
    }

    /// The end of its acceptance in Unix seconds: `exp` plus the leeway of its issuer.
    pub fn accepted_until(&self) -> i64 {
        self.facts.valid.until()
    }

    /// The properties that the revocation list compares.
    pub fn listed(&self) -> Listed<'_> {
        Listed {
            token: &self.signed,
            issuer: self.issuer(),
            subject: self.subject(),
            session: self.session(),
            claims: &self.claims,
            begun: None,
            leeway: self.facts.valid.leeway(self.facts.expires),
        }
    }

    /// The generation of the revocation list at which it was last found clean.
    pub fn clean(&self) -> &CleanAt {
        &self.clean
    }

    /// The whole payload.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
}

fn subject_hash(issuer: &str, subject: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (issuer, subject).hash(&mut hasher);
    hasher.finish()
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Subject, session and claims belong to the user, and not into a log.
        f.debug_struct("Verified")
            .field("issuer", &self.issuer)
            .field("aal", &self.facts.aal)
            .field("anonymous", &self.facts.anonymous)
            .field("expires", &self.facts.expires)
            .finish_non_exhaustive()
    }
}
