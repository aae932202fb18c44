//! Refreshing a session: one call per refresh token, for any number of clients on any number of
//! replicas. `refresh_protocol` is the protocol of a flight, `refresh_driver` runs it. Any holder
//! of the token may refresh.
//!
//! All requests in one process share one flight. It runs in a task of the background runtime, so a
//! client that disconnects aborts nothing. An answer is kept for [`ANSWER_LIFETIME`], for clients
//! that ask twice, sealed under a key derived from the old token: only its holder can read the new
//! tokens. The store lets one of several writers win. While the store is unreachable, there is one
//! flight per process, each as soon as [`Backoff`] permits.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::call::Reply;
use super::client::IdentityServer;
use super::grant::{AuthError, Grant};
use super::refresh_driver::Driver;
use super::refused_session::ended_session;
use crate::denial::{Denial, Reason};
use crate::revocation::Revocations;
use crate::secrets::digest::{self, Digest};
use crate::secrets::secret::Secret;
use crate::sessions::record::ClientInfo;
use crate::store::Store;

/// How long an answer is kept for others: as long as Supabase forgives a used token.
pub(super) const ANSWER_LIFETIME: Duration = Duration::from_secs(10);

/// How long a client waits for an answer. Longer than a lease, so that the flight of a replica that
/// died can be taken over.
const MAX_WAIT: Duration = Duration::from_secs(8);

/// How long a refusal waits for the end of its session. A choice.
const REVOKING: Duration = Duration::from_millis(500);

/// The identity server's final answer about a refresh token.
#[derive(Debug)]
pub enum RefreshOutcome {
    /// New tokens.
    Granted(Grant),
    /// The token is no longer valid, and neither is its session.
    Refused(AuthError),
}

/// Who holds a refresh token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Holder {
    /// A client.
    Client,
    /// The gateway, for a session in a cookie. `sessions` finds out whether it goes on: another
    /// replica may have newer tokens.
    Gateway,
}

/// The refreshes of this process.
#[derive(Clone)]
pub struct Refresh(Arc<Shared>);

pub(super) struct Shared {
    pub(super) server: IdentityServer,
    pub(super) store: Arc<dyn Store>,
    revocations: Arc<Revocations>,
    /// How long the end of a session is remembered, in seconds: as long as its tokens live.
    remembers: i64,
    flights: DashMap<Digest, watch::Receiver<Option<FlightOutcome>>>,
    pub(super) backoff: Backoff,
}

/// How a flight ended: the answer, or the reason to refuse a request without one.
pub(super) type FlightOutcome = Result<Arc<RefreshOutcome>, Reason>;

impl Refresh {
    /// Refreshes at this server. Replicas that share the store share answers. A session that has
    /// ended is revoked for `remembers` seconds, for as long as an access token may live.
    pub fn new(
        server: IdentityServer,
        store: Arc<dyn Store>,
        revocations: Arc<Revocations>,
        remembers: i64,
    ) -> Self {
        Self(Arc::new(Shared {
            server,
            store,
            revocations,
            remembers,
            flights: DashMap::new(),
            backoff: Backoff::new(),
        }))
    }

    /// New tokens for a refresh token, or the final answer that it is invalid. `client` asks; the
    /// identity server records it for the session.
    ///
    /// # Errors
    ///
    /// 503: the outcome is unknown, and the session may well be alive.
    pub async fn refresh(
        &self,
        token: &Secret,
        client: ClientInfo,
    ) -> Result<Arc<RefreshOutcome>, Denial> {
        self.refresh_for(Holder::Client, token, client).await
    }

    /// The same for a token of this holder.
    pub(super) async fn refresh_for(
        &self,
        holder: Holder,
        token: &Secret,
        client: ClientInfo,
    ) -> Result<Arc<RefreshOutcome>, Denial> {
        let mut flight = self.0.clone().join(holder, token, client);
        let outcome = timeout(MAX_WAIT, flight.wait_for(Option::is_some)).await;
        match outcome {
            Ok(Ok(outcome)) => match &*outcome {
                Some(Ok(refreshed)) => Ok(refreshed.clone()),
                Some(Err(reason)) => Err(reason.because("the outcome of the refresh is unknown")),
                None => Err(Reason::Internal.into()),
            },
            Ok(Err(_)) => Err(Reason::Internal.because("the refresh task ended early")),
            Err(_) => Err(Reason::IdentityUnavailable.because("the refresh timed out")),
        }
    }
}

impl Shared {
    /// Ends here the session that has ended, as the reply to this refresh token says.
    pub(super) async fn end_refused(&self, reply: &Reply, token: &Secret) {
        let issuer = &self.server.config().issuer;
        if let Some(ended) = ended_session(reply, token, issuer, self.remembers) {
            let revocations = self.revocations.clone();
            let revoking = async move { revocations.revoke(ended).await };
            // A store that does not answer must not hold up the refusal.
            drop(timeout(REVOKING, self.server.runtime().spawn(revoking)).await);
        }
    }

    /// Joins the flight of this token, or starts it.
    fn join(
        self: Arc<Self>,
        holder: Holder,
        token: &Secret,
        client: ClientInfo,
    ) -> watch::Receiver<Option<FlightOutcome>> {
        let name = digest::of(token.expose());
        match self.clone().flights.entry(name) {
            Entry::Occupied(flight) => flight.get().clone(),
            Entry::Vacant(entry) => {
                let (outcome, receiver) = watch::channel(None);
                entry.insert(receiver.clone());
                let token = token.clone();
                let runtime = self.server.runtime().clone();
                runtime.spawn(self.run_flight(name, holder, token, client, outcome));
                receiver
            }
        }
    }

    async fn run_flight(
        self: Arc<Self>,
        name: Digest,
        holder: Holder,
        token: Secret,
        client: ClientInfo,
        outcome: watch::Sender<Option<FlightOutcome>>,
    ) {
        // Also if the rest panics: the token could never be refreshed again otherwise.
        let guard = FlightGuard(&self, name);
        let ended = Driver::new(&self, &name, holder, &token, &client)
            .run()
            .await;
        let is_final = ended.is_ok();
        if !is_final {
            // Before the outcome is published, so that the next request starts a new flight.
            drop(guard);
            outcome.send_replace(Some(ended));
            return;
        }
        outcome.send_replace(Some(ended));
        sleep(ANSWER_LIFETIME).await;
        drop(guard);
    }
}

/// Removes the flight from the map when it ends.
struct FlightGuard<'a>(&'a Shared, Digest);

impl Drop for FlightGuard<'_> {
    fn drop(&mut self) {
        self.0.flights.remove(&self.1);
    }
}

impl std::fmt::Debug for Refresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refresh")
            .field("flights", &self.0.flights.len())
            .finish_non_exhaustive()
    }
}
