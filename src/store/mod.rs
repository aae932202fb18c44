//! The store: state that replicas share, and that a process finds again after a restart.
//!
//! Decides:  what a store promises: the difference between "absent" and "unreachable", what a
//!           revocation log is, and what an outage is.
//! Trusts:   nobody who can write to the store; see `seal` for what such an attacker can and cannot
//!           do.
//! Not here: what records mean (their writers), and how a request is answered during an outage
//!           (`policy::outage`).

pub mod buckets;
mod contract;
pub mod limit;
pub mod memory;
pub mod metrics;
mod redis;
mod seal;

pub use contract::{
    Answer, Entry, Kind, Logged, Notice, Position, Store, Swap, Unreachable, Version,
};

use std::sync::Arc;

pub use buckets::Buckets;
pub use limit::{Bucket, Draw, Level};
pub use memory::Memory;
pub use metrics::StoreMetrics;
pub use redis::Redis;

use crate::clock;
use crate::policy::Config;
use crate::policy::storage::StoreChoice;

/// Opens the configured store. Call it inside the background runtime, where the tasks that maintain
/// the connection run.
///
/// # Errors
///
/// Keys, certificates or addresses that cannot be used. An unreachable server is no error: the
/// store keeps trying to connect.
pub fn open(config: &Config, metrics: &Arc<StoreMetrics>) -> anyhow::Result<Arc<dyn Store>> {
    match &config.store {
        StoreChoice::Memory => {
            metrics.set_up(true);
            tracing::info!(
                store = "this process",
                "store: in memory, for one replica, lost when the process ends"
            );
            Ok(Arc::new(Memory::new(memory::CAPACITY, clock::unix_now)))
        }
        StoreChoice::Redis(redis) => {
            tracing::info!(store = %redis.shown(), "store: Redis");
            let store: Arc<Redis> = Redis::start(redis, &config.keys, metrics.clone())?;
            Ok(store)
        }
    }
}
