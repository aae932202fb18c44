//! The failure matrix: how a request is answered while a dependency is unavailable.
//!
//! One table, [`State::row`], by the state of the dependencies and the class of the request. It
//! says nothing about whether a credential is good; that was verified before. `foregate check`
//! prints the table, and `config/outages.md` is written from it.

use std::time::{Duration, Instant};

use hyper::Method;

use crate::breaker::Outage;
use crate::denial::{Denial, Reason};
use crate::policy::roles::Roles;
use crate::policy::route::{Access, Route, Serve, Target};

/// How long the store may be away before less is allowed: a restart or a failover takes less. A
/// choice.
pub const BRIEF: Duration = Duration::from_secs(30);

/// How long it may be away before everything that needs it is refused: revocations on other
/// replicas since then are not known here. A choice.
pub const LONG: Duration = Duration::from_secs(5 * 60);

/// The state of a dependency that is unavailable; a row of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// The store went away a moment ago; the list of revocations was complete until then.
    StoreLeft,
    /// The store has been away for [`BRIEF`].
    StoreAway,
    /// The store has been away for [`LONG`], was never reached since the start, or the list of
    /// revocations is not complete.
    StoreGone,
    /// The store is away, and the session of a cookie is not in memory.
    CookieUnknown,
    /// The keys of an issuer cannot be fetched; the cached keys are young enough, and have the
    /// token's `kid`.
    KeysKept,
    /// The keys of an issuer cannot be fetched, and the cached keys are too old, or do not have the
    /// token's `kid`.
    KeysMissing,
    /// The identity server does not answer.
    IdentityAway,
    /// Facts cannot be looked up, or not in time.
    FactsAway,
    /// The request was not decided in time.
    BudgetSpent,
}

/// The class of a request; a column of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccessClass {
    /// A public route.
    Public,
    /// Reads.
    Read,
    /// Changes something.
    Write,
    /// An action that only administrators or other services may perform.
    Admin,
    /// Signs in, or refreshes a session.
    SignIn,
    /// Uses a signed URL.
    Signed,
}

/// How such a request is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// All layers run as usual, on the state in memory.
    Allow,
    /// Only callers whose credential was accepted here before the outage.
    Degrade,
    /// It is refused.
    Refuse(Reason),
}

/// A cell of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cell {
    /// The answer for most requests of the class.
    pub effect: Effect,
    /// The exceptions, in words; empty if there is none.
    pub but: &'static str,
}

const ALLOW: Cell = cell(Effect::Allow, "");
const DEGRADE: Cell = cell(Effect::Degrade, "");
const NO_STORE: Cell = cell(Effect::Refuse(Reason::StoreUnavailable), "");
const NO_SESSION: Cell = cell(Effect::Refuse(Reason::SessionUnavailable), "");
const NO_KEYS: Cell = cell(Effect::Refuse(Reason::KeysUnavailable), "");

const NO_FACTS: Cell = cell(Effect::Refuse(Reason::FactsUnavailable), "");
const SPENT: Cell = cell(Effect::Refuse(Reason::BudgetSpent), "");
const OLD: Cell = cell(
    Effect::Degrade,
    "reads by the owner and of public resources, on facts of at most 5 min; no teams, no `ACTION:any`",
);

const fn cell(effect: Effect, but: &'static str) -> Cell {
    Cell { effect, but }
}

/// Applies the matrix at `now` to a caller with a good credential. `is_complete` says whether the
/// list of revocations was complete when the store was last reached, `known_since` when the
/// credential was first accepted here; `class` is called only during an outage.
///
/// # Errors
///
/// The matrix refuses the request.
pub fn authorize(
    outage: Outage,
    is_complete: bool,
    class: impl FnOnce() -> AccessClass,
    known_since: Instant,
    now: Instant,
) -> Result<(), Denial> {
    let Some(state) = State::of_store(outage, is_complete, now) else {
        return Ok(());
    };
    match (state.effect(class()), outage) {
        (Effect::Allow, _) => Ok(()),
        (Effect::Degrade, Outage::Away { since }) if known_since <= since => Ok(()),
        (Effect::Degrade, _) => {
            Err(Reason::StoreUnavailable.because("credential not accepted here before the outage"))
        }
        (Effect::Refuse(reason), _) => Err(reason.because(state.as_str())),
    }
}

impl State {
    /// Every state, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::StoreLeft,
        Self::StoreAway,
        Self::StoreGone,
        Self::CookieUnknown,
        Self::KeysKept,
        Self::KeysMissing,
        Self::IdentityAway,
        Self::FactsAway,
        Self::BudgetSpent,
    ];

    /// The row: a cell for each of [`AccessClass::ALL`].
    #[rustfmt::skip]
    pub const fn row(self) -> [Cell; 6] {
        const THROTTLED: Cell = cell(Effect::Allow, "throttled here; a cookie is refused");
        const COOKIE: Cell = cell(Effect::Allow, "a cookie whose access token has expired is refused");
        const NO_SIGN_IN: Cell = cell(
            Effect::Refuse(Reason::IdentityUnavailable),
            "504 at the deadline, except for a refresh",
        );
        const LEARN: Cell = cell(Effect::Allow, "a route with `learn` is refused");
        const ONE_USE: &str = "single-use URLs are refused";
        match self {
            //                   public read     write     admin     sign-in    signed
            Self::StoreLeft   => [ALLOW, ALLOW,   LEARN,    NO_STORE, THROTTLED, cell(Effect::Allow, ONE_USE)],
            Self::StoreAway   => [ALLOW, DEGRADE, NO_STORE, NO_STORE, THROTTLED, cell(Effect::Degrade, ONE_USE)],
            Self::StoreGone   => [ALLOW, NO_STORE, NO_STORE, NO_STORE, NO_STORE, NO_STORE],
            Self::CookieUnknown => [ALLOW, NO_SESSION, NO_SESSION, NO_SESSION, NO_SESSION, ALLOW],
            Self::KeysKept    => [ALLOW, ALLOW,   ALLOW,    ALLOW,    ALLOW,     ALLOW],
            Self::KeysMissing => [ALLOW, NO_KEYS, NO_KEYS,  NO_KEYS,  ALLOW,     ALLOW],
            Self::IdentityAway => [ALLOW, COOKIE, COOKIE,   COOKIE,   NO_SIGN_IN, ALLOW],
            Self::FactsAway   => [ALLOW, OLD,     NO_FACTS, NO_FACTS, ALLOW,     ALLOW],
            Self::BudgetSpent => [SPENT, SPENT,   SPENT,    SPENT,    SPENT,     SPENT],
        }
    }

    /// The state of the store; `None` if it is available. `is_complete` says whether the list of
    /// revocations was complete when the store was last reached.
    pub fn of_store(outage: Outage, is_complete: bool, now: Instant) -> Option<Self> {
        match outage {
            Outage::Reachable if is_complete => None,
            Outage::Reachable | Outage::NeverSeen => Some(Self::StoreGone),
            Outage::Away { .. } if !is_complete => Some(Self::StoreGone),
            Outage::Away { since } => {
                let away = now.saturating_duration_since(since);
                Some(match away {
                    _ if away < BRIEF => Self::StoreLeft,
                    _ if away < LONG => Self::StoreAway,
                    _ => Self::StoreGone,
                })
            }
        }
    }

    /// The name in log lines and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StoreLeft => "store_left",
            Self::StoreAway => "store_away",
            Self::StoreGone => "store_gone",
            Self::CookieUnknown => "cookie_unknown",
            Self::KeysKept => "keys_kept",
            Self::KeysMissing => "keys_missing",
            Self::IdentityAway => "identity_away",
            Self::FactsAway => "facts_away",
            Self::BudgetSpent => "budget_spent",
        }
    }

    /// A description in a few words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::StoreLeft => "store away for less than 30 s, list of revocations complete",
            Self::StoreAway => "store away for 30 s to 5 min",
            Self::StoreGone => {
                "store away for 5 min or more, never reached since the start, or list not complete"
            }
            Self::CookieUnknown => "store away, and the session of a cookie is not in memory",
            Self::KeysKept => {
                "keys cannot be fetched; the last good ones are recent enough and have the `kid`"
            }
            Self::KeysMissing => {
                "keys cannot be fetched; the last good ones are too old or lack the `kid`"
            }
            Self::IdentityAway => "identity server away",
            Self::FactsAway => "facts: the database is away or slow",
            Self::BudgetSpent => "budget spent before a decision",
        }
    }

    /// How a request of this class is answered.
    pub const fn effect(self, class: AccessClass) -> Effect {
        let [public, read, write, admin, sign_in, signed] = self.row();
        match class {
            AccessClass::Public => public.effect,
            AccessClass::Read => read.effect,
            AccessClass::Write => write.effect,
            AccessClass::Admin => admin.effect,
            AccessClass::SignIn => sign_in.effect,
            AccessClass::Signed => signed.effect,
        }
    }
}

impl AccessClass {
    /// Every class, in the order of the table.
    pub const ALL: [Self; 6] = [
        Self::Public,
        Self::Read,
        Self::Write,
        Self::Admin,
        Self::SignIn,
        Self::Signed,
    ];

    /// The class of a request to this route. An action that only roles with `"*"` have is an
    /// administrator's.
    pub fn of(route: &Route, method: &Method, roles: &Roles) -> Self {
        if let Some(Target::Serve(Serve::SignIn(_) | Serve::IdentityServer)) = route.target {
            return Self::SignIn;
        }
        match route.access {
            Access::Public | Access::Deny => return Self::Public,
            Access::Optional | Access::User => {}
        }
        let action = route.action_of(method);
        // The owner of a resource may perform actions that no role grants.
        let may_be_owners = !route.resources.is_empty() && !action.ends_with(":any");
        if action == "admin" || roles.is_for_admins(action) && !may_be_owners {
            Self::Admin
        } else if action.strip_suffix(":any").unwrap_or(action) == "read" {
            Self::Read
        } else {
            Self::Write
        }
    }

    /// The name in documents and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin, service",
            Self::SignIn => "sign-in",
            Self::Signed => "signed",
        }
    }
}

impl Effect {
    /// The text in documents.
    pub fn as_text(self) -> String {
        match self {
            Self::Allow => "allow".to_owned(),
            Self::Degrade => "degrade".to_owned(),
            Self::Refuse(reason) => format!("{} {}", reason.status().as_u16(), reason.code()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the row allows at most as much as another.
    fn is_no_looser(row: [Cell; 6], than: [Cell; 6]) -> bool {
        let rank = |cell: &Cell| match cell.effect {
            Effect::Allow => 2,
            Effect::Degrade => 1,
            Effect::Refuse(_) => 0,
        };
        row.iter()
            .zip(&than)
            .all(|(cell, other)| rank(cell) <= rank(other))
    }

    #[test]
    fn the_longer_the_store_is_away_the_less_is_allowed() {
        assert!(is_no_looser(State::StoreAway.row(), State::StoreLeft.row()));
        assert!(is_no_looser(State::StoreGone.row(), State::StoreAway.row()));
    }

    #[test]
    fn an_outage_is_a_503_and_never_blames_the_caller() {
        for state in State::ALL {
            // A public request needs no dependency, only the budget.
            if state != State::BudgetSpent {
                assert_eq!(state.effect(AccessClass::Public), Effect::Allow);
            }
            for class in AccessClass::ALL {
                if let Effect::Refuse(reason) = state.effect(class) {
                    assert_eq!(reason.status().as_u16(), 503, "{state:?} {class:?}");
                    assert_eq!(reason.fault(), crate::denial::Fault::Dependency);
                }
            }
        }
    }

    #[test]
    fn degraded_reads_need_a_credential_from_before_the_outage() {
        let start = crate::clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let since = at(10);
        let allows = |class: AccessClass, known_since: Instant, now: Instant| {
            authorize(Outage::Away { since }, true, || class, known_since, now).is_ok()
        };
        // Away for 40 s.
        assert!(allows(AccessClass::Read, at(9), at(50)));
        assert!(allows(AccessClass::Read, since, at(50)));
        assert!(!allows(AccessClass::Read, at(11), at(50)));
        assert!(!allows(AccessClass::Write, at(9), at(50)));
        // For a moment, and for six minutes.
        assert!(allows(AccessClass::Write, at(11), at(12)));
        assert!(!allows(AccessClass::Admin, at(9), at(12)));
        assert!(!allows(AccessClass::Read, at(9), at(10 + 6 * 60)));
        assert!(allows(AccessClass::Public, at(9), at(10 + 6 * 60)));
    }

    #[test]
    fn the_state_of_the_store_follows_the_clock() {
        let since = crate::clock::now();
        let after = |seconds| {
            State::of_store(
                Outage::Away { since },
                true,
                since + Duration::from_secs(seconds),
            )
        };
        assert_eq!(after(0), Some(State::StoreLeft));
        assert_eq!(after(29), Some(State::StoreLeft));
        assert_eq!(after(30), Some(State::StoreAway));
        assert_eq!(after(40), Some(State::StoreAway));
        assert_eq!(after(299), Some(State::StoreAway));
        assert_eq!(after(300), Some(State::StoreGone));
        assert_eq!(after(360), Some(State::StoreGone));
        assert_eq!(State::of_store(Outage::Reachable, true, since), None);
        for (outage, is_complete) in [
            (Outage::Reachable, false),
            (Outage::NeverSeen, true),
            (Outage::Away { since }, false),
        ] {
            let state = State::of_store(outage, is_complete, since);
            assert_eq!(state, Some(State::StoreGone), "{outage:?} {is_complete}");
        }
    }
}
