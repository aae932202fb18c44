//! What ends a revocation before its expiry: an operator undoes it, or the identity server confirms
//! the logout that it stands for.

use super::{Command, Held, Replica};
use crate::revocation::target::{Name, Note, Revocation, Target};
use crate::secrets::hex;
use crate::store::{Logged, Position};

/// How much later the entry that undoes a revocation expires, in seconds, so that it also outlives
/// a copy that was written back: each time, a copy gets another second.
const UNDONE_LONGER: i64 = 3600;

/// Why a revocation cannot be undone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CannotUndo {
    /// No entry has this id: it has expired, or never existed.
    Unknown,
    /// More than one entry has an id that begins like this.
    Ambiguous,
    /// It was merged into a wider entry of the full list.
    Merged {
        /// When it would have expired, in Unix seconds.
        expires: i64,
    },
    /// It stands for other entries, which the log keeps.
    Wide(Box<Revocation>),
    /// It was undone before.
    Undone(Box<Revocation>),
}

impl Replica {
    /// The entry with this name that undoes the held one.
    ///
    /// # Errors
    ///
    /// There is nothing that can be undone.
    pub fn undoing(
        &self,
        name: &Name,
        note: Note,
        received_at: i64,
    ) -> Result<Revocation, CannotUndo> {
        let Some(held) = self.held.get(name) else {
            let logged = self.numbers.get(name).and_then(|seq| self.log.get(seq));
            return Err(
                logged.map_or(CannotUndo::Unknown, |(_, expires)| CannotUndo::Merged {
                    expires: *expires,
                }),
            );
        };
        let before = held.revocation.clone();
        if before.target.is_undone() {
            return Err(CannotUndo::Undone(Box::new(before)));
        }
        if is_wide(held) {
            return Err(CannotUndo::Wide(Box::new(before)));
        }
        let expires = before.expires.saturating_add(UNDONE_LONGER);
        let revocation = Box::new(before);
        let target = Target::Undone { revocation };
        Ok(Revocation::new(target, received_at, expires).noted(note))
    }

    /// The name of the only entry, held or merged, whose id begins with these hexadecimal digits.
    ///
    /// # Errors
    ///
    /// There is none, or more than one.
    pub fn name_of(&self, id: &str) -> Result<Name, CannotUndo> {
        let is_named = |name: &&Name| hex::encode(*name).starts_with(id);
        let merged = self.numbers.keys().filter(|name| !self.holds(name));
        let mut found = self.held.keys().chain(merged).filter(is_named);
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(*only),
            (None, _) => Err(CannotUndo::Unknown),
            (Some(_), Some(_)) => Err(CannotUndo::Ambiguous),
        }
    }

    /// The entries, and whether each stands for others.
    pub fn entries(&self) -> impl Iterator<Item = (&Name, &Revocation, bool)> {
        let entry = |(name, held)| -> (&Name, &Revocation, bool) {
            let held: &Held = held;
            (name, &held.revocation, is_wide(held))
        };
        self.held.iter().map(entry)
    }

    /// The entry with this name.
    pub fn entry(&self, name: &Name) -> Option<&Revocation> {
        self.held.get(name).map(|held| &held.revocation)
    }

    /// Notes that the log needs to keep these only until earlier expiries.
    pub(super) fn want_shorter(&mut self, confirmed: Vec<Revocation>, now: i64) {
        for revocation in confirmed {
            let name = revocation.name();
            let held = self.held.get(&name).map(|held| &held.revocation);
            let is_undone = held.is_some_and(|held| held.target.is_undone());
            let is_coarse = self.held.get(&name).is_some_and(|held| held.coarse);
            // The later one was not confirmed.
            let is_later = held.is_some_and(|held| held.refuses_more_than(&revocation));
            let is_longer = held.is_none_or(|held| held.expires > revocation.expires);
            // Whatever is dropped here keeps its later expiry.
            if revocation.expires > now
                && is_longer
                && !is_undone
                && !is_coarse
                && !is_later
                && self.shorter.len() < self.capacity
            {
                self.shorter.insert(name, revocation);
            }
        }
    }

    /// The log has the earlier expiries.
    pub(super) fn shortened(
        &mut self,
        sent: &[(Name, Revocation)],
        position: Position,
        out: &mut Vec<Command>,
    ) {
        for (name, revocation) in sent {
            self.hold_shorter(name, revocation.expires);
        }
        out.push(Command::Shortened(sent.len()));
        if self.read.is_some() {
            self.compare_position(position, out);
        }
    }

    /// Whether this entry of the log is there instead of the one from which the held entry came.
    /// Then its expiry was made earlier on purpose: an entry that is merely appended never replaces
    /// one with a later expiry.
    pub(super) fn is_shortened_by(&self, name: &Name, logged: &Logged) -> bool {
        let Some(held) = self.held.get(name) else {
            return false;
        };
        let before = self.numbers.get(name).filter(|seq| **seq < logged.seq);
        let before = before.and_then(|seq| self.log.get(seq));
        before.is_some_and(|(_, expires)| {
            logged.expires < *expires && *expires == held.revocation.expires
        })
    }

    /// Drops the held entry earlier. Not one that waits to be stored: it is a later revocation. Nor
    /// one into which others were merged, which are kept for longer.
    pub(super) fn hold_shorter(&mut self, name: &Name, expires: i64) {
        if let Some(held) = self.held.get_mut(name)
            && !held.queued
            && !held.coarse
            && !held.revocation.target.is_undone()
            && expires < held.revocation.expires
        {
            self.ends.remove(&(held.revocation.expires, *name));
            held.revocation.expires = expires;
            self.ends.insert((expires, *name));
        }
    }
}

impl Held {
    /// Until when the log says that this name was undone, if it does.
    pub(super) fn undone_until(&self) -> Option<i64> {
        match self.revocation.target.is_undone() {
            true => Some(self.revocation.expires),
            false => self.undone,
        }
    }
}

fn is_wide(held: &Held) -> bool {
    held.coarse || held.revocation.target.is_wide()
}
