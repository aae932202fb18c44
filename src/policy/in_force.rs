//! The policy in force: an immutable value that a request takes once and keeps to its end.
//! `auth::snapshot` builds the layers from it.

use std::collections::HashSet;

use crate::policy::Config;
use crate::policy::route::{CredentialSource, Route};
use crate::policy::router::{RouteTable, Selected};
use crate::policy::upstream::Upstream;

/// A checked configuration with its number, its digest and its routers.
#[derive(Debug)]
pub struct InForce {
    generation: u64,
    digest: [u8; 32],
    config: Config,
    hosts: HashSet<String>,
    routes: RouteTable,
    query_credentials: Vec<String>,
}

impl InForce {
    /// Builds the routers of a configuration.
    ///
    /// # Errors
    ///
    /// Two paths conflict in the router; `check` would have found them.
    pub fn new(config: Config, digest: [u8; 32], generation: u64) -> anyhow::Result<Self> {
        let routes =
            RouteTable::new(&config).map_err(|problem| anyhow::anyhow!("routes: {problem}"))?;
        let mut query_credentials: Vec<String> = config
            .routes
            .iter()
            .flat_map(|route| &route.credentials)
            .filter_map(|source| match source {
                CredentialSource::Query(name) => Some(name.clone()),
                CredentialSource::Bearer | CredentialSource::Cookie => None,
            })
            .collect();
        query_credentials.sort_unstable();
        query_credentials.dedup();
        Ok(Self {
            generation,
            digest,
            hosts: config.hosts.iter().cloned().collect(),
            routes,
            query_credentials,
            config,
        })
    }

    /// The number of this configuration since the process started; the first is 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The SHA-256 of every file and variable that the configuration was read from.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The checked configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether this host, in lower case and without port, is served.
    pub fn serves_host(&self, name: &str) -> bool {
        self.hosts.is_empty() || self.hosts.contains(name)
    }

    /// The routers of all hosts.
    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// The route of a selection by this policy's routers.
    pub fn route(&self, selected: Selected) -> Option<&Route> {
        self.config.routes.get(selected.route)
    }

    /// Query keys that some route reads as a credential, sorted, without duplicates.
    pub fn query_credentials(&self) -> &[String] {
        &self.query_credentials
    }

    /// An upstream by its index in the configuration.
    pub fn upstream(&self, index: usize) -> Option<&Upstream> {
        self.config.upstreams.get(index)
    }

    /// How many layers are waived at `now`, in Unix seconds, counted over all routes.
    pub fn waived_layers(&self, now: i64) -> usize {
        self.config
            .routes
            .iter()
            .flat_map(|route| &route.waived)
            .filter(|waiver| waiver.until > now)
            .count()
    }
}
