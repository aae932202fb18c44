//! What sign-in routes and the pass-through work with.

use std::sync::Arc;

use super::background::BackgroundCalls;
use super::client::IdentityServer;
use super::refresh::Refresh;
use super::throttle::Throttle;
use crate::database::Database;
use crate::revocation::Revocations;
use crate::sessions::Sessions;
use crate::store::Store;

/// Handles of everything that signing in and out needs; one for the whole process.
#[derive(Debug)]
pub struct Context {
    /// The identity server; `None` if nobody signs in through this gateway.
    pub identity: Option<IdentityServer>,
    /// Refreshes at the identity server, if there is one.
    pub refresh: Option<Refresh>,
    /// How often somebody may try.
    pub throttle: Arc<Throttle>,
    /// Calls to the identity server that no answer waits for.
    pub background: BackgroundCalls,
    /// Sessions in cookies.
    pub sessions: Arc<Sessions>,
    /// The list of revocations.
    pub revocations: Arc<Revocations>,
    /// What replicas share.
    pub store: Arc<dyn Store>,
    /// Where profile rows are made.
    pub database: Option<Database>,
}

impl Context {
    pub(crate) fn identity(&self) -> Option<&IdentityServer> {
        self.identity.as_ref()
    }

    pub(crate) fn refresh(&self) -> Option<&Refresh> {
        self.refresh.as_ref()
    }

    pub(crate) fn throttle(&self) -> &Arc<Throttle> {
        &self.throttle
    }

    pub(crate) fn background(&self) -> &BackgroundCalls {
        &self.background
    }

    pub(crate) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    pub(crate) fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(crate) fn database(&self) -> Option<&Database> {
        self.database.as_ref()
    }
}
