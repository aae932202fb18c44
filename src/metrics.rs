//! Metric tables: every module that counts declares its metrics as one table, and the values of its
//! labels as words.
//!
//! ```text
//! labels! { pub(super) enum FetchResult { Good = "good", Connect = "connect", } }
//! metrics! { pub struct FetchMetrics {
//!     fetches: Counters<FetchResult> = "fetches_total"["result"], "Key fetches, by result.";
//!     seconds: Histogram = "fetch_seconds" in BUCKETS, "Duration of a key fetch.";
//! } }
//! ```
//!
//! `metrics!` makes the struct and `FetchMetrics::new(&registry)`, which registers every row. A row
//! is a plain `prometheus` type, or [`Counters`], [`Gauges`] or [`Histograms`] of an enum or a pair
//! of enums: these start with all their series at zero, and a call such as
//! `fetches.inc(FetchResult::Good)` looks nothing up. A label with values from the configuration is
//! a plain `IntCounterVec`; [`Labelled::of`] keeps the series of one such value,
//! [`Labelled::forget`] drops them. A struct that holds more than metrics contains the struct of
//! the table.

use std::marker::PhantomData;

use prometheus::core::{Collector, Metric, MetricVec, MetricVecBuilder};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// A counter for every value of `L`.
pub(crate) type Counters<L> = Labelled<IntCounter, L>;

/// A gauge for every value of `L`.
pub(crate) type Gauges<L> = Labelled<IntGauge, L>;

/// A histogram for every value of `L`.
pub(crate) type Histograms<L> = Labelled<Histogram, L>;

/// One series for every value of `L`, which is a [`Label`] or a pair of them.
#[derive(Debug)]
pub(crate) struct Labelled<M, L> {
    series: Vec<M>,
    labels: PhantomData<fn(L)>,
}

/// An enum whose variants are the values of a label; made by `labels!`.
pub(crate) trait Label: Copy + 'static {
    /// Every variant, in the order of declaration.
    const VALUES: &'static [Self];

    /// The value that is exported.
    fn value(self) -> &'static str;

    /// Its position in [`Self::VALUES`].
    fn index(self) -> usize;
}

/// The values of all labels of a family.
pub(crate) trait LabelValues: Copy {
    /// Every combination; the order is that of [`Self::index`].
    fn all() -> impl Iterator<Item = Vec<&'static str>>;

    /// The position of a combination.
    fn index(self) -> usize;
}

/// A row of a table, before it is registered.
pub(crate) struct Row<'a> {
    /// Without the prefix of the registry.
    pub(crate) name: &'a str,
    pub(crate) help: &'a str,
    pub(crate) labels: &'a [&'a str],
    pub(crate) buckets: &'a [f64],
}

/// A type that a row can have.
pub(crate) trait Declare: Sized {
    /// Makes the metric and registers it.
    ///
    /// # Errors
    ///
    /// A name that is taken or malformed.
    fn declare(registry: &Registry, row: &Row<'_>) -> prometheus::Result<Self>;
}

// === impl Labelled ===

impl<M: Metric + Clone, L: LabelValues> Labelled<M, L> {
    /// The series of a family whose first labels have the values `leading`. They exist from now on,
    /// at zero: a series that appears with its first event hides that event from `rate`.
    pub(crate) fn of<B>(family: &MetricVec<B>, leading: &[&str]) -> Self
    where
        B: MetricVecBuilder<M = M>,
    {
        let one =
            |values: Vec<&str>| family.with_label_values(&[leading, values.as_slice()].concat());
        Self {
            series: L::all().map(one).collect(),
            labels: PhantomData,
        }
    }

    /// Drops the series of a family whose first labels have the values `leading`.
    pub(crate) fn forget<B>(family: &MetricVec<B>, leading: &[&str])
    where
        B: MetricVecBuilder<M = M>,
    {
        for values in L::all() {
            // The family may never have had it.
            let _ = family.remove_label_values(&[leading, values.as_slice()].concat());
        }
    }

    /// The series of one value.
    fn get(&self, label: L) -> Option<&M> {
        self.series.get(label.index())
    }
}

impl<L: LabelValues> Counters<L> {
    pub(crate) fn inc(&self, label: L) {
        if let Some(counter) = self.get(label) {
            counter.inc();
        }
    }
}

impl<L: LabelValues> Gauges<L> {
    pub(crate) fn set(&self, label: L, value: i64) {
        if let Some(gauge) = self.get(label) {
            gauge.set(value);
        }
    }

    pub(crate) fn add(&self, label: L, change: i64) {
        if let Some(gauge) = self.get(label) {
            gauge.add(change);
        }
    }
}

impl<L: LabelValues> Histograms<L> {
    pub(crate) fn observe(&self, label: L, value: f64) {
        if let Some(histogram) = self.get(label) {
            histogram.observe(value);
        }
    }
}

// === impl LabelValues ===

impl<L: Label> LabelValues for L {
    fn all() -> impl Iterator<Item = Vec<&'static str>> {
        L::VALUES.iter().map(|label| vec![label.value()])
    }

    fn index(self) -> usize {
        Label::index(self)
    }
}

impl<A: Label, B: Label> LabelValues for (A, B) {
    fn all() -> impl Iterator<Item = Vec<&'static str>> {
        let pairs = |a: &A| {
            let a = a.value();
            B::VALUES.iter().map(move |b| vec![a, b.value()])
        };
        A::VALUES.iter().flat_map(pairs)
    }

    fn index(self) -> usize {
        self.0.index() * B::VALUES.len() + self.1.index()
    }
}

// === impl Declare ===

impl Row<'_> {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    fn histogram_opts(&self) -> HistogramOpts {
        HistogramOpts::new(self.name, self.help).buckets(self.buckets.to_vec())
    }
}

/// Implements [`Declare`] for a type of `prometheus`: makes it, registers a clone of the handle.
macro_rules! declare {
    ($($metric:ty => |$row:ident| $made:expr;)*) => {$(
        impl Declare for $metric {
            fn declare(registry: &Registry, $row: &Row<'_>) -> prometheus::Result<Self> {
                let metric = $made?;
                registry.register(Box::new(metric.clone()) as Box<dyn Collector>)?;
                Ok(metric)
            }
        }
    )*};
}

declare! {
    IntCounter => |row| IntCounter::with_opts(row.opts());
    IntGauge => |row| IntGauge::with_opts(row.opts());
    Histogram => |row| Histogram::with_opts(row.histogram_opts());
    IntCounterVec => |row| IntCounterVec::new(row.opts(), row.labels);
    IntGaugeVec => |row| IntGaugeVec::new(row.opts(), row.labels);
    HistogramVec => |row| HistogramVec::new(row.histogram_opts(), row.labels);
}

macro_rules! declare_labelled {
    ($($metric:ty => $family:ty;)*) => {$(
        impl<L: LabelValues> Declare for Labelled<$metric, L> {
            fn declare(registry: &Registry, row: &Row<'_>) -> prometheus::Result<Self> {
                Ok(Self::of(&<$family>::declare(registry, row)?, &[]))
            }
        }
    )*};
}

declare_labelled! {
    IntCounter => IntCounterVec;
    IntGauge => IntGaugeVec;
    Histogram => HistogramVec;
}

/// Declares enums whose variants are the values of a label; see the module's header.
macro_rules! labels {
    ($(
        $(#[$about:meta])*
        $vis:vis enum $name:ident { $($(#[$means:meta])* $variant:ident = $value:literal,)* }
    )*) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        $vis enum $name {
            $($(#[$means])* $variant,)*
        }

        impl $name {
            /// Every variant, in the order of declaration.
            $vis const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// The word in metrics and logs.
            $vis const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)*
                }
            }
        }

        impl $crate::metrics::Label for $name {
            const VALUES: &'static [Self] = &Self::ALL;

            fn value(self) -> &'static str {
                self.as_str()
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    )*};
}

/// Declares a struct of metrics and its `new`, which registers them; see the module's header.
macro_rules! metrics {
    (
        $(#[$about:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[$means:meta])*
                $field_vis:vis $field:ident : $type:ty =
                    $metric:literal $([$($label:literal),*])? $(in $buckets:expr)?, $help:expr;
            )*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug)]
        $vis struct $name {
            $($(#[$means])* $field_vis $field: $type,)*
        }

        impl $name {
            /// Registers every metric.
            ///
            /// # Errors
            ///
            /// A name that is taken or malformed, which a test would have found.
            $vis fn new(registry: &::prometheus::Registry) -> ::prometheus::Result<Self> {
                Ok(Self {
                    $($field: $crate::metrics::Declare::declare(
                        registry,
                        &$crate::metrics::Row {
                            name: $metric,
                            help: $help,
                            labels: &[$($($label),*)?],
                            buckets: $crate::metrics::metrics!(@buckets $($buckets)?),
                        },
                    )?,)*
                })
            }
        }
    };
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { $buckets };
}

pub(crate) use {labels, metrics};

#[cfg(test)]
mod tests {
    use super::*;

    labels! {
        enum Colour { Red = "red", Blue = "blue", }
        enum Size { Small = "small", Large = "large", }
    }

    metrics! {
        struct Shapes {
            drawn: Counters<(Colour, Size)> = "drawn_total"["colour", "size"], "Shapes, by colour and size.";
            open: Gauges<Size> = "open"["size"], "Open shapes, by size.";
            seconds: Histogram = "seconds" in &[1.0, 2.0], "Duration.";
            by_painter: IntCounterVec = "by_painter_total"["painter", "colour"], "Shapes, by painter and colour.";
        }
    }

    /// Every sample of a family: the values of its labels and its value.
    fn samples(registry: &Registry, name: &str) -> Vec<(String, f64)> {
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map_or(&[][..], |family| family.get_metric());
        metrics
            .iter()
            .map(|metric| {
                let labels: Vec<&str> =
                    metric.get_label().iter().map(|pair| pair.value()).collect();
                let value = metric.get_counter().get_value() + metric.get_gauge().get_value();
                (labels.join(" "), value)
            })
            .collect()
    }

    fn sample(labels: &str, value: f64) -> (String, f64) {
        (labels.to_owned(), value)
    }

    #[test]
    fn every_series_exists_from_the_start_and_counts_its_own_label() {
        let registry = Registry::new();
        let shapes = Shapes::new(&registry).expect("names are free");
        assert_eq!(samples(&registry, "drawn_total").len(), 4);
        shapes.drawn.inc((Colour::Red, Size::Large));
        shapes.drawn.inc((Colour::Blue, Size::Small));
        shapes.drawn.inc((Colour::Blue, Size::Small));
        assert_eq!(
            samples(&registry, "drawn_total"),
            [
                sample("blue large", 0.0),
                sample("blue small", 2.0),
                sample("red large", 1.0),
                sample("red small", 0.0)
            ]
        );
        shapes.open.set(Size::Large, 7);
        assert_eq!(
            samples(&registry, "open"),
            [sample("large", 7.0), sample("small", 0.0)]
        );
        shapes.seconds.observe(1.5);
        assert_eq!(shapes.seconds.get_sample_count(), 1);
        assert!(Shapes::new(&registry).is_err(), "the names are taken");
    }

    #[test]
    fn the_series_of_one_configured_value_begin_and_end_together() {
        let registry = Registry::new();
        let shapes = Shapes::new(&registry).expect("names are free");
        assert!(samples(&registry, "by_painter_total").is_empty());
        let by_anna = Counters::<Colour>::of(&shapes.by_painter, &["anna"]);
        by_anna.inc(Colour::Blue);
        let series = samples(&registry, "by_painter_total");
        assert_eq!(series.len(), 2);
        assert_eq!(series.iter().map(|(_, value)| value).sum::<f64>(), 1.0);
        Counters::<Colour>::forget(&shapes.by_painter, &["anna"]);
        assert!(samples(&registry, "by_painter_total").is_empty());
    }
}
