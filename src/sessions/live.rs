//! A session in the memory of this process.
//!
//! It is immutable: new information makes another value that replaces it in the cache. Both share
//! what only this process knows ([`LocalState`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use hyper::header::HeaderValue;
use tokio::sync::{Mutex, MutexGuard};

use super::record::{InnerTokens, Session, SessionName};
use crate::clock;
use crate::policy;
use crate::revocation::list::CleanAt;
use crate::store::Version;
use crate::tokens::{Proof, Verified};

/// How often the use of a session is recorded at most.
const TOUCH: Duration = Duration::from_secs(60);

/// A session, the version of its record, and what this process knows about it.
pub struct CachedSession {
    pub(super) name: SessionName,
    pub(super) session: Session,
    pub(super) version: Version,
    pub(super) local: Arc<LocalState>,
    proven: ArcSwapOption<VerifiedAccess>,
}

/// What this process knows about a session since it was cached.
pub(super) struct LocalState {
    /// When it was cached.
    since: Instant,
    /// When it was last checked against the revocation list.
    clean: CleanAt,
    /// When it was last used, in Unix milliseconds: at most [`TOUCH`] too old, and possibly newer
    /// than the record.
    pub(super) touched: AtomicI64,
    /// Held while its tokens are renewed.
    pub(super) renewing: Mutex<()>,
    /// When the last renewal in the background began, in Unix milliseconds.
    pub(super) tried: AtomicI64,
}

/// The access token of a session, verified.
pub struct VerifiedAccess {
    /// The verified claims.
    pub verified: Arc<Verified>,
    /// `Bearer` and the token, for an upstream that verifies it again.
    pub authorization: HeaderValue,
}

/// Whether a session may be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Validity {
    /// It may be used.
    Valid,
    /// It was idle for too long, as far as this process knows.
    Idle,
    /// It has reached its lifetime.
    Ended,
}

impl CachedSession {
    /// A session that is cached now.
    pub(super) fn new(name: SessionName, session: Session, version: Version) -> Self {
        let local = LocalState {
            since: clock::now(),
            clean: CleanAt::default(),
            touched: AtomicI64::new(session.touched),
            renewing: Mutex::new(()),
            tried: AtomicI64::new(0),
        };
        Self {
            name,
            session,
            version,
            local: Arc::new(local),
            proven: ArcSwapOption::empty(),
        }
    }

    /// The same session with a newer record. Its own tokens stay if they are newer than those of
    /// the record, which may not have been stored yet.
    pub(super) fn followed_by(&self, record: Session, version: Version) -> Self {
        self.local
            .touched
            .fetch_max(record.touched, Ordering::Relaxed);
        let is_behind = record.renewed < self.session.renewed;
        let session = match is_behind {
            true => Session {
                tokens: self.session.tokens.clone(),
                proof: self.session.proof.clone(),
                renewed: self.session.renewed,
                ..record
            },
            false => record,
        };
        let same_token = session.renewed == self.session.renewed;
        let proven = self.proven.load_full().filter(|_| same_token);
        Self {
            name: self.name,
            session,
            version,
            local: self.local.clone(),
            proven: ArcSwapOption::new(proven),
        }
    }

    /// The name of the session on all replicas.
    pub fn name(&self) -> &SessionName {
        &self.name
    }

    /// The record, with the newest tokens.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The tokens of the identity server. A cookie session without them cannot be used.
    pub fn tokens(&self) -> Option<&InnerTokens> {
        self.session.tokens.as_ref()
    }

    /// When this process cached it.
    pub fn since(&self) -> Instant {
        self.local.since
    }

    /// When it was last checked against the revocation list.
    pub fn clean(&self) -> &CleanAt {
        &self.local.clean
    }

    /// Keeps this process from renewing the tokens until it is dropped: an operation is under way
    /// that may give new ones.
    pub async fn renewal_turn(&self) -> MutexGuard<'_, ()> {
        self.local.renewing.lock().await
    }

    /// The access token, if this process has verified it.
    pub fn proven(&self) -> Option<Arc<VerifiedAccess>> {
        self.proven.load_full()
    }

    /// Records that the access token was verified.
    pub fn prove(&self, proven: Arc<VerifiedAccess>) {
        self.proven.store(Some(proven));
    }

    /// The proof that some replica verified the access token.
    pub(super) fn proof(&self) -> Option<Proof> {
        let fresh = self
            .proven()
            .zip(self.tokens())
            .map(|(proven, tokens)| Proof::of(&proven.verified, tokens.access()));
        fresh.or_else(|| self.session.proof.clone())
    }

    /// Whether a verified token belongs to this session.
    pub fn is_of(&self, verified: &Verified) -> bool {
        verified.issuer() == self.session.issuer
            && verified.subject() == self.session.subject
            && verified.session() == self.session.session.as_deref()
    }

    /// Whether it may be used at `now`, in Unix milliseconds.
    pub(super) fn validity(&self, settings: &policy::sessions::Sessions, now: i64) -> Validity {
        let touched = self.local.touched.load(Ordering::Relaxed);
        if now >= self.session.ends {
            Validity::Ended
        } else if now >= touched.saturating_add(millis(settings.idle)) {
            Validity::Idle
        } else {
            Validity::Valid
        }
    }

    /// When it ends without further use, in Unix seconds.
    pub fn until(&self, settings: &policy::sessions::Sessions) -> i64 {
        let touched = self.local.touched.load(Ordering::Relaxed);
        let idle = touched.saturating_add(millis(settings.idle));
        idle.min(self.session.ends).saturating_add(999) / 1000
    }

    /// Whether its use at `now` must be written to the store. Of concurrent calls only one returns
    /// true.
    pub(super) fn is_touch_due(&self, settings: &policy::sessions::Sessions, now: i64) -> bool {
        let last = self.local.touched.load(Ordering::Relaxed);
        let every = millis(TOUCH.min(settings.idle / 4));
        now >= last.saturating_add(every)
            && self
                .local
                .touched
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// A duration in milliseconds.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl std::fmt::Debug for CachedSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session.fmt(f)
    }
}

impl std::fmt::Debug for VerifiedAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.verified.fmt(f)
    }
}
