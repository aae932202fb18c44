//! What the model consists of: the store, which can fail, and the replicas with their calls to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use foregate::revocation::replica::{Command, Event, PAGE, Replica};
use foregate::revocation::{Name, Revocation, Target, bucket_of};
use foregate::store::{Logged, Position};

use super::World;

/// The clock stands still: expiry is not explored here.
pub(super) const NOW: i64 = 1_000;
pub(super) const EXPIRES: i64 = 2_000;

/// When a revocation expires whose logout was confirmed.
pub(super) const SHORTER: i64 = 1_500;

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Redis {
    pub(super) epoch: u128,
    pub(super) seq: u64,
    pub(super) log: BTreeMap<u64, (Name, Logged)>,
}

/// A replica, and its call to the store.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Node {
    pub(super) replica: Replica,
    /// The list, as requests see it.
    pub(super) list: BTreeMap<Name, Target>,
    /// Entries that were merged before they were reported, and what is reported with each.
    pub(super) merged: BTreeMap<Name, BTreeSet<Name>>,
    pub(super) question: Option<Command>,
    pub(super) answer: Option<Event>,
    /// Whether it finished a poll in this round, or one is under way.
    pub(super) polled: Polled,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Polled {
    No,
    Underway,
    Yes,
}

/// Revocations with even numbers are of one user, the others of another.
pub(super) fn revocation(number: u8) -> Revocation {
    let target = Target::Session {
        issuer: "https://issuer".to_owned(),
        session: number.to_string(),
        subject: Some(format!("user {}", number % 2)),
    };
    Revocation::new(target, NOW * 1000, EXPIRES)
}

/// Whether an entry of the list refuses a session that began before it was revoked.
pub(super) fn refuses(entry: &Target, revoked: &Target) -> bool {
    let Target::Session {
        issuer,
        session,
        subject: Some(subject),
    } = revoked
    else {
        panic!("a session of a user was revoked");
    };
    match entry {
        Target::Session {
            issuer: of,
            session: one,
            ..
        } => of == issuer && one == session,
        Target::Subject {
            issuer: of,
            subject: one,
            not_before,
            except,
            ..
        } => of == issuer && one == subject && *not_before >= NOW && except.is_empty(),
        Target::Bucket {
            issuer: of,
            bits,
            prefix,
            not_before,
            ..
        } => {
            let bucket = u32::from(bucket_of(issuer, subject)) >> (16 - u32::from(*bits));
            of == issuer && bucket == u32::from(*prefix) && *not_before >= NOW
        }
        Target::Token { .. } | Target::Issuer { .. } | Target::Undone { .. } => false,
    }
}

/// What was revoked under this name.
pub(super) fn target(name: &Name) -> &'static Target {
    static ALL: LazyLock<Vec<(Name, Target)>> = LazyLock::new(|| {
        let all = (0..4).map(revocation);
        all.map(|one| (one.name(), one.target)).collect()
    });
    let found = ALL.iter().find(|(known, _)| known == name);
    &found.unwrap().1
}

impl Redis {
    pub(super) fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            seq: self.seq,
        }
    }

    pub(super) fn carry_out(&mut self, question: &Command) -> Event {
        match question {
            Command::ReadPosition { at } => {
                let later = self.log.values().filter(|(_, one)| one.expires > *at);
                Event::Position(self.position(), later.count() as u64)
            }
            Command::ReadLog { after } => {
                let page = self.log.range(after + 1..).take(PAGE);
                Event::Page(page.map(|(_, (_, logged))| logged.clone()).collect(), None)
            }
            Command::Append(revocations) => {
                for (name, revocation) in revocations {
                    self.append(*name, revocation);
                }
                Event::Appended(self.position())
            }
            Command::AppendShorter(revocations) => {
                for (name, revocation) in revocations {
                    let is_longer = |(present, logged): &(Name, Logged)| {
                        present == name && logged.expires > revocation.expires
                    };
                    self.log.retain(|_, entry| !is_longer(entry));
                    self.append(*name, revocation);
                }
                Event::Appended(self.position())
            }
            other => panic!("not a call: {other:?}"),
        }
    }

    pub(super) fn append(&mut self, name: Name, revocation: &Revocation) {
        let same = self.log.iter().find(|(_, (present, _))| *present == name);
        if let Some((seq, (_, present))) = same {
            if present.expires >= revocation.expires {
                return;
            }
            let seq = *seq;
            self.log.remove(&seq);
        }
        self.seq += 1;
        let logged = Logged {
            seq: self.seq,
            record: revocation.to_record(),
            expires: revocation.expires,
        };
        self.log.insert(self.seq, (name, logged));
    }

    pub(super) fn refuses(&self, name: &Name) -> bool {
        let revoked = target(name);
        self.log.values().any(|(_, logged)| {
            let entry = Revocation::from_record(&logged.record).unwrap();
            refuses(&entry.target, revoked)
        })
    }
}

impl Node {
    pub(super) fn new(world: &World) -> Self {
        let capacity = match world.capacity {
            0 => 100,
            capacity => capacity,
        };
        Self {
            replica: Replica::new(capacity),
            list: BTreeMap::new(),
            merged: BTreeMap::new(),
            question: None,
            answer: None,
            polled: Polled::No,
        }
    }

    pub(super) fn refuses(&self, name: &Name) -> bool {
        let revoked = target(name);
        self.list.values().any(|entry| refuses(entry, revoked))
    }

    /// Passes an event to the replica. Returns what was reported as stored.
    pub(super) fn take(&mut self, event: Event) -> Vec<Name> {
        let mut stored = Vec::new();
        for command in self.replica.handle(event, NOW) {
            match command {
                Command::Insert(revocation, _) => {
                    let (name, target) = (revocation.name(), revocation.target);
                    match target.is_undone() {
                        true => drop(self.list.remove(&name)),
                        false => drop(self.list.insert(name, target)),
                    }
                }
                Command::Remove(revocation) => drop(self.list.remove(&revocation.name())),
                Command::Stored(names) => {
                    for name in names {
                        stored.extend(self.merged.remove(&name).unwrap_or_default());
                        stored.push(name);
                    }
                }
                Command::Replaced { from, into } => {
                    let mut waiting: BTreeSet<Name> = from.iter().copied().collect();
                    for name in &from {
                        waiting.extend(self.merged.remove(name).unwrap_or_default());
                    }
                    self.merged.entry(into).or_default().extend(waiting);
                }
                question @ (Command::ReadPosition { .. }
                | Command::ReadLog { .. }
                | Command::Append(_)
                | Command::AppendShorter(_)) => {
                    assert!(self.question.is_none() && self.answer.is_none());
                    self.question = Some(question);
                }
                Command::Queued(_)
                | Command::Confirmed
                | Command::Reload(_)
                | Command::Coarsened(_)
                | Command::Overfull(_)
                | Command::NearlyFull(_)
                | Command::StillCovered(_)
                | Command::Shortened(_)
                | Command::Missing(_) => {}
                Command::Foreign => panic!("a record cannot be read"),
            }
        }
        if self.polled == Polled::Underway && self.is_idle() {
            self.polled = Polled::Yes;
        }
        stored
    }

    pub(super) fn is_idle(&self) -> bool {
        self.question.is_none() && self.answer.is_none()
    }
}
