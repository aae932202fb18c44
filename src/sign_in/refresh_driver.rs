//! Drives one flight of the refresh protocol: reads and writes the shared record, calls the
//! identity server, and decides which of its replies are final.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::time::sleep;

use super::call::{Call, CallError, Reply};
use super::client::DEADLINE;
use super::endpoints::outcome::{Flow, refusal};
use super::grant::{AuthError, Grant};
use super::operation::Operation;
use super::refresh::{ANSWER_LIFETIME, FlightOutcome, RefreshOutcome, Shared};
use super::refresh_protocol::{CallOutcome, Command, Event, Flight, Record};
use super::sealed::Seal;
use crate::clock;
use crate::denial::Reason;
use crate::secrets::digest::Digest;
use crate::secrets::secret::Secret;
use crate::store::{Kind, Swap, Version};

/// When an unchanged lease expires. Longer than any call and what surrounds it.
const LEASE: Duration = Duration::from_secs(7);

/// How late in its lease a holder may still start its call, since a process may be paused.
const LATEST_CALL: Duration = LEASE.saturating_sub(DEADLINE);

/// How long an unknown outcome is remembered: as long as a client of Supabase retries by itself.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(30);

/// The interval between two reads of another replica's lease.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The pause before a call is repeated that conflicted with another of the same session.
const CONFLICT_PAUSE: Duration = Duration::from_millis(100);

/// A sealed answer, readable by the holder of the old token.
type Sealed = Vec<u8>;

/// Drives one flight.
pub(super) struct Driver<'a> {
    shared: &'a Shared,
    name: &'a Digest,
    token: &'a Secret,
    client: IpAddr,
    seal: Option<Seal>,
    /// The version that was read last, and since when it is unchanged.
    seen: Option<(Version, Instant)>,
    /// When the lease was requested.
    leased: Instant,
    /// Why there is no answer.
    failure: Reason,
}

impl<'a> Driver<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        name: &'a Digest,
        token: &'a Secret,
        client: IpAddr,
    ) -> Self {
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

    pub(super) async fn run(mut self) -> FlightOutcome {
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
                // A replica that acts alone has no lease that could expire.
                self.leased = clock::now();
                Event::Unreachable
            }
            Ok((record, version)) => {
                let is_new = self.seen.as_ref().is_none_or(|(seen, _)| *seen != version);
                if is_new {
                    self.seen = Some((version.clone(), clock::now()));
                }
                // An unreadable record was written by a newer version of this program, which will
                // not answer us.
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

    /// Calls the identity server, unless it failed to answer a moment ago.
    async fn call_unless_backing_off(&mut self) -> CallOutcome<Sealed> {
        let backoff = &self.shared.backoff;
        if !backoff.permits(self.name, clock::now()) {
            return CallOutcome::NotExecuted;
        }
        let called = self.call().await;
        match called {
            CallOutcome::Unknown => backoff.record_unanswered(self.name, clock::now()),
            CallOutcome::Answered(_) => backoff.clear(self.name),
            CallOutcome::NotExecuted => {}
        }
        called
    }

    /// Calls until the server reports no conflict with another call of this session, or the
    /// deadline passes.
    async fn call(&mut self) -> CallOutcome<Sealed> {
        let started = clock::now();
        if started.saturating_duration_since(self.leased) >= LATEST_CALL {
            return CallOutcome::NotExecuted;
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
                        return CallOutcome::NotExecuted;
                    }
                    sleep(CONFLICT_PAUSE).await;
                }
                Ok(reply) => return self.classify(&reply),
                Err(error) => {
                    if error == CallError::Busy {
                        self.failure = Reason::SignInBusy;
                    }
                    return match error.may_be_done() {
                        true => CallOutcome::Unknown,
                        false => CallOutcome::NotExecuted,
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

    /// Classifies a reply. Only tokens and a refusal by the identity server itself are final: a
    /// client ends its session at a refusal.
    fn classify(&self, reply: &Reply) -> CallOutcome<Sealed> {
        match reply.status {
            StatusCode::OK if Grant::read(&reply.body).is_some() => self.sealed(reply),
            // Neither what the server did nor its tokens can be known.
            StatusCode::OK => CallOutcome::Unknown,
            // GoTrue itself failed and rolled back. A failure without its error code may come from
            // a proxy in between.
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE
                if !AuthError::read(reply).code.is_empty() =>
            {
                CallOutcome::NotExecuted
            }
            StatusCode::TOO_MANY_REQUESTS => CallOutcome::NotExecuted,
            // Only a statement about this token. A hook that timed out makes none.
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY
                if is_about_the_token(&AuthError::read(reply)) =>
            {
                self.sealed(reply)
            }
            // A gateway in between lost the reply.
            status if status.is_server_error() => CallOutcome::Unknown,
            // Not about the token: our key is wrong, or the path does not exist.
            _ => CallOutcome::NotExecuted,
        }
    }

    fn sealed(&self, reply: &Reply) -> CallOutcome<Sealed> {
        // Without randomness nothing can be sealed, though the server has used the token up.
        let sealed = self.seal.as_ref().and_then(|seal| seal.close(reply));
        sealed.map_or(CallOutcome::Unknown, CallOutcome::Answered)
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
            // No two leases of a token have the same bytes, so that a new lease is seen as a
            // change.
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

/// Whether a refusal concerns the refresh token or its session, so that repeating the call would
/// change nothing.
fn is_about_the_token(error: &AuthError) -> bool {
    refusal(Flow::Refresh, error).reason == Reason::RefreshTokenInvalid
}
