//! Tokens whose key is not cached: which requests wait, and for which fetch. The tests make the
//! fetches themselves, so that nothing depends on time.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use prometheus::Registry;
use tokio::task::{JoinHandle, JoinSet};

use super::*;
use crate::denial::Extra;
use crate::tokens::{KeySet, Source};

/// A day; the clock of these tests is fixed.
const DAY: i64 = 24 * 60 * 60;

fn clock() -> i64 {
    NOW
}

/// An issuer that has published one key, and can publish others.
struct Publisher {
    tokens: Arc<Tokens>,
    source: Arc<Source>,
    registry: Registry,
    old: Signer,
    new: Signer,
}

impl Publisher {
    fn new() -> Self {
        let registry = Registry::new();
        let sources = KeySources::new(KeyMetrics::new(&registry).unwrap());
        let publication = published_at("https://k.test/");
        let source = sources.get_or_insert(ISSUER, &publication);
        let entries = [entry(
            &[Algorithm::ES256],
            KeySource::Published(publication),
        )];
        let tokens = Tokens::new(&entries, new_cache(), &sources).unwrap();
        let publisher = Self {
            tokens: Arc::new(tokens),
            source,
            registry,
            old: signer(Algorithm::ES256),
            new: Signer::generate(Algorithm::ES256).unwrap().with_kid("new"),
        };
        publisher.fetch(&[&publisher.old]);
        publisher
    }

    /// A fetch that returns these keys.
    fn fetch(&self, keys: &[&Signer]) {
        let number = self.source.refetch().begin();
        self.receive(keys, NOW);
        self.source.refetch().end(number, true);
    }

    fn receive(&self, keys: &[&Signer], fetched: i64) {
        let jwks: Vec<_> = keys.iter().map(|key| key.public_jwk().unwrap()).collect();
        let set = KeySet::parse(set_of(&jwks).as_bytes()).unwrap();
        self.source.receive(set, fetched);
    }

    /// A fetch that fails.
    fn fail(&self) {
        let number = self.source.refetch().begin();
        self.source.fail("away".to_owned(), false);
        self.source.refetch().end(number, false);
    }

    /// A token of a new subject.
    fn token(&self, signer: &Signer) -> String {
        signer.sign(&claims()).unwrap()
    }

    /// A token with a `kid` that nobody publishes.
    fn invented(&self, kid: &str) -> String {
        self.token(&self.old.clone().with_kid(kid))
    }

    fn present(&self, token: &str) -> JoinHandle<Result<Presented, Denial>> {
        let (tokens, token) = (Arc::clone(&self.tokens), token.to_owned());
        tokio::spawn(async move { tokens.verify_or_wait(&token, clock).await })
    }

    fn waiting(&self) -> i64 {
        self.source.metrics().waiting().get()
    }

    async fn has_waiting(&self, count: i64) {
        while self.waiting() != count {
            tokio::task::yield_now().await;
        }
    }

    /// Samples of `jwks_lookups_total` that are not zero.
    fn lookups(&self) -> Vec<(String, u64)> {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == "jwks_lookups_total")
            .unwrap();
        let mut counted = Vec::new();
        for metric in family.get_metric() {
            let outcome = metric
                .get_label()
                .iter()
                .find(|label| label.name() == "outcome")
                .unwrap();
            let value = metric.get_counter().get_value() as u64;
            if value != 0 {
                counted.push((outcome.value().to_owned(), value));
            }
        }
        counted
    }
}

fn denied(outcome: Result<Presented, Denial>) -> Denial {
    match outcome {
        Err(denial) => denial,
        Ok(Presented::User(_) | Presented::Nobody) => panic!("accepted"),
    }
}

async fn answer(pending: JoinHandle<Result<Presented, Denial>>) -> Result<Presented, Denial> {
    pending.await.unwrap()
}

#[tokio::test]
async fn a_token_of_a_new_key_is_accepted_after_the_next_fetch() {
    let publisher = Publisher::new();
    let pending = publisher.present(&publisher.token(&publisher.new));
    publisher.has_waiting(1).await;
    publisher.fetch(&[&publisher.new]);
    expect_user(answer(pending).await);
    assert_eq!(publisher.waiting(), 0);
    assert_eq!(publisher.lookups(), [("appeared".to_owned(), 1)]);
}

#[tokio::test]
async fn a_fetch_begun_before_the_request_may_bring_the_key_but_cannot_prove_its_absence() {
    let publisher = Publisher::new();
    let number = publisher.source.refetch().begin();
    let (good, bad) = (
        publisher.present(&publisher.token(&publisher.new)),
        publisher.present(&publisher.invented("nobody's")),
    );
    publisher.has_waiting(2).await;
    publisher.receive(&[&publisher.old, &publisher.new], NOW);
    publisher.source.refetch().end(number, true);
    expect_user(answer(good).await);
    assert!(!bad.is_finished());
    publisher.has_waiting(1).await;
    publisher.fetch(&[&publisher.old, &publisher.new]);
    assert_eq!(denied(answer(bad).await).reason, Reason::TokenKeyUnknown);
}

#[tokio::test]
async fn an_absent_key_is_cached_and_costs_no_second_fetch_and_no_slot() {
    let publisher = Publisher::new();
    let token = publisher.invented("nobody's");
    let pending = publisher.present(&token);
    publisher.has_waiting(1).await;
    publisher.fetch(&[&publisher.old]);
    assert_eq!(
        denied(answer(pending).await).reason,
        Reason::TokenKeyUnknown
    );
    // There is no fetch now, so waiting would end with another reason.
    for _ in 0..3 {
        let again = publisher.tokens.verify_or_wait(&token, clock).await;
        assert_eq!(denied(again).reason, Reason::TokenKeyUnknown);
    }
    assert_eq!(
        publisher.lookups(),
        [("absent".to_owned(), 1), ("remembered".to_owned(), 3)]
    );
    // A key that is published after all is used at once.
    publisher.fetch(&[&publisher.old.clone().with_kid("nobody's")]);
    expect_user(publisher.tokens.verify(&token, NOW));
}

#[tokio::test]
async fn an_unreachable_key_server_is_not_the_tokens_fault() {
    let publisher = Publisher::new();
    let pending = publisher.present(&publisher.token(&publisher.new));
    publisher.has_waiting(1).await;
    publisher.fail();
    let failed = denied(answer(pending).await);
    assert_eq!(failed.reason, Reason::KeysUnavailable);
    assert_eq!(failed.extra, Extra::RetryAfter(Duration::from_secs(1)));
    // There is no fetch at all: the wait ends.
    let begun = tokio::time::Instant::now();
    let late = publisher.present(&publisher.token(&publisher.new));
    assert_eq!(denied(answer(late).await).reason, Reason::KeysUnavailable);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(
        publisher.lookups(),
        [("failed".to_owned(), 1), ("timed_out".to_owned(), 1)]
    );
    // A known key needs no wait.
    expect_user(
        publisher
            .tokens
            .verify(&publisher.token(&publisher.old), NOW),
    );
}

#[tokio::test]
async fn requests_beyond_the_limit_are_refused_at_once() {
    let publisher = Publisher::new();
    let mut pending = JoinSet::new();
    for number in 0..1024 {
        let (tokens, token) = (
            Arc::clone(&publisher.tokens),
            publisher.invented(&format!("invented-{number}")),
        );
        pending.spawn(async move {
            let verifying = tokio::time::timeout(
                Duration::from_secs(60),
                tokens.verify_or_wait(&token, clock),
            );
            denied(verifying.await.unwrap()).reason
        });
    }
    // The first ones wait for a second. Should this machine take longer to start the others, no
    // slot is found taken, and none is lost all the same.
    let mut was_full = false;
    while !was_full && !pending.is_empty() {
        tokio::task::yield_now().await;
        if publisher.waiting() == 1024 {
            was_full = true;
            let token = publisher.invented("one more");
            let full = denied(publisher.tokens.verify_or_wait(&token, clock).await);
            assert_eq!(full.reason, Reason::KeysUnavailable);
            assert_eq!(full.detail.unwrap(), "too many requests wait for keys");
            expect_user(
                publisher
                    .tokens
                    .verify(&publisher.token(&publisher.old), NOW),
            );
            publisher.fetch(&[&publisher.old]);
        }
        while let Some(reason) = pending.try_join_next() {
            assert_eq!(reason.unwrap(), Reason::KeysUnavailable);
        }
    }
    while let Some(reason) = pending.join_next().await {
        assert!(matches!(
            reason.unwrap(),
            Reason::TokenKeyUnknown | Reason::KeysUnavailable
        ));
    }
    assert_eq!(publisher.waiting(), 0);
}

#[test]
fn a_token_whose_key_is_cached_is_decided_without_waiting() {
    let publisher = Publisher::new();
    let mut context = Context::from_waker(Waker::noop());
    let good = publisher.token(&publisher.old);
    let expired = publisher.old.sign(&claims().expiring(NOW - 100)).unwrap();
    // Verified, cached, and refused: all at the first poll, without a runtime.
    for token in [&good, &good, &expired] {
        let verifying = pin!(publisher.tokens.verify_or_wait(token, clock));
        match verifying.poll(&mut context) {
            Poll::Ready(Ok(Presented::User(_))) => assert_eq!(token, &good),
            Poll::Ready(Err(denial)) => assert_eq!(denial.reason, Reason::TokenExpired),
            Poll::Ready(Ok(Presented::Nobody)) | Poll::Pending => panic!("it waits"),
        }
    }
    let unknown = publisher.invented("nobody's");
    let verifying = pin!(publisher.tokens.verify_or_wait(&unknown, clock));
    assert!(
        size_of_val(&*verifying) < 512,
        "room for waiting is carried along"
    );
}

#[tokio::test]
async fn a_cancelled_request_frees_its_slot() {
    let publisher = Publisher::new();
    let pending = publisher.present(&publisher.invented("nobody's"));
    publisher.has_waiting(1).await;
    pending.abort();
    publisher.has_waiting(0).await;
}

#[tokio::test]
async fn keys_are_used_for_a_day_without_their_server_and_not_longer() {
    let publisher = Publisher::new();
    let old = publisher.old.sign(&claims().expiring(NOW + 9 * DAY));
    let old = old.unwrap();
    for failures in [0, 1000] {
        for _ in 0..failures {
            publisher.fail();
        }
        for now in [NOW - 5, NOW, NOW + DAY] {
            expect_user(publisher.tokens.verify(&old, now));
        }
        // Cached or not.
        for _ in 0..2 {
            let stale = denied(publisher.tokens.verify(&old, NOW + DAY + 1));
            assert_eq!(stale.reason, Reason::KeysUnavailable);
        }
    }
    publisher.receive(&[&publisher.old], NOW + DAY + 1);
    expect_user(publisher.tokens.verify(&old, NOW + DAY + 1));
}

#[tokio::test]
async fn expired_keys_are_waited_for_like_missing_ones() {
    let publisher = Publisher::new();
    publisher.receive(&[&publisher.old], NOW - DAY - 1);
    let token = publisher.token(&publisher.old);
    let pending = publisher.present(&token);
    publisher.has_waiting(1).await;
    publisher.fail();
    assert_eq!(
        denied(answer(pending).await).reason,
        Reason::KeysUnavailable
    );
    let pending = publisher.present(&token);
    publisher.has_waiting(1).await;
    publisher.fetch(&[&publisher.old]);
    expect_user(answer(pending).await);
}

#[tokio::test]
async fn keys_from_the_store_end_the_wait_and_never_replace_fetched_ones() {
    let publisher = Publisher::new();
    let set = |signer: &Signer| {
        let set = set_of(&[signer.public_jwk().unwrap()]);
        KeySet::parse(set.as_bytes()).unwrap()
    };
    assert!(!publisher.source.restore(set(&publisher.new), NOW));
    expect_user(
        publisher
            .tokens
            .verify(&publisher.token(&publisher.old), NOW),
    );

    let sources = key_sources();
    let publication = published_at("https://k.test/");
    let source = sources.get_or_insert(ISSUER, &publication);
    let entries = [entry(
        &[Algorithm::ES256],
        KeySource::Published(publication),
    )];
    let tokens = Tokens::new(&entries, new_cache(), &sources).unwrap();
    let token = publisher.token(&publisher.old);
    let pending = tokio::spawn(async move { tokens.verify_or_wait(&token, clock).await });
    while source.metrics().waiting().get() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(source.restore(set(&publisher.old), NOW - 5));
    expect_user(answer(pending).await);
    assert_eq!(source.age(NOW), Some(5));
}

#[tokio::test]
async fn invented_key_ids_evict_each_other_and_no_key() {
    let publisher = Publisher::new();
    let token = publisher.token(&publisher.old);
    for number in 0..10_000 {
        let missing = crate::tokens::source::Missing {
            source: Arc::clone(&publisher.source),
            kid: Some(format!("invented-{number}")),
        };
        missing.remember_absent();
    }
    assert!(publisher.source.absent_kids() <= 4096);
    expect_user(publisher.tokens.verify(&token, NOW));
}

#[tokio::test]
async fn an_entry_that_has_the_key_does_not_wait_for_another() {
    let publisher = Publisher::new();
    let sources = key_sources();
    let publication = published_at("https://elsewhere.test/");
    let entries = [
        entry(&[Algorithm::ES256], KeySource::Published(publication)),
        published(&publisher.old),
    ];
    let tokens = Tokens::new(&entries, new_cache(), &sources).unwrap();
    expect_user(
        tokens
            .verify_or_wait(&publisher.token(&publisher.old), clock)
            .await,
    );
    // A valid signature with a bad claim is final, whatever the other entry would say.
    let expired = publisher.old.sign(&claims().expiring(NOW - 100)).unwrap();
    let refused = denied(tokens.verify_or_wait(&expired, clock).await);
    assert_eq!(refused.reason, Reason::TokenExpired);
}
