//! The places of the admin listener's connections.
//!
//! A connection is always in one stage, and each stage has places and a time limit of its own. When
//! the places of a stage are taken, the oldest connection in it is closed in favour of the new one.
//! So a stranger who holds connections takes places only from others who hold theirs in the same
//! stage: a probe is through within a moment, and an operator's call waits in a stage that nobody
//! enters without a token.

#![allow(
    clippy::disallowed_types,
    reason = "connections of the admin listener take the lock, never a client's request, and none across an await"
)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::clock;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A request head is expected: since the connection was accepted, or since the head's first
    /// byte.
    Head,
    /// Kept after an answer.
    Idle,
    /// The body of a message whose signature cannot be verified before it is complete.
    Webhook,
    /// A call by an operator or by the identity server. One that is closed here loses its answer,
    /// not its effect.
    Call,
    /// An answer that waits for nothing but its reader.
    Answer,
    /// The answer is sent, and the client still sends.
    Linger,
}

impl Stage {
    const ALL: [Self; 6] = [
        Self::Head,
        Self::Idle,
        Self::Webhook,
        Self::Call,
        Self::Answer,
        Self::Linger,
    ];

    /// Its places, in sixteenths of all.
    const fn share(self) -> usize {
        match self {
            Self::Head => 6,
            Self::Call => 3,
            Self::Idle | Self::Webhook | Self::Answer => 2,
            Self::Linger => 1,
        }
    }

    /// How long a connection may stay in it. The numbers are a choice.
    const fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Head => 2,
            Self::Linger => 1,
            Self::Answer => 10,
            Self::Webhook => 5,
            Self::Call => 30,
            // Longer than the gateway's own pools keep a connection, which lead here from a public
            // route for the webhook.
            Self::Idle => 75,
        })
    }
}

/// The connections in every stage.
pub(super) struct Places {
    table: Mutex<Table>,
    /// Over all stages.
    total: usize,
}

#[derive(Default)]
struct Table {
    next_id: u64,
    stages: [VecDeque<Entry>; Stage::ALL.len()],
}

struct Entry {
    id: u64,
    since: Instant,
    displaced: Arc<Notify>,
}

/// The place of one connection; dropping it frees the place.
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    displaced: Arc<Notify>,
}

impl Places {
    /// So many places over all stages, of which each has at least one.
    pub(super) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::default(),
            total,
        })
    }

    /// Takes a place for a new connection.
    pub(super) fn take(self: &Arc<Self>) -> Place {
        let displaced = Arc::new(Notify::new());
        let id = self.with(|table| {
            table.next_id += 1;
            table.next_id
        });
        let place = Place {
            places: self.clone(),
            id,
            displaced,
        };
        place.enter(Stage::Head);
        place
    }

    fn with<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        // A panic under the lock leaves the table consistent.
        change(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Table {
    fn remove(&mut self, id: u64) {
        for stage in &mut self.stages {
            stage.retain(|entry| entry.id != id);
        }
    }

    fn find(&self, id: u64) -> Option<(Stage, &Entry)> {
        Stage::ALL
            .into_iter()
            .zip(&self.stages)
            .find_map(|(stage, entries)| {
                let entry = entries.iter().find(|entry| entry.id == id)?;
                Some((stage, entry))
            })
    }
}

impl Place {
    /// Moves to a stage, or begins it again.
    pub(super) fn enter(&self, stage: Stage) {
        let most = (self.places.total * stage.share() / 16).max(1);
        self.places.with(|table| {
            table.remove(self.id);
            let Some(entries) = table.stages.get_mut(stage as usize) else {
                return;
            };
            if entries.len() >= most
                && let Some(oldest) = entries.pop_front()
            {
                oldest.displaced.notify_one();
            }
            entries.push_back(Entry {
                id: self.id,
                since: clock::now(),
                displaced: self.displaced.clone(),
            });
        });
    }

    /// Whether the connection is in this stage.
    pub(super) fn is_in(&self, stage: Stage) -> bool {
        self.places
            .with(|table| table.find(self.id).is_some_and(|(found, _)| found == stage))
    }

    /// The stage that it was in for too long, if it was.
    pub(super) fn overdue(&self) -> Option<Stage> {
        self.places.with(|table| {
            let (stage, entry) = table.find(self.id)?;
            (clock::now() > entry.since + stage.limit()).then_some(stage)
        })
    }

    /// Ends when the place was given to another connection.
    pub(super) async fn displaced(&self) {
        self.displaced.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.with(|table| table.remove(self.id));
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_displaced(place: &Place) -> bool {
        let displaced = pin!(place.displaced());
        displaced
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[test]
    fn the_oldest_of_a_full_stage_gives_way_and_no_other() {
        let places = Places::new(16);
        let call = places.take();
        call.enter(Stage::Call);
        let silent: Vec<Place> = (0..7).map(|_| places.take()).collect();
        let displaced: Vec<bool> = silent.iter().map(is_displaced).collect();
        assert_eq!(displaced, [true, false, false, false, false, false, false]);
        assert!(!is_displaced(&call) && call.is_in(Stage::Call));
    }

    #[test]
    fn a_stage_that_is_left_or_dropped_has_room_again() {
        let places = Places::new(16);
        let first = places.take();
        first.enter(Stage::Linger);
        first.enter(Stage::Idle);
        let second = places.take();
        second.enter(Stage::Linger);
        drop(second);
        let third = places.take();
        third.enter(Stage::Linger);
        assert!(!is_displaced(&first) && !is_displaced(&third));
        assert!(first.is_in(Stage::Idle) && first.overdue().is_none());
    }
}
