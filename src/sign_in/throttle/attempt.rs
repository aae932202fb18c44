//! What is attempted, and which limits it has.

use crate::metrics::labels;
use crate::policy::sign_in::{Limits, Throttling};

labels! {
    /// What a client attempts; a key of the configuration, too.
    pub enum Attempt {
        /// To sign in with a password.
        Login = "login",
        /// To create an account.
        Register = "register",
        /// To get new tokens for a session.
        Refresh = "refresh",
        /// To have a message sent, such as one to set a new password.
        Reset = "reset",
        /// To use a code that was sent, or one of a second factor.
        Verify = "verify",
        /// To be challenged for a second factor, which may send a message.
        Challenge = "challenge",
        /// To be redirected to another provider, or back from it.
        Redirect = "redirect",
        /// To read or change one's own account.
        Account = "account",
        /// To read what the identity server tells everybody.
        Read = "read",
    }

    /// The limit that refused an attempt.
    pub(super) enum Limit {
        /// Failures of one address.
        Address = "address",
        /// Failures of one address with one account.
        Account = "account",
        /// Concurrent refreshes of one address.
        UnderWay = "under_way",
        /// Attempts and refusals that wait.
        Waiting = "waiting",
    }
}

impl Attempt {
    /// Whether tokens are taken before the attempt, or only when it failed. A refresh token cannot
    /// be guessed, and tokens taken in advance would refuse an office whose clients all reconnect
    /// at once.
    pub(super) const fn takes_first(self) -> bool {
        match self {
            Self::Login
            | Self::Register
            | Self::Reset
            | Self::Verify
            | Self::Challenge
            | Self::Redirect
            | Self::Account
            | Self::Read => true,
            Self::Refresh => false,
        }
    }

    /// Whether a success returns its tokens.
    pub(super) const fn counts_failures(self) -> bool {
        match self {
            Self::Login | Self::Refresh | Self::Verify => true,
            Self::Register
            | Self::Reset
            | Self::Challenge
            | Self::Redirect
            | Self::Account
            | Self::Read => false,
        }
    }

    /// Whether it may give or change what proves a user, so that the list of revocations must be
    /// known.
    pub(in crate::sign_in) const fn needs_revocations(self) -> bool {
        match self {
            Self::Login | Self::Register | Self::Refresh | Self::Reset | Self::Verify => true,
            Self::Challenge | Self::Redirect | Self::Account | Self::Read => false,
        }
    }

    pub(super) fn limits(self, throttling: &Throttling) -> &Limits {
        match self {
            Self::Login => &throttling.login,
            Self::Register => &throttling.register,
            Self::Refresh => &throttling.refresh,
            Self::Reset => &throttling.reset,
            Self::Verify => &throttling.verify,
            Self::Challenge => &throttling.challenge,
            Self::Redirect => &throttling.redirect,
            Self::Account => &throttling.account,
            Self::Read => &throttling.read,
        }
    }
}
