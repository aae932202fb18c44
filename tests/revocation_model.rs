//! The protocol of the revocation list, explored: two replicas and a store, every order of events, with faults in between.
//!
//! The replicas are the ones of the program (`foregate::revocation::replica`), not a description of them. The store is a small one that
//! keeps the promises of `foregate::store::Store`, and can break: it loses questions and answers, restarts empty, goes back to an earlier
//! state, and somebody deletes entries behind its back. Replicas crash and begin anew.
//!
//! Time is rounds: a round is over when every replica has finished a poll that began in it, so it is a quarter of a second of the running
//! gateway. What is promised within a second has four rounds without a new fault. Three are enough for a revocation to be refused
//! everywhere: whoever remembers it may have asked the store just before it lost its data, and whoever does not may have asked just before
//! it was written back.
//!
//! `FOREGATE_FULL=1` explores more faults. The number of states is printed: `cargo test --test revocation_model -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

use std::collections::{BTreeMap, BTreeSet};

use foregate::revocation::replica::{Command, Event, PAGE, Replica};
use foregate::revocation::{Name, Revocation, What};
use foregate::store::{Logged, Position};
use stateright::{Checker, Model, Property};

/// The clock stands still: expiry is not what is explored here.
const NOW: i64 = 1_000;
const EXPIRES: i64 = 2_000;

/// Rounds after which a revocation that was told must be refused everywhere.
const BOUND: u8 = 3;

/// Rounds in a second.
const SECOND: u8 = 4;

/// How much may happen.
#[derive(Clone, Copy, Debug, Default)]
struct World {
    revocations: u8,
    lost_messages: u8,
    crashes: u8,
    /// The store restarts without data.
    emptied: u8,
    /// The store restarts from a snapshot that is one entry older.
    rolled_back: u8,
    /// Somebody who can write the store deletes an entry.
    deleted: u8,
    /// Whether a crash may come together with lost data, so that nobody remembers.
    may_forget: bool,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct State {
    store: Redis,
    nodes: [Node; 2],
    /// Which were revoked so far.
    revoked: u8,
    /// Revocations whose operator was told that they are stored, and how many rounds ago that or the last fault was.
    told: BTreeMap<Name, u8>,
    left: Faults,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Faults {
    lost_messages: u8,
    crashes: u8,
    emptied: u8,
    rolled_back: u8,
    deleted: u8,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Redis {
    epoch: u128,
    seq: u64,
    log: BTreeMap<u64, (Name, Logged)>,
}

/// A replica, and what is under way between it and the store.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Node {
    replica: Replica,
    /// The list, as requests see it.
    list: BTreeSet<Name>,
    question: Option<Command>,
    answer: Option<Event>,
    /// It finished a poll in this round; or one is under way.
    polled: Polled,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Polled {
    No,
    Underway,
    Yes,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Action {
    Revoke(usize),
    Poll(usize),
    /// The store answers the open question.
    Carry(usize),
    /// The question never arrives.
    LoseQuestion(usize),
    /// The answer arrives.
    Deliver(usize),
    /// The answer does not.
    LoseAnswer(usize),
    Crash(usize),
    Empty,
    RollBack,
    Delete,
    Round,
}

fn revocation(number: u8) -> Revocation {
    Revocation {
        what: What::Session {
            issuer: "https://issuer".to_owned(),
            session: number.to_string(),
            subject: None,
        },
        told: NOW * 1000,
        expires: EXPIRES,
    }
}

impl Redis {
    fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            seq: self.seq,
        }
    }

    fn carry_out(&mut self, question: &Command) -> Event {
        match question {
            Command::AskPosition { at } => {
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
            other => panic!("not a question: {other:?}"),
        }
    }

    fn append(&mut self, name: Name, revocation: &Revocation) {
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

    fn holds(&self, name: &Name) -> bool {
        self.log.values().any(|(present, _)| present == name)
    }
}

impl Node {
    fn new() -> Self {
        Self {
            replica: Replica::new(100),
            list: BTreeSet::new(),
            question: None,
            answer: None,
            polled: Polled::No,
        }
    }

    /// Gives the replica an event. Says what was told as stored.
    fn take(&mut self, event: Event) -> Vec<Name> {
        let mut stored = Vec::new();
        for command in self.replica.handle(event, NOW) {
            match command {
                Command::Insert(revocation, _) => drop(self.list.insert(revocation.name())),
                Command::Remove(revocation) => drop(self.list.remove(&revocation.name())),
                Command::Stored(names) => stored.extend(names),
                question @ (Command::AskPosition { .. }
                | Command::ReadLog { .. }
                | Command::Append(_)) => {
                    assert!(self.question.is_none() && self.answer.is_none());
                    self.question = Some(question);
                }
                Command::Queued(_)
                | Command::Replaced { .. }
                | Command::Agreed
                | Command::Reload(_)
                | Command::Coarsened(_)
                | Command::Overfull(_)
                | Command::Missing(_) => {}
                Command::Foreign => panic!("a record cannot be read"),
            }
        }
        if self.polled == Polled::Underway && self.is_idle() {
            self.polled = Polled::Yes;
        }
        stored
    }

    fn is_idle(&self) -> bool {
        self.question.is_none() && self.answer.is_none()
    }
}

impl State {
    fn tell(&mut self, stored: Vec<Name>) {
        for name in stored {
            self.told.entry(name).or_insert(0);
        }
    }

    /// A fault: the time in which things are put right begins anew.
    fn fault(&mut self) {
        self.told.values_mut().for_each(|age| *age = 0);
    }

    fn is_remembered(&self, name: &Name) -> bool {
        self.store.holds(name) || self.nodes.iter().any(|node| node.list.contains(name))
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            store: Redis {
                epoch: 1,
                seq: 0,
                log: BTreeMap::new(),
            },
            nodes: [Node::new(), Node::new()],
            revoked: 0,
            told: BTreeMap::new(),
            left: Faults {
                lost_messages: self.lost_messages,
                crashes: self.crashes,
                emptied: self.emptied,
                rolled_back: self.rolled_back,
                deleted: self.deleted,
            },
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, node) in state.nodes.iter().enumerate() {
            if state.revoked < self.revocations {
                actions.push(Action::Revoke(index));
            }
            // A second poll in one round only makes things faster.
            if node.is_idle() && node.polled == Polled::No {
                actions.push(Action::Poll(index));
            }
            if node.question.is_some() {
                actions.push(Action::Carry(index));
            }
            if node.answer.is_some() {
                actions.push(Action::Deliver(index));
            }
            if state.left.lost_messages > 0 {
                if node.question.is_some() {
                    actions.push(Action::LoseQuestion(index));
                }
                if node.answer.is_some() {
                    actions.push(Action::LoseAnswer(index));
                }
            }
            if state.left.crashes > 0 {
                actions.push(Action::Crash(index));
            }
        }
        if state.left.emptied > 0 {
            actions.push(Action::Empty);
        }
        if !state.store.log.is_empty() {
            if state.left.rolled_back > 0 {
                actions.push(Action::RollBack);
            }
            if state.left.deleted > 0 {
                actions.push(Action::Delete);
            }
        }
        if state.nodes.iter().all(|node| node.polled == Polled::Yes) {
            actions.push(Action::Round);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Revoke(node) => {
                let revocation = revocation(state.revoked);
                state.revoked += 1;
                let stored = state.nodes[node].take(Event::Revoke(revocation));
                state.tell(stored);
            }
            Action::Poll(node) => {
                state.nodes[node].polled = Polled::Underway;
                let stored = state.nodes[node].take(Event::Poll);
                state.tell(stored);
            }
            Action::Carry(node) => {
                let question = state.nodes[node].question.take()?;
                state.nodes[node].answer = Some(state.store.carry_out(&question));
            }
            Action::Deliver(node) => {
                let answer = state.nodes[node].answer.take()?;
                let stored = state.nodes[node].take(answer);
                state.tell(stored);
            }
            Action::LoseQuestion(node) | Action::LoseAnswer(node) => {
                state.left.lost_messages -= 1;
                state.nodes[node].question = None;
                state.nodes[node].answer = None;
                let stored = state.nodes[node].take(Event::Unreachable);
                state.tell(stored);
                state.fault();
            }
            Action::Crash(node) => {
                state.left.crashes -= 1;
                state.nodes[node] = Node::new();
                state.fault();
            }
            Action::Empty => {
                state.left.emptied -= 1;
                state.store = Redis {
                    epoch: state.store.epoch + 1,
                    seq: 0,
                    log: BTreeMap::new(),
                };
                state.fault();
            }
            Action::RollBack => {
                state.left.rolled_back -= 1;
                state.store.log.pop_last();
                // A store that has an older state again has its number again, too.
                state.store.seq = state.store.log.keys().next_back().copied().unwrap_or(0);
                state.fault();
            }
            Action::Delete => {
                state.left.deleted -= 1;
                state.store.log.pop_first();
                state.fault();
            }
            Action::Round => {
                state
                    .nodes
                    .iter_mut()
                    .for_each(|node| node.polled = Polled::No);
                for age in state.told.values_mut() {
                    *age = (*age + 1).min(SECOND);
                }
            }
        }
        // The one thing that is not promised: that somebody remembers what the store lost after who was told of it crashed.
        if !self.may_forget && state.told.keys().any(|name| !state.is_remembered(name)) {
            return None;
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "revoked, and told, means refused within the bound or 503",
                |world: &Self, state: &State| {
                    let within = |name: &Name, age: u8| {
                        age < BOUND
                            || (world.may_forget && !state.is_remembered(name))
                            || state
                                .nodes
                                .iter()
                                .all(|node| !node.replica.is_complete() || node.list.contains(name))
                    };
                    state.told.iter().all(|(name, age)| within(name, *age))
                },
            ),
            Property::always(
                "what was told is in the store again within a second",
                |world: &Self, state: &State| {
                    state.told.iter().all(|(name, age)| {
                        *age < SECOND
                            || (world.may_forget && !state.is_remembered(name))
                            || state.store.holds(name)
                    })
                },
            ),
            Property::always(
                "a replica never forgets while it runs",
                |_, state: &State| {
                    let holds = |node: &Node| node.list.iter().all(|name| node.replica.holds(name));
                    state.nodes.iter().all(holds)
                },
            ),
            Property::sometimes(
                "everything is revoked, told, and known",
                |world: &Self, state: &State| {
                    state.told.len() == usize::from(world.revocations)
                        && state.nodes.iter().all(|node| {
                            node.replica.is_complete() && node.list.len() == state.told.len()
                        })
                },
            ),
        ]
    }
}

fn explore(world: World) {
    let checker = world.checker().threads(2).spawn_bfs().join();
    println!(
        "{world:?}: {} states, {} of them different, at most {} steps deep",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
}

fn large() -> bool {
    std::env::var_os("FOREGATE_FULL").is_some_and(|value| value == "1")
}

#[test]
fn without_faults_everybody_knows_what_was_told() {
    explore(World {
        revocations: 2,
        ..World::default()
    });
}

#[test]
fn messages_may_be_lost() {
    explore(World {
        revocations: if large() { 2 } else { 1 },
        lost_messages: 2,
        ..World::default()
    });
}

#[test]
fn a_replica_may_crash() {
    explore(World {
        revocations: if large() { 2 } else { 1 },
        crashes: 2,
        ..World::default()
    });
}

#[test]
fn the_store_may_restart_empty() {
    explore(World {
        revocations: 1,
        emptied: 2,
        lost_messages: u8::from(large()),
        ..World::default()
    });
}

#[test]
fn the_store_may_go_back() {
    explore(World {
        revocations: 2,
        rolled_back: 1,
        ..World::default()
    });
}

#[test]
fn somebody_may_delete_entries() {
    explore(World {
        revocations: if large() { 2 } else { 1 },
        deleted: if large() { 1 } else { 2 },
        ..World::default()
    });
}

#[test]
fn one_of_everything_may_come_together_while_somebody_remembers() {
    explore(World {
        revocations: 1,
        lost_messages: 1,
        crashes: 1,
        emptied: 1,
        ..World::default()
    });
}

#[test]
fn what_nobody_remembers_is_the_only_thing_that_is_lost() {
    explore(World {
        revocations: 1,
        crashes: 1,
        emptied: 1,
        may_forget: true,
        ..World::default()
    });
}
