//! The refresh of one token, as a protocol between replicas: a state machine without input, output
//! or clock, which a model checker explores.
//!
//! It decides who may call the identity server with a refresh token, and when a call of unknown
//! outcome may be repeated. It trusts the store to let only one of several writers win, and its
//! driver (`refresh_driver`) to report what happened.
//!
//! A refresh token works once. Two calls with it may end the session, and so may a call that is
//! repeated much later. So replicas share a record per token: a lease for the one that calls, then
//! the answer for all others. What a call without a reply did is unknown; the identity server
//! forgives a used token for a short while, so the next holder of the lease repeats the call, once.
//! A holder that dies leaves a lease that nobody changes. Once a waiting replica, by its own clock,
//! has seen it unchanged for longer than any call takes, the holder's call is one of unknown
//! outcome.

/// Calls with one token whose outcome may be unknown: the first and one repetition.
pub const MOST_CALLS: u8 = 2;

/// The record of a token that replicas share.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Record<A> {
    /// A replica is calling.
    Leased {
        /// Calls that may have been made, including this one.
        calls: u8,
    },
    /// No replica is calling.
    Open {
        /// Calls that may have been made.
        calls: u8,
    },
    /// The identity server's answer.
    Answered(A),
}

/// How a call ended.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum CallOutcome<A> {
    /// The server accepted or refused the token.
    Answered(A),
    /// The call was not sent, or the server reported that it did nothing.
    NotExecuted,
    /// The call was sent, and what it did is unknown.
    Unknown,
}

/// An event for the state machine. `V` is a version of the record, `A` an answer of the identity
/// server.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Event<V, A> {
    /// The record was read.
    Found(Option<Record<A>>, V),
    /// The write succeeded, and the record has this version.
    Written(V),
    /// Another replica wrote first.
    Lost,
    /// The store did not answer. A write may have succeeded.
    Unreachable,
    /// The lease that was read last has been unchanged for longer than any call takes.
    LeaseOver,
    /// The call ended.
    Called(CallOutcome<A>),
}

/// A command to the driver.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Command<V, A> {
    /// Read the record.
    Read,
    /// Wait a moment, then read the record again, or report that the lease is over.
    Wait,
    /// Write this record, if the stored one still has this version.
    Write(V, Record<A>),
    /// Call the identity server, within the lease.
    Call,
    /// End with this answer.
    Finish(A),
    /// End without an answer.
    Fail,
}

/// The state machine of one replica.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Flight<V, A> {
    state: State<V, A>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum State<V, A> {
    Reading,
    /// Another replica is calling.
    Waiting {
        version: V,
        calls: u8,
    },
    /// Writing the lease.
    Taking {
        calls: u8,
    },
    /// Calling under a lease of this version, or without one if the store was unreachable.
    Calling {
        lease: Option<V>,
        calls: u8,
    },
    /// Writing the outcome for the other replicas.
    Publishing {
        answer: Option<A>,
    },
    Over,
}

impl<V: Clone, A: Clone> Flight<V, A> {
    /// Starts, with the first command.
    pub fn begin() -> (Self, Command<V, A>) {
        let flight = Self {
            state: State::Reading,
        };
        (flight, Command::Read)
    }

    /// Handles an event, and returns the next command.
    pub fn handle(&mut self, event: Event<V, A>) -> Command<V, A> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let (state, command) = next(state, event);
        self.state = state;
        command
    }

    /// Whether another replica's call is awaited.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// Whether the flight has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }
}

fn next<V: Clone, A: Clone>(
    state: State<V, A>,
    event: Event<V, A>,
) -> (State<V, A>, Command<V, A>) {
    match (state, event) {
        (State::Reading | State::Waiting { .. }, Event::Found(record, version)) => {
            found(record, version)
        }
        (State::Waiting { version, calls }, Event::LeaseOver) => take(version, calls),
        // Acting alone is better than ending a session because the store is unreachable.
        (State::Reading, Event::Unreachable) => call(None, 1),
        // Not while another replica is known to be calling.
        (State::Waiting { version, calls }, Event::Unreachable) => {
            (State::Waiting { version, calls }, Command::Wait)
        }
        (State::Taking { calls }, Event::Written(lease)) => call(Some(lease), calls),
        (State::Taking { .. }, Event::Lost) => (State::Reading, Command::Read),
        (State::Taking { calls }, Event::Unreachable) => call(None, calls),
        (State::Calling { lease, calls }, Event::Called(called)) => publish(lease, calls, called),
        // A replica that took the lease over finds out by itself, and an answer of the identity
        // server remains valid.
        (State::Publishing { answer }, Event::Written(_) | Event::Lost | Event::Unreachable) => {
            end(answer)
        }
        // A correct driver sends no other event; an incorrect one gets no answer.
        (
            State::Reading
            | State::Waiting { .. }
            | State::Taking { .. }
            | State::Calling { .. }
            | State::Publishing { .. }
            | State::Over,
            _,
        ) => end(None),
    }
}

fn found<V, A>(record: Option<Record<A>>, version: V) -> (State<V, A>, Command<V, A>) {
    match record {
        None => take(version, 0),
        Some(Record::Open { calls }) => take(version, calls),
        Some(Record::Leased { calls }) => (State::Waiting { version, calls }, Command::Wait),
        Some(Record::Answered(answer)) => (State::Over, Command::Finish(answer)),
    }
}

/// Takes the lease, if another call may be made.
fn take<V, A>(version: V, calls: u8) -> (State<V, A>, Command<V, A>) {
    if calls >= MOST_CALLS {
        return end(None);
    }
    let calls = calls + 1;
    let lease = Record::Leased { calls };
    (State::Taking { calls }, Command::Write(version, lease))
}

fn call<V, A>(lease: Option<V>, calls: u8) -> (State<V, A>, Command<V, A>) {
    (State::Calling { lease, calls }, Command::Call)
}

fn publish<V, A: Clone>(
    lease: Option<V>,
    calls: u8,
    called: CallOutcome<A>,
) -> (State<V, A>, Command<V, A>) {
    let (answer, record) = match called {
        CallOutcome::Answered(answer) => (Some(answer.clone()), Record::Answered(answer)),
        CallOutcome::NotExecuted => {
            let calls = calls.saturating_sub(1);
            (None, Record::Open { calls })
        }
        CallOutcome::Unknown => (None, Record::Open { calls }),
    };
    match lease {
        Some(version) => (
            State::Publishing { answer },
            Command::Write(version, record),
        ),
        None => end(answer),
    }
}

fn end<V, A>(answer: Option<A>) -> (State<V, A>, Command<V, A>) {
    (State::Over, answer.map_or(Command::Fail, Command::Finish))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Of = Flight<u8, char>;

    fn at(events: &[Event<u8, char>]) -> Command<u8, char> {
        let (mut flight, mut command) = Of::begin();
        for event in events {
            command = flight.handle(event.clone());
        }
        command
    }

    #[test]
    fn the_first_replica_takes_the_lease_calls_and_publishes() {
        let found = Event::Found(None, 0);
        let written = Event::Written(1);
        let lease = Record::Leased { calls: 1 };
        assert_eq!(at(std::slice::from_ref(&found)), Command::Write(0, lease));
        assert_eq!(at(&[found.clone(), written.clone()]), Command::Call);
        let yes = Event::Called(CallOutcome::Answered('y'));
        let events = [found, written, yes, Event::Lost];
        let published = Command::Write(1, Record::Answered('y'));
        assert_eq!(at(events.get(..3).unwrap_or_default()), published);
        assert_eq!(at(&events), Command::Finish('y'));
    }

    #[test]
    fn a_call_of_unknown_outcome_is_repeated_once() {
        let open = |calls| Event::Found(Some(Record::Open { calls }), 7);
        let lease = |calls| Command::Write(7, Record::Leased { calls });
        assert_eq!(at(&[open(0)]), lease(1));
        assert_eq!(at(&[open(1)]), lease(2));
        assert_eq!(at(&[open(2)]), Command::Fail);
        let leased = |calls| Event::Found(Some(Record::Leased { calls }), 7);
        assert_eq!(at(&[leased(1)]), Command::Wait);
        assert_eq!(at(&[leased(1), Event::LeaseOver]), lease(2));
        assert_eq!(at(&[leased(2), Event::LeaseOver]), Command::Fail);
        // A call that did nothing does not count.
        let called = |called| {
            at(&[
                leased(1),
                Event::LeaseOver,
                Event::Written(8),
                Event::Called(called),
            ])
        };
        let open = |calls| Command::Write(8, Record::Open { calls });
        assert_eq!(called(CallOutcome::NotExecuted), open(1));
        assert_eq!(called(CallOutcome::Unknown), open(2));
    }

    #[test]
    fn without_the_store_a_replica_acts_alone() {
        assert_eq!(at(&[Event::Unreachable]), Command::Call);
        let taking = [Event::Found(None, 0), Event::Unreachable];
        assert_eq!(at(&taking), Command::Call);
        let yes = Event::Called(CallOutcome::Answered('y'));
        assert_eq!(at(&[Event::Unreachable, yes]), Command::Finish('y'));
        let unknown = Event::Called(CallOutcome::Unknown);
        assert_eq!(at(&[Event::Unreachable, unknown]), Command::Fail);
    }
}
