//! Key sets in the store, so that a process that starts during an outage of a key server has the
//! keys that another process fetched. The store seals the record; it is parsed like a document from
//! the network all the same.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::sleep;

use super::fetch_context::FetchContext;
use super::keys::KeySet;
use super::source::{Source, is_usable, usable_until};
use crate::policy::tokens::Publication;
use crate::store::{Kind, Store};

/// Interval of reads while the store does not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Least time between two writes. Fetches may come every second while somebody invents key ids.
const WRITE_INTERVAL: Duration = Duration::from_secs(10);

/// A JWK set as it was received, and when, in Unix seconds.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) fetched: i64,
    pub(super) text: Bytes,
}

/// The record of one source.
pub(super) struct Stored {
    store: Arc<dyn Store>,
    clock: fn() -> i64,
    name: Vec<u8>,
    issuer: String,
}

impl Stored {
    pub(super) fn new(source: &Source, context: &FetchContext) -> Self {
        Self {
            store: Arc::clone(&context.store),
            clock: context.clock,
            name: name_of(source.issuer(), source.publication()),
            issuer: source.issuer().to_owned(),
        }
    }

    /// Restores keys that this or another process fetched earlier, with their age, unless a fetch
    /// was faster. Reads until the store answers.
    pub(super) async fn restore(&self, held: &Weak<Source>) {
        while let Some(source) = held.upgrade().filter(|source| !source.has_keys()) {
            let Ok(answer) = self.store.get(Kind::KeySet, &self.name).await else {
                // The store logs its own outage.
                drop(source);
                sleep(RETRY_PAUSE).await;
                continue;
            };
            if let Some(record) = answer {
                self.take(&record, &source);
            }
            return;
        }
    }

    fn take(&self, record: &[u8], source: &Source) {
        let now = (self.clock)();
        let Some((fetched, keys)) = open_record(record, now) else {
            return tracing::warn!(issuer = self.issuer, "the stored keys are unusable");
        };
        let (age, shown) = (now.saturating_sub(fetched), format!("{keys:?}"));
        if source.restore(keys, fetched) {
            tracing::info!(
                issuer = self.issuer,
                keys = shown,
                age,
                "restored keys from the store"
            );
        }
    }

    /// Writes the latest fetched keys until fetching ends.
    pub(super) async fn follow(&self, mut latest: watch::Receiver<Option<Document>>) {
        while latest.changed().await.is_ok() {
            let Some(document) = latest.borrow_and_update().clone() else {
                continue;
            };
            let record = [&document.fetched.to_be_bytes(), document.text.as_ref()].concat();
            let expires = usable_until(document.fetched);
            while let Err(error) = self
                .store
                .put(Kind::KeySet, &self.name, &record, expires)
                .await
            {
                tracing::debug!(issuer = self.issuer, %error, "keys not stored");
                sleep(RETRY_PAUSE).await;
                // A newer document will do, and after the end of fetching there is nothing to write
                // for.
                if latest.has_changed().unwrap_or(true) {
                    break;
                }
            }
            // Ends early when fetching ends.
            let _ = tokio::time::timeout(WRITE_INTERVAL, closed(latest.clone())).await;
        }
    }
}

/// Ends when fetching ends.
async fn closed(mut latest: watch::Receiver<Option<Document>>) {
    while latest.changed().await.is_ok() {}
}

/// The issuer, the kind and the URL: one issuer's keys never apply to another.
fn name_of(issuer: &str, publication: &Publication) -> Vec<u8> {
    let kind = match publication {
        Publication::Jwks(_) => "jwks",
        Publication::Discovery(_) => "discovery",
    };
    format!("{kind} {} {issuer}", publication.url()).into_bytes()
}

/// A record is the time of fetching (eight bytes, big-endian Unix seconds) and the document as it
/// was received.
fn open_record(record: &[u8], now: i64) -> Option<(i64, KeySet)> {
    let (fetched, document) = record.split_first_chunk()?;
    // Another replica's clock may be ahead; that must not make keys younger than new.
    let fetched = i64::from_be_bytes(*fetched).min(now);
    is_usable(fetched, now).then_some(())?;
    Some((fetched, KeySet::parse(document).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_opens_with_its_age_unless_it_is_broken_or_too_old() {
        let set = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let now = 1_800_000_000;
        let record = |fetched: i64| [&fetched.to_be_bytes(), &set[..]].concat();
        let opened = |record: &[u8]| open_record(record, now).map(|(fetched, _)| fetched);
        assert_eq!(opened(&record(now - 5)), Some(now - 5));
        assert_eq!(opened(&record(now + 5)), Some(now));
        assert_eq!(opened(&record(i64::MAX)), Some(now));
        assert_eq!(opened(&record(now - 86_400)), Some(now - 86_400));
        assert_eq!(opened(&record(now - 86_401)), None);
        assert_eq!(opened(&record(i64::MIN)), None);
        let whole = record(now);
        for length in 0..whole.len() {
            assert_eq!(opened(whole.get(..length).unwrap_or_default()), None);
        }
    }
}
