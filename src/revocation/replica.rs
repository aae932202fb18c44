//! How the lists of all replicas stay alike: one replica's side, without input, output or clock.
//!
//! Decides:  what is asked of the store and when, what is put into the list and taken out, and whether the list is [complete](Replica::is_complete).
//! Trusts:   the store for answers that are its own; not for keeping what it was given.
//! Not here: asking and waiting ([`Follower`](super::Follower)), what a request is told meanwhile.
//!
//! Events go in, commands come out, and at most one question to the store is open. The rules:
//!
//! - What is revoked here is in the list here first, then stored, then told as stored. What could not be stored stays queued.
//! - The log is read in order, from where reading ended last. A new epoch, or a log that is shorter than it was, means that the store lost
//!   data: the list is not complete until the log has been read from the start and everything remembered has been written back.
//! - A log that holds fewer entries than it should has been tampered with. It is looked through, and what is missing is written back. The
//!   same look goes on all the time, a page with every poll, for what a count cannot tell.
//! - Whatever is remembered is written back under its name, so that many replicas may do it at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use super::{Kind, Name, Revocation, coarsen};
use crate::metrics::labels;
use crate::store::{Logged, Position};

/// Entries that are read or written at once.
pub const PAGE: usize = 256;

/// Seconds before its end from which on an entry is not missed: clocks differ, and the store may have dropped it already.
pub const MARGIN: i64 = 5;

/// One replica.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Replica {
    capacity: usize,
    /// Everything that is in the list.
    held: BTreeMap<Name, Held>,
    ends: BTreeSet<(i64, Name)>,
    /// What the log holds, as far as it was read.
    log: BTreeMap<u64, (Name, i64)>,
    log_ends: BTreeSet<(i64, u64)>,
    /// Where in the log each name is.
    places: BTreeMap<Name, u64>,
    /// What is to be stored, in this order.
    queue: VecDeque<Name>,
    /// What is to be stored with the next poll: not at once, or a store that cannot show what it was given would be asked without pause.
    again: BTreeSet<Name>,
    /// What was stored and has not been read in the log yet.
    sent: BTreeSet<Name>,
    /// Epoch of the log, and the number up to which it was read.
    read: Option<(u128, u64)>,
    /// The newest number that is known to exist.
    newest: u64,
    /// Reading from the start: the list is not complete before its end.
    reloading: bool,
    /// The look that goes on all the time: the number behind which it goes on.
    audited: u64,
    /// The look does not wait for polls.
    suspicious: bool,
    complete: bool,
    /// The log has an entry that only another version of the gateway understands, and when it ends.
    foreign: Option<i64>,
    poll_due: bool,
    audit_due: bool,
    agreeing: bool,
    /// The store did not answer; it is asked again with the next poll.
    away: bool,
    /// It did not take what was sent; the same.
    refused: bool,
    /// How many entries must be held before coarsening is tried again.
    coarsen_at: usize,
    is_overfull: bool,
    busy: Option<Ask>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Held {
    revocation: Revocation,
    queued: bool,
    /// Made by a full list, from entries that are in the log themselves.
    coarse: bool,
}

/// A question to the store.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Ask {
    Position {
        at: i64,
    },
    News,
    Audit {
        after: u64,
        up_to: u64,
    },
    /// Each with the end that was sent.
    Append(Vec<(Name, i64)>),
}

/// What happens to a replica.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    /// Somebody revokes something here.
    Revoke(Revocation),
    /// A quarter of a second has passed.
    Poll,
    /// Somebody appended to the log, or the store can be reached again.
    Push,
    /// Where the log stands, and how many entries it has that are not about to end.
    Position(Position, u64),
    /// A page of the log, and the number behind which the next begins.
    Page(Vec<Logged>, Option<u64>),
    /// What was sent is stored.
    Appended(Position),
    /// No answer, or none that can be understood.
    Unreachable,
}

/// What a replica wants done.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Command {
    /// Put it into the list.
    Insert(Revocation, Source),
    /// Take it out of the list.
    Remove(Revocation),
    /// These are stored.
    Stored(Vec<Name>),
    /// These are not stored, but queued.
    Queued(Vec<Name>),
    /// What was queued is stored as a wider one, and told with it.
    Replaced {
        /// Their names.
        from: Vec<Name>,
        /// The name of the wider one.
        into: Name,
    },
    /// The list is what the log says, as of the last poll.
    Agreed,
    /// The log is read from the start.
    Reload(Cause),
    /// Entries became fewer by this many.
    Coarsened(usize),
    /// Whether the list holds more than it should, and nothing can be coarsened.
    Overfull(bool),
    /// An entry of the log cannot be read by this version. Until a version that can replaces it, the list is not complete.
    Foreign,
    /// This many entries were missing in the log and are written back.
    Missing(usize),
    /// Ask the store for its position, with entries that end after this time.
    AskPosition {
        /// Unix seconds.
        at: i64,
    },
    /// Ask the store for the entries after this number.
    ReadLog {
        /// The number.
        after: u64,
    },
    /// Append these to the log.
    Append(Vec<(Name, Revocation)>),
}

/// How a revocation came here.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Source {
    /// It was made here.
    Here,
    /// It is news of another replica.
    News,
    /// It was in the log before this replica looked.
    Reload,
    /// It stands for others in a full list.
    Coarsened,
}

labels! {
    /// Why the log is read from the start.
    pub enum Cause {
        /// The process started.
        Start = "start",
        /// The store is a different one, or was emptied.
        Epoch = "epoch",
        /// The store went back to an earlier state.
        Backwards = "backwards",
        /// The log has fewer entries than before. Only a check: the list stays complete.
        Count = "count",
    }
}

impl Replica {
    /// A replica that knows nothing, and coarsens when it holds more than `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            held: BTreeMap::new(),
            ends: BTreeSet::new(),
            log: BTreeMap::new(),
            log_ends: BTreeSet::new(),
            places: BTreeMap::new(),
            queue: VecDeque::new(),
            again: BTreeSet::new(),
            sent: BTreeSet::new(),
            read: None,
            newest: 0,
            reloading: false,
            audited: 0,
            suspicious: false,
            complete: false,
            foreign: None,
            poll_due: false,
            audit_due: false,
            agreeing: false,
            away: false,
            refused: false,
            coarsen_at: capacity,
            is_overfull: false,
            busy: None,
        }
    }

    /// Whether the list has everything that was stored when the log was last looked at.
    pub fn is_complete(&self) -> bool {
        self.complete && self.foreign.is_none()
    }

    /// Whether this replica has nothing open and waits for the next event.
    pub fn is_idle(&self) -> bool {
        self.busy.is_none()
    }

    /// How many entries wait to be stored.
    pub fn queued(&self) -> usize {
        self.queue.len() + self.again.len()
    }

    /// How many entries are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether another entry would have to be refused: the list holds twice what it should, and nothing can be coarsened.
    pub fn is_full(&self) -> bool {
        self.held.len() >= self.capacity.saturating_mul(2)
    }

    /// Whether this revocation is held.
    pub fn holds(&self, name: &Name) -> bool {
        self.held.contains_key(name)
    }

    /// Up to where the log was read.
    pub fn position(&self) -> Option<Position> {
        self.read.map(|(epoch, seq)| Position { epoch, seq })
    }

    /// Takes an event at `now`, in Unix seconds, and says what follows.
    pub fn handle(&mut self, event: Event, now: i64) -> Vec<Command> {
        let mut out = Vec::new();
        match event {
            Event::Revoke(revocation) => self.revoke(revocation, now, &mut out),
            Event::Poll => {
                self.away = false;
                self.refused = false;
                self.poll_due = true;
                self.audit_due = true;
                let again = std::mem::take(&mut self.again);
                self.restore(again, now, &mut out);
            }
            Event::Push => {
                self.away = false;
                self.poll_due = true;
            }
            Event::Position(position, entries) => {
                if let Some(Ask::Position { at }) = self.busy.take() {
                    self.stands(position, &mut out);
                    self.count(at, entries, &mut out);
                    self.agreeing = true;
                }
            }
            Event::Page(page, next) => match self.busy.take() {
                Some(Ask::News) => self.news(&page, next, now, &mut out),
                Some(Ask::Audit { after, up_to }) => {
                    self.audit(after, up_to, &page, next, now, &mut out);
                }
                Some(Ask::Position { .. } | Ask::Append(_)) | None => {}
            },
            Event::Appended(position) => {
                if let Some(Ask::Append(sent)) = self.busy.take() {
                    self.appended(sent, position, &mut out);
                }
            }
            Event::Unreachable => self.unreachable(&mut out),
        }
        self.expire(now, &mut out);
        self.go_on(now, &mut out);
        out
    }

    fn revoke(&mut self, revocation: Revocation, now: i64, out: &mut Vec<Command>) {
        let name = revocation.name();
        if revocation.expires <= now {
            return out.push(Command::Stored(vec![name])); // There is nothing left to refuse.
        }
        self.hold(name, revocation, Source::Here, out);
        if self.complete && self.is_logged(&name) {
            return out.push(Command::Stored(vec![name]));
        }
        self.again.remove(&name);
        self.enqueue(name);
        self.refused = false;
        self.coarsen(out);
    }

    /// Holds a revocation, or lets the one that is held live longer.
    fn hold(&mut self, name: Name, revocation: Revocation, source: Source, out: &mut Vec<Command>) {
        match self.held.get_mut(&name) {
            Some(held) if held.revocation.expires >= revocation.expires => return,
            Some(held) => {
                self.ends.remove(&(held.revocation.expires, name));
                held.revocation.expires = revocation.expires;
            }
            None => {
                let held = Held {
                    revocation: revocation.clone(),
                    queued: false,
                    coarse: source == Source::Coarsened,
                };
                self.held.insert(name, held);
            }
        }
        self.ends.insert((revocation.expires, name));
        out.push(Command::Insert(revocation, source));
    }

    /// Makes room: first tokens into sessions, then all of a subject into one.
    fn coarsen(&mut self, out: &mut Vec<Command>) {
        if self.held.len() <= self.coarsen_at {
            return;
        }
        let goal = self.capacity - self.capacity / 8;
        let before = self.held.len();
        for kind in [Kind::Session, Kind::Subject] {
            if self.held.len() <= self.capacity {
                break;
            }
            let entries = self
                .held
                .iter()
                .map(|(name, held)| (name, &held.revocation));
            for coarsening in coarsen::coarsenings(entries, kind, goal) {
                self.replace(coarsening, out);
            }
        }
        let after = self.held.len();
        if after < before {
            out.push(Command::Coarsened(before - after));
        }
        self.overfull(out);
        // What could not be coarsened now can hardly be coarsened with the next entry.
        self.coarsen_at = self.capacity.max(after + self.capacity / 8);
    }

    fn overfull(&mut self, out: &mut Vec<Command>) {
        let overfull = self.held.len() > self.capacity;
        if std::mem::replace(&mut self.is_overfull, overfull) != overfull {
            out.push(Command::Overfull(overfull));
        }
    }

    fn replace(&mut self, coarsening: coarsen::Coarsening, out: &mut Vec<Command>) {
        let name = coarsening.into.name();
        // The wider one first: no request may find neither.
        self.hold(name, coarsening.into, Source::Coarsened, out);
        let mut unstored = Vec::new();
        for old in coarsening.from.into_iter().filter(|old| *old != name) {
            let Some(held) = self.held.remove(&old) else {
                continue;
            };
            self.ends.remove(&(held.revocation.expires, old));
            self.again.remove(&old);
            if held.queued {
                unstored.push(old);
            }
            out.push(Command::Remove(held.revocation));
        }
        // What was not stored yet is stored as the wider one, and so is told.
        if !unstored.is_empty() {
            self.queue.retain(|queued| !unstored.contains(queued));
            self.enqueue(name);
            out.push(Command::Replaced {
                from: unstored,
                into: name,
            });
        }
    }

    fn enqueue(&mut self, name: Name) {
        if let Some(held) = self.held.get_mut(&name)
            && !held.queued
        {
            held.queued = true;
            self.queue.push_back(name);
        }
    }

    /// The log stands here, says the store.
    fn stands(&mut self, position: Position, out: &mut Vec<Command>) {
        let cause = match self.read {
            None => Some(Cause::Start),
            Some((epoch, _)) if epoch != position.epoch => Some(Cause::Epoch),
            // Of what is known to exist, not only of what was read: both were answers of this store.
            Some(_) if position.seq < self.newest => Some(Cause::Backwards),
            Some(_) => None,
        };
        if let Some(cause) = cause {
            self.reload(position.epoch, cause, out);
        }
        self.newest = position.seq;
    }

    fn reload(&mut self, epoch: u128, cause: Cause, out: &mut Vec<Command>) {
        self.read = Some((epoch, 0));
        self.reloading = true;
        self.complete = false;
        self.suspicious = false;
        self.audited = 0;
        self.log.clear();
        self.log_ends.clear();
        self.places.clear();
        self.sent.clear();
        self.foreign = None;
        out.push(Command::Reload(cause));
    }

    /// Compares how many entries the log holds with how many it should. More than it should is nothing to fear.
    fn count(&mut self, at: i64, entries: u64, out: &mut Vec<Command>) {
        let up_to_date = self.read.is_some_and(|(_, seq)| seq == self.newest);
        if !up_to_date || self.suspicious {
            return;
        }
        let behind = (Bound::Excluded((at, u64::MAX)), Bound::Unbounded);
        let expected = self.log_ends.range(behind).count();
        if u64::try_from(expected).is_ok_and(|expected| entries < expected) {
            self.suspicious = true;
            self.audited = 0;
            out.push(Command::Reload(Cause::Count));
        }
    }

    fn news(&mut self, page: &[Logged], next: Option<u64>, now: i64, out: &mut Vec<Command>) {
        let source = match self.reloading {
            true => Source::Reload,
            false => Source::News,
        };
        for logged in page {
            self.note(logged, source, now, out);
        }
        let Some((epoch, seq)) = self.read else {
            return;
        };
        let last = page.last().map_or(0, |logged| logged.seq);
        let seq = match next {
            Some(next) => next.max(last),
            None => self.newest.max(last).max(seq),
        };
        self.read = Some((epoch, seq));
        self.newest = self.newest.max(seq);
        if next.is_some() {
            return;
        }
        if self.reloading {
            // Everything the store does not have any more.
            let lost = self.held.keys().filter(|name| !self.is_logged(name));
            // Coarse entries, too: they stand for entries that may be lost, and this replica does not know those any more.
            let lost: Vec<Name> = lost.copied().collect();
            lost.into_iter().for_each(|name| self.enqueue(name));
            self.reloading = false;
        } else {
            // What was stored and then cannot be read was spoilt in between.
            self.again.append(&mut self.sent);
        }
    }

    /// Takes an entry of the log.
    fn note(&mut self, logged: &Logged, source: Source, now: i64, out: &mut Vec<Command>) {
        let Some(mut revocation) = Revocation::from_record(&logged.record) else {
            if self.foreign.is_none() {
                out.push(Command::Foreign);
            }
            self.foreign = self.foreign.max(Some(logged.expires));
            return;
        };
        // The sealed end is the store's; two ends would be two opinions.
        revocation.expires = logged.expires;
        let name = revocation.name();
        let displaced = self.log.get(&logged.seq).cloned();
        if displaced == Some((name, logged.expires)) || logged.expires <= now {
            return;
        }
        if let Some((old, _)) = displaced {
            // The number was given again, so the store went back in between.
            self.forget(logged.seq);
            if old != name {
                self.restore(BTreeSet::from([old]), now, out);
            }
        }
        self.sent.remove(&name);
        // An entry has one place: where it was before, nothing is missed.
        if let Some(before) = self.places.insert(name, logged.seq) {
            self.forget(before);
        }
        self.places.insert(name, logged.seq);
        self.log.insert(logged.seq, (name, logged.expires));
        self.log_ends.insert((logged.expires, logged.seq));
        self.hold(name, revocation, source, out);
        self.coarsen(out);
    }

    /// Whether the log has it, and with no earlier end.
    fn is_logged(&self, name: &Name) -> bool {
        let place = self.places.get(name).and_then(|seq| self.log.get(seq));
        let held = self.held.get(name);
        place
            .zip(held)
            .is_some_and(|((_, expires), held)| *expires >= held.revocation.expires)
    }

    fn forget(&mut self, seq: u64) {
        if let Some((name, expires)) = self.log.remove(&seq) {
            self.log_ends.remove(&(expires, seq));
            if self.places.get(&name) == Some(&seq) {
                self.places.remove(&name);
            }
        }
    }

    /// Compares a stretch of the log with what was read there before.
    fn audit(
        &mut self,
        after: u64,
        up_to: u64,
        page: &[Logged],
        next: Option<u64>,
        now: i64,
        out: &mut Vec<Command>,
    ) {
        let end = next.map_or(up_to, |next| next.min(up_to));
        let here: BTreeSet<u64> = page.iter().map(|logged| logged.seq).collect();
        let stretch = (Bound::Excluded(after), Bound::Included(end.max(after)));
        let missing: Vec<(u64, Name)> = self
            .log
            .range(stretch)
            .filter(|(seq, (_, expires))| *expires > now + MARGIN && !here.contains(*seq))
            .map(|(seq, (name, _))| (*seq, *name))
            .collect();
        for (seq, _) in &missing {
            self.forget(*seq);
        }
        // What is new behind `up_to` is read as news, in its turn.
        for logged in page.iter().filter(|logged| logged.seq <= up_to) {
            self.note(logged, Source::Reload, now, out);
        }
        let missing = missing.into_iter().map(|(_, name)| name);
        // An entry that moved to another number is not missing.
        let missing = missing
            .filter(|name| !self.places.contains_key(name))
            .collect();
        self.restore(missing, now, out);
        match next {
            Some(next) if next < up_to => self.audited = next,
            Some(_) | None => {
                self.audited = 0;
                self.suspicious = false;
            }
        }
    }

    /// Has entries written back. Each lives a second longer: where the store still has a spoilt one under its name, only a later end
    /// replaces it.
    fn restore(&mut self, names: BTreeSet<Name>, now: i64, out: &mut Vec<Command>) {
        let mut restored = 0;
        for name in names {
            let Some(held) = self.held.get_mut(&name) else {
                // It was coarsened: what stands for it is written.
                self.coarse_names()
                    .into_iter()
                    .for_each(|name| self.enqueue(name));
                restored += 1;
                continue;
            };
            if held.revocation.expires <= now + MARGIN || held.queued {
                continue;
            }
            self.ends.remove(&(held.revocation.expires, name));
            held.revocation.expires = held.revocation.expires.saturating_add(1);
            self.ends.insert((held.revocation.expires, name));
            out.push(Command::Insert(held.revocation.clone(), Source::Reload));
            self.enqueue(name);
            restored += 1;
        }
        if restored > 0 {
            out.push(Command::Missing(restored));
        }
    }

    fn coarse_names(&self) -> Vec<Name> {
        let coarse = self.held.iter().filter(|(_, held)| held.coarse);
        let unlogged = coarse.filter(|(name, _)| !self.is_logged(name));
        unlogged.map(|(name, _)| *name).collect()
    }

    fn appended(&mut self, sent: Vec<(Name, i64)>, position: Position, out: &mut Vec<Command>) {
        let mut stored = Vec::with_capacity(sent.len());
        for (name, expires) in sent {
            if let Some(held) = self.held.get_mut(&name) {
                // It was to live longer while it was under way: only its earlier end is stored.
                if held.revocation.expires > expires {
                    self.queue.push_back(name);
                    continue;
                }
                held.queued = false;
                if !self.is_logged(&name) {
                    self.sent.insert(name);
                }
            }
            stored.push(name);
        }
        out.push(Command::Stored(stored));
        // Before the first look at the log, its place says nothing.
        if self.read.is_some() {
            self.stands(position, out);
        }
    }

    fn unreachable(&mut self, out: &mut Vec<Command>) {
        match self.busy.take() {
            Some(Ask::Append(names)) => {
                for (name, _) in names.into_iter().rev() {
                    if self.held.contains_key(&name) {
                        self.queue.push_front(name);
                    }
                }
                self.refused = true;
            }
            Some(Ask::Position { .. } | Ask::News | Ask::Audit { .. }) | None => self.away = true,
        }
        if !self.queue.is_empty() {
            out.push(Command::Queued(self.queue.iter().copied().collect()));
        }
    }

    /// What has ended is neither refused nor missed.
    fn expire(&mut self, now: i64, out: &mut Vec<Command>) {
        while let Some((expires, name)) = self.ends.first().copied()
            && expires <= now
        {
            self.ends.pop_first();
            self.sent.remove(&name);
            self.again.remove(&name);
            if let Some(held) = self.held.remove(&name) {
                if held.queued {
                    self.queue.retain(|queued| *queued != name);
                    out.push(Command::Stored(vec![name]));
                }
                out.push(Command::Remove(held.revocation));
            }
        }
        while let Some((expires, seq)) = self.log_ends.first().copied()
            && expires <= now
        {
            self.forget(seq);
        }
        self.foreign = self.foreign.filter(|expires| *expires > now);
        if self.held.len() <= self.capacity {
            self.coarsen_at = self.capacity;
            self.overfull(out);
        }
    }

    /// Asks the store the next question, if there is one and none is open.
    fn go_on(&mut self, now: i64, out: &mut Vec<Command>) {
        if self.reload_is_over() {
            self.complete = true;
        }
        if self.busy.is_some() || self.away {
            return;
        }
        let ask = self.next(now);
        match &ask {
            None => {
                if std::mem::take(&mut self.agreeing) && self.complete {
                    out.push(Command::Agreed);
                }
            }
            Some(Ask::Position { at }) => out.push(Command::AskPosition { at: *at }),
            Some(Ask::News) => out.push(Command::ReadLog {
                after: self.read.map_or(0, |(_, seq)| seq),
            }),
            Some(Ask::Audit { after, .. }) => out.push(Command::ReadLog { after: *after }),
            Some(Ask::Append(names)) => {
                let entries = names.iter().filter_map(|(name, _)| {
                    let held = self.held.get(name)?;
                    Some((*name, held.revocation.clone()))
                });
                out.push(Command::Append(entries.collect()));
            }
        }
        self.busy = ask;
    }

    fn reload_is_over(&self) -> bool {
        let read = self.read.is_some_and(|(_, seq)| seq >= self.newest);
        read && !self.complete && !self.reloading && self.queue.is_empty() && {
            !matches!(self.busy, Some(Ask::Append(_)))
        }
    }

    fn next(&mut self, now: i64) -> Option<Ask> {
        // The queue first: somebody waits for it. But a log of an unknown epoch is looked at before it is written to.
        if !self.refused && !self.queue.is_empty() && (self.read.is_some() || !self.poll_due) {
            let count = self.queue.len().min(PAGE);
            let names = self.queue.drain(..count);
            let held = |name| {
                self.held
                    .get(&name)
                    .map(|held| (name, held.revocation.expires))
            };
            return Some(Ask::Append(names.filter_map(held).collect()));
        }
        if let Some((_, seq)) = self.read
            && (self.reloading || seq < self.newest)
        {
            return Some(Ask::News);
        }
        if std::mem::take(&mut self.poll_due) {
            return Some(Ask::Position { at: now + MARGIN });
        }
        let (_, read) = self.read?;
        if self.suspicious || (std::mem::take(&mut self.audit_due) && read > 0) {
            return Some(Ask::Audit {
                after: self.audited,
                up_to: read,
            });
        }
        None
    }
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
