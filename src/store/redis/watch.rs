//! Health of Redis: probes, the eviction policy, reconnects and the subscription. It decides when
//! the breaker closes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::clients::{Client, SubscriberClient};
use fred::interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _};
use fred::types::config::Server;
use fred::types::{InfoKind, Message, Value};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::command::Reply;
use super::{Command, Redis};
use crate::clock;
use crate::store::contract::{Notice, Unreachable};

/// Interval of the probes. An open breaker closes within this and one round trip after Redis is
/// back.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// How often `maxmemory-policy` is checked, besides on every new connection.
const POLICY_INTERVAL: Duration = Duration::from_secs(60);

/// Pause before a connection task that ended is restarted.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What Redis does when it is out of memory.
#[derive(Debug, Eq, PartialEq)]
enum Policy {
    /// It refuses writes.
    Keeps,
    /// It evicts records, or does not report its policy; the word for the log.
    Evicts(String),
}

/// Starts the tasks.
pub(super) fn spawn(store: &Arc<Redis>, subscriber: SubscriberClient) {
    let client: Client = (*store.single).clone();
    tokio::spawn(stay_connected(store.clone(), client.clone()));
    tokio::spawn(watch_connections(store.clone(), client));
    tokio::spawn(probe_forever(store.clone()));
    // Created before the subscriber connects, so that its first connection is the first event.
    let reconnects = subscriber.reconnect_rx();
    tokio::spawn(stay_subscribed(subscriber.clone()));
    tokio::spawn(receive_messages(store.clone(), subscriber, reconnects));
}

/// A connection task ends on errors that it considers final, such as a server that speaks another
/// protocol; that server may be replaced.
async fn stay_connected(store: Arc<Redis>, client: Client) {
    loop {
        if let Ok(Err(error)) = client.connect().await
            && store.broken_connections.may_log((store.now)())
        {
            tracing::warn!(kind = ?error.kind(), "no connection to Redis");
        }
        sleep(RETRY_PAUSE).await;
    }
}

async fn stay_subscribed(subscriber: SubscriberClient) {
    loop {
        let _ = subscriber.connect().await;
        sleep(RETRY_PAUSE).await;
    }
}

async fn watch_connections(store: Arc<Redis>, client: Client) {
    let mut reconnects = client.reconnect_rx();
    let mut errors = client.error_rx();
    let mut is_first = true;
    loop {
        tokio::select! {
            event = reconnects.recv() => match event {
                Err(RecvError::Closed) => return,
                Ok(_) | Err(RecvError::Lagged(_)) => {
                    if !std::mem::take(&mut is_first) {
                        store.metrics.reconnected();
                    }
                    store.connected.notify_one();
                }
            },
            error = errors.recv() => match error {
                Err(RecvError::Closed) => return,
                Err(RecvError::Lagged(_)) => {}
                Ok((error, _)) if store.broken_connections.may_log((store.now)()) => {
                    tracing::warn!(error = error.details(), "the connection to Redis failed");
                }
                Ok(_) => {}
            },
        }
    }
}

async fn probe_forever(store: Arc<Redis>) {
    let mut probes = interval(PROBE_INTERVAL);
    probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut checked: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = probes.tick() => {}
            () = store.connected.notified() => checked = None,
        }
        let now = clock::now();
        let is_due = checked.is_none_or(|at| now.saturating_duration_since(at) >= POLICY_INTERVAL);
        if is_due || store.breaker.is_open() {
            if let Ok(policy) = store.policy().await {
                store.apply_policy(&policy, is_due);
                if is_due {
                    checked = Some(now);
                }
            }
        } else {
            let ping = store.single.ping(None);
            let _ = store.send(Command::Probe, ping).await;
        }
    }
}

impl Redis {
    async fn policy(&self) -> Result<Policy, Unreachable> {
        let answer = self
            .send(Command::Probe, self.single.info(Some(InfoKind::Memory)))
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
    fn apply_policy(&self, policy: &Policy, is_due: bool) {
        match policy {
            Policy::Keeps => {
                self.metrics.set_evicting(false);
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

/// Passes on what is published. A lost message does no harm, since every receiver also polls.
async fn receive_messages(
    store: Arc<Redis>,
    subscriber: SubscriberClient,
    mut reconnects: Receiver<Server>,
) {
    let mut messages = subscriber.message_rx();
    let (mut is_subscribed, mut was_subscribed, mut is_first) = (false, false, true);
    loop {
        if !is_subscribed && subscriber.is_connected() {
            is_subscribed = subscribe(&store, &subscriber).await;
            // Notices until now were missed.
            let _ = store
                .notices
                .send(match std::mem::replace(&mut was_subscribed, true) {
                    false => Notice::Began,
                    true => Notice::Missed,
                });
        }
        tokio::select! {
            message = messages.recv() => match message {
                Err(RecvError::Closed) => return,
                Err(RecvError::Lagged(_)) => store.missed_messages(),
                Ok(message) => store.pass_on(message),
            },
            event = reconnects.recv() => match event {
                Err(RecvError::Closed) => return,
                // The first connection: nothing was lost before it.
                Ok(_) if std::mem::take(&mut is_first) => {}
                Ok(_) | Err(RecvError::Lagged(_)) => {
                    is_subscribed = false;
                    store.missed_messages();
                }
            },
            () = sleep(RETRY_PAUSE), if !is_subscribed => {}
        }
    }
}

/// Subscribes to the pushes of the log and to the notices of other processes.
async fn subscribe(store: &Redis, subscriber: &SubscriberClient) -> bool {
    let channels = vec![store.log.channel.clone(), store.notice_channel.clone()];
    let subscribed = subscriber.subscribe(channels).await;
    if let Err(error) = &subscribed
        && store.no_subscription.may_log((store.now)())
    {
        tracing::warn!(
            kind = ?error.kind(),
            "no Redis subscription: revocations by polling only, no cross-replica invalidation"
        );
    }
    subscribed.is_ok()
}

impl Redis {
    fn pass_on(&self, message: Message) {
        if *message.channel == *self.notice_channel {
            // There may be no receiver.
            let _ = self.notices.send(match message.value.into_bytes() {
                Some(bytes) => Notice::Message(bytes.to_vec()),
                None => Notice::Missed,
            });
        } else if let Some(seq) = message.value.as_u64() {
            self.pushes.send_replace(seq);
        }
    }

    fn missed_messages(&self) {
        // The numbers do not matter; that there are new ones does.
        self.pushes.send_modify(|_| {});
        let _ = self.notices.send(Notice::Missed);
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
