//! The index of one user's sessions: what a user sees, what the limit counts, and what signing out
//! everywhere ends.
//!
//! It is one record, which replicas change by compare-and-set. An entry may outlive its session,
//! which may have expired; only the record of the session tells.

use serde::{Deserialize, Serialize};

use super::record::{Carrier, Origin, Session, SessionName};
use crate::revocation::canonical_id;
use crate::secrets::{digest, hex};

/// The sessions of one user, oldest first.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Index(pub(super) Vec<Entry>);

/// One session in an index. Times are in Unix milliseconds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// The name of the session.
    #[serde(with = "hex")]
    pub(super) name: SessionName,
    /// How its client proves it.
    pub(super) carrier: Carrier,
    /// `session_id` of its tokens.
    pub(super) session: Option<String>,
    /// When it began.
    pub(super) created: i64,
    /// When it ends at the latest.
    pub(super) ends: i64,
    /// Where it began.
    pub(super) origin: Origin,
}

impl Entry {
    /// The entry of a session with this name.
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
    /// The name of the record of a user.
    pub(super) fn name(issuer: &str, subject: &str) -> [u8; 32] {
        let subject = canonical_id(subject);
        digest::of_parts([issuer.as_bytes(), subject.as_bytes()])
    }

    /// Parses a record; `None` if a newer version wrote something unknown.
    pub(super) fn from_record(record: &[u8]) -> Option<Self> {
        serde_json::from_slice(record).ok()
    }

    /// Serializes the record.
    pub(super) fn to_record(&self) -> Vec<u8> {
        // Strings and numbers always serialize to JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Removes the entries that ended by `now`.
    pub(super) fn remove_ended(&mut self, now: i64) {
        self.0.retain(|entry| entry.ends > now);
    }

    /// Adds an entry, replaces one of the same name, and removes and returns the oldest above
    /// `most`.
    pub(super) fn insert(&mut self, entry: Entry, most: usize) -> Vec<Entry> {
        self.0.retain(|other| other.name != entry.name);
        self.0.push(entry);
        self.0.sort_by_key(|entry| entry.created);
        let over = self.0.len().saturating_sub(most);
        self.0.drain(..over).collect()
    }

    /// Removes and returns the selected entries.
    pub(super) fn take(&mut self, is_selected: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let (taken, kept) = self.0.drain(..).partition(is_selected);
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
    fn the_oldest_session_is_removed_above_the_limit() {
        let mut index = Index::default();
        assert!(index.insert(entry(1, 10, 100), 2).is_empty());
        assert!(index.insert(entry(2, 5, 90), 2).is_empty());
        assert_eq!(names(&index.insert(entry(3, 20, 80), 2)), [2]);
        assert_eq!(names(&index.0), [1, 3]);
        assert_eq!(index.ends(), 100);
        // Adding the same name again replaces the entry.
        assert!(index.insert(entry(3, 21, 80), 2).is_empty());
        index.remove_ended(80);
        assert_eq!(names(&index.0), [1]);
        assert_eq!(names(&index.take(|entry| entry.name[0] == 1)), [1]);
        assert_eq!(index.ends(), 0);
        // The limit was lowered.
        let mut index = Index((1..=5).map(|name| entry(name, name.into(), 100)).collect());
        assert_eq!(names(&index.insert(entry(6, 6, 100), 2)), [1, 2, 3, 4]);
    }

    #[test]
    fn the_case_of_a_uuid_does_not_change_the_index() {
        let uuid = "0190a6f4-7c1e-7a52-9d3b-5f2a8c4e6b70";
        let name = Index::name("i", uuid);
        assert_eq!(name, Index::name("i", &uuid.to_uppercase()));
        assert_ne!(name, Index::name("j", uuid));
        assert_ne!(Index::name("ab", "c"), Index::name("a", "bc"));
    }
}
