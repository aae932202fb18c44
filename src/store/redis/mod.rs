//! The store in Redis: records under hidden names, sealed, and the revocation log.
//!
//! Decides:  what a command, an answer and a failure mean.
//! Trusts:   `seal` for whether a record is authentic, `breaker` for whether to call at all. Redis
//!           itself is not trusted.
//! Not here: records (`records`), the revocation log (`log`), rate limits (`limit`), connections
//!           (`reconnect`, `subscription`), and the health of the server (`watch`).
//!
//! Redis 7.0 or newer, one server. All names of the log share a hash tag, and so do the names that
//! one record may have while keys are rotated, so that no command spans two slots of a cluster. A
//! gateway's ACL user needs `~PREFIX:*`, `&PREFIX:*`, and the commands `GETRANGE`, `SET`, `DEL`,
//! `EVAL`, `SUBSCRIBE`, `PUBLISH`, `PING`, `INFO`, `SELECT`, `CLIENT`, and in scripts `TIME` and
//! those on hashes and sorted sets (`rights.lua`).

mod clients;
mod command;
mod connect;
mod connection;
mod limit;
mod log;
mod meaning;
mod reconnect;
mod records;
mod subscription;
mod swap;
mod time;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use fred::clients::{Client, WithOptions};
use fred::interfaces::PubsubInterface as _;
use tokio::sync::{Notify, broadcast, watch as signal};

use self::clients::Clients;
use self::connection::Connection;
use self::log::{KeptExpiry, LogNames};
use self::time::ServerClock;
use super::contract::{Answer, Entry, Kind, Logged, Notice, Position, Store, Swap, Version};
use super::limit::{Bucket, Level};
use super::metrics::{Command, StoreMetrics};
use super::seal::Seals;
use crate::breaker::{Breaker, Outage};
use crate::clock;
use crate::fault::Fault;
use crate::log::LogThrottle;
use crate::policy;
use crate::secrets::MasterKey;

/// The longest record that is read; a key set has at most a quarter of it.
const LONGEST_RECORD: i64 = 1 << 20;

/// Notices that may wait for a receiver; a slower receiver gets [`Notice::Missed`].
const NOTICES: usize = 4096;

/// The store in Redis.
pub struct Redis {
    clients: Clients,
    seals: Seals,
    log: LogNames,
    has_tls: bool,
    /// The deadline of a command on one record.
    timeout: Duration,
    connection: Connection,
    breaker: Breaker,
    /// Why Redis cannot be used; `None` while it can.
    fault: ArcSwapOption<Fault>,
    metrics: Arc<StoreMetrics>,
    now: fn() -> i64,
    /// Number of the newest known entry: the guess to seal with.
    newest: AtomicU64,
    pushes: signal::Sender<u64>,
    /// The channel of [`Store::publish`].
    notice_channel: String,
    notices: broadcast::Sender<Notice>,
    /// The channel on which this process sends itself numbers, to see that messages arrive.
    echo_channel: String,
    /// The newest of them.
    echoes: AtomicU64,
    /// A name that nothing is stored under.
    probe_name: String,
    clock: ServerClock,
    connected: Notify,
    broken_records: LogThrottle,
    broken_connections: LogThrottle,
    no_subscription: LogThrottle,
}

impl Redis {
    /// Connects, and reconnects, in tasks of the runtime that it is called in. Redis need not be
    /// reachable yet.
    ///
    /// # Errors
    ///
    /// Keys, certificates or addresses that cannot be used.
    pub fn start(
        config: &policy::storage::Redis,
        keys: &[MasterKey],
        metrics: Arc<StoreMetrics>,
    ) -> anyhow::Result<Arc<Self>> {
        let (client, subscriber) = connect::clients(config)?;
        let store = Arc::new(Self {
            clients: Clients::new(client, config.timeout),
            seals: Seals::new(keys, &config.prefix)?,
            log: LogNames::new(&config.prefix),
            has_tls: config.tls.is_some(),
            timeout: config.timeout,
            connection: Connection::new(),
            breaker: Breaker::new(clock::now()),
            fault: ArcSwapOption::empty(),
            metrics,
            now: clock::unix_now,
            newest: AtomicU64::new(0),
            pushes: signal::Sender::new(0),
            notice_channel: format!("{}:told", config.prefix),
            notices: broadcast::Sender::new(NOTICES),
            echo_channel: format!("{}:echo:{}", config.prefix, log::new_epoch()?),
            echoes: AtomicU64::new(0),
            probe_name: format!("{}:probe", config.prefix),
            clock: ServerClock::new(),
            connected: Notify::new(),
            broken_records: LogThrottle::new(),
            broken_connections: LogThrottle::new(),
            no_subscription: LogThrottle::new(),
        });
        store.metrics.set_up(false);
        watch::spawn(&store, subscriber);
        Ok(store)
    }
}

impl Redis {
    /// The client for a command on one record.
    fn single(&self) -> Arc<WithOptions<Client>> {
        self.clients.single.load_full()
    }

    /// The client for a command on many records.
    fn bulk(&self) -> Arc<WithOptions<Client>> {
        self.clients.bulk.load_full()
    }
}

impl Store for Redis {
    fn get<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, Option<Vec<u8>>> {
        Box::pin(self.find(kind, name))
    }

    fn put<'a>(
        &'a self,
        kind: Kind,
        name: &'a [u8],
        value: &'a [u8],
        expires: i64,
    ) -> Answer<'a, ()> {
        Box::pin(self.write(kind, name, value, expires))
    }

    fn read<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, (Option<Vec<u8>>, Version)> {
        Box::pin(self.read_version(kind, name))
    }

    fn swap<'a>(
        &'a self,
        kind: Kind,
        name: &'a [u8],
        version: &'a Version,
        value: &'a [u8],
        expires: i64,
    ) -> Answer<'a, Swap> {
        Box::pin(self.swap_version(kind, name, version, value, expires))
    }

    fn remove<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(self.delete(Command::Remove, self.seals.names(kind, name)))
    }

    fn admit<'a>(&'a self, buckets: &'a [Bucket<'a>]) -> Answer<'a, Vec<Level>> {
        Box::pin(self.draw(buckets))
    }

    fn append<'a>(&'a self, entries: &'a [Entry<'a>]) -> Answer<'a, Position> {
        Box::pin(self.append_all(entries, KeptExpiry::Later))
    }

    fn shorten<'a>(&'a self, entries: &'a [Entry<'a>]) -> Answer<'a, Position> {
        Box::pin(self.append_all(entries, KeptExpiry::Earlier))
    }

    fn position(&self, at: i64) -> Answer<'_, (Position, u64)> {
        Box::pin(self.log_position(at))
    }

    fn log_after(&self, seq: u64, limit: usize) -> Answer<'_, (Vec<Logged>, Option<u64>)> {
        Box::pin(self.page(seq, limit))
    }

    fn pushes(&self) -> signal::Receiver<u64> {
        self.pushes.subscribe()
    }

    fn publish<'a>(&'a self, message: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(async move {
            let channel = self.notice_channel.as_str();
            let publish = async || self.single().publish(channel, message).await;
            self.call(Command::Publish, publish).await.map(|_| ())
        })
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    fn outage(&self) -> Outage {
        self.breaker.outage()
    }

    fn boot_time(&self) -> Option<i64> {
        self.clock.boot()
    }

    fn fault(&self) -> Option<Fault> {
        self.fault.load_full().map(|fault| Fault::clone(&fault))
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis")
            .field("seals", &self.seals)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}
