//! The protocol of the revocation list, explored: two replicas and a store, every order of events,
//! with faults in between.
//!
//! The replicas are the real ones (`foregate::revocation::replica`), not a description of them. The
//! store is a small one that keeps the promises of `foregate::store::Store`, and can fail: it loses
//! calls and answers, restarts empty, goes back to an earlier state, and an attacker deletes
//! entries. Replicas crash and restart.
//!
//! A list may be full: then its entries are merged into those of their user, and these into one of
//! a bucket of users, and every revocation must still be refused. An operator may undo a
//! revocation, and the identity server may confirm a logout.
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

#[path = "revocation_model/parts.rs"]
mod parts;

use std::collections::BTreeMap;

use foregate::revocation::replica::Event;
use foregate::revocation::{Name, Note};
use stateright::{Checker, Model, Property};

use self::parts::{NOW, Node, Polled, Redis, SHORTER, revocation};

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
    /// The capacity of the lists; 0 is more than enough.
    capacity: usize,
    /// An operator undoes the first revocation.
    undone: u8,
    /// The identity server confirms the logout of the first revocation.
    confirmed: u8,
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
    /// The same for the revocation that was undone; `None` before that is reported.
    undone: Option<u8>,
    left: Left,
}

/// What may still happen.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Left {
    lost_messages: u8,
    crashes: u8,
    emptied: u8,
    rolled_back: u8,
    deleted: u8,
    undone: u8,
    confirmed: u8,
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
    /// An operator undoes the first revocation.
    Undo(usize),
    /// The identity server confirms the logout of the first revocation.
    Confirm(usize),
    Round,
}

impl State {
    fn tell(&mut self, world: &World, node: usize, stored: Vec<Name>) {
        let first = revocation(0).name();
        for name in stored {
            if name == first && self.left.undone < world.undone {
                // Only that it was undone is reported from now on, by the replica that knows it.
                let entry = self.nodes[node].replica.entry(&name);
                if entry.is_some_and(|entry| entry.target.is_undone()) {
                    self.undone.get_or_insert(0);
                }
            } else if (0..self.revoked).any(|number| revocation(number).name() == name) {
                self.reported.entry(name).or_insert(0);
            }
        }
    }

    /// A fault: the time for recovery starts again.
    fn fault(&mut self) {
        self.reported
            .values_mut()
            .chain(&mut self.undone)
            .for_each(|age| *age = 0);
    }

    fn is_remembered(&self, name: &Name) -> bool {
        self.store.refuses(name) || self.nodes.iter().any(|node| node.refuses(name))
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
            nodes: [Node::new(self), Node::new(self)],
            revoked: 0,
            reported: BTreeMap::new(),
            undone: None,
            left: Left {
                lost_messages: self.lost_messages,
                crashes: self.crashes,
                emptied: self.emptied,
                rolled_back: self.rolled_back,
                deleted: self.deleted,
                undone: self.undone,
                confirmed: self.confirmed,
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
            let first = revocation(0).name();
            let is_held = node.list.contains_key(&first) && node.replica.is_complete();
            if state.left.undone > 0 && is_held {
                actions.push(Action::Undo(index));
            }
            if state.left.confirmed > 0 && is_held {
                actions.push(Action::Confirm(index));
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
                state.tell(self, node, stored);
            }
            Action::Poll(node) => {
                state.nodes[node].polled = Polled::Underway;
                let stored = state.nodes[node].take(Event::Poll);
                state.tell(self, node, stored);
            }
            Action::Carry(node) => {
                let question = state.nodes[node].question.take()?;
                state.nodes[node].answer = Some(state.store.carry_out(&question));
            }
            Action::Deliver(node) => {
                let answer = state.nodes[node].answer.take()?;
                let stored = state.nodes[node].take(answer);
                state.tell(self, node, stored);
            }
            Action::LoseCall(node) | Action::LoseAnswer(node) => {
                state.left.lost_messages -= 1;
                state.nodes[node].question = None;
                state.nodes[node].answer = None;
                let stored = state.nodes[node].take(Event::Unreachable);
                state.tell(self, node, stored);
                state.fault();
            }
            Action::Crash(node) => {
                state.left.crashes -= 1;
                state.nodes[node] = Node::new(self);
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
            Action::Undo(node) => {
                let first = revocation(0).name();
                let note = Note {
                    by: "operator".to_owned(),
                    reason: String::new(),
                };
                let undoing = state.nodes[node].replica.undoing(&first, note, NOW * 1000);
                state.left.undone -= 1;
                state.reported.remove(&first);
                let stored = state.nodes[node].take(Event::Revoke(undoing.ok()?));
                state.tell(self, node, stored);
            }
            Action::Confirm(node) => {
                state.left.confirmed -= 1;
                let mut confirmed = revocation(0);
                confirmed.expires = SHORTER;
                let stored = state.nodes[node].take(Event::Shorten(vec![confirmed]));
                state.tell(self, node, stored);
            }
            Action::Round => {
                state
                    .nodes
                    .iter_mut()
                    .for_each(|node| node.polled = Polled::No);
                for age in state.reported.values_mut().chain(&mut state.undone) {
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
                                .all(|node| !node.replica.is_complete() || node.refuses(name))
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
                            || state.store.refuses(name)
                    })
                },
            ),
            Property::always(
                "a revocation reported as undone is refused by nobody within the bound",
                |_, state: &State| {
                    let first = revocation(0).name();
                    let is_over =
                        |node: &Node| !node.replica.is_complete() || !node.refuses(&first);
                    state.undone.is_none_or(|age| age < BOUND) || state.nodes.iter().all(is_over)
                },
            ),
            Property::always(
                "a replica keeps what it holds while it runs",
                |_, state: &State| {
                    let holds = |node: &Node| node.list.keys().all(|name| node.replica.holds(name));
                    state.nodes.iter().all(holds)
                },
            ),
            Property::sometimes(
                "everything is revoked, reported and known",
                |world: &Self, state: &State| {
                    let undone = usize::from(state.undone.is_some());
                    state.left.undone == 0
                        && state.left.confirmed == 0
                        && state.reported.len() + undone == usize::from(world.revocations)
                        && state.nodes.iter().all(|node| {
                            node.replica.is_complete()
                                && state.reported.keys().all(|name| node.refuses(name))
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

#[test]
fn a_full_list_refuses_all_that_was_reported() {
    // Two users, who share a bucket; with three revocations, one of them is merged before.
    explore(World {
        revocations: if large() { 3 } else { 2 },
        capacity: 1,
        ..World::default()
    });
}

#[test]
fn a_full_list_loses_nothing_with_a_message_a_replica_or_the_store() {
    for (lost_messages, crashes, emptied) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
        if large() {
            explore(World {
                revocations: 2,
                capacity: 1,
                lost_messages,
                crashes,
                emptied,
                ..World::default()
            });
        }
    }
}

/// One fault of each kind; without `FOREGATE_FULL=1` only those with few states.
fn one_fault() -> Vec<World> {
    let mut worlds = vec![World {
        crashes: 1,
        ..World::default()
    }];
    if large() {
        worlds.extend([
            World {
                lost_messages: 1,
                ..World::default()
            },
            World {
                emptied: 1,
                ..World::default()
            },
            World {
                rolled_back: 1,
                ..World::default()
            },
            World {
                deleted: 1,
                ..World::default()
            },
        ]);
    }
    worlds
}

#[test]
fn what_was_undone_is_refused_nowhere() {
    for fault in one_fault() {
        explore(World {
            revocations: 1,
            undone: 1,
            ..fault
        });
    }
}

#[test]
fn a_confirmed_logout_is_refused_all_the_same() {
    for fault in one_fault() {
        explore(World {
            revocations: 1,
            confirmed: 1,
            ..fault
        });
    }
}
