//! The metrics of finished requests.
//!
//! Every label value comes from the configuration or from an enum, so nothing that a client sends
//! adds a series.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, Registry};

use crate::denial::Reason;
use crate::metrics::metrics;
use crate::policy::Config;
use crate::policy::layers::LayerName;
use crate::policy::route::Target;
use crate::record::{Record, RequestEnd, Step, Verdict};

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

metrics! {
    /// The families of series. Series with labels from the configuration are looked up once per
    /// configuration.
    struct Families {
        requests: IntCounterVec = "requests_total"["route", "class", "reason"],
            "Requests by route, status class and reason (`none` if not refused).";
        request_seconds: HistogramVec = "request_seconds"["route"] in REQUEST_BUCKETS,
            "Time from the complete request head to the head of the answer.";
        upstream_seconds: HistogramVec = "upstream_seconds"["upstream"] in REQUEST_BUCKETS,
            "Time from the permit to the head of the upstream's answer.";
        layer_seconds: HistogramVec = "layer_seconds"["layer"] in LAYER_BUCKETS,
            "Time a layer took to decide.";
        waived: IntCounterVec = "waived_total"["route", "layer", "reason"],
            "Refusals that a layer in shadow would have made.";
        client_gone: IntCounter = "client_gone_total",
            "Requests whose client went away before the answer was complete.";
        upstream_failed: IntCounter = "upstream_failed_total",
            "Answers that the upstream broke off in the middle.";
    }
}

/// The metrics of requests.
#[derive(Debug)]
pub struct RequestMetrics {
    families: Families,
    /// By the position of the layer in the table.
    layer_seconds: Vec<Histogram>,
    layers: &'static [LayerName],
}

/// Handles of one route, looked up once per configuration.
#[derive(Debug)]
pub struct RouteMetrics {
    /// Permitted requests by status class, 1xx to 5xx.
    permitted: [IntCounter; CLASSES.len()],
    seconds: Histogram,
    upstream_seconds: Option<Histogram>,
}

impl RequestMetrics {
    /// Registers the metrics; `layers` is the table of layers.
    ///
    /// # Errors
    ///
    /// Two metrics have the same name; a test would have found that.
    pub fn new(registry: &Registry, layers: &'static [LayerName]) -> prometheus::Result<Self> {
        let families = Families::new(registry)?;
        let layer_seconds = layers
            .iter()
            .map(|layer| families.layer_seconds.with_label_values(&[layer.as_str()]))
            .collect();
        Ok(Self {
            families,
            layer_seconds,
            layers,
        })
    }

    /// The handles of every route, in the order of the route map.
    pub fn routes(&self, config: &Config) -> Vec<RouteMetrics> {
        config
            .routes
            .iter()
            .map(|route| {
                let class = |class: &str| {
                    self.families
                        .requests
                        .with_label_values(&[route.name.as_str(), class, "none"])
                };
                let upstream = match route.target {
                    Some(Target::Upstream(index)) => config.upstreams.get(index),
                    Some(Target::Serve(_)) | None => None,
                };
                RouteMetrics {
                    permitted: CLASSES.map(class),
                    seconds: self
                        .families
                        .request_seconds
                        .with_label_values(&[route.name.as_str()]),
                    upstream_seconds: upstream.map(|upstream| {
                        self.families
                            .upstream_seconds
                            .with_label_values(&[upstream.name.as_str()])
                    }),
                }
            })
            .collect()
    }

    /// Removes the series of routes and upstreams that the new configuration does not have.
    pub fn forget(&self, old: &Config, new: &Config) {
        for route in &old.routes {
            if !new.routes.iter().any(|kept| kept.name == route.name) {
                self.forget_route(&route.name);
            }
        }
        for upstream in &old.upstreams {
            if !new.upstreams.iter().any(|kept| kept.name == upstream.name) {
                let name = upstream.name.as_str();
                let _ = self.families.upstream_seconds.remove_label_values(&[name]);
            }
        }
    }

    fn forget_route(&self, route: &str) {
        let _ = self.families.request_seconds.remove_label_values(&[route]);
        let reasons = || Reason::ALL.iter().map(|reason| reason.code());
        for class in CLASSES.into_iter().chain(["none"]) {
            for reason in reasons().chain(["none"]) {
                let _ = self
                    .families
                    .requests
                    .remove_label_values(&[route, class, reason]);
            }
        }
        for layer in self.layers {
            for reason in reasons() {
                let series = [route, layer.as_str(), reason];
                let _ = self.families.waived.remove_label_values(&series);
            }
        }
    }

    /// Counts a finished request while `current` is in force. `route` has the handles of its
    /// route, unless it began under an earlier configuration. Series of routes and upstreams that
    /// `current` does not have are gone, and stay so.
    pub fn finish(&self, record: &Record, route: Option<&RouteMetrics>, current: &Config) {
        let has_series = route.is_some()
            || record.route.is_none()
            || current
                .routes
                .iter()
                .any(|one| one.name == record.route_name());
        if has_series {
            self.count(record, route);
            self.observe_answer(record, route);
        }
        self.observe_upstream(record, route, current);
        let asked = |step: &&Step| step.verdict != Verdict::Idle;
        for step in record.steps.iter().filter(asked) {
            self.observe_layer(step.layer, step.took);
            if let (Verdict::Waived(reason), true) = (step.verdict, has_series) {
                self.families
                    .waived
                    .with_label_values(&[record.route_name(), step.layer.as_str(), reason.code()])
                    .inc();
            }
        }
        match record.end {
            // Requests that the gateway ended are counted with the streams.
            RequestEnd::Complete | RequestEnd::Ended => {}
            RequestEnd::ClientGone => self.families.client_gone.inc(),
            RequestEnd::UpstreamFailed => self.families.upstream_failed.inc(),
        }
    }

    fn observe_answer(&self, record: &Record, route: Option<&RouteMetrics>) {
        let Some(answered) = record.answered else {
            return;
        };
        match route {
            Some(route) => route.seconds.observe(answered.as_secs_f64()),
            None => self
                .families
                .request_seconds
                .with_label_values(&[record.route_name()])
                .observe(answered.as_secs_f64()),
        }
    }

    fn observe_upstream(&self, record: &Record, route: Option<&RouteMetrics>, current: &Config) {
        let Some(time) = record.upstream.map(|time| time.as_secs_f64()) else {
            return;
        };
        if let Some(route) = route {
            if let Some(histogram) = &route.upstream_seconds {
                histogram.observe(time);
            }
            return;
        }
        let upstreams = &current.upstreams;
        let name = record.upstream_name();
        if let Some(name) = name.filter(|name| upstreams.iter().any(|one| one.name == *name)) {
            self.families
                .upstream_seconds
                .with_label_values(&[name])
                .observe(time);
        }
    }

    fn count(&self, record: &Record, route: Option<&RouteMetrics>) {
        let status = record.status.map_or(0, |status| status.as_u16());
        let class = usize::from(status / 100).checked_sub(1);
        let permitted = route
            .zip(class)
            .and_then(|(route, class)| route.permitted.get(class));
        if let (None, Some(counter)) = (record.reason, permitted) {
            return counter.inc();
        }
        let class = class.and_then(|class| CLASSES.get(class)).copied();
        let reason = record.reason.map_or("none", Reason::code);
        let series = [record.route_name(), class.unwrap_or("none"), reason];
        self.families.requests.with_label_values(&series).inc();
    }

    fn observe_layer(&self, layer: LayerName, took: Duration) {
        if let Some(histogram) = self.layer_seconds.get(layer.position()) {
            histogram.observe(took.as_secs_f64());
        }
    }
}
