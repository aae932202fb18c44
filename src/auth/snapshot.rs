//! The configuration in force: one immutable value, taken once per request.
//!
//! Decides: nothing; it holds what was built from a checked configuration. Trusts: `config::check`. Not here: when it is replaced
//! (`reload`).

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};

use crate::auth::Chain;
use crate::auth::role_table::RoleTable;
use crate::facts::{Facts, Shelf};
use crate::gateway::metrics::{Metrics, RouteMetrics};
use crate::listen::tls;
use crate::policy::Config;
use crate::policy::layers::{LayerName, WaivedMode};
use crate::policy::route::{CredentialSource, Route};
use crate::policy::router::{RouteTable, Selected};
use crate::policy::upstream::Upstream;
use crate::request::cors::Cors;
use crate::revocation::Revocations;
use crate::sessions::Sessions;
use crate::tokens::{KeySources, Tokens, VerifiedCache};

/// A configuration, ready to judge by.
#[derive(Debug)]
pub struct Snapshot {
    generation: u64,
    digest: [u8; 32],
    config: Config,
    hosts: HashSet<String>,
    routes: RouteTable,
    chain: Chain,
    tokens: Arc<Tokens>,
    cors: Option<Cors>,
    query_credentials: Vec<String>,
    route_metrics: Vec<RouteMetrics>,
    /// One entry per listener; `None` where it does not speak TLS.
    tls: Vec<Option<Arc<rustls::ServerConfig>>>,
}

impl Snapshot {
    /// Builds a snapshot. Nothing in it depends on the one before, except that caches and fetched keys are shared.
    ///
    /// # Errors
    ///
    /// What only building can find: keys without a usable one, paths the router cannot hold, TLS that rustls refuses.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is one thing that configurations share; a struct of them would be `Process`"
    )]
    pub fn build(
        config: Config,
        digest: [u8; 32],
        generation: u64,
        metrics: &Metrics,
        cache: &Arc<VerifiedCache>,
        keys: &KeySources,
        revocations: &Arc<Revocations>,
        sessions: &Arc<Sessions>,
        shelf: &Arc<Shelf>,
    ) -> anyhow::Result<Self> {
        let tokens = Arc::new(
            Tokens::new(&config.tokens, cache.clone(), keys)
                .map_err(|problem| anyhow!("tokens: {problem}"))?,
        );
        let routes = RouteTable::new(&config).map_err(|problem| anyhow!("routes: {problem}"))?;
        let tls = config
            .listen
            .iter()
            .map(|listen| {
                tls::server_config(&listen.kind)
                    .with_context(|| format!("listen {}", listen.address))
            })
            .collect::<anyhow::Result<_>>()?;
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
            chain: Chain::new(
                tokens.clone(),
                RoleTable::new(&config.roles),
                revocations.clone(),
                sessions.clone(),
                Arc::new(Facts::new(&config, shelf.clone())),
            ),
            tokens,
            cors: config.cors.as_ref().map(Cors::new),
            query_credentials,
            route_metrics: metrics.routes(&config),
            tls,
            config,
        })
    }

    /// The number of this configuration; the first is 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The digest of everything the configuration was read from.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The checked configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the host is served.
    pub fn serves_host(&self, name: &str) -> bool {
        self.hosts.is_empty() || self.hosts.contains(name)
    }

    /// The routers.
    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// A selected route.
    pub fn route(&self, selected: Selected) -> Option<&Route> {
        self.config.routes.get(selected.route)
    }

    /// The layers.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The issuers.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The cross-origin rules.
    pub fn cors(&self) -> Option<&Cors> {
        self.cors.as_ref()
    }

    /// Query keys that some route reads as a credential.
    pub fn query_credentials(&self) -> &[String] {
        &self.query_credentials
    }

    /// Metric handles of a route.
    pub fn route_metrics(&self, route: usize) -> Option<&RouteMetrics> {
        self.route_metrics.get(route)
    }

    /// TLS of a listener.
    pub fn tls(&self, listener: usize) -> Option<&Arc<rustls::ServerConfig>> {
        self.tls.get(listener)?.as_ref()
    }

    /// An upstream.
    pub fn upstream(&self, index: usize) -> Option<&Upstream> {
        self.config.upstreams.get(index)
    }

    /// How many layers are waived now, over all routes.
    pub fn waived_layers(&self, now: i64) -> usize {
        self.config
            .routes
            .iter()
            .flat_map(|route| &route.waived)
            .filter(|waiver| waiver.until > now)
            .count()
    }
}

impl Route {
    /// Whether a request here may name things that somebody owns.
    pub fn names_things(&self) -> bool {
        !self.resources.is_empty() || !self.body_ids.is_empty()
    }

    /// Whether a query key is a credential here.
    pub fn reads_query(&self, name: &str) -> bool {
        self.credentials
            .iter()
            .any(|source| matches!(source, CredentialSource::Query(key) if key == name))
    }

    /// How a layer is waived here at this time, if it is.
    pub fn waived(&self, layer: LayerName, now: i64) -> Option<WaivedMode> {
        self.waived
            .iter()
            .find(|waiver| waiver.layer == layer && waiver.until > now)
            .map(|waiver| waiver.mode)
    }
}
