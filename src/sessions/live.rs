//! A session in the memory of this process.
//!
//! Decides:  until when a session may be used by what is known here. Trusts: the record it was made from.
//! Not here: finding one (`lookup`), and renewing its tokens (`renew`).
//!
//! It does not change: what is learned makes another one, in whose place it is remembered. Only what this process alone knows is shared
//! between the two ([`Known`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use hyper::header::HeaderValue;
use tokio::sync::Mutex;

use super::record::{InnerTokens, Session, SessionName};
use crate::clock;
use crate::policy;
use crate::revocation::list::CleanAt;
use crate::store::Version;
use crate::tokens::{Proof, Verified};

/// How often the use of a session is noted at most.
const TOUCH: Duration = Duration::from_secs(60);

/// A session, what is known of it here, and which version of its record that is.
pub struct Live {
    pub(super) name: SessionName,
    pub(super) session: Session,
    pub(super) version: Version,
    pub(super) known: Arc<Known>,
    proven: ArcSwapOption<Proven>,
}

/// What this process knows of a session, from when it came into memory on.
pub(super) struct Known {
    /// Since when.
    since: Instant,
    /// When it was last found not to be revoked.
    clean: CleanAt,
    /// When it was last used, in Unix milliseconds: at most [`TOUCH`] older than the truth, and perhaps newer than the store.
    pub(super) touched: AtomicI64,
    /// Held while its tokens are renewed.
    pub(super) renewing: Mutex<()>,
    /// When its tokens were last tried to be renewed without anybody waiting for it, in Unix milliseconds.
    pub(super) tried: AtomicI64,
}

/// The access token of a session, verified.
pub struct Proven {
    /// The user.
    pub verified: Arc<Verified>,
    /// `Bearer` and the token, for an upstream that judges again.
    pub authorization: HeaderValue,
}

/// By whom a session is over, if it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Life {
    /// It may be used.
    Within,
    /// It went without a request for too long, as far as is known here.
    Idle,
    /// It has lived as long as it may.
    Over,
}

impl Live {
    /// One that comes into memory now.
    pub(super) fn new(name: SessionName, session: Session, version: Version) -> Self {
        let known = Known {
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
            known: Arc::new(known),
            proven: ArcSwapOption::empty(),
        }
    }

    /// The same session with what its record says now, of which tokens the newer ones count: they may not have reached the store.
    pub(super) fn followed_by(&self, record: Session, version: Version) -> Self {
        self.known
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
            known: self.known.clone(),
            proven: ArcSwapOption::new(proven),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &SessionName {
        &self.name
    }

    /// What is kept of it.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Its tokens; a record of a cookie without them is of no use.
    pub fn tokens(&self) -> Option<&InnerTokens> {
        self.session.tokens.as_ref()
    }

    /// Since when it is in the memory of this process.
    pub fn since(&self) -> Instant {
        self.known.since
    }

    /// When it was last found not to be revoked.
    pub fn clean(&self) -> &CleanAt {
        &self.known.clean
    }

    /// Its access token, if it was verified here.
    pub fn proven(&self) -> Option<Arc<Proven>> {
        self.proven.load_full()
    }

    /// Remembers that its access token was verified.
    pub fn prove(&self, proven: Arc<Proven>) {
        self.proven.store(Some(proven));
    }

    /// The proof that its access token was verified, by whomever.
    pub(super) fn proof(&self) -> Option<Proof> {
        let fresh = self
            .proven()
            .zip(self.tokens())
            .map(|(proven, tokens)| Proof::of(&proven.verified, tokens.access()));
        fresh.or_else(|| self.session.proof.clone())
    }

    /// Whether a verified token is one of this session.
    pub fn is_of(&self, verified: &Verified) -> bool {
        verified.issuer() == self.session.issuer
            && verified.subject() == self.session.subject
            && verified.session() == self.session.session.as_deref()
    }

    /// Whether it may be used at `now`, in Unix milliseconds.
    pub(super) fn life(&self, settings: &policy::sessions::Sessions, now: i64) -> Life {
        let touched = self.known.touched.load(Ordering::Relaxed);
        if now >= self.session.ends {
            Life::Over
        } else if now >= touched.saturating_add(millis(settings.idle)) {
            Life::Idle
        } else {
            Life::Within
        }
    }

    /// Until when it may be used if nobody uses it any more, in Unix seconds.
    pub fn until(&self, settings: &policy::sessions::Sessions) -> i64 {
        let touched = self.known.touched.load(Ordering::Relaxed);
        let idle = touched.saturating_add(millis(settings.idle));
        idle.min(self.session.ends).saturating_add(999) / 1000
    }

    /// Notes that it is used at `now`, if it is time to write that down. Of several that ask at once one is told so.
    pub(super) fn is_touch_due(&self, settings: &policy::sessions::Sessions, now: i64) -> bool {
        let last = self.known.touched.load(Ordering::Relaxed);
        let every = millis(TOUCH.min(settings.idle / 4));
        now >= last.saturating_add(every)
            && self
                .known
                .touched
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// A duration in milliseconds.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session.fmt(f)
    }
}

impl std::fmt::Debug for Proven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.verified.fmt(f)
    }
}
