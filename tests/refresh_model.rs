//! The refresh protocol, explored: replicas, a store and an identity server, every order of events,
//! with faults in between.
//!
//! The flights are the real ones (`foregate::sign_in::refresh_protocol`), not a description of
//! them. The store keeps one record and lets one of several writers win; it loses calls, answers,
//! and the record. The identity server has a session with one refresh token, which it consumes, and
//! forgives reuse by its rules. Replicas crash, and are paused for longer than their lease.
//!
//! Time is modelled by what may happen: a lease ends when its holder is gone or was paused for
//! longer than any call takes, and never while a running holder is within its time.
//!
//! The number of states is printed: `cargo test --test refresh_model -- --nocapture`.
//! `FOREGATE_FULL=1` explores three replicas with more faults.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use foregate::sign_in::refresh_protocol::{
    CallOutcome, Command, Event, Flight, MOST_CALLS, Record,
};
use stateright::{Checker, Model, Property};

type Version = u8;

/// The identity server's answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Answer {
    /// New tokens, with a number.
    Tokens(u8),
    /// The token is not accepted, and the session has ended.
    Refused,
}

/// How the identity server treats a used token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rule {
    /// Accepted for an interval, or while its successor is unused: it answers with the same
    /// successor.
    Forgiving,
    /// Never accepted: reuse ends the session.
    Strict,
}

/// How often each fault may happen.
#[derive(Clone, Copy, Debug)]
struct World {
    replicas: usize,
    rule: Rule,
    /// Refreshes that are started.
    starts: u8,
    /// Answers of the identity server that are lost, whether or not it acted.
    lost_calls: u8,
    /// Calls that the identity server declines without acting (429), or that were not sent.
    declined: u8,
    crashes: u8,
    /// Replicas that are paused for longer than their lease.
    pauses: u8,
    /// Calls to the store, or its answers, that are lost.
    lost_messages: u8,
    /// Records that the store loses.
    lost_records: u8,
}

const QUIET: World = World {
    replicas: 2,
    rule: Rule::Forgiving,
    starts: 3,
    lost_calls: 0,
    declined: 0,
    crashes: 0,
    pauses: 0,
    lost_messages: 0,
    lost_records: 0,
};

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct State {
    record: Option<Record<Answer>>,
    version: Version,
    server: Server,
    nodes: Vec<Node>,
    /// Calls without a caller left to receive the answer, which the server has yet to serve.
    orphans: u8,
    /// Calls that the server received, or may have received.
    sent: u8,
    /// Answers to clients.
    reported: Vec<Option<Answer>>,
    /// Whether the store failed in some way, so that replicas may have acted alone.
    store_failed: bool,
    left: Left,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Left {
    starts: u8,
    lost_calls: u8,
    declined: u8,
    crashes: u8,
    pauses: u8,
    lost_messages: u8,
    lost_records: u8,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Server {
    lives: bool,
    used: bool,
    /// Number of successor tokens.
    followed: u8,
}

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct Node {
    flight: Option<(Flight<Version, Answer>, Command<Version, Answer>)>,
    /// The version of the lease that it waits for, or holds.
    version: Version,
    /// It was paused for longer than its lease.
    overdue: bool,
    call: Option<Call>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Call {
    Sent,
    Served(Answer),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Action {
    Begin(usize),
    /// The store carries out the call and answers.
    ServeStore(usize),
    /// The call to the store is lost.
    LoseStoreCall(usize),
    /// The store carries out the call, and its answer is lost.
    LoseStoreAnswer(usize),
    /// A waiting refresh polls again, and the record has changed.
    Poll(usize),
    /// A waiting refresh finds that the lease has ended.
    LeaseEnds(usize),
    Call(usize),
    /// The server declines, or the call is not sent.
    Decline(usize),
    Serve(usize),
    ServeOrphan,
    Deliver(usize),
    LoseCall(usize),
    Crash(usize),
    Pause(usize),
    LoseRecord,
}

impl Server {
    fn serve(&mut self, rule: Rule) -> Answer {
        if self.used && rule == Rule::Strict {
            self.lives = false;
        }
        if !self.lives {
            return Answer::Refused;
        }
        if !self.used {
            self.used = true;
            self.followed += 1;
        }
        Answer::Tokens(self.followed)
    }
}

impl State {
    fn command(&self, node: usize) -> Option<&Command<Version, Answer>> {
        Some(&self.nodes[node].flight.as_ref()?.1)
    }

    /// Passes an event to a flight, and takes its command.
    fn take(&mut self, node: usize, event: Event<Version, Answer>) {
        if let Event::Found(_, version) | Event::Written(version) = &event {
            self.nodes[node].version = *version;
        }
        let (flight, command) = self.nodes[node].flight.as_mut().unwrap();
        *command = flight.handle(event);
        let reported = match command {
            Command::Finish(answer) => Some(*answer),
            Command::Fail => None,
            Command::Read | Command::Wait | Command::Write(..) | Command::Call => return,
        };
        self.reported.push(reported);
        self.nodes[node] = Node::default();
    }

    /// The store's action for a node, and its answer.
    fn serve_store(&mut self, node: usize) -> Event<Version, Answer> {
        match self.command(node).unwrap().clone() {
            Command::Write(version, record) => {
                if version != self.version {
                    return Event::Lost;
                }
                self.record = Some(record);
                self.version += 1;
                Event::Written(self.version)
            }
            Command::Read | Command::Wait => Event::Found(self.record.clone(), self.version),
            Command::Call | Command::Finish(_) | Command::Fail => {
                unreachable!("not a call to the store")
            }
        }
    }

    /// The answer to this node's call has no receiver any more.
    fn orphan(&mut self, node: usize) {
        if self.nodes[node].call.take() == Some(Call::Sent) {
            self.orphans += 1;
        }
    }

    /// Whether the lease that a node waits for is held by a running replica within its time.
    fn is_held(&self, version: Version) -> bool {
        self.nodes.iter().any(|node| {
            let waits = node
                .flight
                .as_ref()
                .is_some_and(|(flight, _)| flight.is_waiting());
            node.flight.is_some() && !waits && node.version == version && !node.overdue
        })
    }

    /// Calls under way of running holders within their time.
    fn calls(&self) -> usize {
        let counts = |node: &&Node| node.call.is_some() && !node.overdue;
        self.nodes.iter().filter(counts).count()
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            record: None,
            version: 0,
            server: Server {
                lives: true,
                used: false,
                followed: 0,
            },
            nodes: vec![Node::default(); self.replicas],
            orphans: 0,
            sent: 0,
            reported: Vec::new(),
            store_failed: false,
            left: Left {
                starts: self.starts,
                lost_calls: self.lost_calls,
                declined: self.declined,
                crashes: self.crashes,
                pauses: self.pauses,
                lost_messages: self.lost_messages,
                lost_records: self.lost_records,
            },
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let left = &state.left;
        for (node, held) in state.nodes.iter().enumerate() {
            let Some((_, command)) = &held.flight else {
                if left.starts > 0 {
                    actions.push(Action::Begin(node));
                }
                continue;
            };
            match command {
                Command::Read | Command::Write(..) => {
                    actions.push(Action::ServeStore(node));
                    if left.lost_messages > 0 {
                        actions.push(Action::LoseStoreCall(node));
                        actions.push(Action::LoseStoreAnswer(node));
                    }
                }
                Command::Wait if state.version != held.version => actions.push(Action::Poll(node)),
                Command::Wait if !state.is_held(held.version) => {
                    actions.push(Action::LeaseEnds(node));
                }
                Command::Wait => {}
                Command::Call => match held.call {
                    None => {
                        actions.push(Action::Call(node));
                        if left.declined > 0 {
                            actions.push(Action::Decline(node));
                        }
                    }
                    Some(call) => {
                        actions.push(match call {
                            Call::Sent => Action::Serve(node),
                            Call::Served(_) => Action::Deliver(node),
                        });
                        if left.lost_calls > 0 || held.overdue {
                            actions.push(Action::LoseCall(node));
                        }
                    }
                },
                Command::Finish(_) | Command::Fail => {}
            }
            if left.crashes > 0 {
                actions.push(Action::Crash(node));
            }
            if left.pauses > 0 && !held.overdue && *command != Command::Wait {
                actions.push(Action::Pause(node));
            }
        }
        if state.orphans > 0 {
            actions.push(Action::ServeOrphan);
        }
        if left.lost_records > 0 && state.record.is_some() {
            actions.push(Action::LoseRecord);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Begin(node) => {
                state.left.starts -= 1;
                state.nodes[node].flight = Some(Flight::begin());
            }
            Action::ServeStore(node) | Action::Poll(node) => {
                let event = state.serve_store(node);
                state.take(node, event);
            }
            Action::LoseStoreCall(node) | Action::LoseStoreAnswer(node) => {
                if matches!(action, Action::LoseStoreAnswer(_)) {
                    state.serve_store(node);
                }
                state.left.lost_messages -= 1;
                state.store_failed = true;
                state.take(node, Event::Unreachable);
            }
            Action::LeaseEnds(node) => state.take(node, Event::LeaseOver),
            // A paused holder checks the clock before it calls.
            Action::Call(node) if state.nodes[node].overdue => {
                state.take(node, Event::Called(CallOutcome::NotExecuted));
            }
            Action::Call(node) => {
                state.sent += 1;
                state.nodes[node].call = Some(Call::Sent);
            }
            Action::Decline(node) => {
                state.left.declined -= 1;
                state.take(node, Event::Called(CallOutcome::NotExecuted));
            }
            Action::Serve(node) => {
                let answer = state.server.serve(self.rule);
                state.nodes[node].call = Some(Call::Served(answer));
            }
            Action::ServeOrphan => {
                state.orphans -= 1;
                state.server.serve(self.rule);
            }
            Action::Deliver(node) => {
                let Some(Call::Served(answer)) = state.nodes[node].call.take() else {
                    return None;
                };
                state.take(node, Event::Called(CallOutcome::Answered(answer)));
            }
            Action::LoseCall(node) => {
                state.left.lost_calls = state.left.lost_calls.saturating_sub(1);
                state.orphan(node);
                state.take(node, Event::Called(CallOutcome::Unknown));
            }
            Action::Crash(node) => {
                state.left.crashes -= 1;
                state.orphan(node);
                state.nodes[node] = Node::default();
            }
            Action::Pause(node) => {
                state.left.pauses -= 1;
                state.nodes[node].overdue = true;
            }
            Action::LoseRecord => {
                state.left.lost_records -= 1;
                state.record = None;
                state.version += 1;
                state.store_failed = true;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "one call at a time while the store works",
                |_: &Self, state: &State| state.store_failed || state.calls() <= 1,
            ),
            Property::always(
                "a call is repeated at most once",
                |_: &Self, state: &State| state.store_failed || state.sent <= MOST_CALLS,
            ),
            Property::always(
                "no client is told that a live session has ended",
                |_: &Self, state: &State| {
                    !state.server.lives || !state.reported.contains(&Some(Answer::Refused))
                },
            ),
            Property::always(
                "the session lives, unless its server is strict and an outcome was lost",
                |world: &Self, state: &State| {
                    state.server.lives
                        || (world.rule == Rule::Strict
                            && (state.store_failed
                                || state.left.lost_calls < world.lost_calls
                                || state.left.crashes < world.crashes
                                || state.left.pauses < world.pauses))
                },
            ),
            Property::always(
                "all clients that get tokens get the same",
                |_: &Self, state: &State| {
                    let mut tokens = state.reported.iter().flatten();
                    let first = tokens.next();
                    tokens.all(|answer| Some(answer) == first || !state.server.lives)
                },
            ),
            Property::eventually("every client gets an answer", |_: &Self, state: &State| {
                state.left.starts == 0 && state.nodes.iter().all(|node| node.flight.is_none())
            }),
            Property::sometimes(
                "every client gets the same tokens",
                |world: &Self, state: &State| {
                    state.reported.len() >= usize::from(world.starts - world.crashes)
                        && state
                            .reported
                            .iter()
                            .all(|reported| *reported == Some(Answer::Tokens(1)))
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

/// Three replicas instead of two, and one more refresh, in the large run.
fn sized(world: World) -> World {
    let large = std::env::var_os("FOREGATE_FULL").is_some_and(|value| value == "1");
    World {
        replicas: world.replicas + usize::from(large),
        starts: world.starts + u8::from(large),
        ..world
    }
}

#[test]
fn without_faults_one_call_answers_all_even_under_strict_reuse() {
    for rule in [Rule::Forgiving, Rule::Strict] {
        explore(World {
            replicas: 3,
            rule,
            ..QUIET
        });
    }
}

#[test]
fn a_declined_call_is_repeated_even_under_strict_reuse() {
    explore(sized(World {
        rule: Rule::Strict,
        declined: 2,
        ..QUIET
    }));
}

#[test]
fn a_call_with_a_lost_answer_is_repeated_once() {
    for rule in [Rule::Forgiving, Rule::Strict] {
        explore(sized(World {
            rule,
            lost_calls: 2,
            declined: 1,
            ..QUIET
        }));
    }
}

#[test]
fn a_crash_of_the_holder_breaks_no_guarantee() {
    for rule in [Rule::Forgiving, Rule::Strict] {
        explore(sized(World {
            rule,
            crashes: 2,
            lost_calls: 1,
            ..QUIET
        }));
    }
}

#[test]
fn a_holder_paused_past_its_lease_breaks_no_guarantee() {
    for rule in [Rule::Forgiving, Rule::Strict] {
        explore(sized(World {
            rule,
            pauses: 2,
            crashes: 1,
            ..QUIET
        }));
    }
}

#[test]
fn a_failing_store_breaks_no_guarantee() {
    for rule in [Rule::Forgiving, Rule::Strict] {
        explore(sized(World {
            rule,
            lost_messages: 2,
            lost_records: 1,
            lost_calls: 1,
            ..QUIET
        }));
    }
}

#[test]
fn one_of_each_fault_together_breaks_no_guarantee() {
    explore(sized(World {
        lost_calls: 1,
        declined: 1,
        crashes: 1,
        pauses: 1,
        lost_messages: 1,
        lost_records: 1,
        ..QUIET
    }));
}
