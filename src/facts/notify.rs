//! Notifications: changed rows that the database tells of, so that facts may be older without being wrong.
//!
//! Decides:  from when on every change is heard of, and which facts a notification makes worthless.
//! Trusts:   the triggers of `deploy/sql/notify.sql`. What they do not tell is found out by age, but only after an hour.
//! Not here: ages (`shelf`).
//!
//! A payload is a kind and an id, `project 018f…`; the kinds are those of `resources`, `caller` and `memberships`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};
use tokio_postgres::AsyncMessage;

use super::Shelf;
use crate::clock;
use crate::database::Listener;

/// Pause before a connection that broke is made again.
const AGAIN: Duration = Duration::from_millis(500);

/// How often a silent connection is asked whether it is still there. What is missed until it is found dead counts for reads only.
const PULSE: Duration = Duration::from_secs(2);

/// Listens for as long as anybody has the shelf, and takes note of what other replicas say in the store.
pub fn follow(shelf: &Arc<Shelf>, listener: Option<Listener>) {
    tokio::spawn(hear_replicas(Arc::downgrade(shelf)));
    if let Some(listener) = listener {
        tokio::spawn(hear_database(Arc::downgrade(shelf), listener));
    }
}

async fn hear_replicas(shelf: Weak<Shelf>) {
    let Some(mut told) = shelf.upgrade().map(|shelf| shelf.store().told()) else {
        return;
    };
    loop {
        let message = told.recv().await;
        let Some(shelf) = shelf.upgrade() else { return };
        match message {
            Ok(Some(message)) => shelf.heard(&message),
            Ok(None) | Err(RecvError::Lagged(_)) => shelf.missed(),
            // A store of this process alone.
            Err(RecvError::Closed) => return,
        }
    }
}

async fn hear_database(shelf: Weak<Shelf>, listener: Listener) {
    loop {
        match listener.listen().await {
            Ok((client, said)) => {
                tracing::info!("notifications of the database are heard");
                let listening = shelf.upgrade().map(|shelf| {
                    // From here on; what is loaded later is not older than what was heard.
                    shelf.listens(Some(clock::now()));
                });
                if listening.is_none() {
                    return;
                }
                hear(&shelf, &client, said).await;
                tracing::warn!("notifications of the database are not heard any more");
            }
            Err(error) => tracing::debug!(%error, "no connection for notifications"),
        }
        let Some(shelf) = shelf.upgrade() else { return };
        shelf.listens(None);
        drop(shelf);
        sleep(AGAIN).await;
    }
}

/// Until the connection breaks.
async fn hear(
    shelf: &Weak<Shelf>,
    client: &tokio_postgres::Client,
    mut said: UnboundedReceiver<AsyncMessage>,
) {
    loop {
        match timeout(PULSE, said.recv()).await {
            Ok(None) => return,
            Ok(Some(AsyncMessage::Notification(notification))) => {
                let Some(shelf) = shelf.upgrade() else { return };
                shelf.metrics().notified();
                if let Some((kind, id)) = notification.payload().split_once(' ') {
                    let things = [(Arc::from(kind), id.to_owned())];
                    shelf.raise_here(&things);
                    let elsewhere = shelf.clone();
                    tokio::spawn(async move { elsewhere.raise_elsewhere(&things).await });
                } else {
                    // Too many to name.
                    shelf.missed();
                }
            }
            Ok(Some(_)) => {}
            Err(_) => {
                let asked = timeout(PULSE, client.batch_execute("")).await;
                if !matches!(asked, Ok(Ok(()))) {
                    return;
                }
            }
        }
    }
}
