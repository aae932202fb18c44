//! The protocol of the revocation list, explored: two replicas and a store, every order of events,
//! with faults in between.
//!
//! The replicas are the real ones (`foregate::revocation::replica`), not a description of them. The
//! store is a small one that keeps the promises of `foregate::store::Store`, and can fail: it loses
//! calls and answers, restarts empty, goes back to an earlier state, and an attacker deletes
//! entries. Replicas crash and restart.
//!
//! Time is counted in rounds: a round is over when every replica has finished a poll that began in
//! it, so it is a quarter of a second of the running gateway. What is promised within a second has
//! four rounds without a new fault. Three are enough for a revocation to be refused everywhere: a
//! replica that holds it may have called the store just before it lost its data, and one that does
//! not may have called just before it was written back.
//!
//! `FOREGATE_FULL=1` explores more faults. The number of states is printed: `cargo test --test
//! revocation_model -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

use std::collections::{BTreeMap, BTreeSet};

use foregate::revocation::replica::{Command, Event, PAGE, Replica};
use foregate::revocation::{Name, Revocation, Target};
use foregate::store::{Logged, Position};
use stateright::{Checker, Model, Property};

/// The clock stands still: expiry is not explored here.
const NOW: i64 = 1_000;
const EXPIRES: i64 = 2_000;

/// Rounds after which a revocation that was reported as stored must be refused everywhere.
const BOUND: u8 = 3;

/// Rounds in a second.
const SECOND: u8 = 4;

/// How often each fault may happen.
#[derive(Clone, Copy, Debug, Default)]
struct World {
    revocations: u8,
    lost_messages: u8,
    crashes: u8,
    /// The store restarts without data.
    emptied: u8,
    /// The store restarts from a snapshot that is one entry older.
    rolled_back: u8,
    /// An attacker who can write to the store deletes an entry.
    deleted: u8,
    /// Whether a crash may coincide with lost data, so that no replica holds the revocation.
    may_forget: bool,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct State {
    store: Redis,
    nodes: [Node; 2],
    /// The number of revocations so far.
    revoked: u8,
    /// Revocations reported as stored, with the number of rounds since the report or the last
    /// fault.
    reported: BTreeMap<Name, u8>,
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

/// A replica, and its call to the store.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Node {
    replica: Replica,
    /// The list, as requests see it.
    list: BTreeSet<Name>,
    question: Option<Command>,
    answer: Option<Event>,
    /// Whether it finished a poll in this round, or one is under way.
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
    /// The store answers the open call.
    Carry(usize),
    /// The call is lost.
    LoseCall(usize),
    /// The answer arrives.
    Deliver(usize),
    /// The answer is lost.
    LoseAnswer(usize),
    Crash(usize),
    Empty,
    RollBack,
    Delete,
    Round,
}

fn revocation(number: u8) -> Revocation {
    Revocation {
        target: Target::Session {
            issuer: "https://issuer".to_owned(),
            session: number.to_string(),
            subject: None,
        },
        received_at: NOW * 1000,
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
            other => panic!("not a call: {other:?}"),
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

    /// Passes an event to the replica. Returns what was reported as stored.
    fn take(&mut self, event: Event) -> Vec<Name> {
        let mut stored = Vec::new();
        for command in self.replica.handle(event, NOW) {
            match command {
                Command::Insert(revocation, _) => drop(self.list.insert(revocation.name())),
                Command::Remove(revocation) => drop(self.list.remove(&revocation.name())),
                Command::Stored(names) => stored.extend(names),
                question @ (Command::ReadPosition { .. }
                | Command::ReadLog { .. }
                | Command::Append(_)) => {
                    assert!(self.question.is_none() && self.answer.is_none());
                    self.question = Some(question);
                }
                Command::Queued(_)
                | Command::Replaced { .. }
                | Command::Confirmed
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
            self.reported.entry(name).or_insert(0);
        }
    }

    /// A fault: the time for recovery starts again.
    fn fault(&mut self) {
        self.reported.values_mut().for_each(|age| *age = 0);
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
            reported: BTreeMap::new(),
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
            // A second poll in one round only speeds recovery up.
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
                    actions.push(Action::LoseCall(index));
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
            Action::LoseCall(node) | Action::LoseAnswer(node) => {
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
                // A store that restored an older state also restored its number.
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
                for age in state.reported.values_mut() {
                    *age = (*age + 1).min(SECOND);
                }
            }
        }
        // The one exception: no replica holds what the store lost after the crash of the one that
        // reported it.
        if !self.may_forget && state.reported.keys().any(|name| !state.is_remembered(name)) {
            return None;
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "a revocation reported as stored is refused within the bound, or requests get 503",
                |world: &Self, state: &State| {
                    let within = |name: &Name, age: u8| {
                        age < BOUND
                            || (world.may_forget && !state.is_remembered(name))
                            || state
                                .nodes
                                .iter()
                                .all(|node| !node.replica.is_complete() || node.list.contains(name))
                    };
                    state.reported.iter().all(|(name, age)| within(name, *age))
                },
            ),
            Property::always(
                "a revocation reported as stored is in the store again within a second",
                |world: &Self, state: &State| {
                    state.reported.iter().all(|(name, age)| {
                        *age < SECOND
                            || (world.may_forget && !state.is_remembered(name))
                            || state.store.holds(name)
                    })
                },
            ),
            Property::always(
                "a replica keeps what it holds while it runs",
                |_, state: &State| {
                    let holds = |node: &Node| node.list.iter().all(|name| node.replica.holds(name));
                    state.nodes.iter().all(holds)
                },
            ),
            Property::sometimes(
                "everything is revoked, reported and known",
                |world: &Self, state: &State| {
                    state.reported.len() == usize::from(world.revocations)
                        && state.nodes.iter().all(|node| {
                            node.replica.is_complete() && node.list.len() == state.reported.len()
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
fn without_faults_every_replica_refuses_what_was_reported_as_stored() {
    explore(World {
        revocations: 2,
        ..World::default()
    });
}

#[test]
fn lost_messages_break_no_guarantee() {
    explore(World {
        revocations: if large() { 2 } else { 1 },
        lost_messages: 2,
        ..World::default()
    });
}

#[test]
fn a_crash_of_a_replica_breaks_no_guarantee() {
    explore(World {
        revocations: if large() { 2 } else { 1 },
        crashes: 2,
        ..World::default()
    });
}

#[test]
fn a_store_that_restarts_empty_gets_everything_back() {
    explore(World {
        revocations: 1,
        emptied: 2,
        lost_messages: u8::from(large()),
        ..World::default()
    });
}

#[test]
fn a_store_that_is_rolled_back_gets_everything_back() {
    explore(World {
        revocations: 2,
        rolled_back: 1,
        ..World::default()
    });
}

#[test]
fn deleted_entries_are_written_back() {
    explore(World {
        revocations: if large() { 2 } else { 1 },
        deleted: if large() { 1 } else { 2 },
        ..World::default()
    });
}

#[test]
fn one_of_each_fault_together_loses_nothing_that_a_replica_holds() {
    explore(World {
        revocations: 1,
        lost_messages: 1,
        crashes: 1,
        emptied: 1,
        ..World::default()
    });
}

#[test]
fn only_what_no_replica_holds_is_lost() {
    explore(World {
        revocations: 1,
        crashes: 1,
        emptied: 1,
        may_forget: true,
        ..World::default()
    });
}
