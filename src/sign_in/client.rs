//! The client of the identity server: concurrency limits, deadlines, keys, and the circuit breaker.
//!
//! Any status is a reply; its meaning is up to the caller. `http_client` authenticates the server
//! and reports whether a call was sent. Calls run in tasks of the background runtime, so any worker
//! may wait for one, and a client that disconnects does not abort a refresh or a registration
//! halfway.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

use super::call::{ApiKey, Call, CallError, Reply};
use super::edge;
use super::grant::{AuthError, is_code};
use super::metrics::{IdentityMetrics, Outcome};
use super::operation::{Operation, slow_slots};
use super::watch::{PROBE_DEADLINE, Returned, behind_proxy};
use crate::breaker::{Breaker, Outage};
use crate::clock;
use crate::denial::format::{API_VERSION, VERSION_20240101};
use crate::fault::Fault;
use crate::http_client::pooled::{Failure, FullRequest, PooledClient};
use crate::http_client::{HttpClients, Limits};
use crate::log::LogThrottle;
use crate::metrics::Label as _;
use crate::network::{Network, Networks};
use crate::policy::sign_in::Supabase;
use crate::secrets::secret::Secret;

/// The longest that a call may take, including the wait for a slot. The lease of a refresh is
/// longer (`refresh_driver`).
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// How much of that a call may spend waiting for a slot: the rest must suffice for the reply. A
/// choice.
const SLOT_WAIT: Duration = Duration::from_secs(1);

/// Upper bound of a reply in bytes: a user with many identities and much metadata takes a few
/// kilobytes.
const MAX_RESPONSE: usize = 1 << 20;

const APIKEY: HeaderName = HeaderName::from_static("apikey");

/// The identity server of this process.
#[derive(Clone)]
pub struct IdentityServer {
    runtime: Handle,
    calls: Arc<Calls>,
}

pub(super) struct Calls {
    pub(super) config: Arc<Supabase>,
    /// The first publishable key of the configuration in force. Only this key may change without a
    /// restart.
    publishable: ArcSwap<Secret>,
    pub(super) client: PooledClient,
    /// By operation, so that none uses up the slots of the others.
    operation_slots: Vec<OperationSlots>,
    /// Limits the calls that wait for a third party: a mail server that hangs leaves the other
    /// slots to password sign-ins.
    slow_slots: Semaphore,
    slots: Semaphore,
    pub(super) breaker: Breaker,
    /// Why the last call got no reply; `None` after one that did.
    pub(super) fault: ArcSwapOption<Fault>,
    /// Whether a task probes the server until it answers.
    pub(super) is_watched: AtomicBool,
    pub(super) returned: ArcSwapOption<Returned>,
    /// The clients to whom the server replied that it failed, since a reply that says otherwise;
    /// no more than [`AWAY_FOR_ALL`].
    failed: ArcSwap<Vec<Network>>,
    /// When the server was last asked for its health on account of a failure, and whether it has
    /// failed, too. Held while it is asked, so that one call answers all who ask.
    health: tokio::sync::Mutex<Option<(Instant, bool)>>,
    pub(super) metrics: Arc<IdentityMetrics>,
    warnings: LogThrottle,
    key_warnings: LogThrottle,
}

/// At how many clients in a row the server must fail to count as away for all, although it is
/// healthy by its own account, which does not cover its database. A client counts as the largest
/// network that one customer has. A choice.
const AWAY_FOR_ALL: usize = 8;

/// How long an answer about its health holds. A choice.
const HEALTH_HOLDS: Duration = Duration::from_secs(1);

/// The slots that a call holds: one of its operation, one of the slow ones if it waits for a third
/// party, and one of all.
type HeldSlots<'a> = (
    SemaphorePermit<'a>,
    Option<SemaphorePermit<'a>>,
    SemaphorePermit<'a>,
);

impl IdentityServer {
    /// Creates the client; its calls run on the current runtime.
    pub fn new(config: Arc<Supabase>, calls: &HttpClients, metrics: Arc<IdentityMetrics>) -> Self {
        let limits = Limits {
            deadline: DEADLINE,
            body: MAX_RESPONSE,
        };
        let concurrency = config.concurrency.get();
        let of_operation = |operation: &Operation| OperationSlots {
            free: Semaphore::new(operation.slots(concurrency)),
            waiting: AtomicUsize::new(0),
        };
        let breaker = Breaker::new(clock::now());
        breaker.close(clock::now()); // Until it fails, it is there.
        metrics.up.set(1);
        Self {
            runtime: Handle::current(),
            calls: Arc::new(Calls {
                client: PooledClient::new(calls.client(&config.url.site, limits)),
                operation_slots: Operation::VALUES.iter().map(of_operation).collect(),
                slow_slots: Semaphore::new(slow_slots(concurrency)),
                slots: Semaphore::new(concurrency),
                breaker,
                fault: ArcSwapOption::empty(),
                is_watched: AtomicBool::new(false),
                returned: ArcSwapOption::empty(),
                failed: ArcSwap::default(),
                health: tokio::sync::Mutex::default(),
                metrics,
                warnings: LogThrottle::new(),
                key_warnings: LogThrottle::new(),
                publishable: ArcSwap::from_pointee(config.publishable_key().clone()),
                config,
            }),
        }
    }

    /// Sends the publishable key of `config` from now on.
    pub(crate) fn change_key(&self, config: &Supabase) {
        let key = Arc::new(config.publishable_key().clone());
        self.calls.publishable.store(key);
    }

    /// The configuration at the start.
    pub fn config(&self) -> &Arc<Supabase> {
        &self.calls.config
    }

    /// Whether the server answers.
    pub fn outage(&self) -> Outage {
        self.calls.breaker.outage()
    }

    /// Why the server does not answer, as far as that is known.
    pub fn fault(&self) -> Option<Fault> {
        let fault = self.calls.fault.load_full();
        fault.map(|fault| Fault::clone(&fault))
    }

    /// When the server was last found to be back; `None` if it was never away.
    pub(super) fn returned(&self) -> Option<Returned> {
        self.calls.returned.load().as_deref().copied()
    }

    /// Whether an error shows that the server is away for all, and not only for the client whose
    /// call it answers. May take a call.
    pub(super) async fn is_away_for_all(&self, error: &AuthError) -> bool {
        if !error.status.is_server_error() {
            return false;
        }
        // Without a code it is the edge's.
        if !is_code(&error.code) || self.calls.failed.load().len() >= AWAY_FOR_ALL {
            return true;
        }
        let mut health = self.calls.health.lock().await;
        if let Some((asked, has_failed)) = *health
            && asked.elapsed() < HEALTH_HOLDS
        {
            return has_failed;
        }
        let probe = self.calls.probe(clock::now() + PROBE_DEADLINE).await;
        let has_failed = probe.map_or(true, |status| status.is_server_error());
        *health = Some((clock::now(), has_failed));
        has_failed
    }

    /// Whether the server answers, and takes the gateway's key: one call, for `check`.
    ///
    /// # Errors
    ///
    /// Why not.
    pub async fn check(&self) -> Result<(), Fault> {
        let deadline = clock::now() + DEADLINE;
        match self.calls.probe(deadline).await? {
            status if status.is_server_error() => Err(behind_proxy(status)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Fault::lasting(
                "it refuses the gateway's key: check `identity.supabase.publishable_keys`",
            )),
            StatusCode::NOT_FOUND => Err(Fault::lasting(
                "there is no identity server at this URL: write the URL of the project",
            )),
            _ => Ok(()),
        }
    }

    /// The runtime that calls run on.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Makes a call, with a deadline of 5 s. Dropping the future does not abort the call.
    ///
    /// # Errors
    ///
    /// There is no reply; see [`CallError`].
    pub async fn call(&self, call: Call) -> Result<Reply, CallError> {
        self.call_until(call, clock::now() + DEADLINE).await
    }

    /// Makes a call, with another deadline.
    pub(super) async fn call_until(
        &self,
        call: Call,
        deadline: Instant,
    ) -> Result<Reply, CallError> {
        let calls = self.calls.clone();
        let task = self
            .runtime
            .spawn(async move { calls.run(call, deadline).await });
        // A task fails only if it panicked or the process ends.
        task.await.unwrap_or(Err(CallError::Unknown))
    }
}

impl Calls {
    async fn run(self: Arc<Self>, call: Call, deadline: Instant) -> Result<Reply, CallError> {
        let started = clock::now();
        let answer = self.send(&call, started, deadline).await;
        let now = clock::now();
        let outcome = match &answer {
            Ok(reply) => match reply.status {
                StatusCode::TOO_MANY_REQUESTS => Outcome::Limited,
                status if status.is_client_error() => Outcome::Refused,
                status if status.is_server_error() => Outcome::Failed,
                _ => Outcome::Good,
            },
            Err(error) => error.outcome(),
        };
        let took = now.saturating_duration_since(started);
        self.metrics.called(call.operation, outcome, took);
        answer
    }

    async fn send(
        self: &Arc<Self>,
        call: &Call,
        started: Instant,
        deadline: Instant,
    ) -> Result<Reply, CallError> {
        self.breaker.permits().map_err(|_| CallError::Away)?;
        let until = deadline.min(started + SLOT_WAIT);
        let _slot = self.acquire(call.operation, until).await?;
        let _running = GaugeGuard::hold(&self.metrics.running);
        let message = self.message(call);
        let failure = match self.client.send(&message, deadline).await {
            Ok(response) => return self.replied(call, response.into()),
            Err(failure) => failure,
        };
        self.failed(call.operation, &failure);
        Err(match failure {
            Failure::Unsent(crate::http_client::CallError::Deadline) => {
                CallError::Deadline { sent: false }
            }
            Failure::Unknown(crate::http_client::CallError::Deadline) => {
                CallError::Deadline { sent: true }
            }
            Failure::Unsent(_) => CallError::Away,
            Failure::Unknown(_) => CallError::Unknown,
        })
    }

    /// Notes whether the server failed at a client.
    fn note_failure(&self, client: IpAddr, has_failed: bool) {
        let failed = self.failed.load();
        if !has_failed {
            if !failed.is_empty() {
                self.failed.store(Arc::default());
            }
            return;
        }
        let networks = Networks::of(client);
        let client = networks.site.unwrap_or(networks.own);
        if failed.len() < AWAY_FOR_ALL && !failed.contains(&client) {
            self.failed.rcu(|failed| {
                let mut failed = Vec::clone(failed);
                failed.push(client);
                failed
            });
        }
    }

    /// Notes a reply, which may be the edge's.
    fn replied(self: &Arc<Self>, call: &Call, reply: Reply) -> Result<Reply, CallError> {
        self.note_failure(call.client, reply.status.is_server_error());
        if edge::lost_server(&reply, call.operation) {
            self.watch(behind_proxy(reply.status));
            return Ok(reply);
        }
        self.breaker.answered(clock::now());
        if self.fault.load().is_some() && !self.breaker.is_open() {
            self.fault.store(None);
        }
        if !edge::refuses_key(&reply) {
            return Ok(reply);
        }
        if self.key_warnings.may_log(clock::unix_now()) {
            tracing::error!(
                call = call.operation.as_str(),
                status = reply.status.as_u16(),
                "the edge in front of the identity server refuses the gateway: check the keys under `identity.supabase`, and with status 403 the rules of a firewall in between"
            );
        }
        Err(CallError::KeyRefused)
    }

    /// Waits for slots, unless too many calls of the operation wait already.
    async fn acquire(
        &self,
        operation: Operation,
        until: Instant,
    ) -> Result<HeldSlots<'_>, CallError> {
        let own = self.operation_slots.get(operation.index());
        let own = own.ok_or(CallError::Busy)?;
        let of_operation = match own.free.try_acquire() {
            Ok(slot) => slot,
            Err(_) => {
                let _place = Place::take(&own.waiting, self.config.queue)?;
                self.acquire_from(&own.free, until).await?
            }
        };
        // No more calls wait for these than have a slot of their operation.
        let slow = match operation.waits_for_others() {
            true => Some(self.acquire_from(&self.slow_slots, until).await?),
            false => None,
        };
        Ok((
            of_operation,
            slow,
            self.acquire_from(&self.slots, until).await?,
        ))
    }

    async fn acquire_from<'a>(
        &self,
        slots: &'a Semaphore,
        until: Instant,
    ) -> Result<SemaphorePermit<'a>, CallError> {
        if let Ok(slot) = slots.try_acquire() {
            return Ok(slot);
        }
        let _waits = GaugeGuard::hold(&self.metrics.waiting);
        let slot = timeout_at(until.into(), slots.acquire()).await.ok();
        slot.and_then(Result::ok).ok_or(CallError::Busy)
    }

    pub(super) fn message(&self, call: &Call) -> FullRequest {
        let config = &self.config;
        let publishable = self.publishable.load();
        let mut headers = call.headers.clone();
        let (key, is_secret) = match (call.key, &config.secret_key) {
            (ApiKey::Secret, Some(secret)) => (secret, true),
            (ApiKey::Secret, None) | (ApiKey::Publishable, _) => (&**publishable, false),
        };
        // A legacy secret key is a JWT, and a server without an edge in front of it expects it as a
        // bearer token.
        let is_token = key.expose().starts_with(b"eyJ");
        let bearer = call
            .bearer
            .as_ref()
            .or((is_secret && is_token).then_some(key));
        set_secret(&mut headers, APIKEY, key.expose());
        headers.remove(AUTHORIZATION);
        if let Some(bearer) = bearer {
            set_secret(
                &mut headers,
                AUTHORIZATION,
                &[b"Bearer ", bearer.expose()].concat(),
            );
        }
        headers.insert(API_VERSION, HeaderValue::from_static(VERSION_20240101));
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!(
                "foregate/",
                env!("CARGO_PKG_VERSION")
            )));
        if let Ok(address) = HeaderValue::from_str(&call.client.to_string()) {
            headers.insert(config.address_header.clone(), address);
        }
        if call.body.is_some() {
            headers
                .entry(CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("application/json"));
        }
        FullRequest {
            method: call.method.clone(),
            path: format!("{}{}", config.url.path, call.path),
            headers,
            body: call.body.clone().unwrap_or_default(),
        }
    }

    /// Records a call without a reply: warns, and may open the breaker.
    fn failed(self: &Arc<Self>, operation: Operation, failure: &Failure) {
        use crate::http_client::CallError;
        let (Failure::Unsent(error) | Failure::Unknown(error)) = failure;
        if self.warnings.may_log(clock::unix_now()) {
            tracing::warn!(call = operation.as_str(), %error, "no answer from the identity server");
        }
        // A reply that is too long is a reply all the same, and a user may be the cause of it.
        let is_there = *error == CallError::TooLong
            || *error == CallError::Deadline && operation.waits_for_others();
        if is_there {
            return;
        }
        let fault = error.fault();
        self.fault.store(Some(Arc::new(fault.clone())));
        if self.breaker.failed() {
            self.note_open(&fault);
        }
        self.watch(fault);
    }
}

/// The slots of one operation, with a bounded queue.
struct OperationSlots {
    free: Semaphore,
    waiting: AtomicUsize,
}

/// A place in a bounded queue, until it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, limit: usize) -> Result<Self, CallError> {
        let place = Self(waiting);
        match waiting.fetch_add(1, Ordering::Relaxed) < limit {
            true => Ok(place),
            false => Err(CallError::Busy),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Increments a gauge until it is dropped.
struct GaugeGuard<'a>(&'a prometheus::IntGauge);

impl<'a> GaugeGuard<'a> {
    fn hold(gauge: &'a prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Sets a field that logs must not show. Invalid values were refused before: keys by the
/// configuration, tokens when they were verified.
fn set_secret(headers: &mut HeaderMap, name: HeaderName, value: &[u8]) {
    if let Ok(mut value) = HeaderValue::from_bytes(value) {
        value.set_sensitive(true);
        headers.insert(name, value);
    }
}

impl std::fmt::Debug for IdentityServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityServer")
            .field("url", &self.calls.config.url.to_string())
            .finish_non_exhaustive()
    }
}
