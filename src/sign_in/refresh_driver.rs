//! Drives one flight of the refresh protocol: reads and writes the shared record, calls the
//! identity server, and decides which of its replies are final.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::time::sleep;

use super::call::{Call, CallError, Reply};
use super::client::DEADLINE;
use super::edge;
use super::endpoints::outcome::{Flow, refusal};
use super::grant::{AuthError, Grant};
use super::operation::Operation;
use super::refresh::{ANSWER_LIFETIME, FlightOutcome, Holder, RefreshOutcome, Shared};
use super::refresh_protocol::{CallOutcome, Command, Event, Flight, MOST_CALLS, Record};
use super::sealed::Seal;
use crate::clock;
use crate::denial::Reason;
use crate::secrets::digest::Digest;
use crate::secrets::secret::Secret;
use crate::sessions::record::ClientInfo;
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
    holder: Holder,
    token: &'a Secret,
    client: &'a ClientInfo,
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
        holder: Holder,
        token: &'a Secret,
        client: &'a ClientInfo,
    ) -> Self {
        Self {
            shared,
            name,
            holder,
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
                let returned = self.shared.server.returned().map(|returned| returned.unix);
                let read = |bytes: &[u8]| decode(bytes, returned);
                Event::Found(record.as_deref().and_then(read), version)
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
        let (backoff, server) = (&self.shared.backoff, &self.shared.server);
        let returned = || server.returned().map(|returned| returned.at);
        if !backoff.permits(self.name, clock::now(), returned()) {
            return CallOutcome::NotExecuted;
        }
        let called = self.call().await;
        match called {
            CallOutcome::Unknown => backoff.record_unanswered(self.name, clock::now(), returned()),
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
                Ok(reply) => {
                    if self.holder == Holder::Client {
                        self.shared.end_refused(&reply, self.token).await;
                    }
                    return self.classify(&reply);
                }
                Err(error) => {
                    if matches!(error, CallError::Busy | CallError::KeyRefused) {
                        self.failure = error.reason();
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
        let mut call = Call::new(
            Operation::Refresh,
            Method::POST,
            "/token?grant_type=refresh_token",
            self.client.address,
        )
        .with_body(json!({ "refresh_token": token }).to_string());
        let agent = self.client.user_agent.as_deref();
        if let Some(agent) = agent.and_then(|agent| HeaderValue::from_str(agent).ok()) {
            call.headers.insert(USER_AGENT, agent);
        }
        call
    }

    fn classify(&self, reply: &Reply) -> CallOutcome<Sealed> {
        match effect(reply) {
            Effect::Decided => self.sealed(reply),
            Effect::None => CallOutcome::NotExecuted,
            Effect::Unknown => CallOutcome::Unknown,
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

/// What a call did, by its reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Effect {
    /// The server gave new tokens, or refused the token for good.
    Decided,
    /// Nothing: the token can be sent again.
    None,
    /// Not known: the token may be used up.
    Unknown,
}

/// Classifies a reply. Only tokens and a refusal by the identity server itself are final: a client
/// ends its session at a refusal.
fn effect(reply: &Reply) -> Effect {
    let is_own = AuthError::is_own(reply);
    match reply.status {
        StatusCode::OK if Grant::read(&reply.body).is_some() => Effect::Decided,
        // Neither what the server did nor its tokens can be known.
        StatusCode::OK => Effect::Unknown,
        StatusCode::TOO_MANY_REQUESTS => Effect::None,
        // Only a statement about this token. A hook that timed out makes none.
        StatusCode::BAD_REQUEST
        | StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND
        | StatusCode::UNPROCESSABLE_ENTITY
            if is_own && is_about_the_token(&AuthError::read(reply)) =>
        {
            Effect::Decided
        }
        // GoTrue itself failed and rolled back.
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE if is_own => {
            Effect::None
        }
        _ if edge::has_no_server(reply) => Effect::None,
        // A proxy in between lost the reply, or the server's own deadline passed.
        status if status.is_server_error() => Effect::Unknown,
        // Not about the token: our key is wrong, or the path does not exist.
        _ => Effect::None,
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
        Record::Open { calls } => {
            let now = clock::unix_millis().to_be_bytes();
            [&[b'O', *calls][..], &now].concat()
        }
        Record::Answered(sealed) => [b"A", sealed.as_slice()].concat(),
    }
}

/// Reads a stored record. If the identity server was away since it was written, and is back since
/// `returned`, in Unix milliseconds, one more call may be made: the server forgives a used token
/// whose successor was never used, however late.
fn decode(bytes: &[u8], returned: Option<i64>) -> Option<Record<Sealed>> {
    match bytes {
        [b'L', calls, ..] => Some(Record::Leased { calls: *calls }),
        [b'O', calls, written @ ..] => {
            let written = written.try_into().ok().map(i64::from_be_bytes);
            let is_older = written
                .zip(returned)
                .is_some_and(|(then, back)| then < back);
            let calls = match is_older {
                true => (*calls).min(MOST_CALLS - 1),
                false => *calls,
            };
            Some(Record::Open { calls })
        }
        [b'A', sealed @ ..] => Some(Record::Answered(sealed.to_vec())),
        _ => None,
    }
}

/// Whether a refusal concerns the refresh token or its session, so that repeating the call would
/// change nothing. The operator's hook for tokens refuses with a status alone, which the server
/// reports with the code `unknown`.
fn is_about_the_token(error: &AuthError) -> bool {
    let reason = refusal(Flow::Refresh, error).reason;
    reason == Reason::RefreshTokenInvalid || error.code == "unknown"
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::HeaderMap;

    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    /// The codes that the identity server may send for a refresh, with their status.
    const CODES: [(u16, &str, Effect); 18] = [
        (400, "refresh_token_not_found", Effect::Decided),
        (400, "refresh_token_already_used", Effect::Decided),
        (400, "validation_failed", Effect::Decided),
        (400, "session_not_found", Effect::Decided),
        (400, "session_expired", Effect::Decided),
        (400, "user_banned", Effect::Decided),
        (404, "user_not_found", Effect::Decided),
        (403, "unknown", Effect::Decided),
        (400, "bad_json", Effect::None),
        (401, "no_authorization", Effect::None),
        (403, "bad_jwt", Effect::None),
        (409, "conflict", Effect::None),
        (422, "hook_timeout", Effect::None),
        (422, "hook_timeout_after_retry", Effect::None),
        (422, "hook_payload_over_size_limit", Effect::None),
        (429, "over_request_rate_limit", Effect::None),
        (500, "unexpected_failure", Effect::None),
        (504, "request_timeout", Effect::Unknown),
    ];

    #[test]
    fn every_code_of_a_refresh_has_its_effect_in_both_forms() {
        for (status, code, expected) in CODES {
            for body in [
                json!({ "code": code, "message": "Sentence" }),
                json!({ "code": status, "error_code": code, "msg": "Sentence" }),
            ] {
                let said = effect(&reply(status, &body.to_string()));
                assert_eq!(said, expected, "{status} {code}");
            }
        }
        for code in ["invalid_request", "invalid_grant", "invalid_client"] {
            let body = json!({ "error": code, "error_description": "Sentence" });
            assert_eq!(effect(&reply(400, &body.to_string())), Effect::Decided);
        }
        let new = json!({ "code": "something_new", "message": "Sentence" }).to_string();
        for status in [400, 401, 403, 404, 405, 422] {
            assert_eq!(effect(&reply(status, &new)), Effect::None, "{status}");
        }
        assert_eq!(effect(&reply(200, "{}")), Effect::Unknown);
    }

    #[test]
    fn an_edge_decides_nothing_and_says_of_some_failures_that_no_server_was_reached() {
        let kong = r#"{"message":"An invalid response was received from the upstream server"}"#;
        for (status, body, expected) in [
            (400, r#"{"message":"Invalid Refresh Token"}"#, Effect::None),
            (403, "<html>", Effect::None),
            (
                404,
                r#"{"message":"no Route matched with those values"}"#,
                Effect::None,
            ),
            (502, kong, Effect::Unknown),
            (502, "<html>", Effect::Unknown),
            (503, "<html>", Effect::Unknown),
            (504, "", Effect::Unknown),
            (503, r#"{"message":"name resolution failed"}"#, Effect::None),
            (503, "no healthy upstream", Effect::None),
            (521, "<html>", Effect::None),
        ] {
            assert_eq!(effect(&reply(status, body)), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_record_from_before_an_outage_permits_one_more_call() {
        let open = encode(&Record::Open { calls: MOST_CALLS });
        let calls = |bytes: &[u8], returned| match decode(bytes, returned) {
            Some(Record::Open { calls }) => calls,
            other => unreachable!("{other:?}"),
        };
        let now = clock::unix_millis();
        assert_eq!(calls(&open, None), MOST_CALLS);
        assert_eq!(calls(&open, Some(now - 60_000)), MOST_CALLS);
        assert_eq!(calls(&open, Some(now + 60_000)), MOST_CALLS - 1);
        let fresh = encode(&Record::Open { calls: 0 });
        assert_eq!(calls(&fresh, Some(now + 60_000)), 0);
        // As a replica of an earlier version writes it.
        assert_eq!(calls(&[b'O', 2], Some(now + 60_000)), 2);
    }
}
