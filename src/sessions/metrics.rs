//! Metrics of sessions. All series exist from the start, at zero. No label identifies a user.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::record::Carrier;

/// Counters of sessions and their lookups.
#[derive(Debug)]
pub struct SessionMetrics {
    begun: IntCounterVec,
    ended: IntCounterVec,
    /// One per [`Lookup`], of which every request counts one.
    lookups: Vec<(Lookup, IntCounter)>,
    touches: IntCounterVec,
    renewals: IntCounterVec,
    /// Sessions in the cache of this process.
    pub remembered: IntGauge,
    /// Sessions whose new tokens could not be stored yet.
    pub unstored: IntGauge,
}

/// Declares enums of label values.
macro_rules! words {
    ($($(#[$about:meta])* $name:ident { $($(#[$means:meta])* $variant:ident => $word:literal,)* })*) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $name {
            $($(#[$means])* $variant,)*
        }

        impl $name {
            const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The label value in metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    )*};
}

words! {
    /// Why a session ended.
    EndReason {
        /// Its user signed out, or an operator did so for the user.
        Logout => "logout",
        /// The user has more sessions than `sessions.max_per_user`.
        Limit => "limit",
        /// A newer cookie replaced it.
        Replaced => "replaced",
        /// The identity server refused to renew its tokens.
        Refused => "refused",
        /// It was idle for too long.
        Idle => "idle",
        /// It reached its lifetime.
        Lifetime => "lifetime",
    }

    /// Where the session of a cookie was found.
    Lookup {
        /// In the memory of this process.
        Memory => "memory",
        /// In the store.
        Store => "store",
        /// Not found: it has ended.
        Unknown => "unknown",
        /// No replica issued the cookie.
        Malformed => "malformed",
        /// The store is unreachable.
        Unavailable => "unavailable",
    }

    /// The result of recording that a session was used.
    Touch {
        /// It was stored.
        Stored => "stored",
        /// Another replica had changed the record; its change was merged first.
        Behind => "behind",
        /// The session has ended meanwhile.
        Gone => "gone",
        /// The store is unreachable.
        Unavailable => "unavailable",
    }

    /// The result of renewing the tokens of a session.
    Renewal {
        /// The identity server issued new ones.
        Granted => "granted",
        /// Another replica had already renewed them.
        Adopted => "adopted",
        /// The identity server refused, and the session ended.
        Refused => "refused",
        /// The session has ended meanwhile.
        Gone => "gone",
        /// The identity server or the store is unreachable.
        Unavailable => "unavailable",
    }
}

impl SessionMetrics {
    /// Registers all metrics.
    ///
    /// # Errors
    ///
    /// Two metrics have the same name, which a test would have found.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            prometheus::Result::Ok(counters)
        };
        let remembered = IntGauge::new(
            "sessions_remembered",
            "Sessions in the cache of this process.",
        )?;
        registry.register(Box::new(remembered.clone()))?;
        let unstored = IntGauge::new(
            "sessions_unstored",
            "Sessions whose new tokens could not be stored yet; storing is retried.",
        )?;
        registry.register(Box::new(unstored.clone()))?;
        let lookups = counters(
            "session_lookups_total",
            "Session cookies that were looked up, by where the session was found.",
            &["result"],
        )?;
        let metrics = Self {
            begun: counters(
                "sessions_begun_total",
                "Sessions begun by this process, by carrier.",
                &["carrier"],
            )?,
            ended: counters(
                "sessions_ended_total",
                "Sessions that this process ended or found expired, by carrier and reason.",
                &["carrier", "why"],
            )?,
            lookups: Lookup::ALL
                .iter()
                .map(|result| (*result, lookups.with_label_values(&[result.as_str()])))
                .collect(),
            touches: counters(
                "session_touches_total",
                "Recordings that a session is in use, at most one per session and minute, by result.",
                &["result"],
            )?,
            renewals: counters(
                "session_renewals_total",
                "Renewals of the tokens of a session, by result.",
                &["result"],
            )?,
            remembered,
            unstored,
        };
        for carrier in Carrier::ALL {
            metrics.begun.with_label_values(&[carrier.as_str()]);
            for why in EndReason::ALL {
                metrics
                    .ended
                    .with_label_values(&[carrier.as_str(), why.as_str()]);
            }
        }
        for touch in Touch::ALL {
            metrics.touches.with_label_values(&[touch.as_str()]);
        }
        for renewal in Renewal::ALL {
            metrics.renewals.with_label_values(&[renewal.as_str()]);
        }
        Ok(metrics)
    }

    /// Counts a session that this process has begun.
    pub fn began(&self, carrier: Carrier) {
        self.begun.with_label_values(&[carrier.as_str()]).inc();
    }

    /// Counts the end of a session.
    pub fn ended(&self, carrier: Carrier, why: EndReason) {
        self.ended
            .with_label_values(&[carrier.as_str(), why.as_str()])
            .inc();
    }

    /// Counts the lookup of a cookie.
    pub fn looked_up(&self, result: Lookup) {
        if let Some((_, counter)) = self.lookups.iter().find(|(known, _)| *known == result) {
            counter.inc();
        }
    }

    /// Counts a recording of use.
    pub fn touched(&self, result: Touch) {
        self.touches.with_label_values(&[result.as_str()]).inc();
    }

    /// Counts a renewal of tokens.
    pub fn renewed(&self, result: Renewal) {
        self.renewals.with_label_values(&[result.as_str()]).inc();
    }
}
