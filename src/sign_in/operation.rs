//! What the identity server can be asked, by name.
//!
//! Decides: the words for it in metrics. Trusts: nothing; it is a table. Not here: which request is which operation (whoever makes or reads one).

macro_rules! operations {
    ($($variant:ident $word:literal $doc:literal,)*) => {
        /// One thing the identity server can be asked.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Operation {
            $(#[doc = $doc] $variant,)*
        }

        impl Operation {
            /// Every operation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word for it, a metric label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

operations! {
    PasswordGrant "password" "`POST /token?grant_type=password`: a user signs in.",
    Refresh "refresh" "`POST /token?grant_type=refresh_token`: a session gets new tokens, and its refresh token is used up.",
    PkceGrant "pkce" "`POST /token?grant_type=pkce`: a code of a redirect is exchanged.",
    IdTokenGrant "id_token" "`POST /token?grant_type=id_token`: another provider's token is exchanged.",
    Web3Grant "web3" "`POST /token?grant_type=web3`: a wallet signs in.",
    SignUp "signup" "`POST /signup`.",
    Otp "otp" "`POST /otp`: a code is sent.",
    MagicLink "magiclink" "`POST /magiclink`: a link is sent.",
    Recover "recover" "`POST /recover`: a link to set a new password is sent.",
    Resend "resend" "`POST /resend`: a message is sent again.",
    Verify "verify" "`GET` or `POST /verify`: a link or code that was sent is used.",
    Logout "logout" "`POST /logout`: sessions end.",
    ReadUser "read_user" "`GET /user`.",
    ChangeUser "change_user" "`PUT /user`: e-mail, password or data change.",
    Reauthenticate "reauthenticate" "`GET /reauthenticate`: a code is sent before something sensitive changes.",
    Identities "identities" "Identities of other providers: listed, linked and unlinked.",
    Factors "factors" "`/factors`: a second factor is enrolled, challenged or removed.",
    VerifyFactor "verify_factor" "`POST /factors/{id}/verify`: a second factor is proven, which gives new tokens.",
    Authorize "authorize" "`GET /authorize`: the way to another provider.",
    Callback "callback" "`GET` or `POST /callback`: the way back.",
    Settings "settings" "`GET /settings`.",
    Health "health" "`GET /health`.",
    KeySet "jwks" "`GET /.well-known/jwks.json`.",
    AdminUsers "admin_users" "`/admin/users`, with the secret key.",
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
