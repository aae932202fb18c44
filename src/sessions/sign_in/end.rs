//! Ending sessions: they are revoked on every replica, then deleted.

use std::sync::Arc;

use crate::revocation::{Exemption, Revocation, RevokeOutcome, Target};
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
    /// All of them, and the caller's own, whether it is listed or not.
    All(OwnSession),
    /// All whose tokens nothing here exempts. Only the tokens tell which these are, so all of them
    /// stay listed.
    TokensBut(Vec<Exemption>),
}

/// Why not all of the selected sessions have ended. What was revoked stays revoked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndError {
    /// The index could not be read from the store; what is known without it was revoked.
    Unreachable(Unreachable),
    /// The same, and nothing is known without it: nothing was revoked.
    Unknown(Unreachable),
    /// The revocation list did not take everything, so not even this replica refuses it. This is a
    /// defect.
    NotRevoked,
}

impl From<Unreachable> for EndError {
    fn from(why: Unreachable) -> Self {
        Self::Unreachable(why)
    }
}

/// How many sessions ended, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndedSessions {
    /// How many listed sessions.
    pub sessions: usize,
    /// Whether every replica refuses them within a second. If not, this replica does, and the
    /// others will when the store answers.
    pub propagated: bool,
    /// What was revoked, for [`Sessions::confirm_logout`].
    pub revoked: Vec<Revocation>,
}

/// Revocations on the way to [`EndedSessions`].
struct Ending {
    revoked: Vec<Revocation>,
    failed: bool,
    propagated: bool,
}

impl Default for Ending {
    fn default() -> Self {
        Self {
            revoked: Vec::new(),
            failed: false,
            propagated: true,
        }
    }
}

impl Ending {
    fn add(&mut self, revocation: Option<Revocation>, outcome: RevokeOutcome) {
        self.revoked.extend(revocation);
        self.failed |= matches!(outcome, RevokeOutcome::Full | RevokeOutcome::Stopped);
        self.propagated &= outcome == RevokeOutcome::Stored;
    }

    fn ended(self, sessions: usize) -> Result<EndedSessions, EndError> {
        match self.failed {
            true => Err(EndError::NotRevoked),
            false => Ok(EndedSessions {
                sessions,
                propagated: self.propagated,
                revoked: self.revoked,
            }),
        }
    }
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
            Self::All(_) => true,
            Self::TokensBut(_) => false,
        }
    }
}

impl Sessions {
    /// Ends sessions of a user: revokes them on every replica, and deletes them. The caller must
    /// end them at the identity server.
    ///
    /// # Errors
    ///
    /// Not everything was revoked, or the index could not be read; see [`EndError`].
    pub async fn end(
        self: &Arc<Self>,
        issuer: &str,
        subject: &str,
        which: SessionSelection,
    ) -> Result<EndedSessions, EndError> {
        let (sessions, issuer, subject) = (self.clone(), issuer.to_owned(), subject.to_owned());
        let end = async move { sessions.end_here(&issuer, &subject, which).await };
        let ended = self.background.spawn(end).await;
        ended.unwrap_or(Err(EndError::NotRevoked))
    }

    async fn end_here(
        &self,
        issuer: &str,
        subject: &str,
        which: SessionSelection,
    ) -> Result<EndedSessions, EndError> {
        let mut ending = Ending::default();
        for broad in self.broad_revocations(issuer, subject, &which) {
            let outcome = self.revocations.revoke(broad.clone()).await;
            ending.add(Some(broad), outcome);
        }
        if let SessionSelection::TokensBut(_) = &which {
            return ending.ended(0);
        }
        let taken = self
            .take_entries(issuer, subject, |entry| which.selects(entry))
            .await;
        let mut entries = match (taken, &which) {
            (Ok(entries), _) => entries,
            // Only the index knows what it is.
            (Err(why), SessionSelection::One(_)) => return Err(EndError::Unknown(why)),
            (Err(why), _) => return ending.ended(0).and(Err(why.into())),
        };
        if let SessionSelection::Own(own) | SessionSelection::All(own) = &which {
            entries.extend(self.unlisted(own, &entries));
        }
        for entry in &entries {
            let revocation = self.entry_revocation(issuer, subject, entry, EndReason::Logout);
            let outcome = self
                .end_with(entry, revocation.clone(), EndReason::Logout)
                .await;
            ending.add(revocation, outcome);
        }
        ending.ended(entries.len())
    }

    /// What is revoked before the user's index is read: the store may not answer.
    fn broad_revocations(
        &self,
        issuer: &str,
        subject: &str,
        which: &SessionSelection,
    ) -> Vec<Revocation> {
        let own_session = |own: &OwnSession| match &own.session {
            Some(session) => Some(self.session_revocation(issuer, subject, session)),
            None => {
                let entry = self.unlisted(own, &[])?;
                self.entry_revocation(issuer, subject, &entry, EndReason::Logout)
            }
        };
        match which {
            SessionSelection::One(_) => Vec::new(),
            SessionSelection::Own(own) => own_session(own).into_iter().collect(),
            SessionSelection::Others(own) => {
                let except = own.session.iter().cloned().collect();
                vec![self.subject_revocation(issuer, subject, except)]
            }
            SessionSelection::TokensBut(exempt) => {
                let exempt = exempt.iter().cloned().map(Exemption::into_text);
                vec![self.subject_revocation(issuer, subject, exempt.collect())]
            }
            // The own session by its id, too: it ends whatever its token says of its sign-in.
            SessionSelection::All(own) => {
                let everything = self.subject_revocation(issuer, subject, Vec::new());
                own_session(own).into_iter().chain([everything]).collect()
            }
        }
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
        self.end_with(entry, revocation, why).await
    }

    /// The same with a revocation that was made by [`Self::entry_revocation`].
    pub(in crate::sessions) async fn end_with(
        &self,
        entry: &Entry,
        revocation: Option<Revocation>,
        why: EndReason,
    ) -> RevokeOutcome {
        let revoked = match revocation {
            Some(revocation) => self.revocations.revoke(revocation).await,
            None => RevokeOutcome::Stored,
        };
        self.forget(&entry.name);
        self.unstored.forget(&entry.name);
        self.begun.note(entry.name, None);
        // If the record stays, it is revoked all the same.
        let _ = self.store.remove(Kind::Session, &entry.name).await;
        self.metrics.ended(entry.carrier, why);
        revoked
    }

    /// The identity server has ended the sessions of a logout. They get no further tokens, so what
    /// was revoked is kept only as long as a token lives.
    pub fn confirm_logout(&self, mut revoked: Vec<Revocation>) {
        revoked.retain(|one| matches!(one.target, Target::Session { .. } | Target::Subject { .. }));
        if revoked.is_empty() {
            return;
        }
        let expires = (self.clock)() / 1000 + self.settings.load().remembers_ended;
        self.revocations.shorten(revoked, expires);
    }

    /// What must be revoked so that a session ends for this reason; `None` if nothing must be.
    pub(in crate::sessions) fn entry_revocation(
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

    /// The revocation of everything a user signed in to until now, by any clock within the leeway
    /// of the list. Sessions that begin here later are exempt ([`Sessions::check`]).
    fn subject_revocation(&self, issuer: &str, subject: &str, except: Vec<String>) -> Revocation {
        let now = (self.clock)();
        let what = Target::Subject {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            not_before: now / 1000,
            except,
            strict: false,
        };
        Revocation::new(what, now, now / 1000 + self.settings.load().remembers)
    }
}

/// How long a replaced cookie stays revoked at least, in seconds, even if its session has ended: as
/// long as a response to it may be under way, which must not delete the new cookie. A choice.
pub(super) const REPLACED: i64 = 300;
