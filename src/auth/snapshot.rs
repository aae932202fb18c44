//! What authorizes by one policy: the chain, the token issuers, and the settings that listeners
//! need. `server::reload` replaces it.

use std::sync::Arc;

use anyhow::anyhow;
use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::auth::chain::Chain;
use crate::auth::role_table::RoleTable;
use crate::facts::{FactCache, Facts};
use crate::policy::Config;
use crate::policy::in_force::InForce;
use crate::record::metrics::{RequestMetrics, RouteMetrics};
use crate::request::cors::Cors;
use crate::request::memory::BodyMemory;
use crate::revocation::Revocations;
use crate::sessions::Sessions;
use crate::tokens::{KeySources, RefusedTokens, Tokens, VerifiedCache};

/// Everything that is built from one policy to authorize by it.
#[derive(Debug)]
pub struct Snapshot {
    in_force: Arc<InForce>,
    chain: Chain,
    tokens: Arc<Tokens>,
    cors: Option<Cors>,
    route_metrics: Vec<RouteMetrics>,
    tls: ListenerTls,
}

/// TLS of each listener, in the order of the configuration; `None` where a listener does not speak
/// it.
pub type ListenerTls = Vec<Option<Arc<rustls::ServerConfig>>>;

/// State that outlives a configuration: caches, fetched keys, the list of revocations and the
/// sessions.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Tokens whose signature was verified before.
    pub token_cache: Arc<VerifiedCache>,
    /// How many tokens of each address were refused.
    pub refused_tokens: Arc<RefusedTokens>,
    /// Keys that issuers publish.
    pub key_sources: Arc<KeySources>,
    /// The replicated list of revocations.
    pub revocations: Arc<Revocations>,
    /// The sessions behind cookies.
    pub sessions: Arc<Sessions>,
    /// The fact cache.
    pub facts: Arc<FactCache>,
    /// The memory of the bodies that rules inspect.
    pub body_memory: Arc<BodyMemory>,
    /// Request metrics, from which each configuration takes the handles of its routes.
    pub requests: Arc<RequestMetrics>,
}

impl Snapshot {
    /// Builds what authorizes by `in_force`. It depends on the previous snapshot only through
    /// `shared`.
    ///
    /// # Errors
    ///
    /// An issuer without a usable key.
    pub fn build(in_force: InForce, tls: ListenerTls, shared: &Shared) -> anyhow::Result<Self> {
        let config = in_force.config();
        let tokens = Tokens::new(
            &config.tokens,
            shared.token_cache.clone(),
            &shared.key_sources,
        );
        let tokens = tokens.map_err(|problem| anyhow!("tokens: {problem}"))?;
        let tokens = Arc::new(tokens.up_to(config.connections.max_token));
        Ok(Self {
            chain: Chain::new(
                tokens.clone(),
                shared.refused_tokens.clone(),
                RoleTable::new(&config.roles),
                shared.revocations.clone(),
                shared.sessions.clone(),
                Arc::new(Facts::new(config, shared.facts.clone())),
                shared.body_memory.clone(),
            ),
            tokens,
            cors: config.cors.as_ref().map(Cors::new),
            route_metrics: shared.requests.routes(config),
            tls,
            in_force: Arc::new(in_force),
        })
    }

    /// The policy that a request keeps to its end.
    pub fn in_force(&self) -> &Arc<InForce> {
        &self.in_force
    }

    /// The number of the configuration; the first is 1.
    pub fn generation(&self) -> u64 {
        self.in_force.generation()
    }

    /// The checked configuration.
    pub fn config(&self) -> &Config {
        self.in_force.config()
    }

    /// The layers of this policy.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The issuers whose tokens prove a caller.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// The cross-origin rules, if any origin is allowed.
    pub fn cors(&self) -> Option<&Cors> {
        self.cors.as_ref()
    }

    /// Metric handles of a route, by its index.
    pub fn route_metrics(&self, route: usize) -> Option<&RouteMetrics> {
        self.route_metrics.get(route)
    }

    /// TLS of a listener, by its index.
    pub fn tls(&self, listener: usize) -> Option<&Arc<rustls::ServerConfig>> {
        self.tls.get(listener)?.as_ref()
    }
}

/// The snapshot in force. Replacing it leaves running requests with theirs.
#[derive(Debug)]
pub struct CurrentSnapshot {
    snapshot: ArcSwap<Snapshot>,
    generation: watch::Sender<u64>,
}

impl CurrentSnapshot {
    /// Puts the first snapshot into force.
    pub fn new(snapshot: Snapshot) -> Self {
        Self {
            generation: watch::Sender::new(snapshot.generation()),
            snapshot: ArcSwap::from_pointee(snapshot),
        }
    }

    /// The snapshot in force. A request takes it once and keeps it.
    pub fn get(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts another snapshot into force and notifies the receivers of [`Self::generations`].
    pub fn replace(&self, snapshot: Snapshot) {
        let generation = snapshot.generation();
        self.snapshot.store(Arc::new(snapshot));
        self.generation.send_replace(generation);
    }

    /// Changes when another configuration comes into force. Open streams are then re-authorized.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}
