//! The protocol that keeps the revocation lists of all replicas equal: one replica's side, without
//! input, output or clock.
//!
//! Decides:  what the store is asked and when, which entries the list has, and whether it is
//!           [complete](Replica::is_complete).
//! Trusts:   the store's answers to be authentic, not its durability.
//! Not here: calling the store and waiting ([`Follower`](super::Follower)), and the answer to a
//!           request meanwhile.
//!
//! Events go in, commands come out, and at most one call to the store is open. The rules:
//!
//! - A local revocation is first in the list, then stored, then read back from the log, then
//!   reported as stored: the store may have kept an entry with its name that this replica had not
//!   read. While it cannot be stored, it stays queued.
//! - The log is read in order, from where reading ended last. A new epoch, or a position before the
//!   last known one, means that the store lost data: the list is not complete until the log has
//!   been read from the start and every held entry that it lacks has been written back.
//! - A log with fewer entries than expected has been tampered with. It is audited, and what is
//!   missing is written back. The same audit runs all the time, one page with every poll, for what
//!   a count cannot show.
//! - An entry is written back under its name, so that many replicas may do it at once.
//! - Of the entries with one name, the one with the latest expiry counts. So an operator undoes a
//!   revocation by an entry with its name and a later expiry, which is stored, read and written
//!   back like any other.
//! - An expiry becomes earlier only when the identity server confirmed a logout: then a later entry
//!   of the log has the name and the earlier expiry. A replica that misses it keeps the later
//!   expiry, which is safe.
//! - A full list coarsens for itself; the log keeps the entries.

mod entries;
mod log;
mod messages;
mod undo;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::coarsen;
use super::target::{Name, Revocation};
use crate::store::Position;

pub use messages::{Cause, Command, Event, Source};
pub use undo::CannotUndo;

/// Entries per page and per append.
pub const PAGE: usize = 256;

/// Seconds before an entry's expiry from which it does not count as missing: clocks differ, and the
/// store may have dropped it already.
pub const MARGIN: i64 = 5;

/// One replica.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Replica {
    capacity: usize,
    /// All entries of the list.
    held: BTreeMap<Name, Held>,
    ends: BTreeSet<(i64, Name)>,
    /// Name and expiry of the log's entries by number, as far as the log was read.
    log: BTreeMap<u64, (Name, i64)>,
    log_ends: BTreeSet<(i64, u64)>,
    /// The number of each name in the log.
    numbers: BTreeMap<Name, u64>,
    /// Entries to be stored, in this order.
    queue: VecDeque<Name>,
    /// Entries to be stored with the next poll. Not at once, or a store that loses what it is given
    /// would be called without pause.
    retry: BTreeSet<Name>,
    /// Entries that were stored and have not been read back from the log yet.
    sent: BTreeSet<Name>,
    /// Local revocations that have not been reported as stored.
    unreported: BTreeSet<Name>,
    /// Entries whose expiry in the log is to become earlier.
    shorter: BTreeMap<Name, Revocation>,
    /// Entries that an audit did not find, or found with an earlier expiry. They are written back
    /// once the news has been read: they may have another number by now.
    absent: BTreeSet<Name>,
    /// Epoch of the log, and the number up to which it was read.
    read: Option<(u128, u64)>,
    /// The newest number that is known to exist.
    newest: u64,
    /// The log is being read from the start: the list is not complete before the end.
    reloading: bool,
    /// The number after which the audit continues.
    audited: u64,
    /// The audit does not wait for polls.
    suspicious: bool,
    complete: bool,
    /// The expiry of an entry that only another version of the gateway understands.
    foreign: Option<i64>,
    poll_due: bool,
    audit_due: bool,
    confirming: bool,
    /// The store did not answer; the next poll tries again.
    away: bool,
    /// The store did not accept an append; the next poll tries again.
    refused: bool,
    /// Something was appended, and is read back before more is appended.
    read_back: bool,
    /// The number of entries from which coarsening is tried again.
    coarsen_at: usize,
    is_overfull: bool,
    is_nearly_full: bool,
    busy: Option<Call>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Held {
    revocation: Revocation,
    queued: bool,
    /// Made by coarsening, or extended by it, from entries that are in the log themselves.
    coarse: bool,
    /// The expiry of an entry of the log that undoes this name, which a coarse entry outlives.
    undone: Option<i64>,
}

/// A call to the store.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Call {
    Position {
        at: i64,
    },
    News,
    Audit {
        after: u64,
        up_to: u64,
    },
    /// Each with the expiry that was sent.
    Append(Vec<(Name, i64)>),
    Shorten(Vec<(Name, Revocation)>),
}

impl Replica {
    /// An empty replica that coarsens when it holds more than `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            held: BTreeMap::new(),
            ends: BTreeSet::new(),
            log: BTreeMap::new(),
            log_ends: BTreeSet::new(),
            numbers: BTreeMap::new(),
            queue: VecDeque::new(),
            retry: BTreeSet::new(),
            sent: BTreeSet::new(),
            unreported: BTreeSet::new(),
            shorter: BTreeMap::new(),
            absent: BTreeSet::new(),
            read: None,
            newest: 0,
            reloading: false,
            audited: 0,
            suspicious: false,
            complete: false,
            foreign: None,
            poll_due: false,
            audit_due: false,
            confirming: false,
            away: false,
            refused: false,
            read_back: false,
            coarsen_at: capacity,
            is_overfull: false,
            is_nearly_full: false,
            busy: None,
        }
    }

    /// Whether the list has every revocation that was stored at the last read of the log.
    pub fn is_complete(&self) -> bool {
        self.complete && self.foreign.is_none()
    }

    /// Whether no call to the store is open.
    pub fn is_idle(&self) -> bool {
        self.busy.is_none()
    }

    /// Entries that are not stored yet.
    pub fn queued(&self) -> usize {
        self.queue.len() + self.retry.len()
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether no entry is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether the list can take another entry. A list of twice its capacity takes only what it can
    /// merge with other entries.
    pub fn has_room_for(&self, revocation: &Revocation) -> bool {
        self.held.len() < self.capacity.saturating_mul(2)
            || coarsen::can_be_merged(&revocation.target)
            || self.holds(&revocation.name())
    }

    /// Whether an entry with this name is held.
    pub fn holds(&self, name: &Name) -> bool {
        self.held.contains_key(name)
    }

    /// The position up to which the log was read.
    pub fn position(&self) -> Option<Position> {
        self.read.map(|(epoch, seq)| Position { epoch, seq })
    }

    /// Handles an event at `now`, in Unix seconds, and returns the commands that follow.
    pub fn handle(&mut self, event: Event, now: i64) -> Vec<Command> {
        let mut out = Vec::new();
        match event {
            Event::Revoke(revocation) => self.revoke(revocation, now, &mut out),
            Event::Shorten(confirmed) => self.want_shorter(confirmed, now),
            Event::Poll => {
                self.away = false;
                self.refused = false;
                self.poll_due = true;
                self.audit_due = true;
                let retry = std::mem::take(&mut self.retry);
                self.restore(retry, now, &mut out);
            }
            Event::Push => {
                self.away = false;
                self.poll_due = true;
            }
            Event::Position(position, entries) => {
                if let Some(Call::Position { at }) = self.busy.take() {
                    self.compare_position(position, &mut out);
                    self.compare_count(at, entries, &mut out);
                    self.confirming = true;
                }
            }
            Event::Page(page, next) => match self.busy.take() {
                Some(Call::News) => self.news(&page, next, now, &mut out),
                Some(Call::Audit { after, up_to }) => {
                    self.audit(after, up_to, &page, next, now, &mut out);
                }
                Some(Call::Position { .. } | Call::Append(_) | Call::Shorten(_)) | None => {}
            },
            Event::Appended(position) => match self.busy.take() {
                Some(Call::Append(sent)) => self.appended(sent, position, &mut out),
                Some(Call::Shorten(sent)) => self.shortened(&sent, position, &mut out),
                Some(Call::Position { .. } | Call::News | Call::Audit { .. }) | None => {}
            },
            Event::Unreachable => self.unreachable(&mut out),
        }
        self.expire(now, &mut out);
        self.call_next(now, &mut out);
        self.note_level(&mut out);
        out
    }

    /// Makes the next call to the store, if there is one and none is open.
    fn call_next(&mut self, now: i64, out: &mut Vec<Command>) {
        if self.reload_is_over() {
            self.complete = true;
        }
        if self.busy.is_some() || self.away {
            return;
        }
        self.restore_absent(now, out);
        let call = self.next_call(now);
        match &call {
            None => {
                if std::mem::take(&mut self.confirming) && self.complete {
                    out.push(Command::Confirmed);
                }
            }
            Some(Call::Position { at }) => out.push(Command::ReadPosition { at: *at }),
            Some(Call::News) => out.push(Command::ReadLog {
                after: self.read.map_or(0, |(_, seq)| seq),
            }),
            Some(Call::Audit { after, .. }) => out.push(Command::ReadLog { after: *after }),
            Some(Call::Append(names)) => {
                let entries = names.iter().filter_map(|(name, _)| {
                    let held = self.held.get(name)?;
                    Some((*name, held.revocation.clone()))
                });
                out.push(Command::Append(entries.collect()));
            }
            Some(Call::Shorten(shorter)) => out.push(Command::AppendShorter(shorter.clone())),
        }
        self.busy = call;
    }

    fn reload_is_over(&self) -> bool {
        let read = self.read.is_some_and(|(_, seq)| seq >= self.newest);
        read && !self.complete && !self.reloading && self.queue.is_empty() && {
            !matches!(self.busy, Some(Call::Append(_)))
        }
    }

    fn next_call(&mut self, now: i64) -> Option<Call> {
        let is_behind = self.read.is_some_and(|(_, seq)| seq < self.newest);
        if is_behind && std::mem::take(&mut self.read_back) {
            return Some(Call::News);
        }
        // The queue first, because callers wait for it. But a log of an unknown epoch is read
        // before it is written to.
        if !self.refused && !self.queue.is_empty() && (self.read.is_some() || !self.poll_due) {
            let count = self.queue.len().min(PAGE);
            let names = self.queue.drain(..count);
            let held = |name| {
                self.held
                    .get(&name)
                    .map(|held| (name, held.revocation.expires))
            };
            return Some(Call::Append(names.filter_map(held).collect()));
        }
        if is_behind || (self.read.is_some() && self.reloading) {
            return Some(Call::News);
        }
        if std::mem::take(&mut self.poll_due) {
            return Some(Call::Position { at: now + MARGIN });
        }
        if !self.refused && self.complete && !self.shorter.is_empty() {
            let mut some = Vec::new();
            while some.len() < PAGE
                && let Some(entry) = self.shorter.pop_first()
            {
                some.push(entry);
            }
            return Some(Call::Shorten(some));
        }
        let (_, read) = self.read?;
        if self.suspicious || (std::mem::take(&mut self.audit_due) && read > 0) {
            return Some(Call::Audit {
                after: self.audited,
                up_to: read,
            });
        }
        None
    }
}

#[cfg(test)]
mod tests;
