//! The store in Redis: records under hidden names, sealed, and the log of revocations.
//!
//! Decides:  what a command, an answer and a failure mean; which entries of the log are ours.
//! Trusts:   `seal` for whether a record is ours, `breaker` for whether to ask at all. Redis is trusted with nothing but being there.
//! Not here: the log of revocations (`log`), connections (`connect`), and looking after the server (`watch`).
//!
//! Redis 7.0 or newer, one server. All names of the log share a hash tag, and so do the names that one record may have while keys are
//! rotated, so that no command spans two slots of a cluster. A gateway's ACL user needs `~PREFIX:*`, `&PREFIX:*`, and the commands `GETRANGE`, `SET`, `DEL`, `EVAL`,
//! `SUBSCRIBE`, `PUBLISH`, `PING`, `INFO`, `HELLO`, `SELECT`, `CLIENT`, and in scripts `TIME` and those on hashes and sorted sets.

mod connect;
mod limit;
mod log;
mod swap;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fred::clients::{Client, WithOptions};
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike as _, KeysInterface as _, PubsubInterface as _};
use fred::types::config::Options;
use fred::types::{CustomCommand, Expiration, Value};
use tokio::sync::{Notify, broadcast, watch as signal};

use self::log::LogNames;
use super::metrics::{Command, StoreMetrics};
use super::seal::{Broken, Seals};
use super::{
    Answer, Bucket, Entry, Heard, Kind, Level, Logged, Position, Store, Swap, Unreachable, Version,
};
use crate::breaker::{Breaker, Outage, Shut};
use crate::clock;
use crate::log::Sparing;
use crate::policy;
use crate::secrets::MasterKey;

/// Longest record that is read; a key set is a quarter of it at most.
const LONGEST_RECORD: i64 = 1 << 20;

/// How much longer than a command on one record a page or an append may take.
const BULK: u32 = 10;

/// How many messages of other processes may wait to be taken note of; whoever is slower is told that it missed some.
const TOLD: usize = 4096;

/// The store in Redis.
pub struct Redis {
    one: WithOptions<Client>,
    many: WithOptions<Client>,
    seals: Seals,
    log: LogNames,
    breaker: Breaker,
    metrics: Arc<StoreMetrics>,
    now: fn() -> i64,
    /// Number of the newest entry, as far as we know: a guess to seal with.
    newest: AtomicU64,
    pushes: signal::Sender<u64>,
    /// Where processes tell each other something.
    telling: String,
    told: broadcast::Sender<Heard>,
    connected: Notify,
    broken_records: Sparing,
    broken_connections: Sparing,
    no_subscription: Sparing,
}

impl Redis {
    /// Connects, and keeps connecting, in tasks of the runtime it is called in. Redis need not be there yet.
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
        let with = |timeout: Duration| {
            client.with_options(&Options {
                timeout: Some(timeout),
                max_attempts: Some(1),
                fail_fast: true,
                ..Options::default()
            })
        };
        let store = Arc::new(Self {
            one: with(config.timeout),
            many: with(config.timeout * BULK),
            seals: Seals::new(keys, &config.prefix)?,
            log: LogNames::new(&config.prefix),
            breaker: Breaker::new(clock::now()),
            metrics,
            now: clock::unix_now,
            newest: AtomicU64::new(0),
            pushes: signal::Sender::new(0),
            telling: format!("{}:told", config.prefix),
            told: broadcast::Sender::new(TOLD),
            connected: Notify::new(),
            broken_records: Sparing::new(),
            broken_connections: Sparing::new(),
            no_subscription: Sparing::new(),
        });
        store.metrics.is_up(false);
        watch::spawn(&store, subscriber);
        Ok(store)
    }

    /// Asks, unless the breaker is open.
    async fn ask(
        &self,
        command: Command,
        call: impl Future<Output = Result<Value, Error>>,
    ) -> Result<Found, Unreachable> {
        if let Err(shut) = self.breaker.permits() {
            let why = match shut {
                Shut::Open => Unreachable::BreakerOpen,
                Shut::Barred => Unreachable::Evicting,
            };
            self.metrics.unreachable(why);
            return Err(why);
        }
        self.send(command, call).await
    }

    /// Asks, and learns from how that went whether to ask again.
    async fn send(
        &self,
        command: Command,
        call: impl Future<Output = Result<Value, Error>>,
    ) -> Result<Found, Unreachable> {
        let started = clock::now();
        let outcome = call.await;
        let now = clock::now();
        self.metrics.took(
            command,
            now.saturating_duration_since(started),
            outcome.is_ok(),
        );
        let why = match outcome {
            Ok(value) => {
                self.breaker.answered(now);
                return Ok(Found::Value(value));
            }
            Err(error) if error.details().starts_with("WRONGTYPE") => {
                self.breaker.answered(now);
                return Ok(Found::Other);
            }
            Err(error) => why(&error),
        };
        self.metrics.unreachable(why);
        match why {
            Unreachable::Disconnected | Unreachable::Timeout => {
                if self.breaker.failed() {
                    self.metrics.is_up(false);
                    tracing::error!(%why, "the store does not answer; the breaker is open");
                }
            }
            Unreachable::BreakerOpen
            | Unreachable::UnknownKey
            | Unreachable::Full
            | Unreachable::Evicting
            | Unreachable::Answer => self.breaker.answered(now),
        }
        Err(why)
    }

    /// A record that is not ours.
    fn tampered(&self, kind: Kind) {
        self.metrics.tampered(kind);
        if self.broken_records.may_tell((self.now)()) {
            tracing::warn!(
                kind = kind.as_str(),
                "security: a record in the store was written or changed by somebody else; it counts as absent"
            );
        }
    }

    /// A record that may be ours.
    fn unknown_key(&self) -> Unreachable {
        self.metrics.unreachable(Unreachable::UnknownKey);
        if self.broken_records.may_tell((self.now)()) {
            tracing::error!(
                "a record in the store was sealed with a key that `keys` does not list; list it again until its records have expired"
            );
        }
        Unreachable::UnknownKey
    }

    async fn find(&self, kind: Kind, name: &[u8]) -> Result<Option<Vec<u8>>, Unreachable> {
        for key in self.seals.names(kind, name) {
            let call = self
                .one
                .getrange(&key, 0, usize::try_from(LONGEST_RECORD).unwrap_or(0));
            let record = match self.ask(Command::Get, call).await? {
                Found::Value(value) => value.into_bytes().unwrap_or_default(),
                Found::Other => {
                    self.tampered(kind);
                    continue;
                }
            };
            if record.is_empty() {
                continue;
            }
            if let Some(value) = self.open(kind, &key, &record)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The value of a record that was found under a name; `None` if it has expired or is not ours.
    fn open(&self, kind: Kind, key: &str, record: &[u8]) -> Result<Option<Vec<u8>>, Unreachable> {
        match self.seals.open(kind, key, record) {
            Ok(opened) if opened.expires > (self.now)() => Ok(Some(opened.value)),
            Ok(_) => Ok(None),
            Err(Broken::Tampered) => {
                self.tampered(kind);
                Ok(None)
            }
            Err(Broken::UnknownKey) => Err(self.unknown_key()),
        }
    }

    async fn write(
        &self,
        kind: Kind,
        name: &[u8],
        value: &[u8],
        expires: i64,
    ) -> Result<(), Unreachable> {
        let mut names = self.seals.names(kind, name).into_iter();
        let name = names.next().ok_or(Unreachable::UnknownKey)?;
        let record = self.seals.seal(kind, &name, 0, expires, value)?;
        // What is there under the name by an older key would show again when this expires.
        let older: Vec<String> = names.collect();
        let set = self.one.set(
            &name,
            record.as_slice(),
            Some(Expiration::EXAT(expires)),
            None,
            false,
        );
        self.ask(Command::Put, set).await?;
        self.delete(Command::Put, older).await
    }

    async fn delete(&self, command: Command, names: Vec<String>) -> Result<(), Unreachable> {
        for name in names {
            self.ask(command, self.one.del(name)).await?;
        }
        Ok(())
    }
}

/// A script, as a plain command: fred's own call for scripts does not take options such as a deadline.
async fn script(
    client: &WithOptions<Client>,
    script: &'static str,
    keys: &[&str],
    arguments: Vec<Value>,
) -> Result<Value, Error> {
    let slot = keys.first().copied().unwrap_or_default();
    let eval = CustomCommand::new_static("EVAL", slot, false);
    let mut words: Vec<Value> = Vec::with_capacity(2 + keys.len() + arguments.len());
    words.push(Value::from_static_str(script));
    words.push(keys.len().to_string().into());
    words.extend(keys.iter().map(|key| Value::from(*key)));
    words.extend(arguments);
    client.custom(eval, words).await
}

/// What a command gave.
enum Found {
    /// An answer.
    Value(Value),
    /// What is there is of another type, which nobody of us wrote.
    Other,
}

/// What an error means.
fn why(error: &Error) -> Unreachable {
    let word = error.details().split(' ').next().unwrap_or_default();
    match word {
        "OOM" => return Unreachable::Full,
        // It is there, and cannot say anything about any record.
        "LOADING" | "MASTERDOWN" | "BUSY" | "NOAUTH" => return Unreachable::Disconnected,
        _ => {}
    }
    match error.kind() {
        ErrorKind::Timeout => Unreachable::Timeout,
        ErrorKind::IO
        | ErrorKind::Canceled
        | ErrorKind::Tls
        | ErrorKind::Routing
        | ErrorKind::Auth
        | ErrorKind::Backpressure => Unreachable::Disconnected,
        ErrorKind::Unknown if error.details().starts_with("Client is not initialized") => {
            Unreachable::Disconnected
        }
        ErrorKind::Config
        | ErrorKind::InvalidCommand
        | ErrorKind::InvalidArgument
        | ErrorKind::Url
        | ErrorKind::Protocol
        | ErrorKind::Unknown
        | ErrorKind::Cluster
        | ErrorKind::Parse
        | ErrorKind::Sentinel
        | ErrorKind::NotFound => Unreachable::Answer,
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
        Box::pin(self.append_all(entries))
    }

    fn position(&self, at: i64) -> Answer<'_, (Position, u64)> {
        Box::pin(self.stands(at))
    }

    fn log_after(&self, seq: u64, limit: usize) -> Answer<'_, (Vec<Logged>, Option<u64>)> {
        Box::pin(self.page(seq, limit))
    }

    fn pushes(&self) -> signal::Receiver<u64> {
        self.pushes.subscribe()
    }

    fn tell<'a>(&'a self, message: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(async move {
            let publish = self.one.publish(self.telling.as_str(), message);
            self.ask(Command::Tell, publish).await.map(|_| ())
        })
    }

    fn told(&self) -> broadcast::Receiver<Heard> {
        self.told.subscribe()
    }

    fn outage(&self) -> Outage {
        self.breaker.outage()
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
