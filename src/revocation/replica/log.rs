//! The replica's view of the log: news, losses, audits, and what is written back.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::{Call, Cause, Command, Held, MARGIN, Replica, Source};
use crate::revocation::target::{Name, Revocation};
use crate::store::{Logged, Position};

impl Replica {
    /// Compares the store's position with what was read.
    pub(super) fn compare_position(&mut self, position: Position, out: &mut Vec<Command>) {
        let cause = match self.read {
            None => Some(Cause::Start),
            Some((epoch, _)) if epoch != position.epoch => Some(Cause::Epoch),
            // Compared with what is known to exist, not only with what was read: this store
            // answered both.
            Some(_) if position.seq < self.newest => Some(Cause::Backwards),
            Some(_) => None,
        };
        if let Some(cause) = cause {
            self.reload(position.epoch, cause, out);
        }
        self.newest = position.seq;
    }

    pub(super) fn reload(&mut self, epoch: u128, cause: Cause, out: &mut Vec<Command>) {
        self.read = Some((epoch, 0));
        self.reloading = true;
        self.complete = false;
        self.suspicious = false;
        self.audited = 0;
        self.log.clear();
        self.log_ends.clear();
        self.numbers.clear();
        self.sent.clear();
        self.absent.clear();
        self.foreign = None;
        out.push(Command::Reload(cause));
    }

    /// Compares the number of entries with the expected one. More than expected is harmless.
    pub(super) fn compare_count(&mut self, at: i64, entries: u64, out: &mut Vec<Command>) {
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

    pub(super) fn news(
        &mut self,
        page: &[Logged],
        next: Option<u64>,
        now: i64,
        out: &mut Vec<Command>,
    ) {
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
            // Entries that the store has lost.
            let lost = self.held.keys().filter(|name| !self.is_logged(name));
            // Coarse entries, too: they replace entries that may be lost, and this replica no
            // longer holds those.
            let lost: Vec<Name> = lost.copied().collect();
            lost.into_iter().for_each(|name| self.enqueue(name));
            self.reloading = false;
        } else {
            // An entry that was stored and cannot be read back was corrupted in between.
            self.retry.append(&mut self.sent);
        }
    }

    /// Takes over an entry of the log.
    pub(super) fn note(
        &mut self,
        logged: &Logged,
        source: Source,
        now: i64,
        out: &mut Vec<Command>,
    ) {
        let Some(mut revocation) = Revocation::from_record(&logged.record) else {
            if self.foreign.is_none() {
                out.push(Command::Foreign);
            }
            self.foreign = self.foreign.max(Some(logged.expires));
            return;
        };
        // The sealed expiry is the store's; two could disagree.
        revocation.expires = logged.expires;
        let name = revocation.name();
        let displaced = self.log.get(&logged.seq).cloned();
        if displaced == Some((name, logged.expires)) || logged.expires <= now {
            return;
        }
        if let Some((old, _)) = displaced {
            // The number was reused, so the store went back in between.
            self.forget(logged.seq);
            if old != name {
                self.restore(BTreeSet::from([old]), now, out);
            }
        }
        self.sent.remove(&name);
        let is_shorter = self.is_shortened_by(&name, logged);
        let is_merged = self.numbers.contains_key(&name) && !self.holds(&name);
        if is_merged && revocation.target.is_undone() {
            out.push(Command::StillCovered(name));
        }
        // A name has one number; at its earlier number it does not count as missing.
        if let Some(before) = self.numbers.insert(name, logged.seq) {
            self.forget(before);
        }
        self.numbers.insert(name, logged.seq);
        self.log.insert(logged.seq, (name, logged.expires));
        self.log_ends.insert((logged.expires, logged.seq));
        match is_shorter {
            true => self.hold_shorter(&name, logged.expires),
            // It is stored again, so that it replaces this entry.
            false if self.prevails_over(&name, &revocation) => {
                self.extend(name, logged.expires.saturating_add(1), out);
                self.enqueue(name);
            }
            false => self.hold(name, revocation, source, out),
        }
        // The log has lost a later entry with this name, such as one that says it was undone.
        let is_later = |held: &Held| !held.queued && held.revocation.expires > logged.expires;
        if self.held.get(&name).is_some_and(is_later) {
            self.absent.insert(name);
        }
        self.report_stored(name, out);
        self.coarsen(out);
    }

    /// Reports a local revocation that is in the log, as it was read, or that was merged.
    fn report_stored(&mut self, name: Name, out: &mut Vec<Command>) {
        let is_queued = self.held.get(&name).is_some_and(|held| held.queued);
        let is_stored = !is_queued && (self.is_logged(&name) || !self.holds(&name));
        if is_stored && self.unreported.remove(&name) {
            out.push(Command::Stored(vec![name]));
        }
    }

    /// Whether the held entry must replace this one of the log, which has its name, though its
    /// expiry is not earlier: the store kept it, or another replica appended it without knowing the
    /// held one.
    fn prevails_over(&self, name: &Name, logged: &Revocation) -> bool {
        let Some(held) = self.held.get(name) else {
            return false;
        };
        let revocation = &held.revocation;
        let is_later = match logged.undone() {
            // Whoever undid that one did not know this one.
            Some(undone) => {
                self.unreported.contains(name)
                    && !revocation.target.is_undone()
                    && revocation.received_at > undone.received_at
            }
            None => !held.coarse && revocation.refuses_more_than(logged),
        };
        is_later && revocation.expires <= logged.expires
    }

    /// Gives a held entry a later expiry.
    fn extend(&mut self, name: Name, expires: i64, out: &mut Vec<Command>) {
        if let Some(held) = self.held.get_mut(&name) {
            self.ends.remove(&(held.revocation.expires, name));
            held.revocation.expires = expires;
            self.ends.insert((expires, name));
            out.push(Command::Insert(held.revocation.clone(), Source::Reload));
        }
    }

    /// Whether the log has the entry, with the same expiry or a later one.
    pub(super) fn is_logged(&self, name: &Name) -> bool {
        let place = self.numbers.get(name).and_then(|seq| self.log.get(seq));
        let held = self.held.get(name);
        place
            .zip(held)
            .is_some_and(|((_, expires), held)| *expires >= held.revocation.expires)
    }

    pub(super) fn forget(&mut self, seq: u64) {
        if let Some((name, expires)) = self.log.remove(&seq) {
            self.log_ends.remove(&(expires, seq));
            if self.numbers.get(&name) == Some(&seq) {
                self.numbers.remove(&name);
            }
        }
    }

    /// Compares a stretch of the log with what was read there before.
    pub(super) fn audit(
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
        // Entries after `up_to` are read as news, in their turn.
        for logged in page.iter().filter(|logged| logged.seq <= up_to) {
            self.note(logged, Source::Reload, now, out);
        }
        if !missing.is_empty() {
            self.absent
                .extend(missing.into_iter().map(|(_, name)| name));
            self.poll_due = true;
        }
        match next {
            Some(next) if next < up_to => self.audited = next,
            Some(_) | None => {
                self.audited = 0;
                self.suspicious = false;
            }
        }
    }

    /// Has entries written back that an audit did not find, once everything new was read.
    pub(super) fn restore_absent(&mut self, now: i64, out: &mut Vec<Command>) {
        let is_up_to_date = self.read.is_some_and(|(_, seq)| seq >= self.newest);
        if self.absent.is_empty() || self.poll_due || self.reloading || !is_up_to_date {
            return;
        }
        let mut absent = std::mem::take(&mut self.absent);
        // An entry that moved to another number is not missing.
        absent.retain(|name| match self.holds(name) {
            true => !self.is_logged(name),
            false => !self.numbers.contains_key(name),
        });
        self.restore(absent, now, out);
    }

    /// Has entries written back. Each expiry is extended by a second: only a later expiry replaces
    /// a corrupted entry that the store still has under the name.
    pub(super) fn restore(&mut self, names: BTreeSet<Name>, now: i64, out: &mut Vec<Command>) {
        let mut restored = 0;
        for name in names {
            let Some(held) = self.held.get(&name) else {
                // It was coarsened: its replacement is written.
                if self.unreported.remove(&name) {
                    out.push(Command::Queued(vec![name]));
                }
                self.coarse_names()
                    .into_iter()
                    .for_each(|name| self.enqueue(name));
                restored += 1;
                continue;
            };
            if held.revocation.expires <= now + MARGIN || held.queued {
                continue;
            }
            let expires = held.revocation.expires.saturating_add(1);
            self.extend(name, expires, out);
            self.enqueue(name);
            restored += 1;
        }
        if restored > 0 {
            out.push(Command::Missing(restored));
        }
    }

    pub(super) fn coarse_names(&self) -> Vec<Name> {
        let coarse = self.held.iter().filter(|(_, held)| held.coarse);
        let unlogged = coarse.filter(|(name, _)| !self.is_logged(name));
        unlogged.map(|(name, _)| *name).collect()
    }

    pub(super) fn appended(
        &mut self,
        sent: Vec<(Name, i64)>,
        position: Position,
        out: &mut Vec<Command>,
    ) {
        self.read_back = true;
        for (name, expires) in sent {
            if let Some(held) = self.held.get_mut(&name) {
                // It was extended during the append: only the earlier expiry is stored.
                if held.revocation.expires > expires {
                    self.queue.push_back(name);
                    continue;
                }
                held.queued = false;
                if !self.is_logged(&name) {
                    self.sent.insert(name);
                }
            }
            self.report_stored(name, out);
        }
        // Before the log was first read, its position says nothing.
        if self.read.is_some() {
            self.compare_position(position, out);
        }
    }

    pub(super) fn unreachable(&mut self, out: &mut Vec<Command>) {
        match self.busy.take() {
            Some(Call::Shorten(shorter)) => {
                for (name, revocation) in shorter {
                    self.shorter.entry(name).or_insert(revocation);
                }
                self.refused = true;
            }
            Some(Call::Append(names)) => {
                for (name, _) in names.into_iter().rev() {
                    if self.held.contains_key(&name) {
                        self.queue.push_front(name);
                    }
                }
                self.refused = true;
            }
            Some(Call::Position { .. } | Call::News | Call::Audit { .. }) | None => {
                self.away = true
            }
        }
        if !self.unreported.is_empty() {
            let unreported = self.unreported.iter().copied();
            out.push(Command::Queued(unreported.collect()));
        }
    }
}
