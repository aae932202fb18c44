//! When streams are authorized again.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::registry::Streams;
use crate::clock;

/// Over how long the first step of all streams is spread after a reload, and in how many portions.
const RELOAD_SPREAD: Duration = Duration::from_secs(1);
const RELOAD_PORTIONS: u32 = 20;

/// How long the whole chain is not run again for a revocation. Most revocations come from
/// sign-outs, and each would make every stream look up its facts. A choice.
const LOOKUP_PAUSE: Duration = Duration::from_secs(5);

/// How long after a revocation the whole chain runs. A choice.
const LOOKUP_DELAY: Duration = Duration::from_secs(1);

/// After how many first steps other tasks get their turn: some milliseconds.
const STEPS_PER_TURN: usize = 512;

/// The longest wait for an expiry: the system clock may have been set meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// Upper bound on the lag of the coarse clock; checking earlier would still accept a token that is
/// about to expire.
const CLOCK_LAG: Duration = Duration::from_millis(10);

impl Streams {
    /// Authorizes streams again whenever there is a reason to, as long as the worker runs.
    pub(crate) async fn watch(self: Rc<Self>) {
        tokio::join!(
            self.watch_due(),
            self.watch_revocations(),
            self.watch_configuration()
        );
    }

    async fn watch_due(self: &Rc<Self>) {
        loop {
            let first = self.due.borrow().first().copied();
            match first {
                None => self.earlier_due.notified().await,
                Some((due, _)) => {
                    let left = due
                        .saturating_mul(1000)
                        .saturating_sub(clock::unix_millis());
                    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
                    let pause = (left + CLOCK_LAG).min(MAX_SLEEP);
                    // An earlier time was added meanwhile, or it is time.
                    let _ = timeout(pause, self.earlier_due.notified()).await;
                }
            }
            let now = clock::unix_now();
            let due: Vec<u64> = {
                let all = self.due.borrow();
                let due = all.iter().take_while(|(due, _)| *due <= now);
                due.map(|(_, id)| *id).collect()
            };
            self.each(due, |id, entry| {
                // Until the whole chain has decided, which sets the next time.
                self.set_due(id, entry, Some(now + 1));
                if self.recheck(id, entry) {
                    self.enqueue(id, entry);
                }
            })
            .await;
        }
    }

    async fn watch_revocations(self: &Rc<Self>) {
        let mut grown = self.revocations.grown();
        let (mut is_due, mut next) = (false, Instant::now());
        loop {
            let growth = match is_due {
                true => timeout_at(next, grown.changed()).await,
                false => Ok(grown.changed().await),
            };
            match growth {
                Ok(Ok(())) => {
                    self.each(self.all(), |id, entry| {
                        self.recheck(id, entry);
                    })
                    .await;
                    // The streams that end now go first.
                    if !is_due {
                        is_due = true;
                        next = next.max(Instant::now() + LOOKUP_DELAY);
                    }
                }
                Ok(Err(_)) => return,
                Err(_) => {}
            }
            if is_due && next <= Instant::now() {
                is_due = false;
                next = Instant::now() + LOOKUP_PAUSE;
                self.each(self.all(), |id, entry| {
                    if self.needs_lookups(entry) {
                        self.enqueue(id, entry);
                    }
                })
                .await;
            }
        }
    }

    async fn watch_configuration(self: &Rc<Self>) {
        let mut generations = self.current.generations();
        while generations.changed().await.is_ok() {
            let all = self.all();
            let portions = usize::try_from(RELOAD_PORTIONS).unwrap_or(1);
            for portion in all.chunks(all.len().div_ceil(portions).max(1)) {
                self.each(portion.to_vec(), |id, entry| {
                    if self.recheck(id, entry) {
                        self.enqueue(id, entry);
                    }
                })
                .await;
                sleep(RELOAD_SPREAD / RELOAD_PORTIONS).await;
            }
        }
    }

    /// Takes a step for each of these streams that is still open.
    async fn each(&self, ids: Vec<u64>, step: impl Fn(u64, &super::registry::Entry)) {
        for (index, id) in ids.into_iter().enumerate() {
            if let Some(entry) = self.entry(id) {
                step(id, &entry);
            }
            if (index + 1).is_multiple_of(STEPS_PER_TURN) {
                yield_now().await;
            }
        }
    }
}
