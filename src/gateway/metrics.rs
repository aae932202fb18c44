//! The registry: everything Prometheus can see of this process. Each room registers its own metrics.

use std::sync::Arc;

use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::auth::LAYERS;
use crate::database::DatabaseMetrics;
use crate::facts::FactMetrics;
use crate::policy::Config;
use crate::policy::tokens::KeySource;
use crate::record::metrics::RequestMetrics;
use crate::revocation::RevocationMetrics;
use crate::sessions::SessionMetrics;
use crate::sign_in::throttle::ThrottleMetrics;
use crate::sign_in::{IdentityMetrics, LaterMetrics};
use crate::store::StoreMetrics;
use crate::streams::StreamMetrics;
use crate::tokens::{KeyMetrics, VerifiedCache};
use crate::upstream::UpstreamMetrics;

/// Everything this process counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `process_*` has no prefix, so it lives in a registry of its own.
    process: Registry,
    token_cache_entries: IntGauge,
    token_cache_lookups: IntCounterVec,
    config_generation: IntGauge,
    config_reloads: IntCounterVec,
    waived_layers: IntGauge,
    keys: KeyMetrics,
    /// Requests.
    pub requests: Arc<RequestMetrics>,
    /// Connections to upstreams.
    pub upstreams: UpstreamMetrics,
    /// The list of revocations.
    pub revocations: Arc<RevocationMetrics>,
    /// Sessions in cookies.
    pub sessions: Arc<SessionMetrics>,
    /// Live streams.
    pub streams: StreamMetrics,
    /// The store.
    pub store: Arc<StoreMetrics>,
    /// The database.
    pub database: Arc<DatabaseMetrics>,
    /// Facts.
    pub facts: Arc<FactMetrics>,
    /// The identity server.
    pub identity: Arc<IdentityMetrics>,
    /// The sign-in throttle.
    pub throttle: Arc<ThrottleMetrics>,
    /// Calls to the identity server that nobody waits for.
    pub later: LaterMetrics,
    /// Log lines that were dropped because the reader of standard output was too slow.
    pub log_dropped: IntCounter,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    ///
    /// Two metrics of the same name, which a test would have found.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("foregate".to_owned()), None)?;
        let process = Registry::new();
        process.register(Box::new(ProcessCollector::for_self()))?;
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            prometheus::Result::Ok(counters)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let config_reloads = counters(
            "config_reloads_total",
            "Reloads by result: applied, unchanged or refused.",
            &["result"],
        )?;
        // Counted from zero: a series that appears with its first event hides that event from `rate`.
        for result in ["applied", "unchanged", "refused"] {
            config_reloads.with_label_values(&[result]);
        }
        let log_dropped = IntCounter::new(
            "log_dropped_total",
            "Log lines dropped because standard output was not read fast enough.",
        )?;
        registry.register(Box::new(log_dropped.clone()))?;
        Ok(Self {
            token_cache_entries: gauge("token_cache_entries", "Verified tokens in memory.")?,
            token_cache_lookups: counters(
                "token_cache_lookups_total",
                "Lookups of verified tokens, by result: hit or miss.",
                &["result"],
            )?,
            config_generation: gauge(
                "config_generation",
                "Number of the configuration in force; the first is 1.",
            )?,
            config_reloads,
            waived_layers: gauge(
                "waived_layers",
                "Layers in shadow or off, counted over all routes.",
            )?,
            requests: Arc::new(RequestMetrics::new(&registry, LAYERS)?),
            upstreams: UpstreamMetrics::new(&registry)?,
            revocations: Arc::new(RevocationMetrics::new(&registry)?),
            sessions: Arc::new(SessionMetrics::new(&registry)?),
            streams: StreamMetrics::new(&registry)?,
            store: Arc::new(StoreMetrics::new(&registry)?),
            database: Arc::new(DatabaseMetrics::new(&registry)?),
            facts: Arc::new(FactMetrics::new(&registry)?),
            identity: Arc::new(IdentityMetrics::new(&registry)?),
            throttle: Arc::new(ThrottleMetrics::new(&registry)?),
            later: LaterMetrics::new(&registry)?,
            log_dropped,
            keys: KeyMetrics::new(&registry)?,
            registry,
            process,
        })
    }

    /// Where rooms above this one register their own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Removes the series of routes, upstreams and issuers that the new configuration does not have.
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

    /// What is counted about published keys.
    pub fn keys(&self) -> &KeyMetrics {
        &self.keys
    }

    /// Notes which configuration is in force.
    pub fn configured(&self, generation: u64, waived_layers: usize) {
        self.config_generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.waived_layers
            .set(i64::try_from(waived_layers).unwrap_or(i64::MAX));
    }

    /// Notes how a reload ended.
    pub fn reloaded(&self, result: &str) {
        self.config_reloads.with_label_values(&[result]).inc();
    }

    /// The text format, version 0.0.4.
    ///
    /// # Errors
    ///
    /// None in practice: writing to memory.
    pub fn render(&self, cache: &VerifiedCache) -> prometheus::Result<Vec<u8>> {
        self.token_cache_entries
            .set(i64::try_from(cache.len()).unwrap_or(i64::MAX));
        for (result, total) in [("hit", cache.hits()), ("miss", cache.misses())] {
            let counter = self.token_cache_lookups.with_label_values(&[result]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        let mut text = Vec::with_capacity(64 * 1024);
        let encoder = TextEncoder::new();
        encoder.encode(&self.registry.gather(), &mut text)?;
        encoder.encode(&self.process.gather(), &mut text)?;
        Ok(text)
    }
}
