//! Metrics of sessions. All series exist from the start, at zero. No label identifies a user.

use prometheus::IntGauge;

use super::record::Carrier;
use crate::metrics::{Counters, labels, metrics};

metrics! {
    /// Counters of sessions and their lookups.
    pub struct SessionMetrics {
        begun: Counters<Carrier> = "sessions_begun_total"["carrier"],
            "Sessions begun by this process, by carrier.";
        ended: Counters<(Carrier, EndReason)> = "sessions_ended_total"["carrier", "why"],
            "Sessions that this process ended or found expired, by carrier and reason.";
        lookups: Counters<Lookup> = "session_lookups_total"["result"],
            "Session cookies that were looked up, by where the session was found.";
        touches: Counters<Touch> = "session_touches_total"["result"],
            "Recordings that a session is in use, at most one per session and minute, by result.";
        renewals: Counters<Renewal> = "session_renewals_total"["result"],
            "Renewals of the tokens of a session, by result.";
        /// Sessions in the cache of this process.
        pub remembered: IntGauge = "sessions_remembered",
            "Sessions in the cache of this process.";
        /// Sessions whose new tokens could not be stored yet.
        pub unstored: IntGauge = "sessions_unstored",
            "Sessions whose new tokens could not be stored yet; storing is retried.";
    }
}

labels! {
    /// Why a session ended.
    pub enum EndReason {
        /// Its user signed out, or an operator did so for the user.
        Logout = "logout",
        /// The user has more sessions than `sessions.max_per_user`.
        Limit = "limit",
        /// A newer cookie replaced it.
        Replaced = "replaced",
        /// The identity server refused to renew its tokens.
        Refused = "refused",
        /// It was idle for too long.
        Idle = "idle",
        /// It reached its lifetime.
        Lifetime = "lifetime",
    }

    /// Where the session of a cookie was found.
    pub enum Lookup {
        /// In the memory of this process.
        Memory = "memory",
        /// In the store.
        Store = "store",
        /// Not found: it has ended.
        Unknown = "unknown",
        /// No replica issued the cookie.
        Malformed = "malformed",
        /// The store is unreachable.
        Unavailable = "unavailable",
    }

    /// The result of recording that a session was used.
    pub enum Touch {
        /// It was stored.
        Stored = "stored",
        /// Another replica had changed the record; its change was merged first.
        Behind = "behind",
        /// The session has ended meanwhile.
        Gone = "gone",
        /// The store is unreachable.
        Unavailable = "unavailable",
    }

    /// The result of renewing the tokens of a session.
    pub enum Renewal {
        /// The identity server issued new ones.
        Granted = "granted",
        /// Another replica had already renewed them.
        Adopted = "adopted",
        /// The identity server refused, and the session ended.
        Refused = "refused",
        /// The session has ended meanwhile.
        Gone = "gone",
        /// The identity server or the store is unreachable.
        Unavailable = "unavailable",
    }
}

impl SessionMetrics {
    /// Counts a session that this process has begun.
    pub fn began(&self, carrier: Carrier) {
        self.begun.inc(carrier);
    }

    /// Counts the end of a session.
    pub fn ended(&self, carrier: Carrier, why: EndReason) {
        self.ended.inc((carrier, why));
    }

    /// Counts the lookup of a cookie.
    pub fn looked_up(&self, result: Lookup) {
        self.lookups.inc(result);
    }

    /// Counts a recording of use.
    pub fn touched(&self, result: Touch) {
        self.touches.inc(result);
    }

    /// Counts a renewal of tokens.
    pub fn renewed(&self, result: Renewal) {
        self.renewals.inc(result);
    }
}
