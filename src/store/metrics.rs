//! What is counted about the store. All series are there from the start, at zero.
//!
//! Decides: names and labels. Trusts: nothing. Not here: what a number means for a request (`outage`).

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use super::{Kind, Unreachable};

/// Seconds; Redis next door takes a tenth of a millisecond, and its deadline is a hundred.
const BUCKETS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

/// What the store was asked; a label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Command {
    /// One record, read.
    Get,
    /// One record, written.
    Put,
    /// One record, read with its version.
    Read,
    /// One record, replaced if it still has its version.
    Swap,
    /// One record, removed.
    Remove,
    /// Places in buckets.
    Admit,
    /// The log, appended to.
    Append,
    /// The log's position.
    Position,
    /// A page of the log.
    Page,
    /// A message to other processes.
    Tell,
    /// Whether it is there.
    Probe,
}

impl Command {
    const ALL: [Self; 11] = [
        Self::Get,
        Self::Put,
        Self::Read,
        Self::Swap,
        Self::Remove,
        Self::Admit,
        Self::Append,
        Self::Position,
        Self::Page,
        Self::Tell,
        Self::Probe,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Read => "read",
            Self::Swap => "swap",
            Self::Remove => "remove",
            Self::Admit => "admit",
            Self::Append => "append",
            Self::Position => "position",
            Self::Page => "page",
            Self::Tell => "tell",
            Self::Probe => "probe",
        }
    }
}

/// Counts about the store.
#[derive(Debug)]
pub struct StoreMetrics {
    seconds: Vec<(Command, Histogram, Histogram)>,
    unreachable: IntCounterVec,
    tampered: IntCounterVec,
    up: IntGauge,
    breaker_open: IntGauge,
    evicting: IntGauge,
    reconnects: IntCounter,
}

impl StoreMetrics {
    /// Registers everything.
    ///
    /// # Errors
    ///
    /// Two metrics of the same name, which a test would have found.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "store_command_seconds",
                "Time a command to Redis took, by command and outcome: ok or failed.",
            )
            .buckets(BUCKETS.to_vec()),
            &["command", "outcome"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let counters =
            |name: &str, help: &str, label: &str, values: &mut dyn Iterator<Item = &str>| {
                let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
                registry.register(Box::new(counters.clone()))?;
                for value in values {
                    counters.with_label_values(&[value]);
                }
                prometheus::Result::Ok(counters)
            };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let reconnects = IntCounter::new(
            "store_reconnects_total",
            "Connections to Redis that were made again.",
        )?;
        registry.register(Box::new(reconnects.clone()))?;
        let outcomes = |command: Command| {
            let of = |outcome| seconds.with_label_values(&[command.as_str(), outcome]);
            (command, of("ok"), of("failed"))
        };
        Ok(Self {
            seconds: Command::ALL.into_iter().map(outcomes).collect(),
            unreachable: counters(
                "store_unreachable_total",
                "Questions that the store did not answer, by reason.",
                "reason",
                &mut Unreachable::ALL.iter().map(|why| why.as_str()),
            )?,
            tampered: counters(
                "store_tampered_total",
                "Records in the store that somebody else wrote or changed: a security event.",
                "kind",
                &mut Kind::ALL.iter().map(|kind| kind.as_str()),
            )?,
            up: gauge(
                "store_up",
                "Whether the store answers; always 1 without Redis.",
            )?,
            breaker_open: gauge(
                "store_breaker_open",
                "Whether the breaker is open: Redis is not asked, only looked after.",
            )?,
            evicting: gauge(
                "store_evicting",
                "Whether Redis may throw records away (`maxmemory-policy` is not `noeviction`), or does not say.",
            )?,
            reconnects,
        })
    }

    /// Notes whether the store answers.
    pub(super) fn is_up(&self, up: bool) {
        self.up.set(i64::from(up));
        self.breaker_open.set(i64::from(!up));
    }

    /// Notes whether it may throw records away.
    pub(super) fn is_evicting(&self, evicting: bool) {
        self.evicting.set(i64::from(evicting));
    }

    /// Counts a command that was sent.
    pub(super) fn took(&self, command: Command, time: Duration, is_ok: bool) {
        if let Some((_, ok, failed)) = self.seconds.iter().find(|(known, ..)| *known == command) {
            let histogram = if is_ok { ok } else { failed };
            histogram.observe(time.as_secs_f64());
        }
    }

    /// Counts a question without an answer.
    pub(super) fn unreachable(&self, why: Unreachable) {
        self.unreachable.with_label_values(&[why.as_str()]).inc();
    }

    /// Counts a record that is not ours.
    pub(super) fn tampered(&self, kind: Kind) {
        self.tampered.with_label_values(&[kind.as_str()]).inc();
    }

    /// Counts a connection that was made again.
    pub(super) fn reconnected(&self) {
        self.reconnects.inc();
    }
}
