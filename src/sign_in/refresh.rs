//! New tokens for a session: one call per refresh token, whoever asks, on whatever replica.
//!
//! Decides:  how long the parts of the protocol take, which answers of the identity server are final, and how answers are kept.
//! Trusts:   [`Flight`] for the protocol; the store for one writer of several winning.
//! Not here: who may refresh (whoever has the token), and what becomes of the new tokens.
//!
//! All that ask in one process share one flight, which runs in a task of the background runtime: whoever leaves ends nothing. An answer is
//! kept for [`ANSWER_LIFETIME`], for clients that ask twice, sealed under a key that is derived from the old token: only who has it can read the new one.
//! While the store is away there is one flight per process, and no more than that, each as soon as `pace` permits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::call::{Call, CallError, Reply};
use super::client::{DEADLINE, IdentityServer};
use super::endpoints::outcome::{Asked, refusal};
use super::grant::{AuthError, Grant};
use super::operation::Operation;
use super::refresh_protocol::{Called, Command, Event, Flight, Record};
use super::sealed::Seal;
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::secrets::digest::{self, Digest};
use crate::secrets::secret::Secret;
use crate::store::{Kind, Store, Swap, Version};

/// After which a lease that nobody changed is over. Longer than any call, with the time around it.
const LEASE: Duration = Duration::from_secs(7);

/// How much of its lease may be over when a holder begins to call; a process may be paused.
const LATEST_CALL: Duration = LEASE.saturating_sub(DEADLINE);

/// How long an answer is kept for others. As long as Supabase forgives a used token.
const ANSWER_LIFETIME: Duration = Duration::from_secs(10);

/// How long it is remembered that a call had no outcome: as long as a client of Supabase keeps trying by itself.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(30);

/// How long anybody waits for an answer. Longer than a lease, so that what a replica that died left behind can be picked up.
const MAX_WAIT: Duration = Duration::from_secs(8);

/// Between two looks at another replica's lease.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Before a call is made again that met another one of the same session.
const CONFLICT_PAUSE: Duration = Duration::from_millis(100);

/// What the identity server finally said to a refresh token.
#[derive(Debug)]
pub enum RefreshOutcome {
    /// New tokens.
    Granted(Grant),
    /// The token is not good any more, and neither is its session.
    Refused(AuthError),
}

/// Refreshes, for the whole process.
#[derive(Clone)]
pub struct Refresh(Arc<Shared>);

struct Shared {
    server: IdentityServer,
    store: Arc<dyn Store>,
    flights: DashMap<Digest, watch::Receiver<Option<FlightOutcome>>>,
    backoff: Backoff,
}

type FlightOutcome = Result<Arc<RefreshOutcome>, Reason>;

/// An answer as it is kept: who reads it must have the old token.
type Sealed = Vec<u8>;

impl Refresh {
    /// Refreshes at this server; replicas that share this store share answers.
    pub fn new(server: IdentityServer, store: Arc<dyn Store>) -> Self {
        Self(Arc::new(Shared {
            server,
            store,
            flights: DashMap::new(),
            backoff: Backoff::new(),
        }))
    }

    /// New tokens for a refresh token, or the final word that it is not good; asked by a client at `client`.
    ///
    /// # Errors
    ///
    /// 503: it is not known, and the session may well live.
    pub async fn refresh(
        &self,
        token: &Secret,
        client: IpAddr,
    ) -> Result<Arc<RefreshOutcome>, Denial> {
        let mut flight = self.0.clone().join(token, client);
        let outcome = timeout(MAX_WAIT, flight.wait_for(Option::is_some)).await;
        match outcome {
            Ok(Ok(outcome)) => match &*outcome {
                Some(Ok(refreshed)) => Ok(refreshed.clone()),
                Some(Err(reason)) => Err(reason.because("the refresh has no outcome")),
                None => Err(Reason::Internal.into()),
            },
            Ok(Err(_)) => Err(Reason::Internal.because("a refresh broke off")),
            Err(_) => Err(Reason::IdentityUnavailable.because("the refresh takes too long")),
        }
    }
}

impl Shared {
    /// The flight of this token, which is begun if there is none.
    fn join(
        self: Arc<Self>,
        token: &Secret,
        client: IpAddr,
    ) -> watch::Receiver<Option<FlightOutcome>> {
        let name = digest::of(token.expose());
        match self.clone().flights.entry(name) {
            Entry::Occupied(flight) => flight.get().clone(),
            Entry::Vacant(entry) => {
                let (outcome, receiver) = watch::channel(None);
                entry.insert(receiver.clone());
                let token = token.clone();
                let runtime = self.server.runtime().clone();
                runtime.spawn(self.run_flight(name, token, client, outcome));
                receiver
            }
        }
    }

    async fn run_flight(
        self: Arc<Self>,
        name: Digest,
        token: Secret,
        client: IpAddr,
        outcome: watch::Sender<Option<FlightOutcome>>,
    ) {
        // Also if what follows panics: else nobody could ever refresh with this token again.
        let guard = FlightGuard(&self, name);
        let ended = Driver::new(&self, &name, &token, client).run().await;
        let is_final = ended.is_ok();
        if !is_final {
            // Before anybody hears of it, so that who asks again begins anew.
            drop(guard);
            outcome.send_replace(Some(ended));
            return;
        }
        outcome.send_replace(Some(ended));
        sleep(ANSWER_LIFETIME).await;
        drop(guard);
    }
}

/// Takes the flight out of the map at its end.
struct FlightGuard<'a>(&'a Shared, Digest);

impl Drop for FlightGuard<'_> {
    fn drop(&mut self) {
        self.0.flights.remove(&self.1);
    }
}

/// Drives one flight.
struct Driver<'a> {
    shared: &'a Shared,
    name: &'a Digest,
    token: &'a Secret,
    client: IpAddr,
    seal: Option<Seal>,
    /// The version that was found last, and since when.
    seen: Option<(Version, Instant)>,
    /// When the lease was asked for.
    leased: Instant,
    /// Why there is no answer.
    failure: Reason,
}

impl<'a> Driver<'a> {
    fn new(shared: &'a Shared, name: &'a Digest, token: &'a Secret, client: IpAddr) -> Self {
        Self {
            shared,
            name,
            token,
            client,
            seal: Seal::of(token),
            seen: None,
            leased: clock::now(),
            failure: Reason::IdentityUnavailable,
        }
    }

    async fn run(mut self) -> FlightOutcome {
        let (mut flight, mut command) = Flight::<Version, Sealed>::begin();
        loop {
            let event = match command {
                Command::Read => self.read().await,
                Command::Wait => {
                    sleep(POLL_INTERVAL).await;
                    let is_over = self.seen.as_ref().is_some_and(|(_, since)| {
                        clock::now().saturating_duration_since(*since) >= LEASE
                    });
                    match is_over {
                        true => Event::LeaseOver,
                        false => self.read().await,
                    }
                }
                Command::Write(version, record) => self.write(&version, &record).await,
                Command::Call => Event::Called(self.call_unless_backing_off().await),
                Command::Finish(sealed) => {
                    return self.open(&sealed).map(Arc::new).ok_or(Reason::Internal);
                }
                Command::Fail => return Err(self.failure),
            };
            command = flight.handle(event);
        }
    }

    async fn read(&mut self) -> Event<Version, Sealed> {
        match self.shared.store.read(Kind::Refresh, self.name).await {
            Err(_) => {
                // Whoever acts alone has no lease that could be over.
                self.leased = clock::now();
                Event::Unreachable
            }
            Ok((record, version)) => {
                let is_new = self.seen.as_ref().is_none_or(|(seen, _)| *seen != version);
                if is_new {
                    self.seen = Some((version.clone(), clock::now()));
                }
                // What cannot be read was written by a version of this program that knows more; whoever wrote it will not answer us.
                Event::Found(record.as_deref().and_then(decode), version)
            }
        }
    }

    async fn write(
        &mut self,
        version: &Version,
        record: &Record<Sealed>,
    ) -> Event<Version, Sealed> {
        let lifetime = match record {
            Record::Leased { .. } => {
                self.leased = clock::now();
                UNKNOWN_LIFETIME
            }
            Record::Open { .. } => UNKNOWN_LIFETIME,
            Record::Answered(_) => ANSWER_LIFETIME,
        };
        let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        let expires = clock::unix_millis().saturating_add(lifetime);
        let bytes = encode(record);
        let swap = self
            .shared
            .store
            .swap(Kind::Refresh, self.name, version, &bytes, expires);
        match swap.await {
            Ok(Swap::Done(version)) => Event::Written(version),
            Ok(Swap::Conflict) => Event::Lost,
            Err(_) => Event::Unreachable,
        }
    }

    /// Calls, unless that was in vain a moment ago.
    async fn call_unless_backing_off(&mut self) -> Called<Sealed> {
        let backoff = &self.shared.backoff;
        if !backoff.permits(self.name, clock::now()) {
            return Called::Undone;
        }
        let called = self.call().await;
        match called {
            Called::Unknown => backoff.record_unanswered(self.name, clock::now()),
            Called::Answered(_) => backoff.clear(self.name),
            Called::Undone => {}
        }
        called
    }

    /// Calls until the server does not say that another call of this session is in its way, or the time is up.
    async fn call(&mut self) -> Called<Sealed> {
        let started = clock::now();
        if started.saturating_duration_since(self.leased) >= LATEST_CALL {
            return Called::Undone;
        }
        let deadline = started + DEADLINE;
        loop {
            match self
                .shared
                .server
                .call_until(self.request(), deadline)
                .await
            {
                Ok(reply) if reply.status == StatusCode::CONFLICT => {
                    if clock::now() + CONFLICT_PAUSE >= deadline {
                        return Called::Undone;
                    }
                    sleep(CONFLICT_PAUSE).await;
                }
                Ok(reply) => return self.classify(&reply),
                Err(error) => {
                    if error == CallError::Busy {
                        self.failure = Reason::SignInBusy;
                    }
                    return match error.may_be_done() {
                        true => Called::Unknown,
                        false => Called::Undone,
                    };
                }
            }
        }
    }

    fn request(&self) -> Call {
        let token = String::from_utf8_lossy(self.token.expose());
        Call::new(
            Operation::Refresh,
            Method::POST,
            "/token?grant_type=refresh_token",
            self.client,
        )
        .with_body(json!({ "refresh_token": token }).to_string())
    }

    /// What an answer means. Only tokens and a refusal by the identity server itself are final: a client ends its session at the latter.
    fn classify(&self, reply: &Reply) -> Called<Sealed> {
        match reply.status {
            StatusCode::OK if Grant::read(&reply.body).is_some() => self.sealed(reply),
            // What it did cannot be known, nor can its tokens.
            StatusCode::OK => Called::Unknown,
            // GoTrue itself failed, and took back what it had begun; what says so without its words may stand between us and it.
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE
                if !AuthError::read(reply).code.is_empty() =>
            {
                Called::Undone
            }
            StatusCode::TOO_MANY_REQUESTS => Called::Undone,
            // Only what is said about this token. A hook that timed out says nothing about it.
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY
                if is_about_the_token(&AuthError::read(reply)) =>
            {
                self.sealed(reply)
            }
            // A gateway between us and it, which lost the answer.
            status if status.is_server_error() => Called::Unknown,
            // Not about the token: a wrong key of ours, or a place that is not there.
            _ => Called::Undone,
        }
    }

    fn sealed(&self, reply: &Reply) -> Called<Sealed> {
        // Without randomness nothing can be kept, and what the server did stands.
        let sealed = self.seal.as_ref().and_then(|seal| seal.close(reply));
        sealed.map_or(Called::Unknown, Called::Answered)
    }

    fn open(&self, sealed: &[u8]) -> Option<RefreshOutcome> {
        let reply = self.seal.as_ref()?.open(sealed)?;
        match reply.status {
            StatusCode::OK => Grant::read(&reply.body).map(RefreshOutcome::Granted),
            _ => Some(RefreshOutcome::Refused(AuthError::read(&reply))),
        }
    }
}

/// A record as it is stored.
fn encode(record: &Record<Sealed>) -> Vec<u8> {
    match record {
        Record::Leased { calls } => {
            // Two leases of one token are never the same text, so that one that follows another is seen as a change.
            let mut bytes = vec![b'L', *calls];
            bytes.extend_from_slice(uuid::Uuid::now_v7().as_bytes());
            bytes
        }
        Record::Open { calls } => vec![b'O', *calls],
        Record::Answered(sealed) => [b"A", sealed.as_slice()].concat(),
    }
}

fn decode(bytes: &[u8]) -> Option<Record<Sealed>> {
    match bytes {
        [b'L', calls, ..] => Some(Record::Leased { calls: *calls }),
        [b'O', calls] => Some(Record::Open { calls: *calls }),
        [b'A', sealed @ ..] => Some(Record::Answered(sealed.to_vec())),
        _ => None,
    }
}

impl std::fmt::Debug for Refresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refresh")
            .field("flights", &self.0.flights.len())
            .finish_non_exhaustive()
    }
}

/// Whether a refusal is about the refresh token or what it is for, so that asking again with it would change nothing.
fn is_about_the_token(error: &AuthError) -> bool {
    refusal(Asked::Refresh, error).reason == Reason::RefreshTokenInvalid
}
