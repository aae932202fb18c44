//! Follows the system clock, and notices that the machine was suspended.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::clock::{self, SystemClock};
use crate::facts::FactCache;
use crate::log::LogThrottle;
use crate::revocation::Revocations;
use crate::store::Store;

/// How often the clock is compared with the system clock.
const INTERVAL: Duration = Duration::from_millis(100);

/// The shortest suspension that counts, in microseconds.
const SUSPENSION: i64 = 1_000_000;

/// Follows the clock until the process ends.
pub(super) async fn follow(
    store: Arc<dyn Store>,
    facts: Arc<FactCache>,
    revocations: Arc<Revocations>,
) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut suspended, held) = (clock::suspended(), LogThrottle::new());
    loop {
        ticks.tick().await;
        let time_is_lost = match clock::follow_system(store.boot_time()) {
            SystemClock::Steady => false,
            SystemClock::Followed(by) => {
                let seconds = by / 1_000_000;
                tracing::warn!(seconds, "the system clock was set; following it");
                by > 0
            }
            SystemClock::Held(by) => {
                if held.may_log(clock::unix_now()) {
                    let seconds = by / 1_000_000;
                    tracing::error!(
                        seconds,
                        "the system clock was set, and the clock of Redis contradicts it; keeping the time from before: set this machine's clock"
                    );
                }
                false
            }
        };
        let now = clock::suspended();
        // Neither the ages of facts nor that of the list count the time in which the machine stood
        // still.
        if time_is_lost || now.saturating_sub(suspended) >= SUSPENSION {
            facts.invalidate_everything_locally();
            revocations.doubt();
        }
        suspended = now;
    }
}
