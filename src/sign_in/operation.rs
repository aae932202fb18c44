//! The operations of the identity server, by name.

use crate::metrics::labels;

labels! {
    /// An operation of the identity server.
    pub enum Operation {
        /// `POST /token?grant_type=password`: a user signs in.
        PasswordGrant = "password",
        /// `POST /token?grant_type=refresh_token`: new tokens for a session; uses its refresh token
        /// up.
        Refresh = "refresh",
        /// `POST /token?grant_type=pkce`: exchanges a code of a redirect.
        PkceGrant = "pkce",
        /// `POST /token?grant_type=id_token`: exchanges another provider's token.
        IdTokenGrant = "id_token",
        /// `POST /token?grant_type=web3`: a wallet signs in.
        Web3Grant = "web3",
        /// `POST /signup`.
        SignUp = "signup",
        /// `POST /otp`: sends a code.
        Otp = "otp",
        /// `POST /magiclink`: sends a link.
        MagicLink = "magiclink",
        /// `POST /recover`: sends a link to set a new password.
        Recover = "recover",
        /// `POST /resend`: sends a message again.
        Resend = "resend",
        /// `GET` or `POST /verify`: uses a link or code that was sent.
        Verify = "verify",
        /// `POST /logout`: ends sessions.
        Logout = "logout",
        /// `GET /user`.
        ReadUser = "read_user",
        /// `PUT /user`: changes e-mail, password or data.
        ChangeUser = "change_user",
        /// `GET /reauthenticate`: sends a code before a sensitive change.
        Reauthenticate = "reauthenticate",
        /// Identities of other providers: lists, links and unlinks them.
        Identities = "identities",
        /// `/factors`: enrolls, challenges or removes a second factor.
        Factors = "factors",
        /// `POST /factors/{id}/verify`: proves a second factor, which gives new tokens.
        VerifyFactor = "verify_factor",
        /// `GET /authorize`: redirects to another provider.
        Authorize = "authorize",
        /// `GET` or `POST /callback`: the redirect back.
        Callback = "callback",
        /// `GET /settings`.
        Settings = "settings",
        /// `GET /health`.
        Health = "health",
        /// `GET /.well-known/jwks.json`.
        KeySet = "jwks",
        /// `/admin/users`, with the secret key.
        AdminUsers = "admin_users",
    }
}

impl Operation {
    /// Whether the server waits for a third party: it sends a message, or calls another provider.
    /// That may take any time, and says nothing about the health of the identity server.
    pub const fn waits_for_others(self) -> bool {
        match self {
            Self::SignUp
            | Self::Otp
            | Self::MagicLink
            | Self::Recover
            | Self::Resend
            | Self::ChangeUser
            | Self::Reauthenticate
            | Self::IdTokenGrant
            | Self::Identities
            | Self::Factors
            | Self::Authorize
            | Self::Callback => true,
            Self::PasswordGrant
            | Self::Refresh
            | Self::PkceGrant
            | Self::Web3Grant
            | Self::Verify
            | Self::Logout
            | Self::ReadUser
            | Self::VerifyFactor
            | Self::Settings
            | Self::Health
            | Self::KeySet
            | Self::AdminUsers => false,
        }
    }

    /// Whether it needs no key: it is called by a browser that follows a link, or by a verifier of
    /// tokens.
    pub(super) const fn is_open(self) -> bool {
        matches!(
            self,
            Self::Verify | Self::Authorize | Self::Callback | Self::KeySet
        )
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
}
