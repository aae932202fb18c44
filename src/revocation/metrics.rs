//! What Prometheus can see of revocations. Every series counts from zero.
//!
//! Decides: names, labels, and the steps in which their delay is counted. Trusts: the clocks of replicas for that delay. Not here: sessions in a
//! cookie (`counts`).

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::Kind;
use super::replica::Cause;

/// Seconds; what is promised (1) is one of them.
const LAG_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0,
];

/// Gauges and counters.
#[derive(Debug)]
pub struct RevocationMetrics {
    /// From the moment of revocation, by the clock of the replica that was told, to its being refused here.
    pub lag: Histogram,
    entries: IntGaugeVec,
    /// Entries that became part of a wider one because the list was full.
    pub coarsened: IntCounter,
    /// 1 while the list holds more than its capacity.
    pub overfull: IntGauge,
    /// Entries that wait to be stored.
    pub queued: IntGauge,
    /// 1 while the list has everything that is stored.
    pub complete: IntGauge,
    reloads: IntCounterVec,
    /// Entries that were missing in the store and were written back.
    pub written_back: IntCounter,
    webhook_events: IntCounterVec,
}

/// What became of a message of the identity server.
#[derive(Clone, Copy, Debug)]
pub enum WebhookResult {
    /// A subject was revoked.
    Revoked,
    /// Nothing that ends a session.
    Ignored,
    /// Without a good signature, too old, or unreadable.
    Refused,
}

impl WebhookResult {
    const ALL: [Self; 3] = [Self::Revoked, Self::Ignored, Self::Refused];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
        }
    }
}

impl RevocationMetrics {
    /// Registers everything.
    ///
    /// # Errors
    ///
    /// A name that is taken.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let counters = |name: &str, help: &str, label: &str| -> prometheus::Result<IntCounterVec> {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let lag = Histogram::with_opts(
            HistogramOpts::new(
                "revocation_lag_seconds",
                "Time from the moment of a revocation, on whichever replica, to its being refused here.",
            )
            .buckets(LAG_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(lag.clone()))?;
        let entries = IntGaugeVec::new(
            Opts::new(
                "revocations",
                "Entries of the list, by kind: token, session, subject or issuer.",
            ),
            &["kind"],
        )?;
        registry.register(Box::new(entries.clone()))?;
        let metrics = Self {
            lag,
            entries,
            coarsened: counter(
                "revocations_coarsened_total",
                "Entries that became part of a wider one because the list was full.",
            )?,
            overfull: gauge(
                "revocations_overfull",
                "1 while the list holds more than `revocations.capacity` and nothing can be coarsened.",
            )?,
            queued: gauge(
                "revocations_queued",
                "Revocations that apply here and wait to be stored.",
            )?,
            complete: gauge(
                "revocations_complete",
                "1 while the list has every revocation that is stored.",
            )?,
            reloads: counters(
                "revocation_reloads_total",
                "Times the log was read from the start, by cause: start, epoch, backwards or count.",
                "cause",
            )?,
            written_back: counter(
                "revocations_written_back_total",
                "Entries that were missing in the store and were written back.",
            )?,
            webhook_events: counters(
                "webhook_events_total",
                "Messages of the identity server, by result: revoked, ignored or refused.",
                "result",
            )?,
        };
        metrics.count([0; Kind::ALL.len()]);
        for cause in Cause::ALL {
            metrics.reloads.with_label_values(&[cause.as_str()]);
        }
        for result in WebhookResult::ALL {
            metrics.webhook_events.with_label_values(&[result.as_str()]);
        }
        Ok(metrics)
    }

    /// Notes how many entries there are of each kind, in the order of [`Kind::ALL`].
    pub fn count(&self, entries: [usize; Kind::ALL.len()]) {
        for (kind, count) in Kind::ALL.into_iter().zip(entries) {
            self.entries
                .with_label_values(&[kind.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Notes that the log is read from the start.
    pub fn reloaded(&self, cause: Cause) {
        self.reloads.with_label_values(&[cause.as_str()]).inc();
    }

    /// Notes what became of a message of the identity server.
    pub fn webhook(&self, result: WebhookResult) {
        self.webhook_events
            .with_label_values(&[result.as_str()])
            .inc();
    }
}
