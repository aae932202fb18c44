//! The entries that a replica holds: added, extended, coarsened, queued and dropped.

use super::{Command, Held, Replica, Source};
use crate::revocation::coarsen::{self, Width};
use crate::revocation::target::{Name, Revocation};

impl Replica {
    pub(super) fn revoke(&mut self, mut revocation: Revocation, now: i64, out: &mut Vec<Command>) {
        let name = revocation.name();
        self.shorter.remove(&name);
        // It is revoked again after it was undone: only a later expiry counts.
        let undone = self.held.get(&name).and_then(Held::undone_until);
        // It also refuses sessions that began since it was received the first time. And what an
        // operator revokes again outlives an entry that undoes the first, which may be unread.
        let is_by_operator = revocation.note.is_some() && !revocation.target.is_undone();
        let received_earlier = self.held.get(&name).and_then(
            |Held {
                 revocation: held, ..
             }| {
                let is_again = is_by_operator && revocation.received_at > held.received_at;
                (is_again || revocation.refuses_more_than(held)).then_some(held.expires)
            },
        );
        if let Some(before) = undone.max(received_earlier) {
            revocation.expires = revocation.expires.max(before.saturating_add(1));
        }
        if revocation.expires <= now {
            return out.push(Command::Stored(vec![name])); // There is nothing left to refuse.
        }
        self.hold(name, revocation, Source::Here, out);
        if self.complete && self.is_logged(&name) {
            return out.push(Command::Stored(vec![name]));
        }
        self.retry.remove(&name);
        self.unreported.insert(name);
        self.enqueue(name);
        self.refused = false;
        self.coarsen(out);
    }

    /// Holds an entry, or extends the one that is held: the later expiry and the later time of
    /// receipt count.
    pub(super) fn hold(
        &mut self,
        name: Name,
        mut revocation: Revocation,
        source: Source,
        out: &mut Vec<Command>,
    ) {
        if let Some(held) = self.held.get_mut(&name) {
            let is_covered = held.coarse && !held.revocation.target.is_undone();
            if is_covered && revocation.target.is_undone() {
                // Other entries were merged into it, and were not undone.
                held.undone = held.undone.max(Some(revocation.expires));
                return out.push(Command::StillCovered(name));
            }
            held.coarse |= source == Source::Coarsened;
        }
        match self.held.get_mut(&name) {
            Some(held) if held.revocation.expires >= revocation.expires => {
                if revocation.refuses_more_than(&held.revocation) {
                    held.revocation.received_at = revocation.received_at;
                    out.push(Command::Insert(held.revocation.clone(), source));
                }
                return;
            }
            Some(held) => {
                if held.revocation.refuses_more_than(&revocation) {
                    revocation.received_at = held.revocation.received_at;
                }
                self.ends.remove(&(held.revocation.expires, name));
                let before = std::mem::replace(&mut held.revocation, revocation.clone());
                if revocation.target.is_undone() && !before.target.is_undone() {
                    out.push(Command::Remove(before));
                } else if held.revocation.note.is_none() && !before.target.is_undone() {
                    held.revocation.note = before.note;
                }
            }
            None => {
                let held = Held {
                    revocation: revocation.clone(),
                    queued: false,
                    coarse: source == Source::Coarsened,
                    undone: None,
                };
                self.held.insert(name, held);
            }
        }
        self.ends.insert((revocation.expires, name));
        out.push(Command::Insert(revocation, source));
    }

    /// Makes room: replaces tokens by sessions first, then all entries of a subject by one, then
    /// those of many subjects by one.
    pub(super) fn coarsen(&mut self, out: &mut Vec<Command>) {
        if self.held.len() <= self.coarsen_at {
            return;
        }
        let goal = self.capacity - self.capacity / 8;
        let before = self.held.len();
        let bits = coarsen::bucket_bits(self.capacity);
        for width in [Width::Session, Width::Subject, Width::Bucket(bits)] {
            if self.held.len() <= self.capacity {
                break;
            }
            let entries = self
                .held
                .iter()
                .map(|(name, held)| (name, &held.revocation));
            for coarsening in coarsen::coarsenings(entries, width, goal) {
                // What was undone refuses nothing, so nothing can be merged into it.
                let into = self.held.get(&coarsening.into.name());
                if !into.is_some_and(|held| held.revocation.target.is_undone()) {
                    self.replace(coarsening, out);
                }
            }
        }
        let after = self.held.len();
        if after < before {
            out.push(Command::Coarsened(before - after));
        }
        self.overfull(out);
        // What could not be coarsened now is unlikely to be after one more entry.
        self.coarsen_at = self.capacity.max(after + self.capacity / 8);
    }

    pub(super) fn overfull(&mut self, out: &mut Vec<Command>) {
        let overfull = self.held.len() > self.capacity;
        if std::mem::replace(&mut self.is_overfull, overfull) != overfull {
            out.push(Command::Overfull(overfull));
        }
    }

    /// Reports in time that the list will be full; not again for every entry around the limit.
    pub(super) fn note_level(&mut self, out: &mut Vec<Command>) {
        let held = self.held.len();
        let is_nearly_full = match self.is_nearly_full {
            false => held >= self.capacity - self.capacity / 4,
            true => held > self.capacity / 2,
        };
        if std::mem::replace(&mut self.is_nearly_full, is_nearly_full) != is_nearly_full {
            out.push(Command::NearlyFull(is_nearly_full));
        }
    }

    pub(super) fn replace(&mut self, coarsening: coarsen::Coarsening, out: &mut Vec<Command>) {
        let name = coarsening.into.name();
        // The wider one first, so that at any time one of them is in the list.
        self.hold(name, coarsening.into, Source::Coarsened, out);
        let mut unstored = Vec::new();
        for old in coarsening.from.into_iter().filter(|old| *old != name) {
            let Some(held) = self.held.remove(&old) else {
                continue;
            };
            self.ends.remove(&(held.revocation.expires, old));
            self.retry.remove(&old);
            if held.queued {
                unstored.push(old);
            }
            out.push(Command::Remove(held.revocation));
        }
        // An entry that was not stored yet is stored, and reported, as the wider one.
        if !unstored.is_empty() {
            self.queue.retain(|queued| !unstored.contains(queued));
            self.unreported.retain(|queued| !unstored.contains(queued));
            self.unreported.insert(name);
            self.enqueue(name);
            out.push(Command::Replaced {
                from: unstored,
                into: name,
            });
        }
    }

    pub(super) fn enqueue(&mut self, name: Name) {
        if let Some(held) = self.held.get_mut(&name)
            && !held.queued
        {
            held.queued = true;
            self.queue.push_back(name);
        }
    }

    /// Drops expired entries, which are neither refused nor missing.
    pub(super) fn expire(&mut self, now: i64, out: &mut Vec<Command>) {
        while let Some((expires, name)) = self.ends.first().copied()
            && expires <= now
        {
            self.ends.pop_first();
            self.sent.remove(&name);
            self.retry.remove(&name);
            if let Some(held) = self.held.remove(&name) {
                if held.queued {
                    self.queue.retain(|queued| *queued != name);
                }
                if self.unreported.remove(&name) {
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
}
