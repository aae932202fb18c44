//! The operations of the identity server, by name.

use crate::metrics::labels;

labels! {
    /// An operation of the identity server.
    pub enum Operation {
        /// `POST /token?grant_type=password`: a user signs in.
        PasswordGrant = "password",
        /// `POST /token?grant_type=refresh_token`: a session gets new tokens, and its refresh token
        /// is used up.
        Refresh = "refresh",
        /// `POST /token?grant_type=pkce`: a code of a redirect is exchanged.
        PkceGrant = "pkce",
        /// `POST /token?grant_type=id_token`: another provider's token is exchanged.
        IdTokenGrant = "id_token",
        /// `POST /token?grant_type=web3`: a wallet signs in.
        Web3Grant = "web3",
        /// `POST /signup`.
        SignUp = "signup",
        /// `POST /otp`: a code is sent.
        Otp = "otp",
        /// `POST /magiclink`: a link is sent.
        MagicLink = "magiclink",
        /// `POST /recover`: a link to set a new password is sent.
        Recover = "recover",
        /// `POST /resend`: a message is sent again.
        Resend = "resend",
        /// `GET` or `POST /verify`: a link or code that was sent is used.
        Verify = "verify",
        /// `POST /logout`: sessions end.
        Logout = "logout",
        /// `GET /user`.
        ReadUser = "read_user",
        /// `PUT /user`: e-mail, password or data change.
        ChangeUser = "change_user",
        /// `GET /reauthenticate`: a code is sent before something sensitive changes.
        Reauthenticate = "reauthenticate",
        /// Identities of other providers: listed, linked and unlinked.
        Identities = "identities",
        /// `/factors`: a second factor is enrolled, challenged or removed.
        Factors = "factors",
        /// `POST /factors/{id}/verify`: a second factor is proven, which gives new tokens.
        VerifyFactor = "verify_factor",
        /// `GET /authorize`: the way to another provider.
        Authorize = "authorize",
        /// `GET` or `POST /callback`: the way back.
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
    /// Whether the server waits for others before it answers: it sends a message, or asks another provider. That may take as long as they
    /// like, and says nothing about the identity server.
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
}
