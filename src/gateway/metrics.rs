//! What Prometheus can see. Every label's values come from the configuration or from an enum, so nothing a client sends adds a series.
//!
//! Decides: names, labels and buckets. Trusts: the record. Not here: who may read them (`admin`).

use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::database::DatabaseMetrics;
use crate::facts::FactMetrics;
use crate::gateway::connection::Cause;
use crate::policy::Config;
use crate::policy::layers::LayerName;
use crate::policy::tokens::KeySource;
use crate::record::{Record, Step, Verdict};
use crate::revocation::RevocationMetrics;
use crate::sessions::SessionMetrics;
use crate::sign_in::throttle::ThrottleMetrics;
use crate::sign_in::{IdentityMetrics, LaterMetrics};
use crate::store::StoreMetrics;
use crate::streams::StreamMetrics;
use crate::tokens::KeyMetrics;

/// Seconds; the budget of a decision (0.05) is one of them.
const REQUEST_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Seconds; a layer that needs no lookup takes microseconds.
const LAYER_BUCKETS: &[f64] = &[
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_05,
    0.000_1,
    0.000_25,
    0.001,
    0.005,
    0.01,
    0.05,
];

/// Status classes, as labels. A request whose client left before an answer has `none`.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Everything this process counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `process_*` has no prefix, so it lives in a registry of its own.
    process: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    upstream_seconds: HistogramVec,
    layer_seconds: Vec<(LayerName, Histogram)>,
    waived: IntCounterVec,
    /// Requests whose client went away before the answer was complete.
    pub client_gone: IntCounter,
    /// Answers cut short by the upstream.
    pub upstream_failed: IntCounter,
    /// Open client connections.
    pub connections: IntGauge,
    /// Connections that ended for a reason of their own, by cause.
    pub connections_failed: IntCounterVec,
    /// Upstream connections by upstream and state.
    pub upstream_connections: IntGaugeVec,
    /// Requests sent again because a kept connection turned out to be closed.
    pub upstream_retries: IntCounterVec,
    token_cache_entries: IntGauge,
    token_cache_lookups: IntCounterVec,
    config_generation: IntGauge,
    config_reloads: IntCounterVec,
    waived_layers: IntGauge,
    keys: KeyMetrics,
    /// What is revoked.
    pub revocations: Arc<RevocationMetrics>,
    /// Who is signed in.
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
    /// The throttle before it.
    pub throttle: Arc<ThrottleMetrics>,
    /// What it is told behind answers.
    pub later: LaterMetrics,
    /// Log lines that were dropped because the reader of standard output was too slow.
    pub log_dropped: IntCounter,
}

/// Handles of one route, looked up once per configuration.
#[derive(Debug)]
pub struct RouteMetrics {
    /// Permitted requests by status class, 1xx to 5xx.
    permitted: [IntCounter; CLASSES.len()],
    seconds: Histogram,
    upstream_seconds: Option<Histogram>,
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
        process.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        let counters =
            |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
                let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
                registry.register(Box::new(counters.clone()))?;
                Ok(counters)
            };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let histograms = |name: &str,
                          help: &str,
                          labels: &[&str],
                          buckets: &[f64]|
         -> prometheus::Result<HistogramVec> {
            let histograms = HistogramVec::new(
                HistogramOpts::new(name, help).buckets(buckets.to_vec()),
                labels,
            )?;
            registry.register(Box::new(histograms.clone()))?;
            Ok(histograms)
        };
        // Counted from zero: a series that appears with its first event hides that event from `rate`.
        let connections_failed = counters(
            "connections_failed_total",
            "Client connections that ended for a reason of their own: handshake, handshake_timeout, head_timeout, stalled, protocol.",
            &["cause"],
        )?;
        for cause in Cause::ALL {
            connections_failed.with_label_values(&[cause.as_str()]);
        }
        let config_reloads = counters(
            "config_reloads_total",
            "Reloads by result: applied, unchanged or refused.",
            &["result"],
        )?;
        for result in ["applied", "unchanged", "refused"] {
            config_reloads.with_label_values(&[result]);
        }
        let layers = histograms(
            "layer_seconds",
            "Time a layer took to judge.",
            &["layer"],
            LAYER_BUCKETS,
        )?;
        let upstream_connections = IntGaugeVec::new(
            Opts::new(
                "upstream_connections",
                "Connections to an upstream, over all workers, by state: busy or idle.",
            ),
            &["upstream", "state"],
        )?;
        registry.register(Box::new(upstream_connections.clone()))?;
        let keys = KeyMetrics::new()?;
        keys.register(&registry)?;
        Ok(Self {
            requests: counters(
                "requests_total",
                "Requests by route, status class and reason (`none` if not refused).",
                &["route", "class", "reason"],
            )?,
            request_seconds: histograms(
                "request_seconds",
                "Time from the complete request head to the head of the answer.",
                &["route"],
                REQUEST_BUCKETS,
            )?,
            upstream_seconds: histograms(
                "upstream_seconds",
                "Time from the permit to the head of the upstream's answer.",
                &["upstream"],
                REQUEST_BUCKETS,
            )?,
            layer_seconds: LayerName::ALL
                .iter()
                .map(|layer| (*layer, layers.with_label_values(&[layer.as_str()])))
                .collect(),
            waived: counters(
                "waived_total",
                "Refusals that a layer in shadow would have made.",
                &["route", "layer", "reason"],
            )?,
            client_gone: counter(
                "client_gone_total",
                "Requests whose client went away before the answer was complete.",
            )?,
            upstream_failed: counter(
                "upstream_failed_total",
                "Answers that the upstream broke off in the middle.",
            )?,
            connections: gauge("connections", "Open client connections.")?,
            connections_failed,
            upstream_connections,
            upstream_retries: counters(
                "upstream_retries_total",
                "Requests sent again on a fresh connection.",
                &["upstream"],
            )?,
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
            revocations: Arc::new(RevocationMetrics::new(&registry)?),
            sessions: Arc::new(SessionMetrics::new(&registry)?),
            streams: StreamMetrics::new(&registry)?,
            store: Arc::new(StoreMetrics::new(&registry)?),
            database: Arc::new(DatabaseMetrics::new(&registry)?),
            facts: Arc::new(FactMetrics::new(&registry)?),
            identity: Arc::new(IdentityMetrics::new(&registry)?),
            throttle: Arc::new(ThrottleMetrics::new(&registry)?),
            later: LaterMetrics::new(&registry)?,
            log_dropped: counter(
                "log_dropped_total",
                "Log lines dropped because standard output was not read fast enough.",
            )?,
            keys,
            registry,
            process,
        })
    }

    /// Handles for every route, in the order of the route map.
    pub fn routes(&self, config: &Config) -> Vec<RouteMetrics> {
        config
            .routes
            .iter()
            .map(|route| {
                let class = |class: &str| {
                    self.requests
                        .with_label_values(&[route.name.as_str(), class, "none"])
                };
                let upstream = match route.target {
                    Some(crate::policy::route::Target::Upstream(index)) => {
                        config.upstreams.get(index)
                    }
                    Some(crate::policy::route::Target::Serve(_)) | None => None,
                };
                RouteMetrics {
                    permitted: CLASSES.map(class),
                    seconds: self
                        .request_seconds
                        .with_label_values(&[route.name.as_str()]),
                    upstream_seconds: upstream.map(|upstream| {
                        self.upstream_seconds
                            .with_label_values(&[upstream.name.as_str()])
                    }),
                }
            })
            .collect()
    }

    /// Forgets routes, upstreams and issuers that the new configuration does not have.
    pub fn forget(&self, old: &Config, new: &Config) {
        for route in old
            .routes
            .iter()
            .filter(|route| !new.routes.iter().any(|kept| kept.name == route.name))
        {
            for class in CLASSES.into_iter().chain(["none"]) {
                let _ = self
                    .requests
                    .remove_label_values(&[route.name.as_str(), class, "none"]);
                for reason in crate::denial::Reason::ALL {
                    let _ = self.requests.remove_label_values(&[
                        route.name.as_str(),
                        class,
                        reason.code(),
                    ]);
                }
            }
            let _ = self
                .request_seconds
                .remove_label_values(&[route.name.as_str()]);
            for layer in LayerName::ALL {
                for reason in crate::denial::Reason::ALL {
                    let _ = self.waived.remove_label_values(&[
                        route.name.as_str(),
                        layer.as_str(),
                        reason.code(),
                    ]);
                }
            }
        }
        for upstream in old
            .upstreams
            .iter()
            .filter(|upstream| !new.upstreams.iter().any(|kept| kept.name == upstream.name))
        {
            let _ = self
                .upstream_seconds
                .remove_label_values(&[upstream.name.as_str()]);
        }
        let published = |config: &'_ Config| -> Vec<String> {
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

    /// Counts a finished request.
    pub fn finish(&self, record: &Record) {
        let route = record
            .route
            .and_then(|index| record.snapshot.route_metrics(index));
        let status = record.status.map_or(0, |status| status.as_u16());
        let class = usize::from(status / 100).checked_sub(1);
        let permitted = route
            .zip(class)
            .and_then(|(route, class)| route.permitted.get(class));
        match (record.reason, permitted) {
            (None, Some(counter)) => counter.inc(),
            (reason, _) => {
                let class = class
                    .and_then(|class| CLASSES.get(class))
                    .copied()
                    .unwrap_or("none");
                let reason = reason.map_or("none", |reason| reason.code());
                self.requests
                    .with_label_values(&[record.route_name(), class, reason])
                    .inc();
            }
        }
        if let Some(answered) = record.answered {
            match route {
                Some(route) => route.seconds.observe(answered.as_secs_f64()),
                None => self
                    .request_seconds
                    .with_label_values(&["none"])
                    .observe(answered.as_secs_f64()),
            }
        }
        if let (Some(time), Some(histogram)) = (
            record.upstream,
            route.and_then(|route| route.upstream_seconds.as_ref()),
        ) {
            histogram.observe(time.as_secs_f64());
        }
        let asked = |step: &&Step| step.verdict != Verdict::Idle;
        for step in record.steps.iter().filter(asked) {
            self.observe_layer(step.layer, step.took);
            if let Verdict::Waived(reason) = step.verdict {
                self.waived
                    .with_label_values(&[record.route_name(), step.layer.as_str(), reason.code()])
                    .inc();
            }
        }
    }

    fn observe_layer(&self, layer: LayerName, took: Duration) {
        if let Some((_, histogram)) = self.layer_seconds.iter().find(|(name, _)| *name == layer) {
            histogram.observe(took.as_secs_f64());
        }
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
    pub fn render(&self, cache: &crate::tokens::VerifiedCache) -> prometheus::Result<Vec<u8>> {
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
