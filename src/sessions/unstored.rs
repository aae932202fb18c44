//! Tokens that were renewed while the store did not take them: kept, and stored as soon as it does.
//!
//! Decides:  how often storing is tried again, and until when: as long as the session may live, or until its record says something newer.
//! Trusts:   the record's version, for another replica not to be overwritten. Not here: renewing (`renew`).
//!
//! Whoever renewed used the old refresh token up. Until the new one is in the store, this process alone has it: the record leads every other replica to
//! the used one. So what waits here is not forgotten when the memory of sessions is full, and counts before an older record.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::time::sleep;

use super::live::Live;
use super::lookup::{ATTEMPTS, Sessions};
use super::record::{Session, SessionName};
use crate::store::{Swap, Version};

/// How many sessions wait at most, each of some kilobytes. More are only in the memory of sessions, as long as that has room. A choice.
const MOST: usize = 10_000;

/// The first pause between two tries; each is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(250);

/// The longest pause. Whoever was refused a refresh token that somebody used waits longer than that for a newer one (`renew`).
pub(super) const LONGEST: Duration = Duration::from_secs(1);

/// Sessions whose tokens are newer than their record, by name.
#[derive(Default)]
pub(super) struct Unstored(DashMap<SessionName, Arc<Live>>);

/// What became of storing tokens.
pub(super) enum Storing {
    /// The record has them, or newer ones; so it is now.
    Done(Arc<Live>),
    /// The session has ended.
    Gone,
    /// The store did not answer.
    Not,
}

impl Unstored {
    /// The session of this name, with its newest tokens.
    pub(super) fn get(&self, name: &SessionName) -> Option<Arc<Live>> {
        self.0.get(name).map(|live| live.clone())
    }

    /// A record that was read, as it counts: with the tokens that it lacks.
    pub(super) fn followed(&self, name: SessionName, record: Session, version: Version) -> Live {
        match self.get(&name) {
            Some(newer) => newer.followed_by(record, version),
            None => Live::new(name, record, version),
        }
    }

    /// Its session has ended.
    pub(super) fn forget(&self, name: &SessionName) {
        self.0.remove(name);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Keeps a session until it is stored. Whether somebody must see to that.
    fn keep(&self, live: Arc<Live>) -> bool {
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

    /// Takes out what is stored, unless newer tokens came meanwhile.
    fn stored(&self, live: &Live) {
        let is_stored =
            |_: &SessionName, waits: &Arc<Live>| waits.session.renewed <= live.session.renewed;
        self.0.remove_if(&live.name, is_stored);
    }
}

impl Sessions {
    /// Writes down the tokens of a session, which may be newer than its record.
    pub(super) async fn store_tokens(&self, live: &Arc<Live>) -> Storing {
        let mut live = live.clone();
        for _ in 0..ATTEMPTS {
            match self.replace(&live.name, &live.version, &live.session).await {
                Ok(Swap::Done(version)) => {
                    let stored = live.followed_by(live.session.clone(), version);
                    return Storing::Done(self.remember(stored));
                }
                Ok(Swap::Lost) => {}
                Err(_) => return Storing::Not,
            }
            let (record, version) = match self.read(&live.name).await {
                Ok(Some(read)) => read,
                Ok(None) => return Storing::Gone,
                Err(_) => return Storing::Not,
            };
            let is_there = record.renewed >= live.session.renewed;
            live = self.remember(live.followed_by(record, version));
            if is_there {
                return Storing::Done(live);
            }
        }
        Storing::Not
    }

    /// Stores the tokens of a session behind the answers, however long the store does not take them.
    pub(super) fn store_later(self: &Arc<Self>, live: Arc<Live>) {
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
            // Until it is stored, or somebody ended the session.
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
                Storing::Not => {}
            }
        }
        self.note_unstored();
    }

    fn note_unstored(&self) {
        let waiting = i64::try_from(self.unstored.len()).unwrap_or(i64::MAX);
        self.metrics.unstored.set(waiting);
    }
}
