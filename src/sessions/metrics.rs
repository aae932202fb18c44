//! What Prometheus can see of sessions. Every series counts from zero.
//!
//! Decides: names and labels, none of which says whose session it is. Trusts: whoever counts, for what happened. Not here: revocations (`metrics`).

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::record::Carrier;

/// Counters about sessions.
#[derive(Debug)]
pub struct SessionMetrics {
    begun: IntCounterVec,
    ended: IntCounterVec,
    /// One for each of [`Lookup`]: a request counts one.
    lookups: Vec<(Lookup, IntCounter)>,
    touches: IntCounterVec,
    renewals: IntCounterVec,
    /// Sessions in memory.
    pub remembered: IntGauge,
    /// Sessions whose new tokens the store did not take yet.
    pub unstored: IntGauge,
}

/// Declares labels that have a word each.
macro_rules! words {
    ($($(#[$about:meta])* $name:ident { $($(#[$means:meta])* $variant:ident => $word:literal,)* })*) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $name {
            $($(#[$means])* $variant,)*
        }

        impl $name {
            const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word in metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    )*};
}

words! {
    /// Why a session ended.
    Why {
        /// Its user, or an operator in its name, ended it.
        Logout => "logout",
        /// The user began more than `sessions.max_per_user`.
        Limit => "limit",
        /// Another cookie took its place.
        Replaced => "replaced",
        /// The identity server refused to renew its tokens.
        Refused => "refused",
        /// It went without a request for too long.
        Idle => "idle",
        /// It lived as long as a session may.
        Lifetime => "lifetime",
    }

    /// Where the session of a cookie was found.
    Lookup {
        /// In the memory of this process.
        Memory => "memory",
        /// In the store.
        Store => "store",
        /// Nowhere: it ended.
        Unknown => "unknown",
        /// The cookie is none of ours.
        Malformed => "malformed",
        /// The store could not be asked.
        Unavailable => "unavailable",
    }

    /// What became of noting that a session was used.
    Touch {
        /// It is in the store.
        Stored => "stored",
        /// Another replica had changed the session; its change was taken over first.
        Behind => "behind",
        /// The session has ended meanwhile.
        Gone => "gone",
        /// The store could not be asked.
        Unavailable => "unavailable",
    }

    /// What became of renewing the tokens of a session.
    Renewal {
        /// The identity server gave new ones.
        Granted => "granted",
        /// Another replica had new ones already.
        Adopted => "adopted",
        /// The identity server refused, and the session ended.
        Refused => "refused",
        /// The session has ended meanwhile.
        Gone => "gone",
        /// The identity server or the store could not be asked.
        Unavailable => "unavailable",
    }
}

impl SessionMetrics {
    /// Registers everything.
    ///
    /// # Errors
    ///
    /// A name that is taken.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            prometheus::Result::Ok(counters)
        };
        let remembered = IntGauge::new("sessions_remembered", "Sessions in memory.")?;
        registry.register(Box::new(remembered.clone()))?;
        let unstored = IntGauge::new(
            "sessions_unstored",
            "Sessions whose new tokens the store did not take yet; storing them is tried again.",
        )?;
        registry.register(Box::new(unstored.clone()))?;
        let lookups = counters(
            "session_lookups_total",
            "Cookies that were looked up, by where their session was found.",
            &["result"],
        )?;
        let metrics = Self {
            begun: counters(
                "sessions_begun_total",
                "Sessions that began here, by carrier.",
                &["carrier"],
            )?,
            ended: counters(
                "sessions_ended_total",
                "Sessions that were ended here, or found to have ended, by carrier and reason.",
                &["carrier", "why"],
            )?,
            lookups: Lookup::ALL
                .iter()
                .map(|result| (*result, lookups.with_label_values(&[result.as_str()])))
                .collect(),
            touches: counters(
                "session_touches_total",
                "Times a session was noted to be in use, by result; at most once a minute for a session.",
                &["result"],
            )?,
            renewals: counters(
                "session_renewals_total",
                "Times the tokens of a session were renewed, by result.",
                &["result"],
            )?,
            remembered,
            unstored,
        };
        for carrier in Carrier::ALL {
            metrics.begun.with_label_values(&[carrier.as_str()]);
            for why in Why::ALL {
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

    /// Counts a session that began.
    pub fn began(&self, carrier: Carrier) {
        self.begun.with_label_values(&[carrier.as_str()]).inc();
    }

    /// Counts a session that ended.
    pub fn ended(&self, carrier: Carrier, why: Why) {
        self.ended
            .with_label_values(&[carrier.as_str(), why.as_str()])
            .inc();
    }

    /// Counts a cookie that was looked up.
    pub fn looked_up(&self, result: Lookup) {
        if let Some((_, counter)) = self.lookups.iter().find(|(known, _)| *known == result) {
            counter.inc();
        }
    }

    /// Counts a session that was touched.
    pub fn touched(&self, result: Touch) {
        self.touches.with_label_values(&[result.as_str()]).inc();
    }

    /// Counts a renewal.
    pub fn renewed(&self, result: Renewal) {
        self.renewals.with_label_values(&[result.as_str()]).inc();
    }
}
