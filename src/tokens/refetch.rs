//! Coordinates requests that miss a key with the task that fetches keys. One task per source makes
//! all its fetches, so that there is never more than one at a time.
//!
//! Fetches are numbered. Only a fetch that *began* after a request arrived proves that the
//! request's key is not published: the answer to an earlier one may be older than the key.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

/// The least time between the starts of two fetches from one URL, however many requests ask for it.
pub(super) const COOL_DOWN: Duration = Duration::from_secs(1);

/// Requests for a refetch, and the outcomes of fetches.
#[derive(Debug, Default)]
pub(super) struct Refetch {
    /// The number of the last fetch that began.
    begun: AtomicU64,
    /// The highest number of a fetch that a request waits for.
    wanted: AtomicU64,
    wake: Notify,
    ended: watch::Sender<Ended>,
}

/// The numbers of the last fetches that ended; 0 before the first.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    any: u64,
    good: u64,
}

/// The state of a fetch that a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has not ended.
    Pending,
    /// It returned keys, or a later one did.
    Good,
    /// It failed.
    Failed,
}

/// A request's ticket for a fetch that has not begun yet.
pub(super) struct Ticket {
    number: u64,
    ended: watch::Receiver<Ended>,
}

impl Refetch {
    /// Requests a fetch that begins from now on.
    pub(super) fn request(&self) -> Ticket {
        // Before the number is read, so that no end is missed.
        let ended = self.ended.subscribe();
        let number = self.begun.load(Ordering::SeqCst) + 1;
        self.wanted.fetch_max(number, Ordering::SeqCst);
        self.wake.notify_one();
        Ticket { number, ended }
    }

    /// Wakes the task, so that it notices the end of its source.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Notes that a fetch begins, and returns its number.
    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Notes that a fetch has ended and its keys, if any, are in place.
    pub(super) fn end(&self, number: u64, good: bool) {
        self.ended.send_modify(|ended| {
            ended.any = number;
            if good {
                ended.good = number;
            }
        });
    }

    /// Wakes the waiting requests, because keys arrived without a fetch.
    pub(super) fn nudge(&self) {
        self.ended.send_modify(|_| {});
    }

    /// Waits until the next fetch may begin: after `pause`, or if it was requested, after the
    /// cool-down since `begun`. Ends early when `is_over`.
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
                () = self.wake.notified() => {}
            }
        }
    }
}

impl Ticket {
    /// The state of the fetch.
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

    /// Waits until any fetch ends, or keys arrive without one: an earlier fetch may bring the key,
    /// too.
    pub(super) async fn changed(&mut self) {
        if self.ended.changed().await.is_err() {
            // The source holds the sender, and whoever waits holds the source.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_fetch_that_begins_later_answers_a_request() {
        let refetch = Refetch::default();
        let earlier = refetch.begin();
        let mut ticket = refetch.request();
        assert_eq!(ticket.progress(), Progress::Pending);
        refetch.end(earlier, true);
        ticket.changed().await;
        assert_eq!(ticket.progress(), Progress::Pending);
        let later = refetch.begin();
        refetch.end(later, false);
        ticket.changed().await;
        assert_eq!(ticket.progress(), Progress::Failed);
        let last = refetch.begin();
        refetch.end(last, true);
        assert_eq!(ticket.progress(), Progress::Good);
    }

    #[tokio::test]
    async fn a_refetch_waits_for_the_cool_down() {
        let refetch = Refetch::default();
        let hour = Duration::from_secs(3600);
        let begun = Instant::now();
        refetch.begin();
        let _ticket = refetch.request();
        refetch.next(begun, hour, || false).await;
        assert!(begun.elapsed() >= COOL_DOWN);
        // The cool-down since long ago is over, and a fetch that began answers all earlier
        // requests.
        let long_ago = begun - COOL_DOWN;
        refetch.next(long_ago, hour, || false).await;
        refetch.begin();
        let short = Duration::from_millis(1);
        refetch.next(long_ago, short, || false).await;
        let soon = tokio::time::timeout(short, refetch.next(long_ago, hour, || false));
        assert!(soon.await.is_err(), "no refetch was requested");
    }

    #[tokio::test]
    async fn without_a_request_the_pause_counts_and_the_end_of_the_source_cuts_it_short() {
        let refetch = Refetch::default();
        let hour = Duration::from_secs(3600);
        refetch.wake();
        refetch.next(Instant::now(), hour, || true).await;
        let begun = Instant::now();
        refetch
            .next(begun, Duration::from_millis(1), || false)
            .await;
        assert!(
            begun.elapsed() >= COOL_DOWN,
            "a short pause does not bypass the cool-down"
        );
    }
}
