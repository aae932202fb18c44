//! What is tried, and which limits it has.

use crate::policy::sign_in::{Limits, Throttling};

/// What is tried.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Attempt {
    /// To sign in with a password.
    Login,
    /// To make an account.
    Register,
    /// To get new tokens for a session.
    Refresh,
    /// To have a message sent, such as one to set a new password.
    Reset,
    /// To use a code that was sent, or one of a second factor.
    Verify,
}

/// Which limit refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Limit {
    Address,
    Account,
    UnderWay,
    Waiting,
}

impl Attempt {
    /// Every attempt.
    pub const ALL: [Self; 5] = [
        Self::Login,
        Self::Register,
        Self::Refresh,
        Self::Reset,
        Self::Verify,
    ];

    /// The word for it, a key of the configuration and a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Register => "register",
            Self::Refresh => "refresh",
            Self::Reset => "reset",
            Self::Verify => "verify",
        }
    }

    /// Whether places of its limit are taken before it, or only when it failed. A refresh token cannot be guessed, and a place taken for a moment would
    /// refuse an office that comes back all at once.
    pub(super) const fn takes_first(self) -> bool {
        match self {
            Self::Login | Self::Register | Self::Reset | Self::Verify => true,
            Self::Refresh => false,
        }
    }

    /// Whether a success gives its places back.
    pub(super) const fn counts_failures(self) -> bool {
        match self {
            Self::Login | Self::Refresh | Self::Verify => true,
            Self::Register | Self::Reset => false,
        }
    }

    pub(super) fn limits(self, throttling: &Throttling) -> &Limits {
        match self {
            Self::Login => &throttling.login,
            Self::Register => &throttling.register,
            Self::Refresh => &throttling.refresh,
            Self::Reset => &throttling.reset,
            Self::Verify => &throttling.verify,
        }
    }
}

impl Limit {
    pub(super) const ALL: [Self; 4] = [Self::Address, Self::Account, Self::UnderWay, Self::Waiting];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Account => "account",
            Self::UnderWay => "under_way",
            Self::Waiting => "waiting",
        }
    }
}
