//! Shares: how many lookups of one caller may run at once, and how many requests may wait for one
//! of them to end. One caller's requests wait for each other, and never hold every connection of
//! the database or the whole queue in front of it.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::network::Networks;
use crate::policy::storage::CallerShare;

/// What all clients count as that proved no user and that their proxy does not name.
const UNNAMED: &str = "unnamed";

/// How many times more lookups a /48 may have run than each of its /64s. A choice.
const SITE_FACTOR: usize = 2;

/// Whom a lookup counts against: the caller; without one, the client's network, and for IPv6 also
/// the larger one around it; without both, all clients without both.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Requester {
    own: Option<Key>,
    site: Option<Key>,
}

/// Too many requests of the requester wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Crowded;

/// A hash with a key of this process.
type Key = u64;

impl Requester {
    /// The name of the bucket of its cached facts, if it has one.
    pub(super) fn bytes(self) -> Option<[u8; 8]> {
        self.site.or(self.own).map(Key::to_be_bytes)
    }
}

/// The shares of all callers whose lookups run or wait. No other caller takes memory.
#[derive(Debug)]
pub(super) struct Shares {
    limits: CallerShare,
    hasher: RandomState,
    callers: DashMap<Key, Arc<CallerLoads>>,
}

#[derive(Debug)]
struct CallerLoads {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Permission for one lookup to run, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    _own: Option<KeyShare>,
    _site: Option<KeyShare>,
}

#[derive(Debug)]
struct KeyShare {
    _running: OwnedSemaphorePermit,
    /// Dropped before the entry, which counts what is left.
    _loads: Arc<CallerLoads>,
    _entry: ShareEntry,
}

/// Removes the entry of a caller if nothing else uses it.
#[derive(Debug)]
struct ShareEntry {
    shares: Arc<Shares>,
    caller: Key,
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

    /// Whom a lookup for this caller (issuer and subject) of this client counts against.
    pub(super) fn requester(
        &self,
        caller: Option<(&str, &str)>,
        client: Option<Networks>,
    ) -> Requester {
        match (caller, client) {
            (Some(caller), _) => Requester {
                own: Some(self.hasher.hash_one(caller)),
                site: None,
            },
            (None, Some(Networks { own, site })) => Requester {
                own: Some(self.hasher.hash_one(own)),
                site: site.map(|site| self.hasher.hash_one(site)),
            },
            // One of them must not take the database from all.
            (None, None) => Requester {
                own: Some(self.hasher.hash_one(UNNAMED)),
                site: None,
            },
        }
    }

    /// Waits until one more lookup of the requester may run.
    pub(super) async fn acquire(self: &Arc<Self>, requester: Requester) -> Result<Share, Crowded> {
        Ok(Share {
            _own: self.acquire_one(requester.own, 1).await?,
            _site: self.acquire_one(requester.site, SITE_FACTOR).await?,
        })
    }

    async fn acquire_one(
        self: &Arc<Self>,
        caller: Option<Key>,
        factor: usize,
    ) -> Result<Option<KeyShare>, Crowded> {
        let Some(caller) = caller else {
            return Ok(None);
        };
        let entry = ShareEntry {
            shares: self.clone(),
            caller,
        };
        let loads = self.loads(caller, factor);
        let free = loads.free.clone();
        let running = match free.clone().try_acquire_owned() {
            Ok(running) => running,
            Err(_) => {
                let before = loads.waiting.fetch_add(1, Ordering::Relaxed);
                let _waiting = Waiting(&loads.waiting);
                if before >= self.limits.waiting.saturating_mul(factor) {
                    return Err(Crowded);
                }
                // It is never closed.
                let running = free.acquire_owned().await;
                running.map_err(|_| Crowded)?
            }
        };
        Ok(Some(KeyShare {
            _running: running,
            _loads: loads,
            _entry: entry,
        }))
    }

    fn loads(&self, caller: Key, factor: usize) -> Arc<CallerLoads> {
        let running = self.limits.running.get().saturating_mul(factor);
        let new = || {
            Arc::new(CallerLoads {
                free: Arc::new(Semaphore::new(running)),
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
    use std::net::IpAddr;

    use super::*;

    fn client(last: u8) -> Option<Networks> {
        Some(Networks::of(IpAddr::from([192, 0, 2, last])))
    }

    #[tokio::test]
    async fn a_callers_lookups_wait_for_each_other_and_for_nobody_elses() {
        let shares = Shares::new(Some(CallerShare {
            running: NonZeroUsize::new(2).unwrap_or(NonZeroUsize::MIN),
            waiting: 1,
        }));
        let greedy = shares.requester(Some(("i", "greedy")), client(1));
        let running = [shares.acquire(greedy).await, shares.acquire(greedy).await];
        assert!(running.iter().all(Result::is_ok));
        let mut waiting = Box::pin(shares.acquire(greedy));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let refused = shares.acquire(greedy).await;
        assert_eq!(refused.err(), Some(Crowded));
        let other = shares.requester(Some(("i", "other")), client(1));
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
        let caller = shares.requester(None, client(1));
        let running = shares.acquire(caller).await;
        for _ in 0..5 {
            let mut waiting = Box::pin(shares.acquire(caller));
            assert!(futures_util::poll!(&mut waiting).is_pending());
        }
        drop(running);
        assert!(shares.acquire(caller).await.is_ok());
        assert!(shares.callers.is_empty());
        assert_ne!(caller, shares.requester(None, client(2)));
        // All whom a proxy does not name are one caller.
        let unnamed = shares.requester(None, None);
        let first = shares.acquire(unnamed).await;
        assert!(futures_util::poll!(Box::pin(shares.acquire(unnamed))).is_pending());
        drop(first);
        assert!(shares.acquire(unnamed).await.is_ok());
        assert!(unnamed.bytes().is_some());
    }

    #[tokio::test]
    async fn a_slash_48_has_twice_the_lookups_of_one_slash_64() {
        let shares = Shares::new(Some(CallerShare {
            running: NonZeroUsize::MIN,
            waiting: 0,
        }));
        let client = |network| {
            let address = [0x2001, 0xdb8, 1, network, 0, 0, 0, 1];
            Some(Networks::of(IpAddr::from(address)))
        };
        let mut running = Vec::new();
        for network in [1, 1, 2, 3, 4] {
            let requester = shares.requester(None, client(network));
            running.extend(shares.acquire(requester).await.ok());
        }
        assert_eq!(running.len(), 2);
        // Callers count by themselves, wherever they are.
        let caller = shares.requester(Some(("i", "caller")), client(1));
        assert!(shares.acquire(caller).await.is_ok());
        drop(running);
        assert!(shares.callers.is_empty());
    }
}
