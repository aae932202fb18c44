//! Change notifications from the database, which allow a long lifetime of facts, and invalidations
//! from other replicas.
//!
//! Decides:  since when every change is reported (`subscription`), and which facts a notification
//!           invalidates.
//! Trusts:   `trigger_coverage` for whether triggers report every change. Changes that are not
//!           reported are found when the lifetime of a fact ends.
//! Not here: the lifetimes (`cache`).
//!
//! A payload is a resource type and an id, `project 018f…`. The types are the names under
//! `resources`, `caller` and `memberships`. A payload without an id says that anything may have
//! changed.
//!
//! Lifetimes stay short until the whole path is verified (`verify`): a probe notification that
//! was sent where facts are read has arrived here, and every table that the queries read has its
//! triggers. That is verified again for each connection and each configuration, and when a
//! definition in the database changes: a trigger that is disabled, replaced or dropped is noticed
//! within seconds, also if it was enabled again before anybody looked.

mod outbox;
mod subscription;
mod verify;

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{sleep, timeout};
use tokio_postgres::AsyncMessage;

use self::subscription::{End, History, Subscription};
use self::verify::{ARRIVAL, probe, verify};
use super::cache::FactCache;
use super::trigger_coverage::{TableCoverage, WatchedQuery};
use crate::database::{Database, Listener};
use crate::fault::Backoff;
use crate::store::Notice;

pub use self::verify::CoverageError;

/// Pause before a connection that broke is replaced.
const RECONNECT: Duration = Duration::from_millis(500);

/// Follows notifications for as long as the cache exists: those of the database, if there is a
/// listener, and those of other replicas.
pub fn follow(cache: &Arc<FactCache>, listener: Option<Listener>) {
    tokio::spawn(follow_replicas(Arc::downgrade(cache)));
    if let Some(listener) = listener {
        tokio::spawn(follow_database(Arc::downgrade(cache), listener));
    }
}

/// Verifies once that every change of what these queries read would be reported: the coverage of
/// each table, or why it is not known.
///
/// # Errors
///
/// The path of a notification could not be verified.
pub async fn check(
    queries: Vec<WatchedQuery>,
    database: &Database,
    listener: &Listener,
) -> Result<Vec<TableCoverage>, CoverageError> {
    let (_client, mut messages) = listener
        .listen()
        .await
        .map_err(CoverageError::NotConnected)?;
    let probe = probe();
    let coverage = verify(queries.into(), database.clone(), probe.clone()).await?;
    let arrival = async {
        while let Some(message) = messages.recv().await {
            if matches!(&message, AsyncMessage::Notification(one) if one.payload() == probe) {
                return true;
            }
        }
        false
    };
    match timeout(ARRIVAL, arrival).await {
        Ok(true) => Ok(coverage),
        Ok(false) | Err(_) => Err(CoverageError::NotReceived),
    }
}

async fn follow_replicas(cache: Weak<FactCache>) {
    let Some(mut messages) = cache.upgrade().map(|cache| cache.store().notices()) else {
        return;
    };
    loop {
        let message = messages.recv().await;
        let Some(cache) = cache.upgrade() else { return };
        match message {
            Ok(Notice::Message(message)) => cache.receive(&message),
            Ok(Notice::Began) => cache.subscription_began(),
            Ok(Notice::Missed) | Err(RecvError::Lagged(_)) => cache.invalidate_everything_locally(),
            // A store in the memory of this process has no other replicas.
            Err(RecvError::Closed) => return,
        }
    }
}

async fn follow_database(cache: Weak<FactCache>, listener: Listener) {
    let mut history = History::new();
    let (mut backoff, mut fault) = (Backoff::default(), None);
    loop {
        let mut pause = RECONNECT;
        match listener.listen().await {
            Ok((client, messages)) => {
                backoff.reset();
                fault = None;
                let subscription = cache
                    .upgrade()
                    .map(|cache| Subscription::new(&cache, &mut history));
                let Some(subscription) = subscription else {
                    return;
                };
                match subscription.run(&cache, &client, messages).await {
                    End::Broken => {
                        history.forget();
                        tracing::warn!(
                            "lost the connection for change notifications; using the short cache lifetime (30 s)"
                        );
                    }
                    End::NotReceiving(longer) => pause = longer,
                }
            }
            Err(now) => {
                pause = backoff.pause(&now);
                // Once for each cause, however often it is tried.
                if fault.as_ref() != Some(&now) {
                    tracing::warn!(
                        cause = %now,
                        "cannot connect to `database.notify_url` for change notifications; using the short cache lifetime (30 s)"
                    );
                    fault = Some(now);
                }
            }
        }
        let Some(cache) = cache.upgrade() else { return };
        cache.stop_listening();
        drop(cache);
        sleep(pause).await;
    }
}
