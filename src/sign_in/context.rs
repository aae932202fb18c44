//! The handles that sign-in routes and the pass-through need.

use std::sync::Arc;

use super::background::BackgroundCalls;
use super::client::IdentityServer;
use super::profile::Profiles;
use super::refresh::Refresh;
use super::settings::SettingsCache;
use super::throttle::Throttle;
use crate::database::Database;
use crate::facts::FactCache;
use crate::request::memory::BodyMemory;
use crate::revocation::Revocations;
use crate::sessions::Sessions;
use crate::store::Store;

/// Handles for signing in and out; one for the whole process.
#[derive(Debug)]
pub struct Context {
    /// `None` if no identity server is configured.
    pub identity: Option<IdentityServer>,
    /// `None` if no identity server is configured.
    pub refresh: Option<Refresh>,
    /// Limits how often a client may attempt to sign in.
    pub throttle: Arc<Throttle>,
    /// Calls to the identity server that no answer waits for.
    pub background: BackgroundCalls,
    /// The sessions behind cookies.
    pub sessions: Arc<Sessions>,
    /// The list of revocations.
    pub revocations: Arc<Revocations>,
    /// The store that replicas share.
    pub store: Arc<dyn Store>,
    /// The operator's database, for profile rows.
    pub database: Option<Database>,
    /// The cached facts, among them whether a user has a row.
    pub facts: Arc<FactCache>,
    /// What this process knows of users' rows.
    pub profiles: Profiles,
    /// What the identity server says of itself.
    pub settings: SettingsCache,
    /// The memory of the bodies that are read here.
    pub body_memory: Arc<BodyMemory>,
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

    pub(crate) fn facts(&self) -> &Arc<FactCache> {
        &self.facts
    }

    pub(crate) fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    pub(crate) fn settings(&self) -> &SettingsCache {
        &self.settings
    }

    pub(crate) fn body_memory(&self) -> &Arc<BodyMemory> {
        &self.body_memory
    }

    pub(crate) fn database(&self) -> Option<&Database> {
        self.database.as_ref()
    }
}
