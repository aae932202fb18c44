//! The table: every operation of the identity server's router (Supabase Auth v2.196), and the paths
//! that are refused.

use hyper::Method;

use super::{AccountSource, BodyRule, CallerRule, Effect, OperationRow, RefusedRoute, Route};
use crate::metrics::labels;
use crate::sign_in::throttle::attempt::Attempt;

/// Declares [`Operation`] and its rows together, so that none is without the other. A row has the
/// label in metrics, the requests, who may call it, what it counts as and on whose account, what it
/// does to sessions, and whether it waits for others.
macro_rules! operations {
    ($(
        $(#[$means:meta])*
        $variant:ident = $label:literal {
            $($method:ident $path:literal $([$grant:literal])? $body:ident,)*
        } $caller:ident, $attempt:ident of $account:ident, $effect:ident,
          waits: $waits:literal;
    )*) => {
        labels! {
            /// An operation of the identity server.
            pub enum Operation {
                $($(#[$means])* $variant = $label,)*
            }
        }

        impl Operation {
            /// Its row of the table.
            pub const fn row(self) -> OperationRow {
                match self {
                    $(Self::$variant => {
                        const ROUTES: &[Route] = &[$(Route {
                            method: Method::$method,
                            path: $path,
                            grant: operations!(@grant $($grant)?),
                            body: BodyRule::$body,
                        },)*];
                        OperationRow {
                            routes: ROUTES,
                            caller: CallerRule::$caller,
                            attempt: Attempt::$attempt,
                            account: AccountSource::$account,
                            waits_for_others: $waits,
                            effect: Effect::$effect,
                        }
                    })*
                }
            }
        }
    };
    (@grant $grant:literal) => { Some($grant) };
    (@grant) => { None };
}

operations! {
    /// Signs a user in with a password.
    PasswordGrant = "password" { POST "token" ["password"] Json, }
        Key, Login of Body, Begins, waits: false;
    /// New tokens for a session; uses its refresh token up.
    Refresh = "refresh" { POST "token" ["refresh_token"] Json, }
        Key, Refresh of Nobody, Refreshes, waits: false;
    /// Exchanges the code of a redirect.
    PkceGrant = "pkce" { POST "token" ["pkce"] Json, }
        Key, Login of Nobody, Begins, waits: false;
    /// Exchanges another provider's token.
    IdTokenGrant = "id_token" { POST "token" ["id_token"] Json, }
        Key, Login of Nobody, Begins, waits: true;
    /// A wallet signs in.
    Web3Grant = "web3" { POST "token" ["web3"] Json, }
        Key, Login of Nobody, Begins, waits: false;
    /// Creates an account, or an anonymous user.
    SignUp = "signup" { POST "signup" Json, }
        Key, Register of Body, Begins, waits: true;
    /// Sends a code.
    Otp = "otp" { POST "otp" Json, }
        Key, Reset of Body, None, waits: true;
    /// Sends a link.
    MagicLink = "magiclink" { POST "magiclink" Json, }
        Key, Reset of Body, None, waits: true;
    /// Sends a link to set a new password.
    Recover = "recover" { POST "recover" Json, }
        Key, Reset of Body, None, waits: true;
    /// Sends a message again.
    Resend = "resend" { POST "resend" Json, }
        Key, Reset of Body, None, waits: true;
    /// Uses a link or a code that was sent.
    Verify = "verify" { GET "verify" None, POST "verify" Json, }
        Anyone, Verify of Body, Begins, waits: false;
    /// Ends sessions.
    Logout = "logout" { POST "logout" None, }
        User, Account of Nobody, EndsByScope, waits: false;
    /// Returns the user.
    ReadUser = "read_user" { GET "user" None, }
        User, Account of Nobody, None, waits: false;
    /// Changes e-mail address, password or data.
    ChangeUser = "change_user" { PUT "user" Json, }
        User, Account of Nobody, EndsOthersWithPassword, waits: true;
    /// Sends a code before a sensitive change.
    Reauthenticate = "reauthenticate" { GET "reauthenticate" None, }
        User, Reset of Caller, None, waits: true;
    /// Links and unlinks identities of other providers.
    Identities = "identities" {
        GET "user/identities/authorize" None,
        DELETE "user/identities/{id}" None,
    } User, Account of Nobody, None, waits: true;
    /// Lists the apps to which the user gave access, or takes it from one.
    OauthGrants = "oauth_grants" {
        GET "user/oauth/grants" None,
        DELETE "user/oauth/grants" None,
    } User, Account of Nobody, EndsOfClient, waits: false;
    /// Enrolls a second factor, or lists and makes recovery codes.
    Factors = "factors" {
        POST "factors" Json,
        GET "factors/recovery-codes" None,
        POST "factors/recovery-codes" JsonOrNone,
        POST "factors/recovery-codes/regenerate" JsonOrNone,
    } User, Account of Nobody, None, waits: true;
    /// Challenges a second factor; if that is a telephone, by a message to it.
    ChallengeFactor = "challenge_factor" { POST "factors/{id}/challenge" JsonOrNone, }
        User, Challenge of Caller, None, waits: true;
    /// Proves a second factor, which gives new tokens.
    VerifyFactor = "verify_factor" {
        POST "factors/{id}/verify" Json,
        POST "factors/recovery-codes/verify" Json,
    } User, Verify of Caller, Raises, waits: false;
    /// Removes a second factor.
    Unenroll = "unenroll" {
        DELETE "factors/{id}" None,
        DELETE "factors/recovery-codes" None,
    } User, Account of Nobody, Lowers, waits: true;
    /// Asks for the challenge of a passkey.
    PasskeyChallenge = "passkey_challenge" { POST "passkeys/authentication/options" JsonOrNone, }
        Key, Redirect of Nobody, None, waits: false;
    /// Signs a user in with a passkey.
    PasskeySignIn = "passkey" { POST "passkeys/authentication/verify" Json, }
        Key, Login of Nobody, Begins, waits: false;
    /// Registers, lists, renames and removes the user's passkeys.
    Passkeys = "passkeys" {
        POST "passkeys/registration/options" JsonOrNone,
        POST "passkeys/registration/verify" Json,
        GET "passkeys" None,
        PATCH "passkeys/{id}" Json,
        DELETE "passkeys/{id}" None,
    } User, Account of Nobody, None, waits: false;
    /// Redirects to another provider.
    Authorize = "authorize" { GET "authorize" None, }
        Anyone, Redirect of Nobody, None, waits: true;
    /// The redirect back; some providers post a form.
    Callback = "callback" { GET "callback" None, POST "callback" Form, }
        Anyone, Redirect of Nobody, Begins, waits: true;
    /// Begins a sign-in at the identity provider of an organization.
    Sso = "sso" { POST "sso" Json, }
        Key, Redirect of Nobody, None, waits: false;
    /// The form that such a provider has the browser post (SAML 2.0).
    SamlAssertion = "saml_acs" { POST "sso/saml/acs" Form, }
        Anyone, Redirect of Nobody, Begins, waits: false;
    /// An app asks for access to the user's account; redirects to the page that asks the user.
    OauthAuthorize = "oauth_authorize" { GET "oauth/authorize" None, }
        Anyone, Redirect of Nobody, None, waits: false;
    /// The user reads such a request of an app, and allows or refuses it.
    OauthConsent = "oauth_consent" {
        GET "oauth/authorizations/{word}" None,
        POST "oauth/authorizations/{word}/consent" Json,
    } User, Account of Nobody, None, waits: false;
    /// An app registers itself (RFC 7591).
    OauthRegister = "oauth_register" { POST "oauth/clients/register" Json, }
        Anyone, Register of Nobody, None, waits: false;
    /// An app exchanges a code or a refresh token. It names itself in the form: a field
    /// `Authorization` with its secret is not forwarded.
    OauthToken = "oauth_token" { POST "oauth/token" Form, }
        Anyone, Login of Nobody, None, waits: false;
    /// The user as an app sees them (OpenID Connect Core 1.0, section 5.3).
    OauthUser = "oauth_user" { GET "oauth/userinfo" None, }
        User, Account of Nobody, None, waits: false;
    /// What is switched on.
    Settings = "settings" { GET "settings" None, }
        Key, Read of Nobody, None, waits: false;
    /// Whether the server is there.
    Health = "health" { GET "health" None, }
        Key, Read of Nobody, None, waits: false;
    /// The keys that verify tokens.
    KeySet = "jwks" { GET ".well-known/jwks.json" None, }
        Anyone, Read of Nobody, None, waits: false;
    /// What the server says of itself: as a provider of SAML, OpenID Connect and OAuth.
    Metadata = "metadata" {
        GET "sso/saml/metadata" None,
        GET ".well-known/openid-configuration" None,
        GET ".well-known/oauth-authorization-server" None,
    } Anyone, Read of Nobody, None, waits: false;
    /// Creates accounts, with the secret key.
    AdminUsers = "admin_users" {}
        Gateway, Register of Nobody, None, waits: false;
}

/// What is never forwarded, by path. A request that is neither here nor in a row is refused, too.
pub const REFUSED: &[RefusedRoute] = &[
    RefusedRoute {
        path: "admin",
        why: "for administrators, who call the identity server itself: users, links, audit log, providers, apps and SCIM",
    },
    RefusedRoute {
        path: "invite",
        why: "for administrators, who call the identity server itself",
    },
    RefusedRoute {
        path: "generate_link",
        why: "for administrators, who call the identity server itself",
    },
    RefusedRoute {
        path: "scim",
        why: "for the server of an organization's identity provider, which calls the identity server itself, with a token of its own",
    },
];
