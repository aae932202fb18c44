//! Beginning a session: a fresh id, a record, an entry in the user's index, and the end of the
//! sessions that it replaces.

use std::sync::Arc;

use hyper::header::HeaderValue;

use super::end::REPLACED;
use crate::revocation::{Revocation, Target};
use crate::sessions::cookie::{self, Cookie};
use crate::sessions::index::{Entry, Index};
use crate::sessions::live::millis;
use crate::sessions::lookup::{ATTEMPTS, Sessions};
use crate::sessions::metrics::EndReason;
use crate::sessions::record::{Carrier, ClientInfo, InnerTokens, Session, SessionName, of_bearer};
use crate::store::{Kind, Unreachable};

/// A user whom the identity server has signed in.
#[derive(Debug)]
pub struct SignedInUser {
    /// `iss` of the access token.
    pub issuer: String,
    /// `sub` of the access token.
    pub subject: String,
    /// `session_id` of the access token.
    pub session: Option<String>,
    /// The tokens of the session.
    pub tokens: InnerTokens,
    /// When the client asked for it, in Unix milliseconds, before the identity server was asked.
    pub asked_at: i64,
}

/// A session that has begun.
#[derive(Debug)]
pub struct NewSession {
    /// For a cookie: the `Set-Cookie` header of the response.
    pub set_cookie: Option<HeaderValue>,
    /// For a cookie: the value that its pages must send as `X-CSRF-Token`.
    pub csrf: Option<String>,
}

impl NewSession {
    const fn bearer() -> Self {
        Self {
            set_cookie: None,
            csrf: None,
        }
    }
}

impl Sessions {
    /// Begins a session. A cookie always gets a fresh id; the session of the cookie that it
    /// `replaces` ends. The oldest sessions end if there are more than `sessions.max_per_user`.
    ///
    /// # Errors
    ///
    /// The store is unreachable. The client gets no session and must sign in again.
    pub async fn begin(
        self: &Arc<Self>,
        granted: SignedInUser,
        carrier: Carrier,
        seen: ClientInfo,
        replaces: Option<Cookie>,
    ) -> Result<NewSession, Unreachable> {
        let sessions = self.clone();
        let replaces = replaces.map(|cookie| cookie.name());
        let begin = async move { sessions.begin_here(granted, carrier, &seen, replaces).await };
        let begun = self.background.spawn(begin).await;
        begun.unwrap_or(Err(Unreachable::Answer))
    }

    async fn begin_here(
        &self,
        granted: SignedInUser,
        carrier: Carrier,
        seen: &ClientInfo,
        replaces: Option<SessionName>,
    ) -> Result<NewSession, Unreachable> {
        let record = self.new_record(granted, carrier, seen);
        let (name, begun) = match (carrier, &record.session) {
            (Carrier::Cookie, _) => {
                let (cookie, value) = self.cookies.make()?;
                let begun = NewSession {
                    set_cookie: Some(cookie::set(&self.settings.load().sessions, &value)),
                    csrf: Some(self.cookies.csrf_token(&cookie)),
                };
                (cookie.name(), begun)
            }
            (Carrier::Bearer, Some(session)) => {
                (of_bearer(&record.issuer, session), NewSession::bearer())
            }
            // Without a session id there is nothing to list, and only revoking the user ends it.
            (Carrier::Bearer, None) => {
                self.metrics.began(carrier);
                return Ok(NewSession::bearer());
            }
        };
        let expires = self.record_expires(&record) / 1000;
        let bytes = record.to_record();
        self.store
            .put(Kind::Session, &name, &bytes, expires)
            .await?;
        if carrier == Carrier::Bearer {
            self.begun.note(name, Some(record.created));
        }
        let listed = self.enlist(name, &record, replaces).await;
        let ended = match (listed, replaces) {
            (Ok(()), Some(replaced)) => self.end_replaced(&replaced, &record.issuer).await,
            (listed, _) => listed,
        };
        if let Err(why) = ended {
            // Nobody has its cookie. It only must not stay in the list.
            let _ = self.store.remove(Kind::Session, &name).await;
            return Err(why);
        }
        self.metrics.began(carrier);
        Ok(begun)
    }

    fn new_record(&self, granted: SignedInUser, carrier: Carrier, seen: &ClientInfo) -> Session {
        let settings = self.settings.load();
        let now = (self.clock)();
        let lifetime = match carrier {
            Carrier::Cookie => millis(settings.sessions.lifetime),
            Carrier::Bearer => settings.session_lifetime,
        };
        Session {
            issuer: granted.issuer,
            subject: granted.subject,
            session: granted.session,
            carrier,
            created: granted.asked_at.min(now),
            touched: now,
            ends: now.saturating_add(lifetime),
            renewed: now,
            tokens: (carrier == Carrier::Cookie).then_some(granted.tokens),
            proof: None,
            origin: seen.origin(),
        }
    }

    /// Adds a session to its user's index, and ends the oldest if there are too many.
    pub(in crate::sessions) async fn enlist(
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
                self.drop_expired(&mut index).await?;
            }
            let evicted = index.insert(Entry::of(name, session), most);
            if self.write_index(issuer, subject, &version, &index).await? {
                for entry in &evicted {
                    let is_shared =
                        |other: &Entry| other.session.is_some() && other.session == entry.session;
                    // If another entry is of the same session of the identity server, that must not
                    // end.
                    match index.0.iter().any(is_shared) {
                        true => {
                            self.end_entry(issuer, subject, entry, EndReason::Replaced)
                                .await
                        }
                        false => {
                            self.end_entry(issuer, subject, entry, EndReason::Limit)
                                .await
                        }
                    };
                }
                return Ok(());
            }
        }
        Err(Unreachable::Timeout)
    }

    /// Removes entries from an index whose sessions have expired.
    async fn drop_expired(&self, index: &mut Index) -> Result<(), Unreachable> {
        let mut gone = Vec::new();
        for entry in &index.0 {
            if self.store.get(Kind::Session, &entry.name).await?.is_none() {
                gone.push(entry.name);
            }
        }
        index.take(|entry| gone.contains(&entry.name));
        Ok(())
    }

    /// Ends the session of a replaced cookie, whichever user it belongs to.
    async fn end_replaced(&self, name: &SessionName, issuer: &str) -> Result<(), Unreachable> {
        let Some((session, _)) = self.read(name).await? else {
            if !self.is_replaced(name) {
                let now = (self.clock)();
                let what = Target::Token {
                    sha256: *name,
                    issuer: Some(issuer.to_owned()),
                    session: None,
                    subject: None,
                };
                let revocation = Revocation::new(what, now, now / 1000 + REPLACED);
                // If this fails, the cookie still leads to no session.
                self.revocations.revoke(revocation).await;
            }
            return Ok(());
        };
        let Session {
            issuer, subject, ..
        } = &session;
        let is_selected = |entry: &Entry| entry.name == *name;
        self.take_entries(issuer, subject, is_selected).await?;
        let entry = Entry::of(*name, &session);
        self.end_entry(issuer, subject, &entry, EndReason::Replaced)
            .await;
        Ok(())
    }
}
