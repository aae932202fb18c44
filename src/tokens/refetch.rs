//! Where requests that miss a key meet the task that fetches keys.
//!
//! Decides: when the next fetch may begin, and which fetch answers which request. Trusts: the one task of a source, which makes every fetch, so
//! that there is never more than one at a time. Not here: what is fetched (`fetch`), who may wait (`source`).
//!
//! Fetches are numbered. Only one that *began* after a request came proves that the request's key is not published: an answer that was under
//! way already may be older than the key.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

/// Between the beginnings of two fetches from one place, however many requests ask for it.
pub(super) const COOL_DOWN: Duration = Duration::from_secs(1);

/// The wishes of requests, and what became of them.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// The number of the last fetch that began.
    begun: AtomicU64,
    /// The number of the fetch that somebody waits for.
    wanted: AtomicU64,
    rung: Notify,
    ended: watch::Sender<Ended>,
}

/// The numbers of the last fetches that ended; 0 before the first.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    any: u64,
    good: u64,
}

/// What is known about a fetch that a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has not ended.
    Pending,
    /// It brought keys, or a later one did.
    Good,
    /// It failed.
    Failed,
}

/// A request's wish for a fetch that has not begun yet.
pub(super) struct Wish {
    number: u64,
    ended: watch::Receiver<Ended>,
}

impl Demand {
    /// Asks for a fetch that begins from now on.
    pub(super) fn wish(&self) -> Wish {
        // Before the number is read: whatever ends from now on is seen.
        let ended = self.ended.subscribe();
        let number = self.begun.load(Ordering::SeqCst) + 1;
        self.wanted.fetch_max(number, Ordering::SeqCst);
        self.rung.notify_one();
        Wish { number, ended }
    }

    /// Wakes the task, so that it sees that its source has ended.
    pub(super) fn ring(&self) {
        self.rung.notify_one();
    }

    /// A fetch begins; gives its number.
    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A fetch has ended, and its keys, if it brought any, are in place.
    pub(super) fn end(&self, number: u64, good: bool) {
        self.ended.send_modify(|ended| {
            ended.any = number;
            if good {
                ended.good = number;
            }
        });
    }

    /// Wakes who waits, because keys are there without a fetch.
    pub(super) fn nudge(&self) {
        self.ended.send_modify(|_| {});
    }

    /// Waits until the next fetch may begin: after `pause`, or after the cool-down since `begun` if somebody asks. Ends early when `is_over`.
    pub(super) async fn next(&self, begun: Instant, pause: Duration, is_over: impl Fn() -> bool) {
        let regular = Instant::now() + pause;
        let cooled = begun + COOL_DOWN;
        let sleep = sleep_until(regular.max(cooled));
        tokio::pin!(sleep);
        while !is_over() {
            if self.wanted.load(Ordering::SeqCst) > self.begun.load(Ordering::SeqCst) {
                return sleep_until(cooled).await;
            }
            tokio::select! {
                () = &mut sleep => return,
                () = self.rung.notified() => {}
            }
        }
    }
}

impl Wish {
    /// How far the fetch is.
    pub(super) fn progress(&mut self) -> Progress {
        let ended = *self.ended.borrow_and_update();
        if ended.good >= self.number {
            Progress::Good
        } else if ended.any >= self.number {
            Progress::Failed
        } else {
            Progress::Pending
        }
    }

    /// Waits until any fetch ends, or keys are there without one: an earlier one may bring the key, too.
    pub(super) async fn changed(&mut self) {
        if self.ended.changed().await.is_err() {
            // The source holds the other end, and whoever waits holds the source.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_fetch_that_began_later_answers_a_wish() {
        let demand = Demand::default();
        let earlier = demand.begin();
        let mut wish = demand.wish();
        assert_eq!(wish.progress(), Progress::Pending);
        demand.end(earlier, true);
        wish.changed().await;
        assert_eq!(wish.progress(), Progress::Pending);
        let later = demand.begin();
        demand.end(later, false);
        wish.changed().await;
        assert_eq!(wish.progress(), Progress::Failed);
        let last = demand.begin();
        demand.end(last, true);
        assert_eq!(wish.progress(), Progress::Good);
    }

    #[tokio::test]
    async fn a_wish_is_granted_after_the_cool_down_and_not_before() {
        let demand = Demand::default();
        let hour = Duration::from_secs(3600);
        let begun = Instant::now();
        demand.begin();
        let _wish = demand.wish();
        demand.next(begun, hour, || false).await;
        assert!(begun.elapsed() >= COOL_DOWN);
        // Long ago is cool enough, and a fetch that began grants all wishes that came before it.
        let long_ago = begun - COOL_DOWN;
        demand.next(long_ago, hour, || false).await;
        demand.begin();
        let short = Duration::from_millis(1);
        demand.next(long_ago, short, || false).await;
        let soon = tokio::time::timeout(short, demand.next(long_ago, hour, || false));
        assert!(soon.await.is_err(), "nobody asked");
    }

    #[tokio::test]
    async fn without_a_wish_the_pause_counts_and_an_end_cuts_it_short() {
        let demand = Demand::default();
        let hour = Duration::from_secs(3600);
        demand.ring();
        demand.next(Instant::now(), hour, || true).await;
        let begun = Instant::now();
        demand.next(begun, Duration::from_millis(1), || false).await;
        assert!(
            begun.elapsed() >= COOL_DOWN,
            "a short pause is no way around"
        );
    }
}
