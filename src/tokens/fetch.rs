//! Fetches an issuer's keys in the background, one attempt at a time. Good keys stay when the
//! server fails: a server that is down does not make a token bad.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::discovery::jwks_path;
use super::fetch_context::FetchContext;
use super::keys::{self, KeySet, MAX_DOCUMENT};
use super::metrics::FetchResult;
use super::source::Source;
use super::stored::{Document, Stored};
use crate::http_client::{CallError, HttpClient, Limits, Reply};
use crate::policy::outbound_url::OutboundUrl;
use crate::policy::tokens::Publication;

/// Limits of one call. The deadline is a choice, not a measurement.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(5),
    body: MAX_DOCUMENT,
};

/// Refresh interval if the server names none. Supabase allows 10 minutes; this is half of it.
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// Bounds for the interval that a server names: it is neither fetched from all the time nor
/// forgotten.
const LEAST_REFRESH: Duration = Duration::from_secs(60);
const MOST_REFRESH: Duration = Duration::from_secs(60 * 60);
/// The first pause after a failure; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a discovery document is trusted while the keys it points to can be fetched.
const REDISCOVER: Duration = Duration::from_secs(60 * 60);

/// Fetches for as long as the source is in use. Reads from and writes to the store run beside it,
/// so that neither waits for the other.
pub(super) async fn keep_fresh(held: Weak<Source>, context: FetchContext) {
    let Some(source) = held.upgrade() else {
        return;
    };
    let stored = Stored::new(&source, &context);
    let (latest, received) = watch::channel(None);
    let fetcher = Fetcher::new(&source, context, latest);
    drop(source);
    tokio::join!(
        stored.restore(&held),
        stored.follow(received),
        fetch_forever(&held, fetcher)
    );
}

async fn fetch_forever(held: &Weak<Source>, mut fetcher: Fetcher) {
    while let Some(source) = held.upgrade() {
        let begun = Instant::now();
        let pause = fetcher.refresh(&source).await;
        let refetch = Arc::clone(source.refetch());
        drop(source); // while it sleeps, this task must not keep the source alive
        let is_over = || held.strong_count() == 0;
        refetch.next(begun, jittered(pause), is_over).await;
    }
}

/// The state of one source's task between attempts.
struct Fetcher {
    client: HttpClient,
    clock: fn() -> i64,
    /// The path from the discovery document, and until when it is trusted.
    discovered: Option<(String, Instant)>,
    /// The document to be stored.
    latest: watch::Sender<Option<Document>>,
}

/// The result of an attempt.
struct Fetched {
    document: Bytes,
    keys: KeySet,
    max_age: Option<Duration>,
}

/// Why an attempt failed.
enum FetchError {
    Call(CallError),
    Content(String),
    /// The document is a set without keys, as of an issuer that signs with a secret.
    NoKeys(String),
}

impl Fetcher {
    fn new(
        source: &Source,
        context: FetchContext,
        latest: watch::Sender<Option<Document>>,
    ) -> Self {
        let site = &source.publication().url().site;
        Self {
            client: context.calls.client(site, LIMITS),
            clock: context.clock,
            discovered: None,
            latest,
        }
    }

    /// Makes one attempt. Returns the pause until the next.
    async fn refresh(&mut self, source: &Source) -> Duration {
        let number = source.refetch().begin();
        // Taken before the call, so that the keys are never older than they seem.
        let begun = (self.clock)();
        match self.fetch(source).await {
            Ok(fetched) => {
                let shown = format!("{:?}", fetched.keys);
                let ambiguous = fetched.keys.ambiguous().to_vec();
                if source.receive(fetched.keys, begun) {
                    tracing::info!(issuer = source.issuer(), keys = shown, "fetched keys");
                    for keys in ambiguous {
                        tracing::warn!(issuer = source.issuer(), keys, "ambiguous keys");
                    }
                }
                source.refetch().end(number, true);
                source.metrics().fetched(FetchResult::Good);
                self.latest.send_replace(Some(Document {
                    fetched: begun,
                    text: fetched.document,
                }));
                refresh_after(fetched.max_age)
            }
            Err(error) => {
                let text = error.to_string();
                tracing::warn!(issuer = source.issuer(), error = text, "key fetch failed");
                let before = source.fail(text, matches!(error, FetchError::NoKeys(_)));
                source.refetch().end(number, false);
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

    /// The path of the keys, from the issuer's discovery document.
    async fn discover(&mut self, url: &OutboundUrl, issuer: &str) -> Result<String, FetchError> {
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
}

fn read(reply: Reply) -> Result<Fetched, FetchError> {
    Ok(Fetched {
        keys: KeySet::parse(&reply.body).map_err(|why| match keys::is_empty(&reply.body) {
            true => FetchError::NoKeys(why),
            false => FetchError::Content(why),
        })?,
        document: reply.body,
        max_age: reply.max_age,
    })
}

/// The pause after a success.
fn refresh_after(max_age: Option<Duration>) -> Duration {
    max_age
        .unwrap_or(REFRESH)
        .clamp(LEAST_REFRESH, MOST_REFRESH)
}

/// The pause after this many earlier failures: 1, 2, 4, … seconds, at most 30.
fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << failures.min(5))
        .min(LONGEST_PAUSE)
}

/// Shortens a pause by up to a fifth, so that replicas that started together spread out, and none
/// fetches after its keys have expired.
fn jittered(pause: Duration) -> Duration {
    // Every new hasher has different keys: random enough to spread calls.
    let random = RandomState::new().hash_one(());
    let part = u32::try_from(random % 1000).unwrap_or_default();
    pause - pause / 5 * part / 1000
}

impl FetchError {
    fn result(&self) -> FetchResult {
        match self {
            Self::Call(CallError::Connect(_)) => FetchResult::Connect,
            Self::Call(CallError::Exchange(_) | CallError::TooLong) => FetchResult::Exchange,
            Self::Call(CallError::Status(_)) => FetchResult::Status,
            Self::Call(CallError::Deadline) => FetchResult::Deadline,
            Self::Content(_) | Self::NoKeys(_) => FetchResult::Content,
        }
    }
}

impl std::fmt::Display for FetchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Content(why) | Self::NoKeys(why) => f.write_str(why),
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
    fn a_server_may_choose_the_refresh_interval_within_bounds() {
        for (max_age, pause) in [
            (None, 300),
            (Some(600), 600),
            (Some(0), 60),
            (Some(u64::MAX), 3600),
        ] {
            let pause = Duration::from_secs(pause);
            assert_eq!(refresh_after(max_age.map(Duration::from_secs)), pause);
            for _ in 0..100 {
                let jittered = jittered(pause);
                assert!(jittered <= pause && jittered >= pause * 4 / 5);
            }
        }
    }
}
