//! Fetching what an issuer publishes, in the background, one attempt at a time.
//!
//! Decides:  when to ask an issuer's server again, and what is worth keeping in the store. Good keys stay when the server
//!           fails: a server that is down is not a bad token.
//! Trusts:   `side_call` for who answers, `keys` for what may be used of the answer.
//! Not here: HTTP and TLS (`side_call`), where a discovery document leads (`discovery`), waiting requests (`demand`, `source`).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::digest::Digest;
use super::discovery::jwks_path;
use super::keys::{KeySet, MAX_DOCUMENT};
use super::metrics::FetchResult;
use super::source::{Source, is_usable, usable_until};
use super::sources::Surroundings;
use crate::config::checked::Publication;
use crate::config::side_url::SideUrl;
use crate::side_call::{Limits, Reply, SideCallError, SideClient};
use crate::store::Kind;

/// What one call may cost. The deadline is a choice, not a measurement.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(5),
    body: MAX_DOCUMENT,
};

/// How old keys may get before they are asked for again, unless the server says. Supabase lets its answer be kept for 10 minutes; half of it.
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// What a server may say at least and at most: one that says nothing useful is neither asked all the time nor forgotten.
const LEAST_REFRESH: Duration = Duration::from_secs(60);
const MOST_REFRESH: Duration = Duration::from_secs(60 * 60);
/// The first pause after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long what a discovery document said is believed while it leads to keys.
const REDISCOVER: Duration = Duration::from_secs(60 * 60);
/// Keys that did not change are written to the store again when the record is this old, in seconds.
const STORE_AGAIN: i64 = 60;

/// Fetches for as long as somebody holds the source.
pub(super) async fn keep_fresh(held: Weak<Source>, surroundings: Surroundings) {
    let mut fetcher = match held.upgrade() {
        Some(source) => Fetcher::new(&source, surroundings),
        None => return,
    };
    while let Some(source) = held.upgrade() {
        let begun = Instant::now();
        let pause = fetcher.refresh(&source).await;
        let demand = Arc::clone(source.demand());
        drop(source); // asleep, this task must not be what keeps it alive
        let is_over = || held.strong_count() == 0;
        demand.next(begun, jittered(pause), is_over).await;
    }
}

/// What the task of one source remembers from attempt to attempt.
struct Fetcher {
    client: SideClient,
    surroundings: Surroundings,
    /// The path that discovery led to, and until when that is believed.
    discovered: Option<(String, Instant)>,
    /// What the store has, and of when.
    stored: Option<(Digest, i64)>,
}

/// What an attempt brought.
struct Fetched {
    document: Bytes,
    keys: KeySet,
    max_age: Option<Duration>,
}

/// Why an attempt brought nothing.
enum FetchError {
    Call(SideCallError),
    Content(String),
}

impl Fetcher {
    fn new(source: &Source, surroundings: Surroundings) -> Self {
        let site = &source.publication().url().site;
        Self {
            client: surroundings.calls.client(site, LIMITS),
            surroundings,
            discovered: None,
            stored: None,
        }
    }

    /// One attempt. Gives the pause until the next.
    async fn refresh(&mut self, source: &Source) -> Duration {
        if !source.has_keys() {
            self.restore(source).await;
        }
        let number = source.demand().begin();
        // The time of asking: the answer is not older than it seems.
        let asked = (self.surroundings.clock)();
        match self.fetch(source).await {
            Ok(fetched) => {
                let (shown, version) = (format!("{:?}", fetched.keys), *fetched.keys.version());
                if source.receive(fetched.keys, asked) {
                    tracing::info!(issuer = source.issuer(), keys = shown, "received keys");
                }
                source.demand().end(number, true);
                source.metrics().fetched(FetchResult::Good);
                self.store(source, version, &fetched.document, asked).await;
                refresh_after(fetched.max_age)
            }
            Err(error) => {
                let text = error.to_string();
                tracing::warn!(
                    issuer = source.issuer(),
                    error = text,
                    "keys were not received"
                );
                let before = source.fail(text);
                source.demand().end(number, false);
                source.metrics().fetched(error.result());
                pause_after(before)
            }
        }
    }

    async fn fetch(&mut self, source: &Source) -> Result<Fetched, FetchError> {
        let path = match source.publication() {
            Publication::Jwks(url) => url.path.clone(),
            Publication::Discovery(url) => self.discover(url, source.issuer()).await?,
        };
        let reply = self
            .client
            .get(&path, "application/jwk-set+json, application/json");
        let fetched = reply.await.map_err(FetchError::Call).and_then(read);
        if fetched.is_err() {
            // The issuer may have moved its keys.
            self.discovered = None;
        }
        fetched
    }

    /// Where the keys are, by the issuer's discovery document.
    async fn discover(&mut self, url: &SideUrl, issuer: &str) -> Result<String, FetchError> {
        if let Some((path, until)) = &self.discovered
            && Instant::now() < *until
        {
            return Ok(path.clone());
        }
        let reply = self.client.get(&url.path, "application/json").await;
        let document = reply.map_err(FetchError::Call)?.body;
        let path = jwks_path(&document, url, issuer)
            .map_err(|why| FetchError::Content(format!("the discovery document: {why}")))?;
        self.discovered = Some((path.clone(), Instant::now() + REDISCOVER));
        Ok(path)
    }

    /// Takes keys that this or another process fetched before, with their age, until a fetch brings others.
    async fn restore(&mut self, source: &Source) {
        let record = match self
            .surroundings
            .store
            .get(Kind::KeySet, &name_of(source))
            .await
        {
            Ok(Some(record)) => record,
            Ok(None) => return,
            Err(error) => {
                return tracing::warn!(issuer = source.issuer(), %error, "the store was not asked for keys");
            }
        };
        let now = (self.surroundings.clock)();
        let Some((fetched, keys)) = open_record(&record, now) else {
            return tracing::warn!(issuer = source.issuer(), "the store has no usable keys");
        };
        let age = now.saturating_sub(fetched);
        tracing::info!(issuer = source.issuer(), keys = ?keys, age, "took keys from the store");
        self.stored = Some((*keys.version(), fetched));
        source.receive(keys, fetched);
    }

    async fn store(&mut self, source: &Source, version: Digest, document: &[u8], fetched: i64) {
        let is_fresh = self.stored.is_some_and(|(stored, when)| {
            stored == version && fetched.saturating_sub(when) < STORE_AGAIN
        });
        if is_fresh {
            return;
        }
        let record = [&fetched.to_be_bytes(), document].concat();
        let name = name_of(source);
        let expires = usable_until(fetched);
        match self
            .surroundings
            .store
            .put(Kind::KeySet, &name, &record, expires)
            .await
        {
            Ok(()) => self.stored = Some((version, fetched)),
            Err(error) => {
                tracing::warn!(issuer = source.issuer(), %error, "keys were not put into the store");
            }
        }
    }
}

/// Under what the store has a source's keys: for whom, how and where they were found. An issuer is not believed by another's keys.
fn name_of(source: &Source) -> Vec<u8> {
    let kind = match source.publication() {
        Publication::Jwks(_) => "jwks",
        Publication::Discovery(_) => "discovery",
    };
    let url = source.publication().url();
    format!("{kind} {url} {}", source.issuer()).into_bytes()
}

/// A record is the time of fetching (eight bytes, big-endian Unix seconds) and the document as it came.
fn open_record(record: &[u8], now: i64) -> Option<(i64, KeySet)> {
    let (fetched, document) = record.split_first_chunk()?;
    // Another replica's clock may be ahead; that makes no keys younger than new.
    let fetched = i64::from_be_bytes(*fetched).min(now);
    is_usable(fetched, now).then_some(())?;
    Some((fetched, KeySet::parse(document).ok()?))
}

fn read(reply: Reply) -> Result<Fetched, FetchError> {
    Ok(Fetched {
        keys: KeySet::parse(&reply.body).map_err(FetchError::Content)?,
        document: reply.body,
        max_age: reply.max_age,
    })
}

/// When to ask again after success.
fn refresh_after(max_age: Option<Duration>) -> Duration {
    max_age
        .unwrap_or(REFRESH)
        .clamp(LEAST_REFRESH, MOST_REFRESH)
}

/// 1, 2, 4, … seconds, at most 30, after so many failures before this one.
fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << failures.min(5))
        .min(LONGEST_PAUSE)
}

/// Up to a fifth less, so that replicas that started together do not ask together for ever, and none asks after its keys have expired.
fn jittered(pause: Duration) -> Duration {
    // The keys of every new hasher differ: randomness enough to spread calls.
    let random = RandomState::new().hash_one(());
    let part = u32::try_from(random % 1000).unwrap_or_default();
    pause - pause / 5 * part / 1000
}

impl FetchError {
    fn result(&self) -> FetchResult {
        match self {
            Self::Call(SideCallError::Connect(_)) => FetchResult::Connect,
            Self::Call(SideCallError::Exchange(_)) => FetchResult::Exchange,
            Self::Call(SideCallError::Status(_)) => FetchResult::Status,
            Self::Call(SideCallError::Deadline) => FetchResult::Deadline,
            Self::Content(_) => FetchResult::Content,
        }
    }
}

impl std::fmt::Display for FetchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Content(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_thirty_seconds() {
        let pauses: Vec<_> = (0..7).map(|before| pause_after(before).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pause_after(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn a_server_says_when_to_ask_again_within_bounds() {
        for (said, pause) in [
            (None, 300),
            (Some(600), 600),
            (Some(0), 60),
            (Some(u64::MAX), 3600),
        ] {
            let pause = Duration::from_secs(pause);
            assert_eq!(refresh_after(said.map(Duration::from_secs)), pause);
            for _ in 0..100 {
                let jittered = jittered(pause);
                assert!(jittered <= pause && jittered >= pause * 4 / 5);
            }
        }
    }

    #[test]
    fn a_record_is_opened_with_its_age_and_never_a_broken_or_old_one() {
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
