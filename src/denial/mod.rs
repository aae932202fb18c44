//! Why a request was refused: one word in one table, read by two audiences.
//!
//! Decides: the status, the public code and the wording of every refusal. Trusts: the [`Reason`] it is given. Not here:
//! when to refuse; that is for `request`, the layers of `auth`, and `upstream`.
//!
//! The operator's code is in logs and metrics; the client's code is in the answer. They are equal except where the difference
//! would tell a stranger what exists: `route_denied` and `route_unknown` both show `not_found`, with the same body.
//! `config/reasons.md` is generated from this table, and a test holds the two together.

pub mod dialect;
pub mod grpc;

use std::borrow::Cow;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderValue;

/// Whose doing a refusal is. All but `Client` are worth waking somebody for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request itself: malformed, or not allowed.
    Client,
    /// This process, or its configuration.
    Gateway,
    /// A dependency this process needs to judge, such as a key server.
    Dependency,
    /// The server behind this one.
    Upstream,
}

impl Fault {
    /// The word used in `config/reasons.md`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Gateway => "gateway",
            Self::Dependency => "dependency",
            Self::Upstream => "upstream",
        }
    }
}

/// On which protocol versions a reason can be produced at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1 and HTTP/2.
    Both,
    /// HTTP/1.1 only: HTTP/2 cannot express the request, or hyper resets the stream before we see it.
    H1,
}

impl Wire {
    /// The word used in `config/reasons.md`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Both => "h1, h2",
            Self::H1 => "h1",
        }
    }
}

macro_rules! reasons {
    ($($variant:ident $code:literal => $status:ident, $public:literal, $fault:ident, $wire:ident, $means:literal, $todo:literal;)*) => {
        /// One reason to refuse. No arm of any `match` on it is a wildcard: a new reason must be answered before it compiles.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $means] $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The operator's word: log field, metric label, key of the table.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The client's word: `code` of the problem document.
            pub const fn public_code(self) -> &'static str {
                match self { $(Self::$variant => $public,)* }
            }

            /// The status of the answer.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// Whose doing it is.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }

            /// Which protocol versions can produce it.
            pub const fn wire(self) -> Wire {
                match self { $(Self::$variant => Wire::$wire,)* }
            }

            /// What it means, in a sentence for the operator.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $means,)* }
            }

            /// What to do about it, in a sentence.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $todo,)* }
            }
        }
    };
}

reasons! {
    // The request cannot be read in exactly one way.
    HostMissing "host_missing" => BAD_REQUEST, "host_missing", Client, Both,
        "The request names no host.", "Send a `Host` header (`:authority` on HTTP/2).";
    HostRepeated "host_repeated" => BAD_REQUEST, "host_repeated", Client, Both,
        "The request has more than one `Host` header.", "Send one.";
    HostInvalid "host_invalid" => BAD_REQUEST, "host_invalid", Client, Both,
        "The host is not a name or an address with an optional port (RFC 9110, section 7.2).", "Send `name` or `name:port`, without user information or a trailing dot.";
    HostMismatch "host_mismatch" => BAD_REQUEST, "host_mismatch", Client, Both,
        "The request target or `:authority` names another host or scheme than the `Host` header or the connection.", "Send the same authority in both places.";
    HostUnknown "host_unknown" => MISDIRECTED_REQUEST, "host_unknown", Client, Both,
        "The host is not one of `hosts`.", "Use a served name, or add it to `hosts`.";
    TargetForm "target_form" => BAD_REQUEST, "target_form", Client, Both,
        "The request target is not a path (`OPTIONS *` is not served).", "Send the path of a resource.";
    UriTooLong "uri_too_long" => URI_TOO_LONG, "uri_too_long", Client, Both,
        "Path and query together are longer than `connections.max_uri`.", "Shorten the request, or raise the limit.";
    HeadersTooMany "headers_too_many" => REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_many", Client, Both,
        "There are more header fields than `connections.max_headers`.", "Send fewer fields, or raise the limit.";
    PathSlashEncoded "path_slash_encoded" => BAD_REQUEST, "path_slash_encoded", Client, Both,
        "The path has an encoded slash (`%2F`): some servers split there, others do not.", "Do not put a slash inside a path segment.";
    PathBackslash "path_backslash" => BAD_REQUEST, "path_backslash", Client, Both,
        "The path has a backslash, raw or encoded: some servers take it for a slash.", "Use `/`.";
    PathControl "path_control" => BAD_REQUEST, "path_control", Client, Both,
        "The path has an encoded control character or NUL.", "Remove it.";
    PathDotSegment "path_dot_segment" => BAD_REQUEST, "path_dot_segment", Client, Both,
        "The path has a `.` or `..` segment, raw or encoded.", "Send the resolved path.";
    PathEmptySegment "path_empty_segment" => BAD_REQUEST, "path_empty_segment", Client, Both,
        "The path has an empty segment (`//`): some servers merge slashes, others do not.", "Send single slashes.";
    PathDoubleEncoded "path_double_encoded" => BAD_REQUEST, "path_double_encoded", Client, Both,
        "The path is percent-encoded twice (`%2541`).", "Encode once.";
    PathEscape "path_escape" => BAD_REQUEST, "path_escape", Client, Both,
        "The path has a `%` that is not followed by two hexadecimal digits.", "Write a literal percent sign as `%25`.";
    PathUtf8 "path_utf8" => BAD_REQUEST, "path_utf8", Client, Both,
        "The decoded path is not UTF-8, or uses an overlong form.", "Encode the path as UTF-8.";
    PathNonAscii "path_non_ascii" => BAD_REQUEST, "path_non_ascii", Client, Both,
        "The path or query has a raw byte outside ASCII.", "Percent-encode it.";
    PathParameters "path_parameters" => BAD_REQUEST, "path_parameters", Client, Both,
        "The path has a `;`, which some servers cut away with all that follows.", "Put parameters in the query.";
    PathAmbiguous "path_ambiguous" => BAD_REQUEST, "path_ambiguous", Client, Both,
        "A server that ignores case or a trailing slash would read this path as a stricter route.", "Write the path exactly as the route map does.";
    QueryRepeated "query_repeated" => BAD_REQUEST, "query_repeated", Client, Both,
        "A query key that carries a credential occurs more than once, or in another spelling than the route map's.", "Send it once, unescaped.";
    AuthorizationRepeated "authorization_repeated" => BAD_REQUEST, "authorization_repeated", Client, Both,
        "There is more than one `Authorization` header.", "Send one.";
    MethodRefused "method_refused" => METHOD_NOT_ALLOWED, "method_refused", Client, Both,
        "CONNECT and TRACE are never served.", "Use another method.";
    UpgradeRefused "upgrade_refused" => BAD_REQUEST, "upgrade_refused", Client, H1,
        "The request asks to leave HTTP (`Upgrade`), and the route does not offer that, or the handshake is not one of WebSocket (RFC 6455, section 4.1). `h2c` is never offered.", "Add `upgrade: [websocket]` to the route, or remove `Upgrade`; with curl, add `--http1.1`.";
    HttpsRequired "https_required" => FORBIDDEN, "https_required", Client, H1,
        "This listener only sends readers to HTTPS, and the method is not GET or HEAD.", "Use the `https` address.";
    BodyTooLarge "body_too_large" => PAYLOAD_TOO_LARGE, "body_too_large", Client, Both,
        "The body is longer than `body.limit` of the route.", "Send less, or raise the limit.";
    BodyTimeout "body_timeout" => REQUEST_TIMEOUT, "body_timeout", Client, Both,
        "The client stopped sending its body for `connections.body_idle`.", "Send the body without pauses.";
    BodyBroken "body_broken" => BAD_REQUEST, "body_broken", Client, H1,
        "The client broke its body off, or framed it wrongly.", "Send the whole body, in the length or the chunks that were announced.";
    BodyType "body_type" => UNSUPPORTED_MEDIA_TYPE, "body_type", Client, Both,
        "A rule of the route judges what the body says, and the body does not call itself uncompressed `application/json`, once.", "Send JSON, uncompressed, with `Content-Type: application/json`.";
    BodyMalformed "body_malformed" => BAD_REQUEST, "body_malformed", Client, Both,
        "A rule of the route judges what the body says, and it is missing, is not one JSON document, or says a member of an object twice.", "Send one JSON document in UTF-8, each member of an object once.";

    MessageInvalid "message_invalid" => BAD_REQUEST, "message_invalid", Client, H1,
        "On a WebSocket whose messages are judged, the client said something that is no frame (RFC 6455), no message of a Phoenix channel, or has its token where it cannot be read.", "See which client it is; supabase-js sends nothing of this kind.";

    // The route map has no place for it.
    RouteUnknown "route_unknown" => NOT_FOUND, "not_found", Client, Both,
        "No route matches the path.", "Check the path, or add a route.";
    RouteDenied "route_denied" => NOT_FOUND, "not_found", Client, Both,
        "The route says `access: deny`.", "Nothing; this is how the route map hides a path.";
    MethodNotAllowed "method_not_allowed" => METHOD_NOT_ALLOWED, "method_not_allowed", Client, Both,
        "The most specific route for this path does not list the method.", "Use a method of the `Allow` header.";

    // Identity.
    TokenMissing "token_missing" => UNAUTHORIZED, "token_missing", Client, Both,
        "The route wants a user and no credential came with the request.", "Send `Authorization: Bearer <access token>`.";
    TokenMalformed "token_malformed" => UNAUTHORIZED, "token_malformed", Client, Both,
        "The credential is not a bearer token in JWS compact form with canonical base64url.", "Send the token as the issuer gave it.";
    TokenTooLarge "token_too_large" => UNAUTHORIZED, "token_too_large", Client, Both,
        "The token is longer than 8 KiB.", "Put less into the token.";
    TokenCritical "token_critical" => UNAUTHORIZED, "token_critical", Client, Both,
        "The token's header has `crit` (RFC 7515, section 4.1.11), and no extension is understood.", "Issue the token without it.";
    TokenAlgorithm "token_algorithm" => UNAUTHORIZED, "token_algorithm", Client, Both,
        "The token's `alg` is not one that this issuer may use, or not the one its key is bound to.", "Sign with an algorithm listed under `tokens`.";
    TokenIssuer "token_issuer" => UNAUTHORIZED, "token_issuer", Client, Both,
        "`iss` is missing, not a string, or not one of `tokens`.", "Send a token of a configured issuer.";
    TokenKeyUnknown "token_key_unknown" => UNAUTHORIZED, "token_key_unknown", Client, Both,
        "No key of the issuer has the token's `kid`.", "Send a newer token; if the keys were rotated, check what `jwks_url` or `discovery_url` leads to.";
    TokenSignature "token_signature" => UNAUTHORIZED, "token_signature", Client, Both,
        "The signature is wrong.", "Send the token as the issuer gave it.";
    TokenExpired "token_expired" => UNAUTHORIZED, "token_expired", Client, Both,
        "The token's `exp` has passed.", "Refresh the token.";
    TokenNotYetValid "token_not_yet_valid" => UNAUTHORIZED, "token_not_yet_valid", Client, Both,
        "The token's `nbf` is in the future.", "Wait, or correct the issuer's clock.";
    TokenAudience "token_audience" => UNAUTHORIZED, "token_audience", Client, Both,
        "`aud` is missing or names nobody here.", "Request a token for this audience.";
    TokenClaims "token_claims" => UNAUTHORIZED, "token_claims", Client, Both,
        "A required claim (`exp`, `sub`, or one under `require`) is missing, of the wrong type, or has a value that is not listed.", "Send a user's access token.";
    ServiceKeyRefused "service_key_refused" => FORBIDDEN, "service_key_refused", Client, Both,
        "A Supabase `service_role` or `sb_secret_` key came from outside.", "Never let a secret key leave the server; rotate this one.";
    ApikeyMissing "apikey_missing" => UNAUTHORIZED, "apikey_missing", Client, Both,
        "The route wants a publishable key, and none came with the request.", "Send the project's publishable key as `apikey`, in a header or in the query.";
    ApikeyUnknown "apikey_unknown" => UNAUTHORIZED, "apikey_unknown", Client, Both,
        "The API key is not one of `identity.supabase.publishable_keys`.", "Send the project's publishable key, or add this one there.";
    ApikeyRepeated "apikey_repeated" => BAD_REQUEST, "apikey_repeated", Client, Both,
        "An API key occurs more than once, or is spelled in a way that not every server would find.", "Send it once, in the header or in the query, unescaped.";
    KeysUnavailable "keys_unavailable" => SERVICE_UNAVAILABLE, "keys_unavailable", Dependency, Both,
        "The token cannot be judged: the issuer's keys were never fetched, were last fetched more than a day ago, or do not have the token's `kid` and could not be fetched again in time.", "Check that `jwks_url` or `discovery_url` answers; the token is not at fault.";

    SessionDiffers "session_differs" => UNAUTHORIZED, "session_differs", Client, H1,
        "On a WebSocket that belongs to one session, a message brought a token of another.", "Nothing: the client connects anew, and joins as whom it is now.";
    TokenRevoked "token_revoked" => UNAUTHORIZED, "token_revoked", Client, Both,
        "The token was revoked.", "Refresh the token; if that does not help, sign in again.";
    SessionRevoked "session_revoked" => UNAUTHORIZED, "session_not_found", Client, Both,
        "The token's session was revoked.", "Sign in again.";
    SubjectRevoked "subject_revoked" => UNAUTHORIZED, "session_not_found", Client, Both,
        "Everything the user signed in to before a certain time was revoked.", "Sign in again.";
    IssuerRevoked "issuer_revoked" => UNAUTHORIZED, "session_not_found", Client, Both,
        "Everything the issuer signed before a certain time was revoked.", "Sign in again.";
    CookieMalformed "cookie_malformed" => UNAUTHORIZED, "session_not_found", Client, Both,
        "The cookie of a session came more than once, in another spelling, or with a value that this gateway never gave.", "Sign in again.";
    SessionUnknown "session_unknown" => UNAUTHORIZED, "session_not_found", Client, Both,
        "The cookie is of a session that ended.", "Sign in again.";
    SessionExpired "session_expired" => UNAUTHORIZED, "session_not_found", Client, Both,
        "The session of the cookie went without a request for `sessions.idle`, or has lived for `sessions.lifetime`.", "Sign in again.";
    SessionUnavailable "session_unavailable" => SERVICE_UNAVAILABLE, "session_unavailable", Dependency, Both,
        "The session of the cookie cannot be judged: it is not in memory, or must be asked about, and the store does not answer.", "Check that the server under `store.redis` answers. The cookie is not at fault, and stays.";
    CsrfOrigin "csrf_origin" => FORBIDDEN, "csrf_origin", Client, Both,
        "A request with the cookie of a session may have been made by a page of another site: it would change something or open a WebSocket without an `Origin` of `cors.origins` or of the gateway itself, or says that it is cross-site.", "Call from a page of a listed origin; add the page's origin to `cors.origins`.";
    CsrfToken "csrf_token" => FORBIDDEN, "csrf_token", Client, Both,
        "A request with the cookie of a session would change something, and its `X-CSRF-Token` is missing, repeated or not the session's.", "Send the `csrf_token` that signing in gave.";
    // What replicas share.
    StoreUnavailable "store_unavailable" => SERVICE_UNAVAILABLE, "store_unavailable", Dependency, Both,
        "The store has been away for too long for what the request wants, or was never there: what was revoked since then is not known.", "Check that the server under `store.redis` answers; `foregate check` prints what is allowed while it does not. The token is not at fault.";

    // The identity server, which signs users in.
    SignInBusy "sign_in_busy" => SERVICE_UNAVAILABLE, "sign_in_busy", Dependency, Both,
        "More calls to the identity server are under way, and more wait, than `identity.supabase` allows.", "Come again in a moment; if it lasts, raise `concurrency`, or see why the identity server is slow.";
    IdentityUnavailable "identity_unavailable" => SERVICE_UNAVAILABLE, "identity_unavailable", Dependency, Both,
        "The identity server cannot be reached, or broke its answer off.", "Check that the server under `identity.supabase.url` answers; nobody's session is at fault.";
    IdentityTimeout "identity_timeout" => GATEWAY_TIMEOUT, "identity_timeout", Dependency, Both,
        "The identity server did not answer in time, which is 5 s for a call and `identity.deadlines` for the whole.", "See why it is slow; nobody's session is at fault.";
    OperationUnknown "operation_unknown" => NOT_FOUND, "not_found", Client, Both,
        "The request to the identity server is none that this gateway recognises, such as one of an administrator.", "Check method, path and parameters; what is not recognised is never sent.";
    IdentityRefused "identity_refused" => SERVICE_UNAVAILABLE, "identity_unavailable", Gateway, Both,
        "The identity server refused what the gateway asked, and no client can have caused that.", "See `detail`; check the keys and the `issuer` under `identity.supabase`, and `tokens`.";
    IdentityLimited "identity_limited" => TOO_MANY_REQUESTS, "too_many_attempts", Client, Both,
        "The identity server has been asked too often; it counts by its own rules.", "Raise its limits, or let it count by the field in `identity.supabase.address_header`: all users come from the gateway's address.";
    TooManyAttempts "too_many_attempts" => TOO_MANY_REQUESTS, "too_many_attempts", Client, Both,
        "The address, or the address with this account, tried to sign in too often.", "Come again when `Retry-After` says so; the limits are under `identity.throttle`.";

    // Signing in.
    InputInvalid "input_invalid" => UNPROCESSABLE_ENTITY, "input_invalid", Client, Both,
        "A field of the request is missing, or is not what it should be.", "See `errors` in the answer.";
    InvalidCredentials "invalid_credentials" => UNAUTHORIZED, "invalid_credentials", Client, Both,
        "There is no such user, or the password is another.", "Nothing; many of them are somebody who guesses.";
    AccountBanned "account_banned" => UNAUTHORIZED, "invalid_credentials", Client, Both,
        "The identity server has banned the user; told before the password is looked at, so a stranger must not see the difference.", "Lift the ban at the identity server, if it is wrong.";
    EmailNotConfirmed "email_not_confirmed" => UNAUTHORIZED, "email_not_confirmed", Client, Both,
        "The password is right, and the user has not proven yet that the address is theirs.", "Follow the link in the message, or have it sent again.";
    RefreshTokenInvalid "refresh_token_invalid" => UNAUTHORIZED, "refresh_token_invalid", Client, Both,
        "The refresh token is unknown, was used, or its session has ended.", "Sign in again.";
    EmailExists "email_exists" => CONFLICT, "email_exists", Client, Both,
        "There is an account with this e-mail address.", "Sign in, or ask for a message to set a new password.";
    WeakPassword "weak_password" => UNPROCESSABLE_ENTITY, "weak_password", Client, Both,
        "The identity server finds the password too easy to guess.", "Choose another; `errors` in the answer says why.";
    CaptchaFailed "captcha_failed" => BAD_REQUEST, "captcha_failed", Client, Both,
        "The identity server asks for a captcha, and it is missing or wrong.", "Send `captcha_token`.";
    SignInClosed "sign_in_closed" => FORBIDDEN, "sign_in_closed", Client, Both,
        "The identity server does not let anybody in this way, or makes no new accounts.", "Change its settings, if that is wrong.";
    RegisteredOnly "registered_only" => SERVICE_UNAVAILABLE, "registered_only", Dependency, Both,
        "The account was made, and what should follow was not done: the user is not signed in.", "Sign in; see `detail`.";
    RegistrationUnknown "registration_unknown" => SERVICE_UNAVAILABLE, "registration_unknown", Dependency, Both,
        "The identity server was asked to make the account and did not answer: it may be there.", "Try to sign in; if that fails, register again.";
    SignedOutRecently "signed_out_recently" => SERVICE_UNAVAILABLE, "signed_out_recently", Gateway, Both,
        "The user was signed out everywhere a moment ago, and a session that young cannot be told from those before.", "Come again when `Retry-After` says so.";
    SessionAbsent "session_absent" => NOT_FOUND, "not_found", Client, Both,
        "The session that is to end is not one of the user's.", "Ask for the list again.";
    LogoutIncomplete "logout_incomplete" => SERVICE_UNAVAILABLE, "logout_incomplete", Dependency, Both,
        "The session is refused here, but the store could not be told, so that other replicas may still accept it; that is tried again until it is done.", "Check the store; see `detail`.";

    // What the caller may do.
    IdentifierInvalid "identifier_invalid" => BAD_REQUEST, "identifier_invalid", Client, Both,
        "A typed path parameter does not have its type, or is the nil UUID.", "Send a canonical identifier.";
    RestDenied "rest_denied" => FORBIDDEN, "rest_denied", Client, Both,
        "The route's `rest` does not grant what the request asks of PostgREST: a table, a column, a function, a schema, an embedded table; or the query is not understood.", "Read the detail in the log; grant it under `rest`, or name the granted columns in `select`.";
    CallerBanned "caller_banned" => FORBIDDEN, "caller_banned", Client, Both,
        "The caller has the role `banned`.", "Nothing; an operator lifted this caller's rights.";
    AnonymousRefused "anonymous_refused" => FORBIDDEN, "anonymous_refused", Client, Both,
        "The caller is an anonymous user, and the route does not say `anonymous: true`.", "Sign in.";
    AalInsufficient "aal_insufficient" => FORBIDDEN, "aal_insufficient", Client, Both,
        "The route wants a higher authenticator assurance level than the token's `aal`.", "Sign in with a second factor.";
    RoleInsufficient "role_insufficient" => FORBIDDEN, "role_insufficient", Client, Both,
        "No role of the caller grants the route's action.", "Grant the action under `roles.grants`.";
    WhenRefused "when_refused" => FORBIDDEN, "when_refused", Client, Both,
        "The route's `when` does not hold for this request and caller.", "Nothing, if the condition says what is meant.";
    WhenFailed "when_failed" => FORBIDDEN, "when_refused", Client, Both,
        "The route's `when` cannot be computed for this request and caller; the detail says why.", "Ask `has(caller.claims.NAME)` before reading a claim that not every token has.";

    CallerInactive "caller_inactive" => FORBIDDEN, "caller_inactive", Client, Both,
        "The query `facts.caller` says that the caller is not active, or has no row for it.", "Activate the caller's row.";
    NotYours "not_yours" => NOT_FOUND, "not_found", Client, Both,
        "The thing is there, and nothing lets the caller do this to it: not owning it, not a team, not its visibility, no role.", "Share it, or grant `ACTION:any` to a role of the caller.";
    Absent "absent" => NOT_FOUND, "not_found", Client, Both,
        "There is no thing of this id, or it does not lie where the request says.", "Check the id.";
    LineageCycle "lineage_cycle" => NOT_FOUND, "not_found", Client, Both,
        "The parents of the thing lead back to one that was met before.", "Correct the parent in the database.";
    LineageMissing "lineage_missing" => NOT_FOUND, "not_found", Client, Both,
        "A parent of the thing is not there.", "Correct the parent in the database.";
    LineageDeep "lineage_deep" => NOT_FOUND, "not_found", Client, Both,
        "The thing has more than ten parents above one another.", "Correct the parents in the database.";
    FactsUnavailable "facts_unavailable" => SERVICE_UNAVAILABLE, "facts_unavailable", Dependency, Both,
        "A fact that the verdict needs cannot be looked up, and none that is young enough is remembered.", "Check that the server under `database.url` answers and takes the queries under `facts` and `resources`; `foregate check` prints what is allowed while it does not.";
    BudgetSpent "budget_spent" => SERVICE_UNAVAILABLE, "budget_spent", Dependency, Both,
        "There was no verdict within `budget`; the record says which step spent it.", "Speed up what that step asked, or raise `budget`.";
    BindingFailed "binding_failed" => BAD_GATEWAY, "binding_failed", Upstream, Both,
        "The answer of a `learn` route was to name a thing, and it does not, or the thing could not be bound to the caller; the client did not get the answer.", "See the detail: the answer must be JSON without a content coding, have the field, and be no longer than 1 MiB; or the store is away.";

    // Behind us.
    UpstreamConnect "upstream_connect" => BAD_GATEWAY, "upstream_unreachable", Upstream, Both,
        "No server of the upstream accepted a connection.", "Check that the servers run and are reachable.";
    UpstreamConnectTimeout "upstream_connect_timeout" => GATEWAY_TIMEOUT, "upstream_timeout", Upstream, Both,
        "Connecting took longer than `connect_timeout`.", "Check the network between the gateway and the upstream.";
    UpstreamBusy "upstream_busy" => SERVICE_UNAVAILABLE, "upstream_busy", Upstream, Both,
        "A worker's part of `max_connections` to every server was in use for as long as `connect_timeout`.", "Raise `max_connections`, or add servers.";
    UpstreamClosed "upstream_closed" => BAD_GATEWAY, "upstream_closed", Upstream, Both,
        "The upstream closed the connection before it answered, and repeating the request was not safe.", "See the upstream's log.";
    UpstreamProtocol "upstream_protocol" => BAD_GATEWAY, "upstream_protocol", Upstream, Both,
        "The upstream's answer is not one in its `protocol`, or changes to another protocol unasked, or not as it was asked to.", "See the upstream's log.";
    UpstreamFirstByteTimeout "upstream_first_byte_timeout" => GATEWAY_TIMEOUT, "upstream_timeout", Upstream, Both,
        "The head of the upstream's answer took longer than the first-byte time-out.", "Speed the upstream up, or raise `timeouts.first_byte` of the route.";
    UpstreamTotalTimeout "upstream_total_timeout" => GATEWAY_TIMEOUT, "upstream_timeout", Upstream, Both,
        "The exchange took longer than `timeouts.total`.", "Speed the upstream up, or raise `timeouts.total` of the route.";
    Internal "internal" => INTERNAL_SERVER_ERROR, "internal", Gateway, Both,
        "A defect in this process; the request was not forwarded, or its answer was lost.", "Report it with the log lines of this decision id.";
}

/// A refusal on its way to the client: the reason, and what only the operator may read.
#[derive(Debug)]
pub struct Denial {
    /// The word for what happened.
    pub reason: Reason,
    /// For the operator's record only. Never a token, a cookie, a query value or a secret.
    pub detail: Option<Cow<'static, str>>,
    /// What the answer must carry besides its body.
    pub extra: Extra,
}

/// Response fields that only some refusals have.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Extra {
    /// Nothing more.
    #[default]
    None,
    /// `Allow`, for a known path with another method (RFC 9110, section 10.2.1).
    Allow(String),
    /// `Retry-After`, in whole seconds.
    RetryAfter(Duration),
    /// `Set-Cookie` that takes the cookie of a session away: it is of no use any more.
    ClearCookie(HeaderValue),
    /// What is wrong with which fields of the request; goes into the body, as `errors`.
    Fields(Vec<FieldError>),
    /// `Retry-After` and the `RateLimit` fields, for somebody who came too often.
    Limited {
        /// How many may come at once.
        limit: u32,
        /// Until the next one may.
        wait: Duration,
    },
}

/// What is wrong with a field of a request. The client reads it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// Its name.
    pub field: &'static str,
    /// What is wrong, in a sentence. Never repeats what was sent.
    pub detail: Cow<'static, str>,
}

impl Reason {
    /// A denial whose detail the operator reads.
    pub fn because(self, detail: impl Into<Cow<'static, str>>) -> Denial {
        Denial {
            detail: Some(detail.into()),
            ..Denial::from(self)
        }
    }
}

impl From<Reason> for Denial {
    fn from(reason: Reason) -> Self {
        let extra = match reason.status() {
            StatusCode::SERVICE_UNAVAILABLE => Extra::RetryAfter(Duration::from_secs(1)),
            _ => Extra::None,
        };
        Self {
            reason,
            detail: None,
            extra,
        }
    }
}
