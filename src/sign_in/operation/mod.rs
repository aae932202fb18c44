//! The operations of the identity server: one table (`table`) says of each how it is called, by
//! whom, what it counts as, and what it does to sessions; or why it is refused.
//!
//! Decides:  what passes at all. `config/identity-server.md` is written from it (`document`).
//! Trusts:   nobody; it is data.
//! Not here: how a request is recognized, and what is done about sessions (`passthrough`).

mod document;
mod table;

use hyper::Method;

use super::throttle::attempt::Attempt;

pub use self::document::document;
pub use self::table::{Operation, REFUSED};

/// What is known of an operation.
#[derive(Clone, Copy, Debug)]
pub struct OperationRow {
    /// Its requests. None for an operation that only the gateway itself calls.
    pub routes: &'static [Route],
    /// Who may call it.
    pub caller: CallerRule,
    /// What the throttle counts it as. There is no operation without an attempt: each occupies the
    /// identity server.
    pub attempt: Attempt,
    /// Whose account it is an attempt on.
    pub account: AccountSource,
    /// Whether the server waits for a third party: it sends a message, or calls another provider.
    /// That may take any time, and says nothing about the health of the identity server.
    pub waits_for_others: bool,
    /// What it does to sessions.
    pub effect: Effect,
}

/// One request of an operation.
#[derive(Clone, Debug)]
pub struct Route {
    /// The HTTP method.
    pub method: Method,
    /// The path below `/auth/v1/`. `{id}` is a UUID in lower case with hyphens, `{word}` any word
    /// of letters, digits, `-` and `_`.
    pub path: &'static str,
    /// The `grant_type` of `token`.
    pub grant: Option<&'static str>,
    /// What its body must be.
    pub body: BodyRule,
}

/// A request of the identity server's API that is never forwarded.
#[derive(Clone, Debug)]
pub struct RefusedRoute {
    /// The path below `/auth/v1/`, and everything below that.
    pub path: &'static str,
    /// Why.
    pub why: &'static str,
}

/// Who may call an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallerRule {
    /// Anybody: a browser that follows a link, or a verifier of tokens. It needs no key.
    Anyone,
    /// Whoever has one of the project's publishable keys.
    Key,
    /// A user, who also needs a key.
    User,
    /// Only the gateway itself, with the secret key.
    Gateway,
}

/// Whose account an operation is an attempt on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountSource {
    /// The account of the e-mail address or telephone number in the body. Only of operations for
    /// which the identity server itself uses these; otherwise a client could have its attempts
    /// counted against another account.
    Body,
    /// The caller's account.
    Caller,
    /// Unknown until the operation is answered.
    Nobody,
}

/// What the body of a request must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyRule {
    /// There is none; a body that comes is not read.
    None,
    /// A JSON object.
    Json,
    /// A JSON object, or none.
    JsonOrNone,
    /// `application/x-www-form-urlencoded`, as a browser posts a form. Nothing in it is read here.
    Form,
}

/// What an operation does to sessions at the identity server, and so here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Nothing.
    None,
    /// It may begin one.
    Begins,
    /// It gives the session new tokens, or says that the session has ended.
    Refreshes,
    /// It ends the caller's session, the others, or all.
    EndsByScope,
    /// It ends the user's other sessions if it changes the password.
    EndsOthersWithPassword,
    /// It raises the level of the caller's session (`aal`), and ends the user's sessions that are
    /// below that.
    Raises,
    /// It takes a second factor away: sessions that were proven by it fall to `aal1`.
    Lowers,
    /// It ends the sessions that an app has with the user.
    EndsOfClient,
}

impl Effect {
    /// Whether the answer may hold tokens of a user.
    pub(super) const fn gives_tokens(self) -> bool {
        match self {
            Self::Begins | Self::Refreshes | Self::Raises => true,
            Self::None
            | Self::EndsByScope
            | Self::EndsOthersWithPassword
            | Self::Lowers
            | Self::EndsOfClient => false,
        }
    }

    /// Whether it may end sessions, so that it must be carried out here as well.
    pub(super) const fn ends_sessions(self) -> bool {
        match self {
            Self::EndsByScope
            | Self::EndsOthersWithPassword
            | Self::Raises
            | Self::Lowers
            | Self::EndsOfClient => true,
            Self::None | Self::Begins | Self::Refreshes => false,
        }
    }
}

impl Operation {
    /// Whether the server waits for a third party.
    pub const fn waits_for_others(self) -> bool {
        self.row().waits_for_others
    }

    /// Whether it needs no key.
    pub(super) const fn is_open(self) -> bool {
        matches!(self.row().caller, CallerRule::Anyone)
    }

    /// How many of all slots its calls may use at once, so that no operation uses up the slots of
    /// the others: three quarters, or half if they wait for a third party; a third of that if
    /// anybody may make them. At least one. The parts are a choice.
    pub(super) const fn slots(self, all: usize) -> usize {
        let most = match self.waits_for_others() {
            true => all.div_ceil(2),
            false => three_quarters(all),
        };
        match self.is_open() {
            true => most.div_ceil(3),
            false => most,
        }
    }
}

/// The slots of all calls together that wait for a third party, so that a server busy with slow
/// calls still serves the others. A choice.
pub(super) const fn slow_slots(all: usize) -> usize {
    three_quarters(all)
}

const fn three_quarters(all: usize) -> usize {
    all.saturating_mul(3).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Label as _;

    #[test]
    fn no_operation_may_use_all_slots_unless_there_are_very_few() {
        for operation in Operation::VALUES {
            for all in [1, 2, 3, 64] {
                assert!((1..=all).contains(&operation.slots(all)), "{operation:?}");
            }
            assert!(operation.slots(64) <= 48, "{operation:?}");
        }
        assert_eq!(Operation::Callback.slots(64), 11);
        assert_eq!(Operation::SignUp.slots(64), 32);
        // All strangers' operations together leave room for sign-up and codes.
        let open = Operation::VALUES.iter().filter(|one| one.is_open());
        let slow = open.filter(|one| one.waits_for_others());
        let strangers: usize = slow.map(|one| one.slots(64)).sum();
        assert!(strangers * 2 < slow_slots(64), "{strangers}");
    }

    #[test]
    fn an_attempt_on_the_callers_account_has_a_caller() {
        for operation in Operation::VALUES {
            let row = operation.row();
            let is_of_caller = row.account == AccountSource::Caller;
            assert!(
                !is_of_caller || row.caller == CallerRule::User,
                "{operation:?}"
            );
        }
    }

    #[test]
    fn a_path_is_listed_once() {
        let mut seen = Vec::new();
        for operation in Operation::VALUES {
            for route in operation.row().routes {
                let key = (route.method.clone(), route.path, route.grant);
                assert!(!seen.contains(&key), "{key:?}");
                let mut refused = REFUSED.iter();
                assert!(!refused.any(|row| row.path == route.path), "{}", route.path);
                seen.push(key);
            }
        }
    }
}
