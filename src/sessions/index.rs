//! The sessions of one user: what is listed, what the limit counts, and what a logout everywhere ends.
//!
//! Decides:  which sessions must end so that another may begin. Trusts: the store to seal it. Not here: ending one (`sign_in`).
//!
//! It is one record, which replicas change by compare-and-set. An entry may outlive its session, which may have gone idle; whoever needs to
//! know asks for the session itself.

use serde::{Deserialize, Serialize};

use super::record::{Carrier, Origin, Session, SessionName};
use crate::revocation::{hex, spelled};
use crate::secrets::digest;

/// The sessions of one user, the oldest first.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Index(pub(super) Vec<Entry>);

/// One of them. Times are in Unix milliseconds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// What it is called.
    #[serde(with = "hex")]
    pub(super) name: SessionName,
    /// How its client proves it.
    pub(super) carrier: Carrier,
    /// `session_id` of its tokens.
    pub(super) session: Option<String>,
    /// When it began.
    pub(super) created: i64,
    /// When it ends whatever happens.
    pub(super) ends: i64,
    /// From where it began.
    pub(super) origin: Origin,
}

impl Entry {
    /// Of a session of this name.
    pub(super) fn of(name: SessionName, session: &Session) -> Self {
        Self {
            name,
            carrier: session.carrier,
            session: session.session.clone(),
            created: session.created,
            ends: session.ends,
            origin: session.origin.clone(),
        }
    }
}

impl Index {
    /// Under which name the sessions of a user are kept.
    pub(super) fn name(issuer: &str, subject: &str) -> [u8; 32] {
        let subject = spelled(subject);
        digest::of_parts([issuer.as_bytes(), subject.as_bytes()])
    }

    /// Reads the bytes of a replica. `None` if they say something this version does not know.
    pub(super) fn from_record(record: &[u8]) -> Option<Self> {
        serde_json::from_slice(record).ok()
    }

    /// The bytes for the store.
    pub(super) fn to_record(&self) -> Vec<u8> {
        // Strings and numbers: nothing in it can fail to be JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Takes out what ended by itself before `now`.
    pub(super) fn forget_ended(&mut self, now: i64) {
        self.0.retain(|entry| entry.ends > now);
    }

    /// Puts an entry in, in the place of one with its name, and takes the oldest out until there are no more than `most`. Gives those.
    pub(super) fn insert(&mut self, entry: Entry, most: usize) -> Vec<Entry> {
        self.0.retain(|other| other.name != entry.name);
        self.0.push(entry);
        self.0.sort_by_key(|entry| entry.created);
        let over = self.0.len().saturating_sub(most);
        self.0.drain(..over).collect()
    }

    /// Takes out those that `is_meant`.
    pub(super) fn take(&mut self, is_meant: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let (taken, kept) = self.0.drain(..).partition(is_meant);
        self.0 = kept;
        taken
    }

    /// When the last of them ends.
    pub(super) fn ends(&self) -> i64 {
        self.0.iter().map(|entry| entry.ends).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: u8, created: i64, ends: i64) -> Entry {
        Entry {
            name: [name; 32],
            carrier: Carrier::Cookie,
            session: None,
            created,
            ends,
            origin: Origin {
                agent: "Firefox".to_owned(),
                network: "192.0.2.0/24".to_owned(),
            },
        }
    }

    fn names(entries: &[Entry]) -> Vec<u8> {
        entries.iter().map(|entry| entry.name[0]).collect()
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut index = Index::default();
        assert!(index.insert(entry(1, 10, 100), 2).is_empty());
        assert!(index.insert(entry(2, 5, 90), 2).is_empty());
        assert_eq!(names(&index.insert(entry(3, 20, 80), 2)), [2]);
        assert_eq!(names(&index.0), [1, 3]);
        assert_eq!(index.ends(), 100);
        // The same again is no other session.
        assert!(index.insert(entry(3, 21, 80), 2).is_empty());
        index.forget_ended(80);
        assert_eq!(names(&index.0), [1]);
        assert_eq!(names(&index.take(|entry| entry.name[0] == 1)), [1]);
        assert_eq!(index.ends(), 0);
        // A limit that became smaller.
        let mut index = Index((1..=5).map(|name| entry(name, name.into(), 100)).collect());
        assert_eq!(names(&index.insert(entry(6, 6, 100), 2)), [1, 2, 3, 4]);
    }

    #[test]
    fn a_user_has_one_index_however_the_id_is_spelled() {
        let uuid = "0190a6f4-7c1e-7a52-9d3b-5f2a8c4e6b70";
        let name = Index::name("i", uuid);
        assert_eq!(name, Index::name("i", &uuid.to_uppercase()));
        assert_ne!(name, Index::name("j", uuid));
        assert_ne!(Index::name("ab", "c"), Index::name("a", "bc"));
    }
}
