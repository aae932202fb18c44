//! Looking after Redis: whether it is there, whether it keeps what it is given, and what it has to tell.
//!
//! Decides: when the breaker closes. Trusts: nothing it has not just heard. Not here: what a command's failure means (`redis`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::clients::{Client, SubscriberClient};
use fred::interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _};
use fred::types::config::Server;
use fred::types::{InfoKind, Value};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Command, Found, Redis};
use crate::clock;
use crate::store::{Heard, Unreachable};

/// How often it is looked after. An open breaker closes within this and one round trip of the server's return.
const PULSE: Duration = Duration::from_millis(250);

/// How often `maxmemory-policy` is looked at, besides every new connection.
const POLICY: Duration = Duration::from_secs(60);

/// Pause before a connection task that ended is started again.
const AGAIN: Duration = Duration::from_millis(500);

/// What Redis does when it is full.
#[derive(Debug, Eq, PartialEq)]
enum Policy {
    /// It refuses to write.
    Keeps,
    /// It throws something away, or does not say; the word for the log.
    Evicts(String),
}

/// Starts the tasks.
pub(super) fn spawn(store: &Arc<Redis>, subscriber: SubscriberClient) {
    let client: Client = (*store.one).clone();
    tokio::spawn(stay_connected(store.clone(), client.clone()));
    tokio::spawn(notice_connections(store.clone(), client));
    tokio::spawn(look_after(store.clone()));
    // Before it connects, so that its first connection is the first that is heard of.
    let reconnects = subscriber.reconnect_rx();
    tokio::spawn(stay_subscribed(subscriber.clone()));
    tokio::spawn(listen(store.clone(), subscriber, reconnects));
}

/// A connection task ends for errors it takes for final, such as a server that speaks something else; a server can be exchanged.
async fn stay_connected(store: Arc<Redis>, client: Client) {
    loop {
        if let Ok(Err(error)) = client.connect().await
            && store.broken_connections.may_tell((store.now)())
        {
            tracing::warn!(kind = ?error.kind(), "no connection to the store");
        }
        sleep(AGAIN).await;
    }
}

async fn stay_subscribed(subscriber: SubscriberClient) {
    loop {
        let _ = subscriber.connect().await;
        sleep(AGAIN).await;
    }
}

async fn notice_connections(store: Arc<Redis>, client: Client) {
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
                Ok((error, _)) if store.broken_connections.may_tell((store.now)()) => {
                    tracing::warn!(error = error.details(), "the connection to the store broke, or cannot be made");
                }
                Ok(_) => {}
            },
        }
    }
}

async fn look_after(store: Arc<Redis>) {
    let mut pulse = interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = pulse.tick() => {}
            () = store.connected.notified() => looked = None,
        }
        let now = clock::now();
        let is_due = looked.is_none_or(|at| now.saturating_duration_since(at) >= POLICY);
        if is_due || store.breaker.is_open() {
            if let Ok(policy) = store.policy().await {
                store.judge(&policy, is_due);
                if is_due {
                    looked = Some(now);
                }
            }
        } else {
            let ping = store.one.ping(None);
            let _ = store.send(Command::Probe, ping).await;
        }
    }
}

impl Redis {
    async fn policy(&self) -> Result<Policy, Unreachable> {
        let answer = self
            .send(Command::Probe, self.one.info(Some(InfoKind::Memory)))
            .await;
        match answer {
            Ok(Found::Value(value)) => Ok(policy_of(&value)),
            Ok(Found::Other) => Ok(Policy::Evicts("unknown".to_owned())),
            // It answers, and does not tell: a user without the right to ask.
            Err(Unreachable::Answer) => Ok(Policy::Evicts("not told".to_owned())),
            Err(why) => Err(why),
        }
    }

    /// Opens or closes the breaker. `aloud` keeps the log from repeating itself four times a second.
    fn judge(&self, policy: &Policy, aloud: bool) {
        match policy {
            Policy::Keeps => {
                self.metrics.is_evicting(false);
                if self.breaker.close(clock::now()) {
                    self.metrics.is_up(true);
                    tracing::info!("the store answers");
                    // Whoever follows the log must look at once what was missed.
                    self.pushes.send_modify(|_| {});
                }
            }
            Policy::Evicts(word) => {
                self.metrics.is_evicting(true);
                self.metrics.is_up(false);
                if self.breaker.bar() || aloud {
                    tracing::error!(
                        policy = word,
                        "the store may throw records away, so it is not used: set `maxmemory-policy noeviction` in Redis, and let the user call INFO"
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
        None => Policy::Evicts("not told".to_owned()),
    }
}

/// Hands on what is published. What is lost meanwhile does no harm, since whoever waits for it also asks.
async fn listen(store: Arc<Redis>, subscriber: SubscriberClient, mut reconnects: Receiver<Server>) {
    let mut messages = subscriber.message_rx();
    let (mut is_subscribed, mut has_begun, mut is_first) = (false, false, true);
    loop {
        if !is_subscribed && subscriber.is_connected() {
            let channels = vec![store.log.channel.clone(), store.telling.clone()];
            let subscribed = subscriber.subscribe(channels).await;
            is_subscribed = subscribed.is_ok();
            // What was told until now was missed.
            let _ = store
                .told
                .send(match std::mem::replace(&mut has_begun, true) {
                    false => Heard::Began,
                    true => Heard::Missed,
                });
            if let Err(error) = subscribed
                && store.no_subscription.may_tell((store.now)())
            {
                tracing::warn!(
                    kind = ?error.kind(),
                    "revocations are not pushed, only asked for, and what other replicas write is not heard of: no subscription to the store"
                );
            }
        }
        tokio::select! {
            message = messages.recv() => match message {
                Err(RecvError::Closed) => return,
                // Numbers do not matter; that there is something does.
                Err(RecvError::Lagged(_)) => {
                    store.pushes.send_modify(|_| {});
                    let _ = store.told.send(Heard::Missed);
                }
                Ok(message) if *message.channel == *store.telling => {
                    // Nobody may want to know.
                    let _ = store.told.send(match message.value.into_bytes() {
                        Some(bytes) => Heard::Message(bytes.to_vec()),
                        None => Heard::Missed,
                    });
                }
                Ok(message) => {
                    if let Some(seq) = message.value.as_u64() {
                        store.pushes.send_replace(seq);
                    }
                }
            },
            event = reconnects.recv() => match event {
                Err(RecvError::Closed) => return,
                // The connection that there is, or that is about to be used: nothing was lost before it.
                Ok(_) if std::mem::take(&mut is_first) => {}
                Ok(_) | Err(RecvError::Lagged(_)) => {
                    is_subscribed = false;
                    store.pushes.send_modify(|_| {});
                    let _ = store.told.send(Heard::Missed);
                }
            },
            () = sleep(AGAIN), if !is_subscribed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_says_so_keeps_what_it_is_given() {
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
