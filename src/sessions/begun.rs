//! Which sessions of bearer tokens began through the gateway, and when (`check`).

use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use super::record::SessionName;
use crate::clock;

/// How many sessions are remembered. A choice; the store has the rest.
const CAPACITY: usize = 10_000;

/// How long a session is remembered as not begun here. A client gets its token only once the record
/// is stored, so none appears later; this only bounds the effect of a lost write.
const ABSENCE: Duration = Duration::from_secs(10);

/// Sessions of bearer tokens: when each began here in Unix milliseconds, and when this was learned.
#[derive(Debug)]
pub(super) struct BegunSessions(Cache<SessionName, (Option<i64>, Instant)>);

impl Default for BegunSessions {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

impl BegunSessions {
    pub(super) fn note(&self, name: SessionName, begun: Option<i64>) {
        self.0.insert(name, (begun, clock::now()));
    }

    /// `None` if it must be looked up.
    pub(super) fn known(&self, name: &SessionName) -> Option<Option<i64>> {
        let (begun, learned) = self.0.get(name)?;
        let is_fresh = begun.is_some() || learned.elapsed() < ABSENCE;
        is_fresh.then_some(begun)
    }
}
