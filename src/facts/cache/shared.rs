//! What replicas share: facts in the store, and messages about invalidated facts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::super::fact::Fact;
use super::super::versions::Slot;
use super::super::writer::Writer;
use super::{FactCache, Wanted};
use crate::clock;
use crate::store::{Kind, Swap, Version};

/// How long the store keeps a fact. Much shorter than its lifetime: a client that asks for random
/// ids fills the store with facts about absent resources. Present ones must not be kept for longer,
/// or the time of a lookup on another replica would tell them apart.
const STORED: Duration = Duration::from_secs(60);
const STORED_LISTENING: Duration = Duration::from_secs(5 * 60);

/// How far apart the clocks of two replicas may be, in milliseconds.
pub(super) const SKEW: i64 = 1000;

/// The message that any fact may be stale. No message about slots has this length.
const EVERYTHING: &[u8] = b"*";

/// Ends a message about a caller's write. It makes the length odd. A replica of an older version
/// takes the writer before it for four more slots, which costs it some loads.
const WRITER: u8 = b'w';

/// How long the store keeps the marker of an invalidated fact, in seconds: longer than any load
/// takes.
const INVALIDATED: i64 = 60;

/// A fact in the store.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct StoredFact {
    /// Identifies the query; see `Source::fingerprint`.
    #[serde(rename = "mark")]
    pub(super) fingerprint: u64,
    /// When its load began, in Unix milliseconds.
    pub(super) loaded: i64,
    /// `None` is the marker of an invalidated fact.
    pub(super) fact: Option<Fact>,
}

impl FactCache {
    /// Writes a fact to the store in the background, unless the record changed since `version` was
    /// read. Without a version, replaces only what was there before the load began.
    pub(super) fn write_back(
        self: &Arc<Self>,
        wanted: Wanted,
        fact: Fact,
        version: Option<Version>,
        loaded: i64,
    ) {
        let Some(runtime) = self.runtime.as_ref().filter(|_| self.is_shared) else {
            return;
        };
        let cache = self.clone();
        runtime.spawn(async move {
            let stored = StoredFact {
                fingerprint: wanted.source.fingerprint,
                loaded,
                fact: Some(fact),
            };
            let (name, Ok(record)) = (wanted.record_name(), serde_json::to_vec(&stored)) else {
                return;
            };
            let version = match version {
                Some(version) => version,
                None => match cache.version_from_before(&name, loaded).await {
                    Some(version) => version,
                    None => return,
                },
            };
            let keep = match &*cache.listening.borrow() {
                Some(_) => STORED_LISTENING,
                None => STORED,
            };
            let expires = loaded.saturating_add(i64::try_from(keep.as_millis()).unwrap_or(0));
            // If another replica was faster, its fact is as good.
            let _: Result<Swap, _> = cache
                .store
                .swap(Kind::Fact, &name, &version, &record, expires)
                .await;
        });
    }

    /// The version of a record that is surely older than a load that began at `loaded`.
    async fn version_from_before(&self, name: &[u8], loaded: i64) -> Option<Version> {
        let (known, version) = self.store.read(Kind::Fact, name).await.ok()?;
        let is_newer = known.is_some_and(|known| {
            serde_json::from_slice::<StoredFact>(&known)
                .is_ok_and(|known| known.loaded.saturating_add(SKEW) >= loaded)
        });
        (!is_newer).then_some(version)
    }

    /// Invalidates facts in this process: those of these resources, by the names and ids that
    /// replicas share.
    pub(in crate::facts) fn invalidate_locally(
        &self,
        resources: &[(Arc<str>, String)],
        writer: Option<Writer>,
    ) {
        let when = clock::unix_millis();
        for (name, id) in resources {
            self.metrics.invalidated();
            self.versions.invalidate(Slot::of(name, id), writer, when);
        }
    }

    /// Invalidates facts in the store and on the other replicas.
    pub(in crate::facts) async fn invalidate_remotely(
        &self,
        resources: &[(Arc<str>, String)],
        writer: Option<Writer>,
    ) {
        if !self.is_shared || resources.is_empty() {
            return;
        }
        let marker = StoredFact {
            fingerprint: 0,
            loaded: clock::unix_millis(),
            fact: None,
        };
        let Ok(marker) = serde_json::to_vec(&marker) else {
            return;
        };
        let expires = clock::unix_now().saturating_add(INVALIDATED);
        let names: Vec<Vec<u8>> = resources
            .iter()
            .map(|(name, id)| record_name(name, id))
            .collect();
        let puts = names
            .iter()
            .map(|name| self.store.put(Kind::Fact, name, &marker, expires));
        let puts = join_all(puts).await;
        // After the records, so that no receiver reads an old one.
        let slots = resources.iter().map(|(name, id)| Slot::of(name, id));
        let message = encode(slots, writer);
        let sent = self.store.publish(&message).await;
        let failed = puts.iter().filter(|put| put.is_err()).count();
        for _ in 0..failed.max(usize::from(sent.is_err())) {
            self.metrics.not_propagated();
        }
    }

    /// Invalidates all facts on the other replicas.
    pub(in crate::facts) async fn invalidate_everything_remotely(&self) {
        if self.is_shared && self.store.publish(EVERYTHING).await.is_err() {
            self.metrics.not_propagated();
        }
    }

    /// Applies an invalidation of another replica.
    pub(in crate::facts) fn receive(&self, message: &[u8]) {
        let when = clock::unix_millis();
        self.metrics.received();
        if message == EVERYTHING {
            return self.versions.invalidate_all(when);
        }
        let (slots, writer) = decode(message);
        for slot in slots {
            self.versions.invalidate(slot, writer, when);
        }
    }

    /// The subscription began. Earlier messages were not received, so facts in memory are stale;
    /// records in the store are as good as for any process that has just started.
    pub(in crate::facts) fn subscription_began(&self) {
        self.versions.invalidate_all(0);
    }

    /// Messages may have been missed, so facts in memory and older records in the store are stale.
    pub(crate) fn invalidate_everything_locally(&self) {
        self.versions.invalidate_all(clock::unix_millis());
    }
}

/// A message about the invalidation of slots by the write of a caller, or by something else.
fn encode(slots: impl Iterator<Item = Slot>, writer: Option<Writer>) -> Vec<u8> {
    let mut message: Vec<u8> = slots.flat_map(|slot| slot.number().to_be_bytes()).collect();
    if let Some(writer) = writer {
        message.extend(writer.to_bytes());
        message.push(WRITER);
    }
    message
}

/// The slots of a message, and the writer. Anybody who can write to the store can send one: it only
/// ever takes facts away.
fn decode(message: &[u8]) -> (impl Iterator<Item = Slot>, Option<Writer>) {
    let by_writer = (message.len() % 2 == 1)
        .then(|| message.strip_suffix(&[WRITER])?.split_last_chunk())
        .flatten();
    let (slots, writer) = match by_writer {
        Some((slots, writer)) => (slots, Some(Writer::from_bytes(*writer))),
        None => (message, None),
    };
    let (slots, _) = slots.as_chunks();
    let slot = |number: &[u8; 2]| Slot::from_number(u16::from_be_bytes(*number));
    (slots.iter().map(slot), writer)
}

/// The name of a record, by the names and ids that replicas share.
pub(super) fn record_name(name: &str, id: &str) -> Vec<u8> {
    format!("{name}\0{id}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_slots_and_whose_write_it_was() {
        let slots = || [7, 0x7777, 65_535].map(Slot::from_number).into_iter();
        for writer in [None, Some(Writer::for_test(0x7777_7777_7777_7777))] {
            let message = encode(slots(), writer);
            let (found, by) = decode(&message);
            assert!(found.eq(slots()));
            assert_eq!(by, writer);
            assert_ne!(message.len(), EVERYTHING.len());
        }
        for strange in [&b""[..], b"w", b"abw", b"*w"] {
            assert_eq!(decode(strange).1, None);
        }
    }
}
