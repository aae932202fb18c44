//! Shares: how many lookups of one caller may run at once, and how many requests may wait for one
//! of them to end. One caller's requests wait for each other, and never hold every connection of
//! the database or the whole queue in front of it.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::LookupError;
use crate::network::Network;
use crate::policy::storage::CallerShare;

/// Identifies a caller, or the network of a client without one: a hash with a key of this process.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct CallerKey(u64);

impl CallerKey {
    /// The name of the caller's bucket.
    pub(super) const fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

/// The shares of all callers whose lookups run or wait. No other caller takes memory.
#[derive(Debug)]
pub(super) struct Shares {
    limits: CallerShare,
    hasher: RandomState,
    callers: DashMap<CallerKey, Arc<CallerLoads>>,
}

#[derive(Debug)]
struct CallerLoads {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Permission for one lookup to run, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    _running: OwnedSemaphorePermit,
    /// Dropped before the entry, which counts what is left.
    _loads: Arc<CallerLoads>,
    _entry: ShareEntry,
}

/// Removes the entry of a caller if nothing else uses it.
#[derive(Debug)]
struct ShareEntry {
    shares: Arc<Shares>,
    caller: CallerKey,
}

/// Counts one that waits until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Shares {
    /// Without a database nothing is looked up, and the limits do not matter.
    pub(super) fn new(limits: Option<CallerShare>) -> Arc<Self> {
        Arc::new(Self {
            limits: limits.unwrap_or(CallerShare {
                running: NonZeroUsize::MIN,
                waiting: 0,
            }),
            hasher: RandomState::new(),
            callers: DashMap::new(),
        })
    }

    /// The key of a caller (issuer and subject); without one, of the client's network.
    pub(super) fn key(&self, caller: Option<(&str, &str)>, client: IpAddr) -> CallerKey {
        CallerKey(match caller {
            Some(caller) => self.hasher.hash_one(caller),
            None => self.hasher.hash_one(Network::of(client).bytes()),
        })
    }

    /// Waits until one more lookup of the caller may run.
    pub(super) async fn acquire(self: &Arc<Self>, caller: CallerKey) -> Result<Share, LookupError> {
        let entry = ShareEntry {
            shares: self.clone(),
            caller,
        };
        let loads = self.loads(caller);
        let free = loads.free.clone();
        let running = match free.clone().try_acquire_owned() {
            Ok(running) => running,
            Err(_) => {
                let before = loads.waiting.fetch_add(1, Ordering::Relaxed);
                let _waiting = Waiting(&loads.waiting);
                if before >= self.limits.waiting {
                    return Err(LookupError::Crowded);
                }
                // It is never closed.
                let running = free.acquire_owned().await;
                running.map_err(|_| LookupError::Away)?
            }
        };
        Ok(Share {
            _running: running,
            _loads: loads,
            _entry: entry,
        })
    }

    fn loads(&self, caller: CallerKey) -> Arc<CallerLoads> {
        let new = || {
            Arc::new(CallerLoads {
                free: Arc::new(Semaphore::new(self.limits.running.get())),
                waiting: AtomicUsize::new(0),
            })
        };
        // Cloned under the lock of the entry, under which it is removed, too.
        self.callers.entry(caller).or_insert_with(new).clone()
    }
}

impl Drop for ShareEntry {
    fn drop(&mut self) {
        self.shares
            .callers
            .remove_if(&self.caller, |_, loads| Arc::strong_count(loads) == 1);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[tokio::test]
    async fn a_callers_lookups_wait_for_each_other_and_for_nobody_elses() {
        let shares = Shares::new(Some(CallerShare {
            running: NonZeroUsize::new(2).unwrap_or(NonZeroUsize::MIN),
            waiting: 1,
        }));
        let greedy = shares.key(Some(("i", "greedy")), client(1));
        let running = [shares.acquire(greedy).await, shares.acquire(greedy).await];
        assert!(running.iter().all(Result::is_ok));
        let mut waiting = Box::pin(shares.acquire(greedy));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let refused = shares.acquire(greedy).await;
        assert_eq!(refused.err(), Some(LookupError::Crowded));
        let other = shares.key(Some(("i", "other")), client(1));
        assert!(shares.acquire(other).await.is_ok());
        drop(running);
        assert!(waiting.await.is_ok());
        assert!(shares.callers.is_empty(), "nobody looks anything up");
    }

    #[tokio::test]
    async fn a_request_that_gives_up_waits_no_longer() {
        let shares = Shares::new(Some(CallerShare {
            running: NonZeroUsize::MIN,
            waiting: 1,
        }));
        let caller = shares.key(None, client(1));
        let running = shares.acquire(caller).await;
        for _ in 0..5 {
            let mut waiting = Box::pin(shares.acquire(caller));
            assert!(futures_util::poll!(&mut waiting).is_pending());
        }
        drop(running);
        assert!(shares.acquire(caller).await.is_ok());
        assert!(shares.callers.is_empty());
        assert_ne!(caller, shares.key(None, client(2)));
    }
}
