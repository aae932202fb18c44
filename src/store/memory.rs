//! The in-process store: for one replica, and lost when the process ends. It seals nothing, since
//! no other process can read this memory.

#![allow(
    clippy::disallowed_types,
    reason = "the lock is held for a map's operation and never across an await; no request on its warm path asks the store"
)]

use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand;
use tokio::sync::watch;

use super::buckets::Buckets;
use super::contract::{Answer, Entry, Kind, Logged, Position, Store, Swap, Unreachable, Version};
use super::limit::{Bucket, Level};
use crate::breaker::Outage;

/// The maximum number of records, and of entries in the log. Arbitrary; with records of a kilobyte
/// this is some hundred megabytes.
pub const CAPACITY: usize = 262_144;

/// The in-process store.
pub struct Memory {
    now: fn() -> i64,
    capacity: usize,
    state: Mutex<State>,
    pushes: watch::Sender<u64>,
    buckets: Buckets,
}

#[derive(Default)]
struct State {
    records: HashMap<(Kind, Vec<u8>), Record>,
    writes: u64,
    epoch: u128,
    seq: u64,
    log: BTreeMap<u64, (Vec<u8>, Logged)>,
    names: HashMap<Vec<u8>, u64>,
}

struct Record {
    value: Vec<u8>,
    /// Unix milliseconds.
    expires: i64,
    /// The number of this write: [`Version`] compares it, since two writes may have the same bytes.
    write: u64,
}

impl Memory {
    /// An empty store for at most `capacity` records and as many entries in its log. `now` returns
    /// Unix time in seconds.
    pub fn new(capacity: usize, now: fn() -> i64) -> Self {
        let mut epoch = [0; 16];
        // Without randomness the epoch is 0, which is still correct: the log lives as long as the
        // process.
        let _ = rand::fill(&mut epoch);
        Self {
            now,
            capacity,
            state: Mutex::new(State {
                epoch: u128::from_be_bytes(epoch),
                ..State::default()
            }),
            pushes: watch::Sender::new(0),
            buckets: Buckets::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock leaves the maps consistent: each operation on them is one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, kind: Kind, name: &[u8]) -> (Option<Vec<u8>>, Version) {
        let now = milliseconds((self.now)());
        let state = self.state();
        let found = state
            .records
            .get(&(kind, name.to_vec()))
            .filter(|record| record.expires > now);
        (
            found.map(|record| record.value.clone()),
            version(found.map(|record| record.write)),
        )
    }

    /// Writes a record if the capacity allows.
    fn write(
        &self,
        state: &mut State,
        key: (Kind, Vec<u8>),
        value: &[u8],
        expires: i64,
    ) -> Result<u64, Unreachable> {
        let now = milliseconds((self.now)());
        if state.records.len() >= self.capacity && !state.records.contains_key(&key) {
            state.records.retain(|_, record| record.expires > now);
            if state.records.len() >= self.capacity {
                return Err(Unreachable::Full);
            }
        }
        state.writes += 1;
        let write = state.writes;
        let record = Record {
            value: value.to_vec(),
            expires,
            write,
        };
        state.records.insert(key, record);
        Ok(write)
    }

    fn replace(
        &self,
        key: (Kind, Vec<u8>),
        seen: &Version,
        value: &[u8],
        expires: i64,
    ) -> Result<Swap, Unreachable> {
        let now = milliseconds((self.now)());
        let mut state = self.state();
        let found = state
            .records
            .get(&key)
            .filter(|record| record.expires > now)
            .map(|record| record.write);
        if version(found) != *seen {
            return Ok(Swap::Conflict);
        }
        let write = self.write(&mut state, key, value, expires)?;
        Ok(Swap::Done(version(Some(write))))
    }

    fn append_all(&self, entries: &[Entry<'_>], shorter: bool) -> Result<Position, Unreachable> {
        let now = (self.now)();
        let mut state = self.state();
        let before = state.seq;
        let full = entries
            .iter()
            .filter(|entry| entry.expires > now)
            .any(|entry| !state.append(entry, now, self.capacity, shorter));
        let position = state.position();
        drop(state);
        if position.seq != before {
            self.pushes.send_replace(position.seq);
        }
        if full {
            return Err(Unreachable::Full);
        }
        Ok(position)
    }
}

fn version(write: Option<u64>) -> Version {
    Version(vec![write.map(|write| write.to_be_bytes().to_vec())])
}

/// Converts Unix seconds to milliseconds.
fn milliseconds(seconds: i64) -> i64 {
    seconds.saturating_mul(1000)
}

impl State {
    fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            seq: self.seq,
        }
    }

    /// Returns false if the log is full. `shorter`: the earlier expiry is kept, not the later one.
    fn append(&mut self, entry: &Entry<'_>, now: i64, capacity: usize, shorter: bool) -> bool {
        let present = self.names.get(entry.name).copied();
        if let Some((_, logged)) = present.and_then(|seq| self.log.get(&seq)) {
            let is_kept = match shorter {
                false => logged.expires >= entry.expires,
                true => (now + 1..=entry.expires).contains(&logged.expires),
            };
            if is_kept {
                return true;
            }
        } else if self.log.len() >= capacity {
            self.forget_expired(now);
            if self.log.len() >= capacity {
                return false;
            }
        }
        if let Some(seq) = present {
            self.log.remove(&seq);
        }
        self.seq += 1;
        let logged = Logged {
            seq: self.seq,
            record: entry.record.to_vec(),
            expires: entry.expires,
        };
        self.names.insert(entry.name.to_vec(), self.seq);
        self.log.insert(self.seq, (entry.name.to_vec(), logged));
        true
    }

    fn forget_expired(&mut self, now: i64) {
        self.log.retain(|_, (_, logged)| logged.expires > now);
        let log = &self.log;
        self.names.retain(|_, seq| log.contains_key(seq));
    }
}

impl Store for Memory {
    fn get<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, Option<Vec<u8>>> {
        Box::pin(ready(Ok(self.find(kind, name).0)))
    }

    fn put<'a>(
        &'a self,
        kind: Kind,
        name: &'a [u8],
        value: &'a [u8],
        expires: i64,
    ) -> Answer<'a, ()> {
        let mut state = self.state();
        let key = (kind, name.to_vec());
        let written = self.write(&mut state, key, value, milliseconds(expires));
        Box::pin(ready(written.map(|_| ())))
    }

    fn read<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, (Option<Vec<u8>>, Version)> {
        Box::pin(ready(Ok(self.find(kind, name))))
    }

    fn swap<'a>(
        &'a self,
        kind: Kind,
        name: &'a [u8],
        version: &'a Version,
        value: &'a [u8],
        expires: i64,
    ) -> Answer<'a, Swap> {
        let key = (kind, name.to_vec());
        Box::pin(ready(self.replace(key, version, value, expires)))
    }

    fn remove<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, ()> {
        self.state().records.remove(&(kind, name.to_vec()));
        Box::pin(ready(Ok(())))
    }

    fn admit<'a>(&'a self, buckets: &'a [Bucket<'a>]) -> Answer<'a, Vec<Level>> {
        Box::pin(ready(Ok(self.buckets.admit(buckets))))
    }

    fn append<'a>(&'a self, entries: &'a [Entry<'a>]) -> Answer<'a, Position> {
        Box::pin(ready(self.append_all(entries, false)))
    }

    fn shorten<'a>(&'a self, entries: &'a [Entry<'a>]) -> Answer<'a, Position> {
        Box::pin(ready(self.append_all(entries, true)))
    }

    fn position(&self, at: i64) -> Answer<'_, (Position, u64)> {
        let state = self.state();
        let entries = state
            .log
            .values()
            .filter(|(_, logged)| logged.expires > at)
            .count();
        Box::pin(ready(Ok((state.position(), entries as u64))))
    }

    fn log_after(&self, seq: u64, limit: usize) -> Answer<'_, (Vec<Logged>, Option<u64>)> {
        let now = (self.now)();
        let state = self.state();
        let mut page: Vec<Logged> = state
            .log
            .range(seq.saturating_add(1)..)
            .map(|(_, (_, logged))| logged)
            .filter(|logged| logged.expires > now)
            .take(limit.saturating_add(1))
            .cloned()
            .collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let next = page.last().map(|logged| logged.seq).filter(|_| more);
        Box::pin(ready(Ok((page, next))))
    }

    fn pushes(&self) -> watch::Receiver<u64> {
        self.pushes.subscribe()
    }

    fn outage(&self) -> Outage {
        Outage::Reachable
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("Memory")
            .field("records", &state.records.len())
            .field("log", &state.log.len())
            .finish_non_exhaustive()
    }
}
