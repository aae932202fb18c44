//! The throttle: limits how often a client may attempt to sign in.
//!
//! Decides:  429 `too_many_attempts`, a delay, and 503 `sign_in_busy` when too many wait or a
//!           refresh comes too often.
//! Trusts:   `request` for the client's address; the caller of the identity server, for whether an
//!           attempt succeeded.
//! Not here: what is answered while the identity server is overloaded (`client`).
//!
//! There are three limits on failures; a success returns what it took. The first counts per
//! *address* (IPv6: a /64, which is what one customer gets at least, and its /48, which is what one
//! gets at most, with [`SITE_FACTOR`] times the rate): one password tried on a thousand accounts
//! from one network is refused, but an office behind one address, whose people know their
//! passwords, is not. The second counts per address *and account*, so that a thousand passwords
//! tried on one account from one network are refused much earlier. The third counts per account
//! from any address. It never refuses, since strangers could lock the owner out; it delays,
//! increasingly, up to some seconds. An attempt takes its tokens before the identity server is
//! called, so a thousand concurrent attempts do not bypass the limits. An attempt that an outage
//! left undecided returns its tokens.
//!
//! Refreshes count only when they failed, since nobody guesses a refresh token. Concurrent
//! refreshes are limited, too, to [`CONCURRENT_FACTOR`] times the rate: enough for an office whose
//! clients all reconnect at once, but not for thousands of made-up tokens.
//!
//! Registrations and messages count whether or not they succeed: there, frequent success is the
//! abuse. They have the first two limits, and not the third, since a stranger may ask for a message
//! to any account. A password that the identity server finds too weak is no attempt on an account.
//! All other calls count likewise: what counts is that they occupy the identity server. No call is
//! made on behalf of a client without an [`Admission`].
//!
//! An attempt that the identity server answered counts, whatever became of it, unless the server is
//! away for all: otherwise whoever finds an input at which it fails has no limit. Where success
//! counts, too, an attempt counts also if its answer was lost: the message may have been sent.
//!
//! # The defaults
//!
//! Many people share an address: an office, a school, a mobile network. So a default by address is
//! generous, and strict only on what fails; what is strict is the limit by account. The identity
//! server has limits of its own behind these, by address where it knows that, and by account.
//!
//! | attempt | by address, a minute | by address and account | the identity server's default |
//! |---|---|---|---|
//! | `login` | 30 failures | 5 failures | 30 calls a minute by address, any outcome |
//! | `register` | 60 | 5 | 30 sign-ups in five minutes, and 30 anonymous ones an hour |
//! | `refresh` | 30 failures | – | 30 calls a minute, any outcome |
//! | `reset` | 60 | 3 | one message a minute to an account; 30 an hour in all, unless set |
//! | `verify` | 30 failures | 5 failures | 30 codes in five minutes, any outcome |
//! | `challenge` | 300 | 10 | 15 a minute by address; a text message a minute to a factor |
//! | `redirect` | 120 | – | none |
//! | `account` | 3000 | – | none |
//! | `read` | 600 | – | none |
//!
//! The identity server hashes a password only if the account exists, so the duration of a refusal
//! would disclose which accounts exist. No refusal is answered sooner than a wrong password takes,
//! or should take: `refusal_floor`. Held refusals are counted separately from delayed attempts, up
//! to [`MAX_HELD`], and occupy no slot at the identity server.
//!
//! E-mail addresses are stored only as keyed hashes. While the store is unreachable, each replica
//! counts by itself, at half the rates.

mod account;
mod admission;
pub(super) mod attempt;
mod metrics;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::{hmac, rand};
use tokio::runtime::Handle;

use crate::denial::{Denial, Extra, Reason};
use crate::network::{Network, Networks};
use crate::policy::rate::Rate;
use crate::policy::sign_in::Throttling;
use crate::secrets::MasterKey;
use crate::secrets::derive::Derivation;
use crate::store::{Bucket, Buckets, Draw, Level, Store};

use self::account::normalized_account;
use self::admission::NamedBucket;
use self::attempt::Limit;

pub use self::admission::Admission;
pub use self::attempt::Attempt;
pub use self::metrics::ThrottleMetrics;

/// The first delay; each further one is twice as long. A choice.
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// Upper bound of held refusals; each holds a connection that is open anyway. A choice.
const MAX_HELD: usize = 10_000;

/// How many times more refreshes of an address may run at once than may fail. A choice.
const CONCURRENT_FACTOR: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// How many times more attempts a /48 may make than each of its 65,536 /64s. A choice.
const SITE_FACTOR: NonZeroU32 = NonZeroU32::new(8).unwrap();

/// What attempts are counted by.
#[derive(Clone, Copy)]
pub struct AttemptKey<'a> {
    /// As whom the client is counted. Clients that a trusted proxy does not name have no limit by
    /// address, which would be one for all of them; they share one by account.
    pub client: Option<Networks>,
    /// An e-mail address, a telephone number or a subject, in any spelling.
    pub account: Option<&'a str>,
}

/// The throttle of this process.
pub struct Throttle {
    store: Arc<dyn Store>,
    local: Buckets,
    names: hmac::Key,
    /// Attempts that wait for the end of their delay.
    waiting: AtomicUsize,
    /// Refusals that are held; counted separately, so that they do not displace delayed attempts.
    held: AtomicUsize,
    runtime: Handle,
    metrics: Arc<ThrottleMetrics>,
}

impl Throttle {
    /// Creates a throttle that shares its counts through the store. Names are hashed with a key
    /// derived from the first of `keys`; without keys there is no other replica, and a random key
    /// will do. Must be called inside the background runtime.
    ///
    /// # Errors
    ///
    /// The cryptographic library has no randomness.
    pub fn new(
        store: Arc<dyn Store>,
        keys: &[MasterKey],
        metrics: Arc<ThrottleMetrics>,
    ) -> anyhow::Result<Arc<Self>> {
        let key: [u8; 32] = match keys.first() {
            Some(first) => Derivation::of(first).expand("names of the sign-in throttle")?,
            None => {
                let mut key = [0; 32];
                rand::fill(&mut key)?;
                key
            }
        };
        Ok(Arc::new(Self {
            store,
            local: Buckets::default(),
            names: hmac::Key::new(hmac::HMAC_SHA256, &key),
            waiting: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            runtime: Handle::current(),
            metrics,
        }))
    }

    /// Admits an attempt before the identity server is called, and delays it if necessary. A
    /// delayed attempt holds nothing but its place in the queue.
    ///
    /// # Errors
    ///
    /// Attempts come too often, or too many wait.
    pub async fn admit(
        self: &Arc<Self>,
        throttling: &Throttling,
        attempt: Attempt,
        key: AttemptKey<'_>,
    ) -> Result<Admission, Denial> {
        let buckets = self.buckets(throttling, attempt, key);
        let draws = |bucket: &NamedBucket| match bucket.limit {
            Some(Limit::Address) if !attempt.takes_first() => Draw::Ask,
            Some(Limit::Address | Limit::Account | Limit::UnderWay | Limit::Waiting) => Draw::Take,
            None => Draw::Owe,
        };
        let (levels, is_local) = self.draw_all(&buckets, draws).await;
        for (bucket, level) in buckets.iter().zip(&levels) {
            if let (Some(limit), false) = (bucket.limit, level.is_admitted) {
                return Err(self.refuse(attempt, limit, bucket.rate, level.wait));
            }
        }
        let admission = Admission {
            throttle: self.clone(),
            attempt,
            buckets,
            is_local,
            is_settled: false,
        };
        let owed = levels.iter().map(|level| level.owed).max().unwrap_or(0);
        match self.delay(throttling, owed).await {
            Ok(()) => Ok(admission),
            Err(denial) => {
                admission.undecided();
                self.metrics.refused(attempt, Limit::Waiting);
                Err(denial)
            }
        }
    }

    /// Delays an attempt on an account with `owed` failures beyond its rate.
    ///
    /// # Errors
    ///
    /// Too many attempts wait.
    async fn delay(&self, throttling: &Throttling, owed: u32) -> Result<(), Denial> {
        if owed == 0 {
            return Ok(());
        }
        let delay = FIRST_DELAY
            .saturating_mul(1 << (owed - 1).min(16))
            .min(throttling.longest_delay);
        let guard = WaitGuard::begin(&self.waiting, &self.metrics);
        if guard.before >= throttling.waiting {
            return Err(Reason::SignInBusy.because("too many attempts wait"));
        }
        self.metrics.delayed.inc();
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// Holds a refusal of a call that started at `began`, so that its duration discloses nothing.
    /// Successes are not held.
    ///
    /// # Errors
    ///
    /// Too many refusals wait.
    pub async fn hold_refusal(
        &self,
        throttling: &Throttling,
        began: tokio::time::Instant,
    ) -> Result<(), Denial> {
        let until = began + throttling.refusal_floor;
        if until <= tokio::time::Instant::now() {
            return Ok(());
        }
        let guard = WaitGuard::begin(&self.held, &self.metrics);
        if guard.before >= MAX_HELD {
            self.metrics.refused(Attempt::Login, Limit::Waiting);
            return Err(Reason::SignInBusy.because("too many refusals wait"));
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    /// The buckets of an attempt: those of its network; for IPv6 the same again, for the larger
    /// network; and one for the account alone.
    fn buckets(
        &self,
        throttling: &Throttling,
        attempt: Attempt,
        key: AttemptKey<'_>,
    ) -> Vec<NamedBucket> {
        let limits = attempt.limits(throttling);
        // Without a limit by account, the account makes no difference.
        let account = key
            .account
            .zip(limits.account)
            .map(|(account, rate)| (normalized_account(account), rate));
        let own = key.client.map(|client| client.own);
        let site = key.client.and_then(|client| client.site);
        let site = site.map(|site| (Some(site), SITE_FACTOR));
        let mut buckets = Vec::new();
        for (network, factor) in std::iter::once((own, NonZeroU32::MIN)).chain(site) {
            if let Some(network) = network {
                let rate = limits.address.times(factor);
                buckets.extend(self.network_buckets(attempt, network, rate));
            }
            // Without an address a limit on what strangers may do at will would be the victim's.
            let is_limited = network.is_some() || attempt.counts_failures();
            if let Some((account, rate)) = account.as_ref().filter(|_| is_limited) {
                buckets.push(NamedBucket {
                    limit: Some(Limit::Account),
                    name: self.attempt_name(attempt, network, account.as_bytes()),
                    rate: rate.times(factor),
                });
            }
        }
        // What strangers may do at will must not delay the owner.
        let account = account.filter(|_| attempt.counts_failures());
        buckets.extend(account.map(|(account, _)| NamedBucket {
            limit: None,
            name: self.name([b"everywhere", b"", account.as_bytes()]),
            rate: throttling.everywhere,
        }));
        buckets
    }

    /// The buckets of a network: one for its attempts; and one for concurrency, if the first is
    /// drawn from only on failure.
    fn network_buckets(
        &self,
        attempt: Attempt,
        network: Network,
        rate: Rate,
    ) -> impl Iterator<Item = NamedBucket> {
        let bucket = |limit, suffix: &[u8], rate| NamedBucket {
            limit: Some(limit),
            name: self.attempt_name(attempt, Some(network), suffix),
            rate,
        };
        let under_way = !attempt.takes_first();
        [
            Some(bucket(Limit::Address, b"", rate)),
            under_way.then(|| bucket(Limit::UnderWay, b"under way", rate.times(CONCURRENT_FACTOR))),
        ]
        .into_iter()
        .flatten()
    }

    fn attempt_name(&self, attempt: Attempt, network: Option<Network>, suffix: &[u8]) -> hmac::Tag {
        let network = network.as_ref().map_or(&[][..], Network::bytes);
        self.name([attempt.as_str().as_bytes(), network, suffix])
    }

    fn name(&self, parts: [&[u8]; 3]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.names);
        for part in parts {
            // The length prefix keeps names apart whose parts would concatenate to the same bytes.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign()
    }

    /// Draws from the shared buckets, or from the local ones if the store is unreachable.
    async fn draw_all(
        &self,
        buckets: &[NamedBucket],
        draw: impl Fn(&NamedBucket) -> Draw,
    ) -> (Vec<Level>, bool) {
        let shared: Vec<Bucket<'_>> = buckets
            .iter()
            .map(|bucket| bucket.with_draw(draw(bucket)))
            .collect();
        match self.store.admit(&shared).await {
            Ok(levels) => (levels, false),
            Err(_) => {
                self.metrics.local_only.inc();
                (self.draw_locally(buckets, draw), true)
            }
        }
    }

    fn draw_locally(
        &self,
        buckets: &[NamedBucket],
        draw: impl Fn(&NamedBucket) -> Draw,
    ) -> Vec<Level> {
        let halved: Vec<Bucket<'_>> = buckets
            .iter()
            .map(|bucket| {
                let bucket = bucket.with_draw(draw(bucket));
                Bucket {
                    rate: bucket.rate.halved(),
                    ..bucket
                }
            })
            .collect();
        self.local.admit(&halved)
    }

    fn refuse(&self, attempt: Attempt, limit: Limit, rate: Rate, wait: Duration) -> Denial {
        self.metrics.refused(attempt, limit);
        match attempt {
            // supabase-js ends a session whose refresh is answered with anything but success or a
            // 5xx.
            Attempt::Refresh => Denial {
                extra: Extra::RetryAfter(wait.saturating_add(Duration::from_millis(999))),
                ..Reason::SignInBusy.because(limit.as_str())
            },
            Attempt::Login
            | Attempt::Register
            | Attempt::Reset
            | Attempt::Verify
            | Attempt::Challenge
            | Attempt::Redirect
            | Attempt::Account
            | Attempt::Read => Denial {
                extra: Extra::Limited {
                    limit: rate.burst.get(),
                    wait,
                },
                ..Reason::TooManyAttempts.because(limit.as_str())
            },
        }
    }
}

/// Counts one that waits until it is dropped.
struct WaitGuard<'a> {
    all: &'a AtomicUsize,
    metrics: &'a ThrottleMetrics,
    before: usize,
}

impl<'a> WaitGuard<'a> {
    fn begin(all: &'a AtomicUsize, metrics: &'a ThrottleMetrics) -> Self {
        metrics.waiting.inc();
        Self {
            all,
            metrics,
            before: all.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        self.metrics.waiting.dec();
    }
}

/// Omits the account.
impl std::fmt::Debug for AttemptKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttemptKey")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttle").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
