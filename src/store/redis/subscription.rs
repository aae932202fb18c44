//! The connection for messages: pushes of the revocation log, and notices of other processes. A
//! lost message does no harm, since every receiver also polls; a lost subscription is found by
//! messages that this process sends to itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fred::clients::SubscriberClient;
use fred::interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _};
use fred::types::{ConnectHandle, Message};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{interval, sleep};

use super::Redis;
use super::meaning::{forbidden, of_connecting};
use crate::fault::{Backoff, Fault};
use crate::store::contract::Notice;

/// Messages to itself that Redis took and did not deliver, after which the subscription is made
/// again. Probes send four a second.
const MISSING: u64 = 20;

/// How often they are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the subscription for as long as the process runs, always on a connection that is younger
/// than the one for commands: after a failover an older one may lead to another server.
pub(super) async fn stay_subscribed(store: Arc<Redis>, subscriber: SubscriberClient) {
    let mut messages = subscriber.message_rx();
    let mut numbers = store.connection.numbers();
    let mut backoff = Backoff::default();
    let mut was_subscribed = false;
    loop {
        let Ok(number) = numbers.wait_for(|number| *number != 0).await.map(|it| *it) else {
            return;
        };
        let fault = match subscriber.init().await {
            Err(error) => of_connecting(&error, store.has_tls),
            Ok(task) => {
                subscribe(&store, &subscriber).await;
                // Notices until now were missed.
                let _ = store.notices.send(match was_subscribed {
                    false => Notice::Began,
                    true => Notice::Missed,
                });
                was_subscribed = true;
                let received = receive(&store, &mut messages, &mut numbers, number, task).await;
                store.missed_messages();
                match received {
                    Ok(()) => {
                        backoff.reset();
                        continue;
                    }
                    Err(fault) => fault,
                }
            }
        };
        if store.no_subscription.may_log((store.now)()) {
            tracing::warn!(
                cause = %fault,
                "no Redis subscription: revocations by polling only, no cross-replica invalidation"
            );
        }
        sleep(backoff.pause(&fault)).await;
    }
}

/// Asks for all channels. Whether Redis agreed shows only in what arrives.
async fn subscribe(store: &Redis, subscriber: &SubscriberClient) {
    let channels = vec![
        store.log.channel.clone(),
        store.notice_channel.clone(),
        store.echo_channel.clone(),
    ];
    // If it fails, the connection ends, or nothing arrives.
    let _ = subscriber.subscribe(channels).await;
}

/// Passes messages on until the connection for commands is another one.
///
/// # Errors
///
/// The subscription has ended, or nothing arrives any more.
async fn receive(
    store: &Redis,
    messages: &mut Receiver<Message>,
    numbers: &mut watch::Receiver<u64>,
    number: u64,
    mut task: ConnectHandle,
) -> Result<(), Fault> {
    let mut counts = interval(COUNT_INTERVAL);
    let mut heard = store.echoes.load(Ordering::Relaxed);
    let ended = loop {
        tokio::select! {
            message = messages.recv() => match message {
                // The client holds the sender.
                Err(RecvError::Closed) => break Err(Fault::closed()),
                Err(RecvError::Lagged(_)) => store.missed_messages(),
                Ok(message) if *message.channel == *store.echo_channel => {
                    heard = heard.max(message.value.as_u64().unwrap_or(0));
                }
                Ok(message) => store.pass_on(message),
            },
            _ = counts.tick() => {
                if store.echoes.load(Ordering::Relaxed) >= heard.saturating_add(MISSING) {
                    break Err(forbidden("the channels, or another server holds the subscription"));
                }
            }
            changed = numbers.wait_for(|current| *current != number) => {
                drop(changed);
                break Ok(());
            }
            _ = &mut task => return Err(Fault::closed()),
        }
    };
    task.abort();
    ended
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
