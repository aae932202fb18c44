//! When streams are reauthorized.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Streams;
use crate::clock;

/// Over how long the reauthorization of all streams is spread after a reload, and in how many
/// portions.
const RELOAD_SPREAD: Duration = Duration::from_secs(1);
const RELOAD_PORTIONS: u32 = 20;

/// The longest wait for an expiry: the system clock may have been set meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(10);

/// Upper bound on the lag of the coarse clock; checking earlier would still accept a token that is
/// about to expire.
const CLOCK_LAG: Duration = Duration::from_millis(10);

impl Streams {
    /// Reauthorizes streams whenever there is a reason to, as long as the worker runs.
    pub(crate) async fn watch(self: Rc<Self>) {
        tokio::join!(
            self.watch_proofs(),
            self.watch_revocations(),
            self.watch_configuration()
        );
    }

    async fn watch_proofs(&self) {
        loop {
            let first = self.proofs.borrow().first().copied();
            match first {
                None => self.earlier_due.notified().await,
                Some((due, _)) => {
                    let left = due
                        .saturating_mul(1000)
                        .saturating_sub(clock::unix_millis());
                    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
                    let pause = (left + CLOCK_LAG).min(MAX_SLEEP);
                    // An earlier expiry was added meanwhile, or it is time.
                    let _ = timeout(pause, self.earlier_due.notified()).await;
                }
            }
            let now = clock::unix_now();
            let due: Vec<u64> = {
                let proofs = self.proofs.borrow();
                let due = proofs.iter().take_while(|(due, _)| *due <= now);
                due.map(|(_, id)| *id).collect()
            };
            for id in due {
                self.reauthorize(id).await;
            }
        }
    }

    async fn watch_revocations(&self) {
        let mut grown = self.revocations.grown();
        while grown.changed().await.is_ok() {
            for id in self.all() {
                self.reauthorize(id).await;
            }
        }
    }

    async fn watch_configuration(&self) {
        let mut generations = self.current.generations();
        while generations.changed().await.is_ok() {
            let all = self.all();
            let portions = usize::try_from(RELOAD_PORTIONS).unwrap_or(1);
            for portion in all.chunks(all.len().div_ceil(portions).max(1)) {
                for id in portion {
                    self.reauthorize(*id).await;
                }
                sleep(RELOAD_SPREAD / RELOAD_PORTIONS).await;
            }
        }
    }
}
