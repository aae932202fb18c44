//! Health of Redis: whether it does what is needed, and keeps what it is given. It decides when the
//! breaker closes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fred::clients::SubscriberClient;
use fred::error::{Error, ErrorKind};
use fred::interfaces::ClientLike as _;
use fred::types::{InfoKind, Value};
use tokio::time::{MissedTickBehavior, interval};

use super::command::{Reply, script};
use super::log::texts;
use super::meaning::{Meaning, forbidden, meaning};
use super::reconnect::stay_connected;
use super::subscription::stay_subscribed;
use super::{Command, Redis};
use crate::clock;
use crate::fault::Fault;
use crate::store::contract::Unreachable;

/// Interval of the probes. An open breaker closes within this and some round trips after Redis is
/// back.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// How often everything is checked, besides on every new connection.
const EXAM_INTERVAL: Duration = Duration::from_secs(60);

/// Examinations without an answer after which a connection is given up. A busy machine causes one
/// or two.
const SILENCES: u32 = 3;

const RIGHTS: &str = include_str!("rights.lua");
const TOUCH: &str = include_str!("touch.lua");

/// What Redis does when it is out of memory.
#[derive(Debug, Eq, PartialEq)]
enum Policy {
    /// It refuses writes.
    Keeps,
    /// It evicts records, or does not report its policy; the word for the log.
    Evicts(String),
}

/// Why an examination did not end well.
enum Failure {
    /// The server answers, and cannot be used.
    Unusable(Fault),
    /// It does not answer.
    Silent,
    /// Something that `send` has dealt with.
    Other,
}

impl Failure {
    fn of(why: Unreachable) -> Self {
        match why {
            Unreachable::Timeout => Self::Silent,
            Unreachable::Disconnected
            | Unreachable::BreakerOpen
            | Unreachable::UnknownKey
            | Unreachable::Full
            | Unreachable::Evicting
            | Unreachable::Answer => Self::Other,
        }
    }
}

/// Starts the tasks.
pub(super) fn spawn(store: &Arc<Redis>, subscriber: SubscriberClient) {
    tokio::spawn(stay_connected(store.clone()));
    tokio::spawn(stay_subscribed(store.clone(), subscriber));
    tokio::spawn(probe_forever(store.clone()));
}

async fn probe_forever(store: Arc<Redis>) {
    let mut probes = interval(PROBE_INTERVAL);
    probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut examined: Option<Instant> = None;
    let (mut last, mut silences) = (0, 0);
    loop {
        tokio::select! {
            _ = probes.tick() => {}
            () = store.connected.notified() => {}
        }
        let Some(connection) = store.connection.number() else {
            continue;
        };
        if std::mem::replace(&mut last, connection) != connection {
            silences = 0;
        }
        let now = clock::now();
        let is_due = examined.is_none_or(|at| now.saturating_duration_since(at) >= EXAM_INTERVAL);
        if is_due || store.breaker.is_open() || !store.connection.is_ready() {
            match store.examine(connection, is_due).await {
                Ok(()) if is_due => examined = Some(now),
                Ok(()) | Err(Failure::Other) => {}
                Err(Failure::Unusable(fault)) => store.leave(Some(connection), fault),
                Err(Failure::Silent) => {
                    silences += 1;
                    // The connection may lead to a server that is gone, and a new one to another.
                    if silences >= SILENCES && store.breaker.is_open() {
                        store.leave(Some(connection), Fault::silent());
                    }
                }
            }
        } else {
            store.touch(connection).await;
        }
    }
}

impl Redis {
    /// Checks everything that is needed of the server, and opens or closes the breaker.
    ///
    /// # Errors
    ///
    /// It cannot be used, or does not answer.
    async fn examine(&self, connection: u64, is_due: bool) -> Result<(), Failure> {
        self.rights().await?;
        self.compare_clocks(connection).await?;
        let policy = self.policy().await.map_err(Failure::of)?;
        self.apply_policy(&policy, connection, is_due);
        Ok(())
    }

    /// Compares the clocks, unless they agreed before.
    ///
    /// # Errors
    ///
    /// They do not agree, or there was no answer.
    async fn compare_clocks(&self, connection: u64) -> Result<(), Failure> {
        if self.clock.has_agreed() {
            return Ok(());
        }
        self.touch(connection).await;
        self.clock.compare().map_err(Failure::Unusable)?;
        match self.clock.has_agreed() {
            true => Ok(()),
            false => Err(Failure::Silent),
        }
    }

    /// Tries every command.
    ///
    /// # Errors
    ///
    /// One does not work, or there was no answer.
    async fn rights(&self) -> Result<(), Failure> {
        let keys = [self.probe_name.as_str()];
        let arguments = vec![self.echo_channel.as_str().into()];
        let call = || script(self.single(), RIGHTS, &keys, arguments);
        let failed = match self.send(Command::Probe, call).await {
            Ok(Reply::Value(Value::Array(failed))) => failed,
            Ok(_) | Err(Unreachable::Answer) => return Err(Failure::Unusable(forbidden("EVAL"))),
            Err(why) => return Err(Failure::of(why)),
        };
        let [command, error] = failed.as_slice() else {
            return Ok(());
        };
        let command = command.as_str().unwrap_or_default();
        let error = error.as_string().unwrap_or_default();
        let error = meaning(&Error::new(ErrorKind::Unknown, error));
        if let Meaning::Unusable(fault) = error
            && !fault.is_lasting()
        {
            return Err(Failure::Unusable(fault));
        }
        let what = format!("{command} on the names of `store.prefix`");
        Err(Failure::Unusable(forbidden(&what)))
    }

    /// Writes nothing, so that a server that refuses writes is found, sends this process a message,
    /// and reads the server's clock.
    async fn touch(&self, connection: u64) {
        let number = self.echoes.load(Ordering::Relaxed) + 1;
        let keys = [self.probe_name.as_str()];
        let arguments = vec![self.echo_channel.as_str().into(), number.to_string().into()];
        let asked = clock::since_boot();
        let call = || script(self.single(), TOUCH, &keys, arguments);
        match self.send(Command::Probe, call).await {
            Ok(answer) => {
                self.echoes.store(number, Ordering::Relaxed);
                self.clock.note(asked, &texts(answer).unwrap_or_default());
            }
            // It answers, and not as it did on this connection before.
            Err(Unreachable::Answer) => {
                self.leave(Some(connection), forbidden("EVAL, DEL or PUBLISH"));
            }
            Err(_) => {}
        }
    }

    async fn policy(&self) -> Result<Policy, Unreachable> {
        let answer = self
            .send(Command::Probe, async || {
                self.single().info(Some(InfoKind::Memory)).await
            })
            .await;
        match answer {
            Ok(Reply::Value(value)) => Ok(policy_of(&value)),
            Ok(Reply::Other) => Ok(Policy::Evicts("unknown".to_owned())),
            // It answers but does not report: the user may not call INFO.
            Err(Unreachable::Answer) => Ok(Policy::Evicts("not reported".to_owned())),
            Err(why) => Err(why),
        }
    }

    /// Opens or closes the breaker. It is logged when that changes, and with
    /// `is_due`, which the caller sets every so often, again.
    fn apply_policy(&self, policy: &Policy, connection: u64, is_due: bool) {
        match policy {
            Policy::Keeps => {
                self.metrics.set_evicting(false);
                self.connection.set_ready(connection);
                self.fault.store(None);
                if self.breaker.close(clock::now()) {
                    self.metrics.set_up(true);
                    tracing::info!("Redis answers; circuit breaker closed");
                    // Followers of the log must poll at once for what they missed.
                    self.pushes.send_modify(|_| {});
                }
            }
            Policy::Evicts(word) => {
                self.metrics.set_evicting(true);
                self.metrics.set_up(false);
                self.fault.store(Some(Arc::new(Fault::lasting(
                    "it may evict records: set `maxmemory-policy noeviction` in Redis, and allow the user to call INFO",
                ))));
                if self.breaker.bar() || is_due {
                    tracing::error!(
                        policy = word,
                        "Redis may evict records; refusing to use it: set `maxmemory-policy noeviction` in Redis, and allow the user to call INFO"
                    );
                }
            }
        }
    }
}

fn policy_of(info: &Value) -> Policy {
    let text = info.as_str().unwrap_or_default();
    let word = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("maxmemory_policy:"));
    match word {
        Some("noeviction") => Policy::Keeps,
        Some(word) => Policy::Evicts(word.to_owned()),
        None => Policy::Evicts("not reported".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_noeviction_counts_as_keeping_records() {
        let of = |text: &str| policy_of(&Value::from(text));
        assert_eq!(
            of("# Memory\r\nmaxmemory_policy:noeviction\r\n"),
            Policy::Keeps
        );
        for other in [
            "maxmemory_policy:allkeys-lru",
            "maxmemory_policy:",
            "",
            "maxmemory_policy:noeviction2",
        ] {
            assert!(matches!(of(other), Policy::Evicts(_)), "{other}");
        }
    }
}
