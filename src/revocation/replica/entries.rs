//! The entries that a replica holds: added, extended, coarsened, queued and dropped.

use super::{Command, Held, Replica, Source};
use crate::revocation::coarsen;
use crate::revocation::target::{Kind, Name, Revocation};

impl Replica {
    pub(super) fn revoke(&mut self, revocation: Revocation, now: i64, out: &mut Vec<Command>) {
        let name = revocation.name();
        if revocation.expires <= now {
            return out.push(Command::Stored(vec![name])); // There is nothing left to refuse.
        }
        self.hold(name, revocation, Source::Here, out);
        if self.complete && self.is_logged(&name) {
            return out.push(Command::Stored(vec![name]));
        }
        self.retry.remove(&name);
        self.enqueue(name);
        self.refused = false;
        self.coarsen(out);
    }

    /// Holds an entry, or extends the one that is held.
    pub(super) fn hold(
        &mut self,
        name: Name,
        revocation: Revocation,
        source: Source,
        out: &mut Vec<Command>,
    ) {
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

    /// Makes room: replaces tokens by sessions first, then all entries of a subject by one.
    pub(super) fn coarsen(&mut self, out: &mut Vec<Command>) {
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
        // What could not be coarsened now is unlikely to be after one more entry.
        self.coarsen_at = self.capacity.max(after + self.capacity / 8);
    }

    pub(super) fn overfull(&mut self, out: &mut Vec<Command>) {
        let overfull = self.held.len() > self.capacity;
        if std::mem::replace(&mut self.is_overfull, overfull) != overfull {
            out.push(Command::Overfull(overfull));
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
