//! A running gateway: assembles the process from a checked configuration, and drains it at the end.
//!
//! Decides:  in which order things start and end.
//! Trusts:   the configuration, which was checked.
//! Not here: what they do.

mod descriptors;
pub(crate) mod queries;
pub mod reload;
mod restart;
mod time;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::descriptors::Division;
use crate::admin;
use crate::auth::snapshot::Shared;
use crate::clock;
use crate::config::Loaded;
use crate::database::{Database, Listener};
use crate::facts::schema::{self, QueryStatus};
use crate::facts::trigger_coverage::WatchedQuery;
use crate::facts::{FactCache, WriterKey, notify};
use crate::gateway::metrics::Metrics;
use crate::gateway::process::Process;
use crate::http_client::HttpClients;
use crate::listen::{ListeningSocket, Workers};
use crate::log::Log;
use crate::policy::Config;
use crate::policy::listen::ListenKind;
use crate::policy::storage::StoreChoice;
use crate::request::memory::BodyMemory;
use crate::revocation::Revocations;
use crate::sessions::Sessions;
use crate::sessions::renew::Renewer;
use crate::sign_in::throttle::Throttle;
use crate::sign_in::{self, BackgroundCalls, IdentityServer, Profiles, Refresh, SettingsCache};
use crate::store::{self, Store, StoreMetrics};
use crate::tokens::{FetchContext, KeySources, VerifiedCache};

/// A running gateway.
#[derive(Debug)]
pub struct Server {
    process: Arc<Process>,
    workers: Workers,
    addresses: Addresses,
    terminate: Signal,
    interrupt: Signal,
}

/// Where the gateway can be reached.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// URLs of the listeners, in the order of the configuration.
    pub listeners: Vec<String>,
    /// URL of the admin listener.
    pub admin: String,
}

impl Server {
    /// Binds the listeners, and starts the workers and the background tasks. Must be called inside
    /// the background runtime.
    ///
    /// # Errors
    ///
    /// An address cannot be bound, or the configuration cannot be built.
    pub async fn start(loaded: Loaded, log: Log) -> anyhow::Result<Self> {
        Self::start_with(loaded, log, store::open).await
    }

    /// Like [`Self::start`], with a store from `open` instead of the configuration's, such as one
    /// whose outages a test controls.
    ///
    /// # Errors
    ///
    /// The same.
    pub async fn start_with(
        mut loaded: Loaded,
        log: Log,
        open: impl FnOnce(&Config, &Arc<StoreMetrics>) -> anyhow::Result<Arc<dyn Store>>,
    ) -> anyhow::Result<Self> {
        // Before anything shows that the process runs: an early signal would meet the default
        // handler, which kills it on the spot.
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let division = Division::new(descriptors::raise_limit(), &loaded.config)?;
        division.fit(&mut loaded.config);
        let metrics = Arc::new(Metrics::new()?);
        let bound = bind(&loaded.config)?;
        let admin = admin::bind(loaded.config.admin.address)
            .await
            .with_context(|| format!("admin {}", loaded.config.admin.address))?;
        let addresses = Addresses {
            listeners: urls(&loaded.config, &bound)?,
            admin: format!("http://{}", admin.local_addr()?),
        };
        for warning in &loaded.warnings {
            tracing::warn!(%warning, "configuration");
        }
        let store = open(&loaded.config, &metrics.store)?;
        let calls = HttpClients::new()?;
        let (shared, sign_in) = assemble(&loaded.config, &metrics, store.clone(), &calls).await?;
        let is_checked = has_fitting_queries(&loaded, sign_in.database.as_ref()).await?;
        let name = loaded.name.clone();
        follow_facts(&loaded.config, &shared.facts)?;
        tokio::spawn(time::follow(
            store.clone(),
            shared.facts.clone(),
            shared.revocations.clone(),
        ));
        let key_sources = shared.key_sources.clone();
        let snapshot = reload::build(loaded.config, loaded.digest, 1, &shared)?;
        metrics.configured(1, snapshot.in_force().waived_layers(clock::unix_now()));
        reload::announce(&snapshot);
        let process = Arc::new(Process::new(
            snapshot,
            shared,
            sign_in,
            metrics,
            log,
            division.clients,
        ));
        tokio::spawn(key_sources.refresh_forever(FetchContext {
            calls,
            store,
            clock: clock::unix_now,
        }));
        tokio::spawn(admin::serve(admin, process.clone(), division.admin));
        if is_checked {
            process.found_queries(QueryStatus::Fit);
        } else {
            tokio::spawn(queries::check_later(name, Arc::downgrade(&process)));
        }
        let workers = Workers::start(&process, bound)?;
        Ok(Self {
            process,
            workers,
            addresses,
            terminate,
            interrupt,
        })
    }

    /// Where the gateway can be reached.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Reloads when a file changes, and on SIGHUP.
    ///
    /// # Errors
    ///
    /// The operating system does not deliver signals.
    pub fn follow(&self, path: PathBuf, inputs: Vec<PathBuf>) -> anyhow::Result<()> {
        tokio::spawn(reload::watch(self.process.clone(), path.clone(), inputs));
        let mut hangups = signal(SignalKind::hangup())?;
        let process = self.process.clone();
        tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                let (process, path) = (process.clone(), path.clone());
                let _ = tokio::task::spawn_blocking(move || reload::reload(&process, &path)).await;
            }
        });
        Ok(())
    }

    /// Logs that it listens, waits for SIGTERM or SIGINT, then drains.
    ///
    /// # Errors
    ///
    /// None today; the commands treat it like their other steps.
    pub async fn run(mut self) -> anyhow::Result<()> {
        tracing::info!(listeners = self.addresses.listeners.join(" "), admin = %self.addresses.admin, "listening");
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        let deadline = self.process.snapshot().config().drain;
        tracing::info!(deadline = ?deadline, "draining");
        self.workers.drain(&self.process, deadline).await;
        tracing::info!("stopped");
        self.process.log().flush();
        Ok(())
    }
}

/// Assembles what outlives a configuration, and starts following the list of revocations.
async fn assemble(
    config: &Config,
    metrics: &Metrics,
    store: Arc<dyn Store>,
    calls: &HttpClients,
) -> anyhow::Result<(Shared, sign_in::Context)> {
    let database = match &config.database {
        None => None,
        Some(config) => {
            tracing::info!(database = %config.server.shown(), "database");
            Some(Database::start(config, metrics.database.clone())?)
        }
    };
    let identity = config
        .identity
        .clone()
        .map(|config| IdentityServer::new(config, calls, metrics.identity.clone()));
    let capacity = config.revocations.capacity.get();
    let (revocations, mut follower) =
        Revocations::new(store.clone(), capacity, metrics.revocations.clone());
    follower.catch_up().await;
    tokio::spawn(follower.run());
    let remembers = config.revocations.remembers_tokens();
    let refresh = identity
        .clone()
        .map(|server| Refresh::new(server, store.clone(), revocations.clone(), remembers));
    let renewer = refresh
        .clone()
        .map(|refresh| -> Arc<dyn Renewer> { Arc::new(refresh) });
    let sessions = Sessions::new(
        config,
        store.clone(),
        revocations.clone(),
        renewer,
        metrics.sessions.clone(),
        clock::unix_millis,
    )?;
    let is_shared = matches!(config.store, StoreChoice::Redis(_));
    let facts = FactCache::new(
        store.clone(),
        is_shared,
        database.clone(),
        metrics.facts.clone(),
        WriterKey::new(&config.keys)?,
    );
    let body_memory = Arc::<BodyMemory>::default();
    let shared = Shared {
        token_cache: Arc::new(VerifiedCache::new(config.token_cache)),
        refused_tokens: Arc::default(),
        key_sources: Arc::new(KeySources::new(metrics.keys().clone())),
        revocations: revocations.clone(),
        sessions: sessions.clone(),
        facts: facts.clone(),
        body_memory: body_memory.clone(),
        requests: metrics.requests.clone(),
    };
    let throttle = Throttle::new(store.clone(), &config.keys, metrics.throttle.clone())?;
    let sign_in = sign_in::Context {
        identity,
        refresh,
        throttle,
        background: BackgroundCalls::new(metrics.background_calls.clone()),
        sessions,
        revocations,
        store,
        database,
        facts,
        profiles: Profiles::default(),
        settings: SettingsCache::default(),
        body_memory,
    };
    Ok((shared, sign_in))
}

/// Whether the queries fit the database; `false` if it cannot be asked yet.
///
/// # Errors
///
/// They do not fit.
async fn has_fitting_queries(loaded: &Loaded, database: Option<&Database>) -> anyhow::Result<bool> {
    let Some(database) = database else {
        return Ok(true);
    };
    match schema::check(&loaded.config, database).await {
        Ok(differences) => match queries::problems(&loaded.name, differences) {
            None => Ok(true),
            Some(problems) => Err(problems.into()),
        },
        Err(why) => {
            tracing::warn!(%why, "cannot check the queries yet: the database is unreachable");
            Ok(false)
        }
    }
}

/// Listens for change notifications of facts, if the configuration has a URL for them.
fn follow_facts(config: &Config, facts: &Arc<FactCache>) -> anyhow::Result<()> {
    facts.set_queries(WatchedQuery::all(config));
    let listener = config.database.as_ref().map(Listener::new);
    notify::follow(facts, listener.transpose()?.flatten());
    Ok(())
}

fn bind(config: &Config) -> anyhow::Result<Vec<ListeningSocket>> {
    let bind = |(index, address): (usize, SocketAddr)| {
        ListeningSocket::new(address, index).with_context(|| format!("listen {address}"))
    };
    config
        .listen
        .iter()
        .map(|listen| listen.address)
        .enumerate()
        .map(bind)
        .collect()
}

fn urls(config: &Config, bound: &[ListeningSocket]) -> anyhow::Result<Vec<String>> {
    let url = |(bound, kind): (&ListeningSocket, &ListenKind)| {
        let scheme = if matches!(kind, ListenKind::Tls(_)) {
            "https"
        } else {
            "http"
        };
        Ok(format!("{scheme}://{}", bound.address()?))
    };
    bound
        .iter()
        .zip(config.listen.iter().map(|listen| &listen.kind))
        .map(url)
        .collect()
}
