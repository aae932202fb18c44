//! Ending sessions: they are revoked on every replica, then deleted.

use std::sync::Arc;

use crate::revocation::list::LEEWAY;
use crate::revocation::{Revocation, RevokeOutcome, Target};
use crate::sessions::index::Entry;
use crate::sessions::lookup::Sessions;
use crate::sessions::metrics::EndReason;
use crate::sessions::record::{Carrier, SessionName};
use crate::store::{Kind, Unreachable};

/// Identifies the session of a caller.
#[derive(Clone, Debug, Default)]
pub struct OwnSession {
    /// The name of the session of its cookie.
    pub cookie: Option<SessionName>,
    /// The `session_id` of its token.
    pub session: Option<String>,
}

/// Selects sessions of a user.
#[derive(Clone, Debug)]
pub enum SessionSelection {
    /// The caller's own, whether it is listed or not.
    Own(OwnSession),
    /// The one of this name, if it is listed.
    One(SessionName),
    /// All except the caller's own.
    Others(OwnSession),
    /// All of them.
    All,
}

/// How many sessions ended, and where.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EndedSessions {
    /// How many listed sessions.
    pub sessions: usize,
    /// Whether every replica refuses them within a second. If not, this replica does, and the
    /// others will when the store answers.
    pub propagated: bool,
}

impl OwnSession {
    pub(super) fn is(&self, entry: &Entry) -> bool {
        let by_cookie = self.cookie.as_ref() == Some(&entry.name);
        let by_token = self.session.is_some() && self.session == entry.session;
        by_cookie || by_token
    }
}

impl SessionSelection {
    /// Whether it selects this listed session.
    fn selects(&self, entry: &Entry) -> bool {
        match self {
            Self::One(name) => entry.name == *name,
            Self::Own(own) => own.is(entry),
            Self::Others(own) => !own.is(entry),
            Self::All => true,
        }
    }
}

impl Sessions {
    /// Ends sessions of a user: revokes them on every replica, and deletes them. The caller must
    /// end them at the identity server.
    ///
    /// # Errors
    ///
    /// The index could not be read from the store, or the revocation list is full. What was
    /// revoked stays revoked.
    pub async fn end(
        self: &Arc<Self>,
        issuer: &str,
        subject: &str,
        which: SessionSelection,
    ) -> Result<EndedSessions, Unreachable> {
        let (sessions, issuer, subject) = (self.clone(), issuer.to_owned(), subject.to_owned());
        let end = async move { sessions.end_here(&issuer, &subject, which).await };
        let ended = self.background.spawn(end).await;
        ended.unwrap_or(Err(Unreachable::Answer))
    }

    async fn end_here(
        &self,
        issuer: &str,
        subject: &str,
        which: SessionSelection,
    ) -> Result<EndedSessions, Unreachable> {
        let mut revoked = Vec::new();
        let broad = match &which {
            SessionSelection::One(_) => None,
            SessionSelection::Own(own) => own
                .session
                .as_ref()
                .map(|session| self.session_revocation(issuer, subject, session)),
            SessionSelection::Others(own) => {
                Some(self.subject_revocation(issuer, subject, own.session.clone()))
            }
            SessionSelection::All => Some(self.subject_revocation(issuer, subject, None)),
        };
        if let Some(broad) = broad {
            revoked.push(self.revocations.revoke(broad).await);
        }
        let mut entries = self
            .take_entries(issuer, subject, |entry| which.selects(entry))
            .await?;
        if let SessionSelection::Own(own) = &which {
            entries.extend(self.unlisted(own, &entries));
        }
        for entry in &entries {
            revoked.push(
                self.end_entry(issuer, subject, entry, EndReason::Logout)
                    .await,
            );
        }
        let failed =
            |one: &RevokeOutcome| matches!(one, RevokeOutcome::Full | RevokeOutcome::Stopped);
        if revoked.iter().any(failed) {
            return Err(Unreachable::Full);
        }
        Ok(EndedSessions {
            sessions: entries.len(),
            propagated: revoked.iter().all(|one| *one == RevokeOutcome::Stored),
        })
    }

    /// The session of the caller's cookie, if the user's index lost it. It must end, too.
    fn unlisted(&self, own: &OwnSession, listed: &[Entry]) -> Option<Entry> {
        let name = own.cookie?;
        let is_listed = listed.iter().any(|entry| entry.name == name);
        let live = self.remembered(&name).filter(|_| !is_listed)?;
        Some(Entry::of(name, live.session()))
    }

    /// Revokes and deletes a session that was removed from the index.
    pub(in crate::sessions) async fn end_entry(
        &self,
        issuer: &str,
        subject: &str,
        entry: &Entry,
        why: EndReason,
    ) -> RevokeOutcome {
        let revocation = self.entry_revocation(issuer, subject, entry, why);
        let revoked = match revocation {
            Some(revocation) => self.revocations.revoke(revocation).await,
            None => RevokeOutcome::Stored,
        };
        self.forget(&entry.name);
        self.unstored.forget(&entry.name);
        // If the record stays, it is revoked all the same.
        let _ = self.store.remove(Kind::Session, &entry.name).await;
        self.metrics.ended(entry.carrier, why);
        revoked
    }

    /// What must be revoked so that a session ends for this reason; `None` if nothing must be.
    fn entry_revocation(
        &self,
        issuer: &str,
        subject: &str,
        entry: &Entry,
        why: EndReason,
    ) -> Option<Revocation> {
        let now = (self.clock)();
        match (&entry.session, entry.carrier, why) {
            // The session of the identity server continues under another name, or nobody has its
            // tokens.
            (_, Carrier::Cookie, EndReason::Replaced) | (None, Carrier::Cookie, _) => {
                let what = Target::Token {
                    sha256: entry.name,
                    issuer: Some(issuer.to_owned()),
                    session: entry.session.clone(),
                    subject: Some(subject.to_owned()),
                };
                let expires = (entry.ends / 1000 + 1).max(now / 1000 + REPLACED);
                Some(Revocation::new(what, now, expires))
            }
            (_, Carrier::Bearer, EndReason::Replaced) | (None, Carrier::Bearer, _) => None,
            (Some(session), _, _) => Some(self.session_revocation(issuer, subject, session)),
        }
    }

    /// The revocation of one session of the identity server.
    fn session_revocation(&self, issuer: &str, subject: &str, session: &str) -> Revocation {
        let now = (self.clock)();
        let what = Target::Session {
            issuer: issuer.to_owned(),
            session: session.to_owned(),
            subject: Some(subject.to_owned()),
        };
        Revocation::new(what, now, now / 1000 + self.settings.load().remembers)
    }

    /// The revocation of everything a user signed in to until now. The list adds [`LEEWAY`] for
    /// clock differences, which would also refuse a user who signs in again at once. It is
    /// subtracted here: sessions that began here are also revoked one by one.
    fn subject_revocation(
        &self,
        issuer: &str,
        subject: &str,
        except: Option<String>,
    ) -> Revocation {
        let now = (self.clock)();
        let what = Target::Subject {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            not_before: now / 1000 - LEEWAY - 1,
            except: except.into_iter().collect(),
            strict: false,
        };
        Revocation::new(what, now, now / 1000 + self.settings.load().remembers)
    }
}

/// How long a replaced cookie stays revoked at least, in seconds, even if its session has ended: as
/// long as a response to it may be under way, which must not delete the new cookie. A choice.
pub(super) const REPLACED: i64 = 300;
