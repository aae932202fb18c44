//! Renewed tokens that could not be stored: kept here, and stored as soon as the store answers.
//!
//! Renewing consumed the old refresh token, so until the new one is stored only this process has
//! it, and every other replica finds the used one in the record. Sessions here are therefore not
//! evicted with the cache, and take precedence over an older record. Storing is retried until the
//! session ends or its record is newer; the record's version protects what another replica wrote.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::time::sleep;

use super::live::CachedSession;
use super::lookup::{ATTEMPTS, Sessions};
use super::record::{Session, SessionName};
use crate::store::{Swap, Version};

/// How many sessions may wait, each of some kilobytes. Above that they are only in the cache, for
/// as long as it has room. A choice.
const MOST: usize = 10_000;

/// The first pause between two attempts; each further one doubles.
const FIRST: Duration = Duration::from_millis(250);

/// The longest pause. A replica whose refresh token was reported as used waits longer for a newer
/// one (`renew`).
pub(super) const LONGEST: Duration = Duration::from_secs(1);

/// Sessions whose tokens are newer than their record, by name.
#[derive(Default)]
pub(super) struct Unstored(DashMap<SessionName, Arc<CachedSession>>);

/// The outcome of storing tokens.
pub(super) enum Storing {
    /// The record has them, or newer ones, as in this session.
    Done(Arc<CachedSession>),
    /// The session has ended.
    Gone,
    /// The store did not answer.
    Failed,
}

impl Unstored {
    /// The session of this name, with its newest tokens.
    pub(super) fn get(&self, name: &SessionName) -> Option<Arc<CachedSession>> {
        self.0.get(name).map(|live| live.clone())
    }

    /// The session of a record, with the newer tokens that it may lack.
    pub(super) fn followed(
        &self,
        name: SessionName,
        record: Session,
        version: Version,
    ) -> CachedSession {
        match self.get(&name) {
            Some(newer) => newer.followed_by(record, version),
            None => CachedSession::new(name, record, version),
        }
    }

    /// Drops a session that has ended.
    pub(super) fn forget(&self, name: &SessionName) {
        self.0.remove(name);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Keeps a session until it is stored. Returns whether a task must be started for that.
    fn keep(&self, live: Arc<CachedSession>) -> bool {
        let has_room = self.0.len() < MOST;
        match self.0.entry(live.name) {
            Entry::Occupied(mut waits) => {
                waits.insert(live);
                false
            }
            Entry::Vacant(place) if has_room => {
                place.insert(live);
                true
            }
            Entry::Vacant(_) => false,
        }
    }

    /// Drops a session that was stored, unless it has newer tokens by now.
    fn stored(&self, live: &CachedSession) {
        let is_stored = |_: &SessionName, waits: &Arc<CachedSession>| {
            waits.session.renewed <= live.session.renewed
        };
        self.0.remove_if(&live.name, is_stored);
    }
}

impl Sessions {
    /// Stores the tokens of a session if they are newer than those of its record.
    pub(super) async fn store_tokens(&self, live: &Arc<CachedSession>) -> Storing {
        let mut live = live.clone();
        for _ in 0..ATTEMPTS {
            match self.replace(&live.name, &live.version, &live.session).await {
                Ok(Swap::Done(version)) => {
                    let stored = live.followed_by(live.session.clone(), version);
                    return Storing::Done(self.remember(stored));
                }
                Ok(Swap::Conflict) => {}
                Err(_) => return Storing::Failed,
            }
            let (record, version) = match self.read(&live.name).await {
                Ok(Some(read)) => read,
                Ok(None) => return Storing::Gone,
                Err(_) => return Storing::Failed,
            };
            let is_there = record.renewed >= live.session.renewed;
            live = self.remember(live.followed_by(record, version));
            if is_there {
                return Storing::Done(live);
            }
        }
        Storing::Failed
    }

    /// Stores the tokens of a session in the background, and retries for as long as the store
    /// fails.
    pub(super) fn store_later(self: &Arc<Self>, live: Arc<CachedSession>) {
        let name = live.name;
        if self.unstored.keep(live) {
            self.note_unstored();
            let sessions = self.clone();
            self.background
                .spawn(async move { sessions.keep_storing(&name).await });
        }
    }

    async fn keep_storing(&self, name: &SessionName) {
        let mut pause = FIRST;
        loop {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
            // Stored, or the session was ended.
            let Some(live) = self.unstored.get(name) else {
                break;
            };
            if live.session.ends <= (self.clock)() {
                self.unstored.forget(name);
                continue;
            }
            match self.store_tokens(&live).await {
                Storing::Done(stored) => self.unstored.stored(&stored),
                Storing::Gone => {
                    self.forget(name);
                    self.unstored.forget(name);
                }
                Storing::Failed => {}
            }
        }
        self.note_unstored();
    }

    fn note_unstored(&self) {
        let waiting = i64::try_from(self.unstored.len()).unwrap_or(i64::MAX);
        self.metrics.unstored.set(waiting);
    }
}
