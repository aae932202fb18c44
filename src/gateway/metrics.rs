//! The metrics of the process in the Prometheus format. Each module registers its own metrics.

use std::sync::Arc;

use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, Registry, TextEncoder};

use crate::auth::LAYERS;
use crate::database::DatabaseMetrics;
use crate::facts::FactMetrics;
use crate::gateway::ended::EndCause;
use crate::live::StreamMetrics;
use crate::metrics::{Counters, labels, metrics};
use crate::policy::Config;
use crate::policy::tokens::KeySource;
use crate::record::metrics::RequestMetrics;
use crate::revocation::RevocationMetrics;
use crate::sessions::SessionMetrics;
use crate::sign_in::throttle::ThrottleMetrics;
use crate::sign_in::{BackgroundCallMetrics, IdentityMetrics};
use crate::store::StoreMetrics;
use crate::tokens::{KeyMetrics, VerifiedCache};
use crate::upstream::UpstreamMetrics;

metrics! {
    /// The metrics that belong to the process as a whole.
    struct Table {
        token_cache_entries: IntGauge = "token_cache_entries",
            "Verified tokens in memory.";
        token_cache_lookups: IntCounterVec = "token_cache_lookups_total"["result"],
            "Lookups of verified tokens, by result: hit or miss.";
        config_generation: IntGauge = "config_generation",
            "Number of the configuration in force; the first is 1.";
        config_reloads: Counters<Reload> = "config_reloads_total"["result"],
            "Reloads by result: applied, unchanged or refused.";
        clients_ended: Counters<EndCause> = "clients_ended_total"["cause"],
            "Connections ended in favour of others, by cause: address_share, network_share, handshake_rate, idle_shed, share_shed, unsent, admin_full or admin_slow.";
        accept_failures: IntCounter = "accept_failures_total",
            "Failures to accept a connection, such as for lack of file descriptors.";
        waived_layers: IntGauge = "waived_layers",
            "Layers in shadow or off, counted over all routes.";
        log_dropped: IntCounter = "log_dropped_total",
            "Log lines dropped because standard output was not read fast enough.";
    }
}

labels! {
    /// How a reload ended.
    pub(crate) enum Reload {
        /// The configuration changed and is in force.
        Applied = "applied",
        /// Nothing had changed.
        Unchanged = "unchanged",
        /// The configuration has problems; the last valid one stays in force.
        Refused = "refused",
    }
}

/// All metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `process_*` has no prefix, so it has a registry of its own.
    process: Registry,
    table: Table,
    keys: KeyMetrics,
    pub(crate) requests: Arc<RequestMetrics>,
    pub(crate) upstreams: Arc<UpstreamMetrics>,
    /// The list of revocations.
    pub revocations: Arc<RevocationMetrics>,
    /// Sessions in cookies.
    pub sessions: Arc<SessionMetrics>,
    pub(crate) streams: Arc<StreamMetrics>,
    /// The store.
    pub store: Arc<StoreMetrics>,
    /// The database.
    pub database: Arc<DatabaseMetrics>,
    /// Facts.
    pub facts: Arc<FactMetrics>,
    pub(crate) identity: Arc<IdentityMetrics>,
    pub(crate) throttle: Arc<ThrottleMetrics>,
    pub(crate) background_calls: Arc<BackgroundCallMetrics>,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    ///
    /// Two metrics have the same name, which a test would have found.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("foregate".to_owned()), None)?;
        let process = Registry::new();
        process.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self {
            table: Table::new(&registry)?,
            requests: Arc::new(RequestMetrics::new(&registry, LAYERS)?),
            upstreams: Arc::new(UpstreamMetrics::new(&registry)?),
            revocations: Arc::new(RevocationMetrics::new(&registry)?),
            sessions: Arc::new(SessionMetrics::new(&registry)?),
            streams: Arc::new(StreamMetrics::new(&registry)?),
            store: Arc::new(StoreMetrics::new(&registry)?),
            database: Arc::new(DatabaseMetrics::new(&registry)?),
            facts: Arc::new(FactMetrics::new(&registry)?),
            identity: Arc::new(IdentityMetrics::new(&registry)?),
            throttle: Arc::new(ThrottleMetrics::new(&registry)?),
            background_calls: Arc::new(BackgroundCallMetrics::new(&registry)?),
            keys: KeyMetrics::new(&registry)?,
            registry,
            process,
        })
    }

    /// Where modules of higher floors register their own metrics.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Removes the series of routes, upstreams and issuers that the new configuration does not
    /// have. `upstream_retries_total` and `upstream_connections` stay: connections of a removed
    /// upstream are still in use.
    pub fn forget(&self, old: &Config, new: &Config) {
        self.requests.forget(old, new);
        let published = |config: &Config| -> Vec<String> {
            let entries = config.tokens.iter();
            entries
                .filter(|entry| matches!(entry.keys, KeySource::Published(_)))
                .map(|entry| entry.issuer.clone())
                .collect()
        };
        let kept = published(new);
        for issuer in published(old) {
            if !kept.contains(&issuer) {
                self.keys.forget(&issuer);
            }
        }
    }

    /// The metrics of published keys.
    pub fn keys(&self) -> &KeyMetrics {
        &self.keys
    }

    /// Notes which configuration is in force.
    pub fn configured(&self, generation: u64, waived_layers: usize) {
        self.table
            .config_generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.table
            .waived_layers
            .set(i64::try_from(waived_layers).unwrap_or(i64::MAX));
    }

    pub(crate) fn reloaded(&self, result: Reload) {
        self.table.config_reloads.inc(result);
    }

    /// Counts a connection that was ended in favour of others.
    pub(crate) fn ended(&self, cause: EndCause) {
        self.table.clients_ended.inc(cause);
    }

    pub(super) fn accept_failed(&self) {
        self.table.accept_failures.inc();
    }

    /// Log lines that were dropped because standard output was not read fast enough.
    pub(crate) fn log_dropped(&self) -> &IntCounter {
        &self.table.log_dropped
    }

    /// The text format, version 0.0.4.
    ///
    /// # Errors
    ///
    /// None in practice: it writes to memory.
    pub fn render(&self, cache: &VerifiedCache) -> prometheus::Result<Vec<u8>> {
        self.table
            .token_cache_entries
            .set(i64::try_from(cache.len()).unwrap_or(i64::MAX));
        for (result, total) in [("hit", cache.hits()), ("miss", cache.misses())] {
            let counter = self.table.token_cache_lookups.with_label_values(&[result]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        let mut text = Vec::with_capacity(64 * 1024);
        let encoder = TextEncoder::new();
        encoder.encode(&self.registry.gather(), &mut text)?;
        encoder.encode(&self.process.gather(), &mut text)?;
        Ok(text)
    }
}
