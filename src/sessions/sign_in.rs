//! Beginning, listing and ending sessions.
//!
//! Decides:  that a session has a fresh id, which sessions a new one pushes out, and in which order things end: refused first, then forgotten.
//! Trusts:   its caller to have asked the identity server who this is.
//! Not here: asking it, and ending the session there, too (`identity`).
//!
//! Whatever takes several steps goes on if nobody waits for it any more: an index without its sessions, or the reverse, would let somebody in
//! whom nobody can end.

use std::sync::Arc;

use hyper::header::HeaderValue;
use serde::Serialize;

use super::cookie::{self, Cookie};
use super::index::{Entry, Index};
use super::lookup::{ATTEMPTS, Sessions};
use super::metrics::Why;
use super::record::{Carrier, InnerTokens, Origin, Seen, Session, SessionName, of_bearer};
use crate::revocation::RevokeOutcome;
use crate::revocation::list::LEEWAY;
use crate::revocation::{Revocation, Target};
use crate::secrets::hex;
use crate::store::{Kind, Swap, Unreachable, Version};

/// How long it is remembered at least that a cookie was replaced, in seconds, though its session be long over: as long as an answer to it may be
/// under way, which must not take the new one away. A choice.
const REPLACED: i64 = 300;

/// What the identity server said of who signed in.
#[derive(Debug)]
pub struct Granted {
    /// `iss` of the access token.
    pub issuer: String,
    /// `sub` of the access token.
    pub subject: String,
    /// `session_id` of the access token.
    pub session: Option<String>,
    /// The tokens.
    pub tokens: InnerTokens,
}

/// A session that began.
#[derive(Debug)]
pub struct Begun {
    /// For a cookie: what the answer sets.
    pub set_cookie: Option<HeaderValue>,
    /// For a cookie: what its page must send as `X-CSRF-Token`.
    pub csrf: Option<String>,
}

/// By what a caller knows their own session.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// The name of the cookie's session.
    pub cookie: Option<SessionName>,
    /// `session_id` of the token.
    pub session: Option<String>,
}

/// Which sessions of a user are to end.
#[derive(Clone, Debug)]
pub enum Which {
    /// The caller's, in the list or not.
    Own(Own),
    /// The one of this name, if it is in the list.
    One(SessionName),
    /// All but the caller's.
    Others(Own),
    /// All.
    All,
}

/// What ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ended {
    /// How many sessions of the list.
    pub sessions: usize,
    /// Whether every replica refuses them within a second. If not, they are refused here, and elsewhere as soon as the store answers.
    pub propagated: bool,
}

/// A session, as its user is shown it. Times are in Unix milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct SessionInfo {
    /// Names it for [`Which::One`]: 64 hexadecimal digits, of no use to anybody else.
    pub id: String,
    /// What proves it.
    pub carrier: Carrier,
    /// When it began.
    pub created: i64,
    /// When it was last used, to within a minute; `None` where that is not noted.
    pub touched: Option<i64>,
    /// When it ends whatever happens.
    pub ends: i64,
    /// From where it began.
    #[serde(flatten)]
    pub origin: Origin,
    /// Whether it is the caller's own.
    pub current: bool,
}

impl Own {
    fn is(&self, entry: &Entry) -> bool {
        let by_cookie = self.cookie.as_ref() == Some(&entry.name);
        let by_token = self.session.is_some() && self.session == entry.session;
        by_cookie || by_token
    }
}

/// The name in [`SessionInfo::id`].
pub fn name_of_id(id: &str) -> Option<SessionName> {
    hex::decode(id)
}

impl Sessions {
    /// Begins a session. A cookie gets a fresh id, whatever the client came with; the session of the cookie that it `replaces` ends. Pushes the
    /// oldest out if there are more than `sessions.max_per_user`.
    ///
    /// # Errors
    ///
    /// The store could not be asked. The client gets nothing, and must sign in again.
    pub async fn begin(
        self: &Arc<Self>,
        granted: Granted,
        carrier: Carrier,
        seen: Seen,
        replaces: Option<Cookie>,
    ) -> Result<Begun, Unreachable> {
        let sessions = self.clone();
        let replaces = replaces.map(|cookie| cookie.name());
        let begin = async move { sessions.begin_here(granted, carrier, &seen, replaces).await };
        let begun = self.background.spawn(begin).await;
        begun.unwrap_or(Err(Unreachable::Answer))
    }

    async fn begin_here(
        &self,
        granted: Granted,
        carrier: Carrier,
        seen: &Seen,
        replaces: Option<SessionName>,
    ) -> Result<Begun, Unreachable> {
        let Granted {
            issuer,
            subject,
            session,
            tokens,
        } = granted;
        let settings = self.settings.load_full();
        let now = (self.clock)();
        let lives = match carrier {
            Carrier::Cookie => super::live::millis(settings.sessions.lifetime),
            Carrier::Bearer => settings.session_lifetime,
        };
        let record = Session {
            issuer,
            subject,
            session,
            carrier,
            created: now,
            touched: now,
            ends: now.saturating_add(lives),
            renewed: now,
            tokens: (carrier == Carrier::Cookie).then_some(tokens),
            proof: None,
            origin: seen.origin(),
        };
        let (name, begun) = match (carrier, &record.session) {
            (Carrier::Cookie, _) => {
                let (cookie, value) = self.cookies.make()?;
                let begun = Begun {
                    set_cookie: Some(cookie::set(&settings.sessions, &value)),
                    csrf: Some(self.cookies.csrf_token(&cookie)),
                };
                (cookie.name(), begun)
            }
            (Carrier::Bearer, Some(session)) => {
                let begun = Begun {
                    set_cookie: None,
                    csrf: None,
                };
                (of_bearer(&record.issuer, session), begun)
            }
            // Nothing to name it by, and nothing to end it by but its user.
            (Carrier::Bearer, None) => {
                self.metrics.began(carrier);
                return Ok(Begun {
                    set_cookie: None,
                    csrf: None,
                });
            }
        };
        let expires = self.record_expires(&record) / 1000;
        let bytes = record.to_record();
        self.store
            .put(Kind::Session, &name, &bytes, expires)
            .await?;
        let listed = self.enlist(name, &record, replaces).await;
        let ended = match (listed, replaces) {
            (Ok(()), Some(replaced)) => self.end_replaced(&replaced, &record.issuer).await,
            (listed, _) => listed,
        };
        if let Err(why) = ended {
            // Nobody has its cookie; it only must not stay in the list.
            let _ = self.store.remove(Kind::Session, &name).await;
            return Err(why);
        }
        self.metrics.began(carrier);
        Ok(begun)
    }

    /// Puts a session into its user's index, and ends those that are too many.
    async fn enlist(
        &self,
        name: SessionName,
        session: &Session,
        replaces: Option<SessionName>,
    ) -> Result<(), Unreachable> {
        let (issuer, subject) = (&session.issuer, &session.subject);
        let most = self.settings.load().sessions.max_per_user;
        for _ in 0..ATTEMPTS {
            let (mut index, version) = self.read_index(issuer, subject).await?;
            index.take(|entry| Some(entry.name) == replaces);
            if index.0.len() >= most {
                self.forget_gone(&mut index).await?;
            }
            let pushed_out = index.insert(Entry::of(name, session), most);
            if self.write_index(issuer, subject, &version, &index).await? {
                for entry in &pushed_out {
                    let is_shared =
                        |other: &Entry| other.session.is_some() && other.session == entry.session;
                    // Another entry is of the same session of the identity server, which must go on.
                    match index.0.iter().any(is_shared) {
                        true => self.end_entry(issuer, subject, entry, Why::Replaced).await,
                        false => self.end_entry(issuer, subject, entry, Why::Limit).await,
                    };
                }
                return Ok(());
            }
        }
        Err(Unreachable::Timeout)
    }

    /// Takes out of an index what went idle.
    async fn forget_gone(&self, index: &mut Index) -> Result<(), Unreachable> {
        let mut gone = Vec::new();
        for entry in &index.0 {
            if self.store.get(Kind::Session, &entry.name).await?.is_none() {
                gone.push(entry.name);
            }
        }
        index.take(|entry| gone.contains(&entry.name));
        Ok(())
    }

    /// Ends the session of a cookie that another one replaces, wherever it is listed.
    async fn end_replaced(&self, name: &SessionName, issuer: &str) -> Result<(), Unreachable> {
        let Some((session, _)) = self.read(name).await? else {
            if !self.is_replaced(name) {
                let told = (self.clock)();
                let target = Target::Token {
                    sha256: *name,
                    issuer: Some(issuer.to_owned()),
                    session: None,
                    subject: None,
                };
                let revocation = Revocation::new(target, told, told / 1000 + REPLACED);
                // Nobody gets in by it either way.
                self.revocations.revoke(revocation).await;
            }
            return Ok(());
        };
        let Session {
            issuer, subject, ..
        } = &session;
        let is_meant = |entry: &Entry| entry.name == *name;
        self.take_entries(issuer, subject, is_meant).await?;
        let entry = Entry::of(*name, &session);
        self.end_entry(issuer, subject, &entry, Why::Replaced).await;
        Ok(())
    }

    /// The sessions of a user, the newest first.
    ///
    /// # Errors
    ///
    /// The store could not be asked.
    pub async fn list(
        &self,
        issuer: &str,
        subject: &str,
        own: &Own,
    ) -> Result<Vec<SessionInfo>, Unreachable> {
        let (index, _) = self.read_index(issuer, subject).await?;
        let mut list = Vec::with_capacity(index.0.len());
        for entry in index.0.iter().rev() {
            let record = self.store.get(Kind::Session, &entry.name).await?;
            let Some(session) = record.as_deref().and_then(Session::from_record) else {
                continue;
            };
            let used = session.carrier == Carrier::Cookie;
            list.push(SessionInfo {
                id: hex::encode(&entry.name),
                carrier: entry.carrier,
                created: entry.created,
                touched: used.then_some(session.touched),
                ends: entry.ends,
                origin: entry.origin.clone(),
                current: own.is(entry),
            });
        }
        Ok(list)
    }

    /// Ends sessions of a user: refuses them, here and on every replica, and forgets them. Ending them at the identity server is the caller's
    /// part.
    ///
    /// # Errors
    ///
    /// The store could not be asked which there are, or the list of revocations has no room. What was refused stays refused.
    pub async fn end(
        self: &Arc<Self>,
        issuer: &str,
        subject: &str,
        which: Which,
    ) -> Result<Ended, Unreachable> {
        let (sessions, issuer, subject) = (self.clone(), issuer.to_owned(), subject.to_owned());
        let end = async move { sessions.end_here(&issuer, &subject, which).await };
        let ended = self.background.spawn(end).await;
        ended.unwrap_or(Err(Unreachable::Answer))
    }

    async fn end_here(
        &self,
        issuer: &str,
        subject: &str,
        which: Which,
    ) -> Result<Ended, Unreachable> {
        let mut revoked = Vec::new();
        let entries = match &which {
            Which::One(name) => {
                self.take_entries(issuer, subject, |entry| entry.name == *name)
                    .await?
            }
            Which::Own(own) => {
                if let Some(session) = &own.session {
                    let target = self.session(issuer, subject, session);
                    revoked.push(self.revocations.revoke(target).await);
                }
                let mut entries = self
                    .take_entries(issuer, subject, |entry| own.is(entry))
                    .await?;
                entries.extend(self.unlisted(own, &entries));
                entries
            }
            Which::Others(own) => {
                let target = self.subject(issuer, subject, own.session.clone());
                revoked.push(self.revocations.revoke(target).await);
                self.take_entries(issuer, subject, |entry| !own.is(entry))
                    .await?
            }
            Which::All => {
                let target = self.subject(issuer, subject, None);
                revoked.push(self.revocations.revoke(target).await);
                self.take_entries(issuer, subject, |_| true).await?
            }
        };
        for entry in &entries {
            revoked.push(self.end_entry(issuer, subject, entry, Why::Logout).await);
        }
        let lost =
            |one: &RevokeOutcome| matches!(one, RevokeOutcome::Full | RevokeOutcome::Stopped);
        if revoked.iter().any(lost) {
            return Err(Unreachable::Full);
        }
        Ok(Ended {
            sessions: entries.len(),
            propagated: revoked.iter().all(|one| *one == RevokeOutcome::Stored),
        })
    }

    /// The session of the caller's cookie, if the user's index does not have it: it may have been lost, and must end all the same.
    fn unlisted(&self, own: &Own, listed: &[Entry]) -> Option<Entry> {
        let name = own.cookie?;
        let is_listed = listed.iter().any(|entry| entry.name == name);
        let live = self.remembered(&name).filter(|_| !is_listed)?;
        Some(Entry::of(name, live.session()))
    }

    /// Refuses a session that is in no list any more, and forgets it.
    pub(super) async fn end_entry(
        &self,
        issuer: &str,
        subject: &str,
        entry: &Entry,
        why: Why,
    ) -> RevokeOutcome {
        let told = (self.clock)();
        let revocation = match (&entry.session, entry.carrier, why) {
            // The session of the identity server goes on under another name, or nobody has its tokens any more.
            (_, Carrier::Cookie, Why::Replaced) | (None, Carrier::Cookie, _) => {
                let target = Target::Token {
                    sha256: entry.name,
                    issuer: Some(issuer.to_owned()),
                    session: entry.session.clone(),
                    subject: Some(subject.to_owned()),
                };
                let expires = (entry.ends / 1000 + 1).max(told / 1000 + REPLACED);
                Some(Revocation::new(target, told, expires))
            }
            (_, Carrier::Bearer, Why::Replaced) | (None, Carrier::Bearer, _) => None,
            (Some(session), _, _) => Some(self.session(issuer, subject, session)),
        };
        let revoked = match revocation {
            Some(revocation) => self.revocations.revoke(revocation).await,
            None => RevokeOutcome::Stored,
        };
        self.forget(&entry.name);
        self.unstored.forget(&entry.name);
        // If it stays there, it is refused all the same.
        let _ = self.store.remove(Kind::Session, &entry.name).await;
        self.metrics.ended(entry.carrier, why);
        revoked
    }

    /// Refuses one session of the identity server.
    fn session(&self, issuer: &str, subject: &str, session: &str) -> Revocation {
        let told = (self.clock)();
        let target = Target::Session {
            issuer: issuer.to_owned(),
            session: session.to_owned(),
            subject: Some(subject.to_owned()),
        };
        Revocation::new(target, told, told / 1000 + self.settings.load().remembers)
    }

    /// Refuses what a user signed in to until now. The list adds [`LEEWAY`] for clocks that differ, which would refuse who signs in again at
    /// once, too; sessions that began here are refused one by one besides, so it is left out.
    fn subject(&self, issuer: &str, subject: &str, except: Option<String>) -> Revocation {
        let told = (self.clock)();
        let target = Target::Subject {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            not_before: told / 1000 - LEEWAY - 1,
            except: except.into_iter().collect(),
            strict: false,
        };
        Revocation::new(target, told, told / 1000 + self.settings.load().remembers)
    }

    /// Takes entries out of a user's index, and gives them.
    pub(super) async fn take_entries(
        &self,
        issuer: &str,
        subject: &str,
        is_meant: impl Fn(&Entry) -> bool,
    ) -> Result<Vec<Entry>, Unreachable> {
        for _ in 0..ATTEMPTS {
            let (mut index, version) = self.read_index(issuer, subject).await?;
            let taken = index.take(&is_meant);
            if taken.is_empty() || self.write_index(issuer, subject, &version, &index).await? {
                return Ok(taken);
            }
        }
        Err(Unreachable::Timeout)
    }

    async fn read_index(
        &self,
        issuer: &str,
        subject: &str,
    ) -> Result<(Index, Version), Unreachable> {
        let name = Index::name(issuer, subject);
        let (record, version) = self.store.read(Kind::SessionIndex, &name).await?;
        let mut index = match record {
            None => Index::default(),
            Some(record) => Index::from_record(&record).ok_or(Unreachable::Answer)?,
        };
        index.forget_ended((self.clock)());
        Ok((index, version))
    }

    /// Whether nobody was faster.
    async fn write_index(
        &self,
        issuer: &str,
        subject: &str,
        version: &Version,
        index: &Index,
    ) -> Result<bool, Unreachable> {
        let name = Index::name(issuer, subject);
        let (record, expires) = (index.to_record(), index.ends().max((self.clock)() + 1));
        let swap = self
            .store
            .swap(Kind::SessionIndex, &name, version, &record, expires)
            .await?;
        Ok(matches!(swap, Swap::Done(_)))
    }
}
