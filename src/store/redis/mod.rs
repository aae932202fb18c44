//! The store in Redis: records under hidden names, sealed, and the log of revocations.
//!
//! Decides:  what a command, an answer and a failure mean; which entries of the log are ours.
//! Trusts:   `seal` for whether a record is ours, `breaker` for whether to ask at all. Redis is trusted with nothing but being there.
//! Not here: connections (`connect`), and looking after the server (`watch`).
//!
//! Redis 7.0 or newer, one server. All names of the log share a hash tag, and every other record is a name of its own, so that no command
//! spans two slots of a cluster. A gateway's ACL user needs `~PREFIX:*`, `&PREFIX:*`, and the commands `GETRANGE`, `SET`, `DEL`, `EVAL`,
//! `SUBSCRIBE`, `PUBLISH`, `PING`, `INFO`, `HELLO`, `SELECT`, `CLIENT`, and in scripts those on hashes and sorted sets.

mod connect;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::{digest, rand};
use fred::clients::{Client, WithOptions};
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike as _, KeysInterface as _};
use fred::types::config::Options;
use fred::types::{CustomCommand, Expiration, Value};
use tokio::sync::{Notify, watch as signal};

use super::breaker::Breaker;
use super::metrics::{Command, StoreMetrics};
use super::seal::{Broken, Seals};
use super::{Answer, Entry, Kind, Logged, Outage, Position, Store, Unreachable};
use crate::clock;
use crate::config::checked::{self, MasterKey};

const APPEND: &str = concat!(include_str!("prelude.lua"), include_str!("append.lua"));
const POSITION: &str = concat!(include_str!("prelude.lua"), include_str!("position.lua"));
const PAGE: &str = include_str!("page.lua");
const REMOVE: &str = "return redis.call('ZREM', KEYS[1], unpack(ARGV))";

/// Longest record that is read; a key set is a quarter of it at most.
const LONGEST_RECORD: i64 = 1 << 20;

/// Longest entry of the log. A token, from which the longest part of an entry comes, is no longer than 8 KiB.
const LONGEST_ENTRY: usize = 32 << 10;

/// Most entries of the log in one page or one append.
const PAGE_SIZE: usize = 500;

/// How often an append is tried with the number that another replica left; each time some replica got on.
const ATTEMPTS: usize = 64;

/// How much longer than a command on one record a page or an append may take.
const BULK: u32 = 10;

/// How long an expired entry may lie in the log before whoever reads it clears it away, in seconds: clocks differ.
const CLOCKS_DIFFER: i64 = 300;

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
    connected: Notify,
}

/// Names in Redis that are about the log. They tell nothing and do not depend on a key, so that all replicas use one log while keys are
/// rotated.
struct LogNames {
    position: String,
    entries: String,
    names: String,
    expiries: String,
    channel: String,
}

impl LogNames {
    fn new(prefix: &str) -> Self {
        let name = |what| format!("{prefix}:{{revocations}}:{what}");
        Self {
            position: name("position"),
            entries: name("log"),
            names: name("names"),
            expiries: name("expiries"),
            channel: name("pushes"),
        }
    }

    fn keys(&self) -> [&str; 4] {
        [&self.position, &self.entries, &self.names, &self.expiries]
    }
}

impl Redis {
    /// Connects, and keeps connecting, in tasks of the runtime it is called in. Redis need not be there yet.
    ///
    /// # Errors
    ///
    /// Keys, certificates or addresses that cannot be used.
    pub fn start(
        config: &checked::Redis,
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
            connected: Notify::new(),
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
        if let Err(why) = self.breaker.permits() {
            self.metrics.unreachable(why);
            return Err(why);
        }
        self.send(command, call).await
    }

    /// A script about the log, as a plain command: fred's own call for scripts does not take options such as a deadline.
    async fn script(
        &self,
        client: &WithOptions<Client>,
        script: &'static str,
        keys: &[&str],
        arguments: Vec<Value>,
    ) -> Result<Value, Error> {
        let eval = CustomCommand::new_static("EVAL", self.log.entries.as_str(), false);
        let mut words: Vec<Value> = Vec::with_capacity(2 + keys.len() + arguments.len());
        words.push(Value::from_static_str(script));
        words.push(keys.len().to_string().into());
        words.extend(keys.iter().map(|key| Value::from(*key)));
        words.extend(arguments);
        client.custom(eval, words).await
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

    fn tampered(&self, kind: Kind) {
        self.metrics.tampered(kind);
        // One line a record at most, and records are read a page at a time: bounded by what is written into Redis. The name stays out.
        tracing::warn!(
            kind = kind.as_str(),
            "security: a record in the store was written or changed by somebody else; it counts as absent"
        );
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
            match self.seals.open(kind, &key, &record) {
                Ok(opened) if opened.expires > (self.now)() => return Ok(Some(opened.value)),
                Ok(_) => {}
                Err(Broken::Tampered) => self.tampered(kind),
                Err(Broken::UnknownKey) => return Err(self.unknown_key()),
            }
        }
        Ok(None)
    }

    fn unknown_key(&self) -> Unreachable {
        self.metrics.unreachable(Unreachable::UnknownKey);
        tracing::error!(
            "a record in the store was sealed with a key that `keys` does not list; list it again until its records have expired"
        );
        Unreachable::UnknownKey
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

    async fn append_all(&self, entries: &[Entry<'_>]) -> Result<Position, Unreachable> {
        let now = (self.now)();
        let entries: Vec<&Entry<'_>> = entries.iter().filter(|entry| entry.expires > now).collect();
        let mut position = None;
        for some in entries.chunks(PAGE_SIZE) {
            position = Some(self.append_some(some, now).await?);
        }
        match position {
            Some(position) => Ok(position),
            None => self.stands(now).await.map(|(position, _)| position),
        }
    }

    /// Numbers are inside the seals, so they are guessed, and guessed again if another replica was faster.
    async fn append_some(&self, entries: &[&Entry<'_>], now: i64) -> Result<Position, Unreachable> {
        for _ in 0..ATTEMPTS {
            let after = self.newest.load(Ordering::Relaxed);
            let mut arguments: Vec<Value> = vec![
                new_epoch()?.into(),
                after.to_string().into(),
                now.to_string().into(),
                self.log.channel.as_str().into(),
                self.seals
                    .names(Kind::Revocation, b"")
                    .len()
                    .to_string()
                    .into(),
            ];
            for (seq, entry) in (after + 1..).zip(entries) {
                let sealed = self.seals.seal(
                    Kind::Revocation,
                    &self.log.entries,
                    seq,
                    entry.expires,
                    entry.record,
                )?;
                if sealed.len() > LONGEST_ENTRY {
                    return Err(Unreachable::Full);
                }
                arguments.push(entry.expires.to_string().into());
                arguments.push(Value::Bytes(sealed.into()));
                let names = self.seals.names(Kind::Revocation, entry.name);
                arguments.extend(names.into_iter().map(Value::from));
            }
            let keys = self.log.keys();
            let call = self.script(&self.many, APPEND, &keys, arguments);
            let answer = texts(self.ask(Command::Append, call).await?)?;
            let [done, epoch, run, seq] = answer.as_slice() else {
                return Err(Unreachable::Answer);
            };
            let position = self.heard(epoch, run, seq)?;
            if done == "1" {
                return Ok(position);
            }
        }
        Err(Unreachable::Timeout)
    }

    async fn stands(&self, at: i64) -> Result<(Position, u64), Unreachable> {
        let arguments = vec![new_epoch()?.into(), at.to_string().into()];
        let keys = self.log.keys();
        let call = self.script(&self.one, POSITION, &keys, arguments);
        let answer = texts(self.ask(Command::Position, call).await?)?;
        let [epoch, run, seq, entries] = answer.as_slice() else {
            return Err(Unreachable::Answer);
        };
        let entries = entries.parse().map_err(|_| Unreachable::Answer)?;
        Ok((self.heard(epoch, run, seq)?, entries))
    }

    fn heard(&self, epoch: &str, run: &str, seq: &str) -> Result<Position, Unreachable> {
        let seq = seq.parse().map_err(|_| Unreachable::Answer)?;
        self.newest.store(seq, Ordering::Relaxed);
        let both = format!("{epoch} {run}");
        let digest = digest::digest(&digest::SHA256, both.as_bytes());
        let epoch = digest.as_ref().first_chunk().ok_or(Unreachable::Answer)?;
        Ok(Position {
            epoch: u128::from_be_bytes(*epoch),
            seq,
        })
    }

    async fn page(
        &self,
        seq: u64,
        limit: usize,
    ) -> Result<(Vec<Logged>, Option<u64>), Unreachable> {
        let limit = limit.clamp(1, PAGE_SIZE);
        let numbers = [seq, limit as u64, LONGEST_ENTRY as u64];
        let arguments = numbers.map(|number| number.to_string().into());
        let entries = [self.log.entries.as_str()];
        let call = self.script(&self.many, PAGE, &entries, arguments.into());
        let Found::Value(Value::Array(found)) = self.ask(Command::Page, call).await? else {
            return Err(Unreachable::Answer);
        };
        let is_last = found.len() < limit * 2;
        let now = (self.now)();
        let mut page = Vec::with_capacity(found.len() / 2);
        let mut clear = Vec::new();
        let mut next = seq;
        for pair in found.chunks_exact(2) {
            let [entry, number] = pair else { continue };
            let entry = entry.as_bytes().unwrap_or_default();
            let opened = self.seals.open(Kind::Revocation, &self.log.entries, entry);
            match opened {
                Ok(opened) if number.as_u64() == Some(opened.seq) => {
                    next = next.max(opened.seq);
                    if opened.expires > now {
                        page.push(Logged {
                            seq: opened.seq,
                            record: opened.value,
                            expires: opened.expires,
                        });
                    } else if opened.expires < now - CLOCKS_DIFFER {
                        clear.push(Value::Bytes(entry.to_vec().into()));
                    }
                }
                Err(Broken::UnknownKey) => return Err(self.unknown_key()),
                Ok(_) | Err(Broken::Tampered) => {
                    self.tampered(Kind::Revocation);
                    if !entry.is_empty() {
                        clear.push(Value::Bytes(entry.to_vec().into()));
                    }
                }
            }
        }
        // Removed, so that replicas that know the entry see that it is missing and write it back.
        if !clear.is_empty() {
            let call = self.script(&self.many, REMOVE, &entries, clear);
            self.ask(Command::Page, call).await?;
        }
        Ok((page, (!is_last).then_some(next)))
    }
}

/// What a command gave.
enum Found {
    /// An answer.
    Value(Value),
    /// What is there is of another type, which nobody of us wrote.
    Other,
}

/// The texts of a script's answer.
fn texts(found: Found) -> Result<Vec<String>, Unreachable> {
    let Found::Value(Value::Array(values)) = found else {
        return Err(Unreachable::Answer);
    };
    values
        .into_iter()
        .map(|value| value.into_string().ok_or(Unreachable::Answer))
        .collect()
}

/// An epoch for a log that has none.
fn new_epoch() -> Result<String, Unreachable> {
    let mut epoch = [0; 16];
    rand::fill(&mut epoch).map_err(|_| Unreachable::Answer)?;
    Ok(format!("{:032x}", u128::from_be_bytes(epoch)))
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

    fn remove<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(self.delete(Command::Remove, self.seals.names(kind, name)))
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
