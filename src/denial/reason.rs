//! The table of reasons: one row for each reason to refuse a request.
//!
//! It is longer than 400 lines because it is one table, which generates `config/reasons.md`.
//!
//! A row has the operator's code, the status, the client's code, the fault, the wire, the meaning
//! and the remedy. `gotrue` and `postgrest` are the codes in the error formats of Supabase Auth and
//! PostgREST: a code of theirs, or an SQLSTATE, where they have one. Without them the client's code
//! is used. Reasons with one client's code have one code in every format, or the format would tell
//! them apart. The meaning is also what the client reads, unless `gateway::refuse` has another
//! sentence.
//!
//! A client of Supabase ends its session when it reads `session_not_found`, or when a refresh is
//! refused with anything but a 5xx. So only the end of a session has that code, and an outage is a
//! 5xx with a code that no client takes for an answer about its session.

use hyper::StatusCode;

/// Which party causes a refusal. Every fault but `Client` is worth an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request itself: malformed, or not allowed.
    Client,
    /// This process, or its configuration.
    Gateway,
    /// A dependency that authorization needs, such as a key server.
    Dependency,
    /// The upstream.
    Upstream,
}

impl Fault {
    /// The name in `config/reasons.md` and in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Gateway => "gateway",
            Self::Dependency => "dependency",
            Self::Upstream => "upstream",
        }
    }
}

/// The protocol versions that can produce a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1 and HTTP/2.
    Both,
    /// HTTP/1.1 only: HTTP/2 cannot express the request, or its implementation resets the stream
    /// first.
    H1,
}

impl Wire {
    /// The name in `config/reasons.md`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Both => "h1, h2",
            Self::H1 => "h1",
        }
    }
}

/// Generates [`Reason`] and its methods from the table below.
macro_rules! reasons {
    ($(
        $variant:ident $code:literal => $status:ident, $public:literal, $fault:ident, $wire:ident,
        $means:literal,
        $todo:literal
        $(, gotrue: $gotrue:literal)? $(, postgrest: $postgrest:literal)?;
    )*) => {
        /// One reason to refuse. No `match` on it has a wildcard arm: a new reason does not compile
        /// until each of them handles it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $means] $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The operator's code: log field, metric label, key of the table.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The client's code: `code` of the problem document.
            pub const fn public_code(self) -> &'static str {
                match self { $(Self::$variant => $public,)* }
            }

            /// `error_code` in the format of Supabase Auth.
            pub const fn gotrue_code(self) -> &'static str {
                match self { $(Self::$variant => reasons!(@first $($gotrue,)? $public),)* }
            }

            /// `code` in the format of PostgREST.
            pub const fn postgrest_code(self) -> &'static str {
                match self { $(Self::$variant => reasons!(@first $($postgrest,)? $public),)* }
            }

            /// The status of the response.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// Which party causes it.
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
    (@first $first:literal $(, $rest:literal)?) => { $first };
}

reasons! {
    // The request cannot be read in exactly one way. GoTrue and PostgREST get their own code for a
    // request that cannot be parsed.
    HostMissing "host_missing" => BAD_REQUEST, "host_missing", Client, Both,
        "The request names no host.",
        "Send a `Host` header (`:authority` on HTTP/2).",
        gotrue: "validation_failed", postgrest: "PGRST100";
    HostRepeated "host_repeated" => BAD_REQUEST, "host_repeated", Client, Both,
        "The request has more than one `Host` header.",
        "Send one.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    HostInvalid "host_invalid" => BAD_REQUEST, "host_invalid", Client, Both,
        "The host is not a name or an address with an optional port (RFC 9110, section 7.2).",
        "Send `name` or `name:port`, without user information or a trailing dot.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    HostMismatch "host_mismatch" => BAD_REQUEST, "host_mismatch", Client, Both,
        "The host or scheme of the request target or `:authority` differs from the `Host` header or the connection.",
        "Send the same authority in both places.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    HostUnknown "host_unknown" => MISDIRECTED_REQUEST, "host_unknown", Client, Both,
        "The host is not listed in `hosts`.",
        "Use a served name, or add it to `hosts`.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    TargetForm "target_form" => BAD_REQUEST, "target_form", Client, Both,
        "The request target is not a path (`OPTIONS *` is not served).",
        "Send the path of a resource.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    HeadMalformed "head_malformed" => BAD_REQUEST, "head_malformed", Client, H1,
        "The request head is not well formed: a bare line feed, a space before a colon, a folded or invalid field.",
        "Send a head as RFC 9112 describes it.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    FramingAmbiguous "framing_ambiguous" => BAD_REQUEST, "framing_ambiguous", Client, H1,
        "The fields of the request do not say in exactly one way how long its body is.",
        "Send one `Content-Length`, or `Transfer-Encoding: chunked`, and not both.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    HttpOnTlsPort "http_on_tls_port" => BAD_REQUEST, "http_on_tls_port", Client, H1,
        "The client speaks HTTP without TLS to a listener with TLS.",
        "Use `https://`.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    VersionUnsupported "version_unsupported" => BAD_REQUEST, "version_unsupported", Client, H1,
        "The request line names a version of HTTP that this gateway does not speak.",
        "Use HTTP/1.1 or HTTP/2.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    HeadTooLarge "head_too_large" => REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", Client, H1,
        "The request head is longer than `connections.max_head`.",
        "Send fewer or shorter fields, or raise the limit.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    UriTooLong "uri_too_long" => URI_TOO_LONG, "uri_too_long", Client, Both,
        "Path and query together are longer than `connections.max_uri`.",
        "Shorten the request, or raise the limit.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    HeadersTooMany "headers_too_many" => REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_many", Client, Both,
        "There are more header fields than `connections.max_headers`.",
        "Send fewer fields, or raise the limit.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    PathSlashEncoded "path_slash_encoded" => BAD_REQUEST, "path_slash_encoded", Client, Both,
        "The path has an encoded slash (`%2F`), which some servers treat as a separator and others do not.",
        "Do not put a slash inside a path segment.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    PathBackslash "path_backslash" => BAD_REQUEST, "path_backslash", Client, Both,
        "The path has a backslash, raw or encoded, which some servers treat as a slash.",
        "Use `/`.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    PathControl "path_control" => BAD_REQUEST, "path_control", Client, Both,
        "The path has an encoded control character or NUL.",
        "Remove it.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    PathDotSegment "path_dot_segment" => BAD_REQUEST, "path_dot_segment", Client, Both,
        "The path has a `.` or `..` segment, raw or encoded.",
        "Send the resolved path.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    PathEmptySegment "path_empty_segment" => BAD_REQUEST, "path_empty_segment", Client, Both,
        "The path has an empty segment (`//`): some servers merge slashes, others do not.",
        "Send single slashes.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    PathDoubleEncoded "path_double_encoded" => BAD_REQUEST, "path_double_encoded", Client, Both,
        "The path is percent-encoded twice (`%2541`).",
        "Encode once.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    PathEscape "path_escape" => BAD_REQUEST, "path_escape", Client, Both,
        "The path has a `%` that is not followed by two hexadecimal digits.",
        "Write a literal percent sign as `%25`.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    PathUtf8 "path_utf8" => BAD_REQUEST, "path_utf8", Client, Both,
        "The decoded path is not UTF-8, or uses an overlong form.",
        "Encode the path as UTF-8.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    PathNonAscii "path_non_ascii" => BAD_REQUEST, "path_non_ascii", Client, Both,
        "The path or query has a raw byte outside ASCII.",
        "Percent-encode it.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    PathParameters "path_parameters" => BAD_REQUEST, "path_parameters", Client, Both,
        "The path has a `;`, at which some servers cut it off.",
        "Put parameters in the query.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    PathAmbiguous "path_ambiguous" => BAD_REQUEST, "path_ambiguous", Client, Both,
        "A server that ignores case or a trailing slash would take this path for a route with stricter access.",
        "Write the path exactly as the route map does.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    QueryRepeated "query_repeated" => BAD_REQUEST, "query_repeated", Client, Both,
        "A query key that carries a credential occurs more than once, or in another spelling than in the route map.",
        "Send it once, unescaped.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    AuthorizationRepeated "authorization_repeated" => BAD_REQUEST, "authorization_repeated", Client, Both,
        "There is more than one `Authorization` header.",
        "Send one.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    MethodRefused "method_refused" => METHOD_NOT_ALLOWED, "method_refused", Client, Both,
        "CONNECT and TRACE are never served.",
        "Use another method.",
        postgrest: "PGRST117";
    UpgradeRefused "upgrade_refused" => BAD_REQUEST, "upgrade_refused", Client, H1,
        "The request asks for another protocol (`Upgrade`), and the route does not offer it, or the handshake is not a WebSocket handshake (RFC 6455, section 4.1). `h2c` is never offered.",
        "Add `upgrade: [websocket]` to the route, or remove `Upgrade`; with curl, add `--http1.1`.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    HttpsRequired "https_required" => FORBIDDEN, "https_required", Client, H1,
        "This listener only redirects to HTTPS, and the method is not GET or HEAD.",
        "Use the `https` address.";
    BodyTooLarge "body_too_large" => PAYLOAD_TOO_LARGE, "body_too_large", Client, Both,
        "The body is longer than `body.limit` of the route.",
        "Send less, or raise the limit.";
    BodyTimeout "body_timeout" => REQUEST_TIMEOUT, "body_timeout", Client, Both,
        "The client sent no part of its body for `connections.body_idle`, or less than `connections.body_rate`, or not all of an inspected body in `connections.inspected_timeout`.",
        "Send the body faster, and without pauses; a route may have limits of its own under `body`.";
    BodiesBusy "bodies_busy" => SERVICE_UNAVAILABLE, "bodies_busy", Gateway, Both,
        "The bodies that rules inspect hold `connections.inspected_memory` together.",
        "Raise the limit, if the machine has the memory.",
        gotrue: "unexpected_failure", postgrest: "PGRST000";
    ClientBusy "client_busy" => TOO_MANY_REQUESTS, "client_busy", Client, Both,
        "The client's address, or its user, holds its share of what all clients share: requests or live streams of an upstream (`client_share`), or memory for bodies (`connections.inspected_share`).",
        "Send fewer requests at once. If many clients share the address, list it in `trusted_proxies`, or raise the share.",
        gotrue: "over_request_rate_limit";
    Overloaded "overloaded" => SERVICE_UNAVAILABLE, "overloaded", Gateway, Both,
        "More than three quarters of what all clients share are in use, and the client's address holds most of it: connections with requests, or memory for answers that it does not take.",
        "Send fewer requests at once, and take their answers. If many clients share the address, list it in `trusted_proxies`; or raise the limit that the log's `detail` names.",
        gotrue: "over_request_rate_limit", postgrest: "PGRST003";
    BodyBroken "body_broken" => BAD_REQUEST, "body_broken", Client, H1,
        "The body ended early, or its framing is malformed.",
        "Send the whole body, with the announced length or chunks.",
        gotrue: "bad_json", postgrest: "PGRST102";
    BodyType "body_type" => UNSUPPORTED_MEDIA_TYPE, "body_type", Client, Both,
        "The route inspects the body, and the request does not have exactly one `Content-Type: application/json` without compression.",
        "Send JSON, uncompressed, with `Content-Type: application/json`.",
        postgrest: "PGRST107";
    BodyMalformed "body_malformed" => BAD_REQUEST, "body_malformed", Client, Both,
        "The route inspects the body, which is missing, not a single JSON document, or has a duplicate key.",
        "Send one JSON document in UTF-8, without duplicate keys.",
        gotrue: "bad_json", postgrest: "PGRST102";
    MemberSpelling "member_spelling" => BAD_REQUEST, "member_spelling", Client, Both,
        "The body of a call to the identity server has a member whose name differs from a known one only in upper and lower case.",
        "Write the name that `detail` has; the identity server would take the member for it.",
        gotrue: "bad_json", postgrest: "PGRST102";

    MessageInvalid "message_invalid" => BAD_REQUEST, "message_invalid", Client, H1,
        "On a WebSocket whose messages are inspected, the client sent something that is not a frame (RFC 6455), not a Phoenix channel message, or has its token in a place where it cannot be read.",
        "Find out which client it is; supabase-js sends nothing of this kind.",
        gotrue: "validation_failed", postgrest: "PGRST100";

    // No route takes the request.
    RouteUnknown "route_unknown" => NOT_FOUND, "not_found", Client, Both,
        "No route matches the path.",
        "Check the path, or add a route.",
        postgrest: "PGRST125";
    RouteDenied "route_denied" => NOT_FOUND, "not_found", Client, Both,
        "The route has `access: deny`.",
        "Nothing; this is how the route map hides a path.",
        postgrest: "PGRST125";
    MethodNotAllowed "method_not_allowed" => METHOD_NOT_ALLOWED, "method_not_allowed", Client, Both,
        "The most specific route for this path does not list the method.",
        "Use a method of the `Allow` header.",
        postgrest: "PGRST117";

    // Authentication. A client ends its session at `session_not_found`; a token that can be
    // refreshed gets another code.
    TokenMissing "token_missing" => UNAUTHORIZED, "token_missing", Client, Both,
        "The route requires a user, and the request has no credential.",
        "Send `Authorization: Bearer <access token>`.",
        gotrue: "no_authorization", postgrest: "PGRST302";
    TokenMalformed "token_malformed" => UNAUTHORIZED, "token_malformed", Client, Both,
        "The credential is not a bearer token in JWS compact form with canonical base64url.",
        "Send the token exactly as the issuer issued it.",
        gotrue: "bad_jwt", postgrest: "PGRST301";
    TokenTooLarge "token_too_large" => UNAUTHORIZED, "token_too_large", Client, Both,
        "The access token is longer than `connections.max_token`: it contains the user's metadata, which is too large.",
        "Remove data from the user's metadata at the identity server, put fewer claims into the token, or raise the limit.",
        gotrue: "bad_jwt", postgrest: "PGRST301";
    TokenCritical "token_critical" => UNAUTHORIZED, "token_critical", Client, Both,
        "The token's header has `crit` (RFC 7515, section 4.1.11), and the gateway supports no extension.",
        "Issue the token without it.",
        gotrue: "bad_jwt", postgrest: "PGRST301";
    TokenAlgorithm "token_algorithm" => UNAUTHORIZED, "token_algorithm", Client, Both,
        "The token's `alg` is not allowed for this issuer, or not the algorithm of its key.",
        "Sign with an algorithm listed under `tokens`.",
        gotrue: "bad_jwt", postgrest: "PGRST301";
    TokenIssuer "token_issuer" => UNAUTHORIZED, "token_issuer", Client, Both,
        "`iss` is missing, not a string, or not an issuer under `tokens`.",
        "Send a token of a configured issuer.",
        gotrue: "bad_jwt", postgrest: "PGRST301";
    TokenKeyUnknown "token_key_unknown" => UNAUTHORIZED, "token_key_unknown", Client, Both,
        "No key of the issuer has the token's `kid`, or several do, and each could be meant.",
        "Send a newer token; if the keys were rotated, check what `jwks_url` or `discovery_url` returns.",
        gotrue: "bad_jwt", postgrest: "PGRST301";
    TokenSignature "token_signature" => UNAUTHORIZED, "token_signature", Client, Both,
        "The signature is wrong.",
        "Send the token exactly as the issuer issued it.",
        gotrue: "bad_jwt", postgrest: "PGRST301";
    TokenExpired "token_expired" => UNAUTHORIZED, "token_expired", Client, Both,
        "The token's `exp` has passed.",
        "Refresh the token.",
        gotrue: "bad_jwt", postgrest: "PGRST303";
    TokenNotYetValid "token_not_yet_valid" => UNAUTHORIZED, "token_not_yet_valid", Client, Both,
        "The token's `nbf` is in the future.",
        "Wait, or correct the issuer's clock.",
        gotrue: "bad_jwt", postgrest: "PGRST303";
    TokenIssuedAhead "token_issued_ahead" => UNAUTHORIZED, "token_issued_ahead", Client, Both,
        "The token's `iat`, or the time of its sign-in (`amr`), is in the future.",
        "Correct the issuer's clock, or this machine's; `leeway` of the issuer's entry is what they may differ by.",
        gotrue: "bad_jwt", postgrest: "PGRST303";
    TokenAudience "token_audience" => UNAUTHORIZED, "token_audience", Client, Both,
        "`aud` is missing, or not an audience of this issuer entry.",
        "Request a token for this audience.",
        gotrue: "bad_jwt", postgrest: "PGRST303";
    TokenClaims "token_claims" => UNAUTHORIZED, "token_claims", Client, Both,
        "A required claim (`exp`, `sub`, or a claim under `require`) is missing, of the wrong type, or has a value or form that is not allowed.",
        "Send a user's access token; see `detail` in the log. For a `sub` of another form, write `subject` of the issuer's entry.",
        gotrue: "bad_jwt", postgrest: "PGRST303";
    TokensTooMany "tokens_too_many" => TOO_MANY_REQUESTS, "too_many_requests", Client, Both,
        "Too many tokens of the address were refused, and this one was not verified before, so it is not checked.",
        "Try again after `Retry-After`; the limit is `connections.refused_tokens`. If many users share the address, list the proxy in `trusted_proxies`.",
        gotrue: "over_request_rate_limit", postgrest: "PGRST003";
    ClientRefused "client_refused" => FORBIDDEN, "client_refused", Client, Both,
        "The token was issued to an application of a third party (`client_id`), which may not act as the user here.",
        "Name the application under `clients` of the route, or of the issuer's entry.",
        gotrue: "bad_jwt", postgrest: "42501";
    ServiceKeyRefused "service_key_refused" => FORBIDDEN, "service_key_refused", Client, Both,
        "A client sent a Supabase `service_role` or `sb_secret_` key.",
        "Never let a secret key leave the server; rotate this one.",
        gotrue: "not_admin", postgrest: "42501";
    ApikeyMissing "apikey_missing" => UNAUTHORIZED, "apikey_missing", Client, Both,
        "The route requires a publishable key, and the request has none.",
        "Send the project's publishable key as `apikey`, in a header or in the query.";
    ApikeyUnknown "apikey_unknown" => UNAUTHORIZED, "apikey_unknown", Client, Both,
        "The API key is not one of `identity.supabase.publishable_keys`.",
        "Send the project's publishable key, or add this key to the list.";
    ApikeyRepeated "apikey_repeated" => BAD_REQUEST, "apikey_repeated", Client, Both,
        "An API key occurs more than once, or in a spelling that some servers would not find.",
        "Send it once, in the header or in the query, unescaped.",
        gotrue: "validation_failed";
    KeysUnavailable "keys_unavailable" => SERVICE_UNAVAILABLE, "keys_unavailable", Dependency, Both,
        "The token cannot be verified: the issuer's keys were never fetched, are more than a day old, or do not have the token's `kid` and could not be fetched again in time.",
        "Check that `jwks_url` or `discovery_url` answers; the token is not at fault.",
        gotrue: "unexpected_failure", postgrest: "PGRST001";

    SessionDiffers "session_differs" => UNAUTHORIZED, "session_differs", Client, H1,
        "On a WebSocket that belongs to one session, a message had a token of another session.",
        "Nothing: the client reconnects and joins with its current session.",
        gotrue: "bad_jwt", postgrest: "PGRST303";
    TokenRevoked "token_revoked" => UNAUTHORIZED, "token_revoked", Client, Both,
        "The token was revoked.",
        "Refresh the token; if that does not help, sign in again.",
        gotrue: "bad_jwt", postgrest: "PGRST303";
    SessionRevoked "session_revoked" => UNAUTHORIZED, "session_not_found", Client, Both,
        "The token's session was revoked.",
        "Sign in again.",
        postgrest: "PGRST303";
    SubjectRevoked "subject_revoked" => UNAUTHORIZED, "session_not_found", Client, Both,
        "All sign-ins of the user before a certain time were revoked.",
        "Sign in again.",
        postgrest: "PGRST303";
    IssuerRevoked "issuer_revoked" => UNAUTHORIZED, "session_not_found", Client, Both,
        "All tokens that the issuer signed before a certain time were revoked.",
        "Sign in again.",
        postgrest: "PGRST303";
    BucketRevoked "bucket_revoked" => UNAUTHORIZED, "session_not_found", Client, Both,
        "The list of revocations was full, so the sign-ins of some users were revoked together; this user is one of them, and may not have been revoked.",
        "Sign in again; that helps only where tokens have `amr`. Raise `revocations.capacity` if `foregate_revocations_nearly_full` was 1.",
        postgrest: "PGRST303";
    CookieMalformed "cookie_malformed" => UNAUTHORIZED, "session_not_found", Client, Both,
        "The session cookie occurs more than once, in another spelling, or with a value that this gateway never issued.",
        "Sign in again.",
        postgrest: "PGRST303";
    SessionUnknown "session_unknown" => UNAUTHORIZED, "session_not_found", Client, Both,
        "The session of the cookie has ended.",
        "Sign in again.",
        postgrest: "PGRST303";
    SessionExpired "session_expired" => UNAUTHORIZED, "session_not_found", Client, Both,
        "The session of the cookie had no request for `sessions.idle`, or reached `sessions.lifetime`.",
        "Sign in again.",
        postgrest: "PGRST303";
    SessionUnavailable "session_unavailable" => SERVICE_UNAVAILABLE, "session_unavailable", Dependency, Both,
        "The session of the cookie cannot be looked up: it is not in memory, or must be looked up again, and the store does not answer.",
        "Check that the server under `store.redis` answers. The cookie is not at fault and stays valid.",
        gotrue: "unexpected_failure", postgrest: "PGRST001";
    CsrfOrigin "csrf_origin" => FORBIDDEN, "csrf_origin", Client, Both,
        "A request with a session cookie may come from a page of another site: it changes something or opens a WebSocket without an `Origin` that is in `cors.origins` or the gateway's own, or it is marked as cross-site.",
        "Call from a page of a listed origin, or add the page's origin to `cors.origins`.",
        postgrest: "42501";
    CsrfToken "csrf_token" => FORBIDDEN, "csrf_token", Client, Both,
        "A request with a session cookie would change something, and its `X-CSRF-Token` is missing, repeated, or not the token of the session.",
        "Send the `csrf_token` that the sign-in response returned.",
        postgrest: "42501";
    // The store. What is down says nothing about anybody's session.
    StoreUnavailable "store_unavailable" => SERVICE_UNAVAILABLE, "store_unavailable", Dependency, Both,
        "The store has been unavailable for too long for this class of request, or since the start: revocations since then are not known. Or the route has `learn`, and what its response names could not be bound to the caller; nothing was forwarded.",
        "Check that the server under `store.redis` answers; `foregate check` prints what is allowed during an outage. The token is not at fault.",
        gotrue: "unexpected_failure", postgrest: "PGRST001";

    // The identity server, which signs users in.
    SignInBusy "sign_in_busy" => SERVICE_UNAVAILABLE, "sign_in_busy", Dependency, Both,
        "The limits of `identity.supabase` for running and waiting calls to the identity server are reached.",
        "Try again in a moment; if it lasts, raise `concurrency`, or find out why the identity server is slow.",
        gotrue: "unexpected_failure", postgrest: "PGRST000";
    IdentityUnavailable "identity_unavailable" => SERVICE_UNAVAILABLE, "identity_unavailable", Dependency, Both,
        "The identity server cannot be reached, or its response ended early.",
        "Check that the server under `identity.supabase.url` answers; no session is at fault.",
        gotrue: "unexpected_failure", postgrest: "PGRST000";
    IdentityTimeout "identity_timeout" => GATEWAY_TIMEOUT, "identity_timeout", Dependency, Both,
        "The identity server did not answer in time: 5 s for one call, and `identity.deadlines` for the whole request.",
        "Find out why it is slow; no session is at fault.",
        gotrue: "request_timeout", postgrest: "PGRST003";
    OperationUnknown "operation_unknown" => NOT_FOUND, "not_found", Client, Both,
        "The gateway does not recognize this request to the identity server, for example because it is for administrators.",
        "Check method, path and parameters; unrecognized requests are never forwarded.",
        postgrest: "PGRST125";
    IdentityRefused "identity_refused" => SERVICE_UNAVAILABLE, "identity_unavailable", Gateway, Both,
        "The identity server refused a call of the gateway for a reason that no client can cause.",
        "See `detail`; check the keys and the `issuer` under `identity.supabase`, and `tokens`.",
        gotrue: "unexpected_failure", postgrest: "PGRST000";
    IdentityLimited "identity_limited" => TOO_MANY_REQUESTS, "too_many_attempts", Client, Both,
        "The identity server's own rate limit is reached.",
        "Raise its limits, or let it count by the field in `identity.supabase.address_header`: all users come from the gateway's address.",
        gotrue: "over_request_rate_limit";
    TooManyAttempts "too_many_attempts" => TOO_MANY_REQUESTS, "too_many_attempts", Client, Both,
        "The address, or the address with this account, tried to sign in too often.",
        "Try again after `Retry-After`; the limits are under `identity.throttle`.",
        gotrue: "over_request_rate_limit";

    // Signing in. PostgREST has no codes for it.
    InputInvalid "input_invalid" => UNPROCESSABLE_ENTITY, "input_invalid", Client, Both,
        "A field of the request is missing or invalid.",
        "See `errors` in the answer.",
        gotrue: "validation_failed";
    InvalidCredentials "invalid_credentials" => UNAUTHORIZED, "invalid_credentials", Client, Both,
        "There is no such user, or the password is wrong.",
        "Nothing; a large number of these suggests that somebody guesses passwords.";
    AccountBanned "account_banned" => UNAUTHORIZED, "invalid_credentials", Client, Both,
        "The identity server has banned the user. It reports this before it checks the password, so the client sees the code of a wrong password.",
        "Lift the ban at the identity server, if it is wrong.";
    EmailNotConfirmed "email_not_confirmed" => UNAUTHORIZED, "email_not_confirmed", Client, Both,
        "The password is right, but the user has not confirmed the e-mail address.",
        "Follow the link in the message, or have it sent again.";
    RefreshTokenInvalid "refresh_token_invalid" => UNAUTHORIZED, "refresh_token_invalid", Client, Both,
        "The refresh token is unknown or already used, or its session has ended.",
        "Sign in again.",
        gotrue: "refresh_token_not_found";
    EmailExists "email_exists" => CONFLICT, "email_exists", Client, Both,
        "An account with this e-mail address exists.",
        "Sign in, or request a message to set a new password.";
    WeakPassword "weak_password" => UNPROCESSABLE_ENTITY, "weak_password", Client, Both,
        "The identity server considers the password too weak.",
        "Choose another password; `errors` in the answer says why.";
    CaptchaFailed "captcha_failed" => BAD_REQUEST, "captcha_failed", Client, Both,
        "The identity server requires a captcha, and it is missing or wrong.",
        "Send `captcha_token`.";
    SignInClosed "sign_in_closed" => FORBIDDEN, "sign_in_closed", Client, Both,
        "The identity server does not allow this way of signing in, or accepts no new accounts.",
        "Change its settings, if that is not intended.",
        gotrue: "signup_disabled";
    RegistrationRefused "registration_refused" => FORBIDDEN, "registration_refused", Client, Both,
        "The identity server, or its hook before a user is created, does not allow this account.",
        "See `errors` in the answer, which has the identity server's sentence.",
        gotrue: "signup_disabled";
    RegisteredOnly "registered_only" => SERVICE_UNAVAILABLE, "registered_only", Dependency, Both,
        "The account was created, but a later step failed: the user is not signed in.",
        "Sign in; see `detail`.",
        gotrue: "unexpected_failure", postgrest: "PGRST000";
    RegistrationUnknown "registration_unknown" => SERVICE_UNAVAILABLE, "registration_unknown", Dependency, Both,
        "The identity server was asked to create the account and did not answer: the account may exist.",
        "Try to sign in; if that fails, register again.",
        gotrue: "unexpected_failure", postgrest: "PGRST000";
    SignedOutRecently "signed_out_recently" => SERVICE_UNAVAILABLE, "signed_out_recently", Gateway, Both,
        "The user was signed out everywhere a moment ago, and a new session cannot yet be told from the revoked ones.",
        "Try again after `Retry-After`.",
        gotrue: "unexpected_failure", postgrest: "PGRST000";
    SessionAbsent "session_absent" => NOT_FOUND, "not_found", Client, Both,
        "The session to end is not one of the user's sessions.",
        "Request the list of sessions again.",
        postgrest: "PGRST125";
    FactorAbsent "factor_absent" => NOT_FOUND, "not_found", Client, Both,
        "The second factor is not one of the user's.",
        "Request the list of factors again.",
        postgrest: "PGRST125";
    SecondFactorRequired "second_factor_required" => FORBIDDEN, "second_factor_required", Client, Both,
        "The identity server makes this change only for a session that a second factor has proven.",
        "Prove a second factor first.",
        gotrue: "insufficient_aal";
    LogoutIncomplete "logout_incomplete" => SERVICE_UNAVAILABLE, "logout_incomplete", Dependency, Both,
        "This replica refuses the session, but the store did not take the revocation, so other replicas may still accept the session. The gateway retries until the store takes it.",
        "Check the store; see `detail`.",
        gotrue: "unexpected_failure", postgrest: "PGRST000";

    // Authorization. PostgREST reports PostgreSQL's `insufficient_privilege` for it.
    IdentifierInvalid "identifier_invalid" => BAD_REQUEST, "identifier_invalid", Client, Both,
        "An identifier in the path, the query or the body does not have its type, is the nil UUID, is too long, or is missing, repeated or in another spelling.",
        "Send a canonical identifier.",
        gotrue: "validation_failed", postgrest: "PGRST100";
    RestDenied "rest_denied" => FORBIDDEN, "rest_denied", Client, Both,
        "The route's `rest` does not grant a table, column, function, schema or embedded table of the request, or the query cannot be parsed.",
        "See `detail` in the log; grant it under `rest`, or name the granted columns in `select`.",
        postgrest: "42501";
    CallerBanned "caller_banned" => FORBIDDEN, "caller_banned", Client, Both,
        "The caller has the role `banned`.",
        "Nothing; an operator revoked this caller's rights.",
        gotrue: "user_banned", postgrest: "42501";
    AnonymousRefused "anonymous_refused" => FORBIDDEN, "anonymous_refused", Client, Both,
        "The caller is an anonymous user, and the route does not have `anonymous: true`.",
        "Sign in.",
        postgrest: "42501";
    AalInsufficient "aal_insufficient" => FORBIDDEN, "aal_insufficient", Client, Both,
        "The route requires a higher authenticator assurance level than the token's `aal`.",
        "Sign in with a second factor.",
        gotrue: "insufficient_aal", postgrest: "42501";
    RoleInsufficient "role_insufficient" => FORBIDDEN, "role_insufficient", Client, Both,
        "No role of the caller grants the route's action.",
        "Grant the action under `roles.grants`.",
        postgrest: "42501";
    WhenRefused "when_refused" => FORBIDDEN, "when_refused", Client, Both,
        "The route's `when` does not hold for this request and caller.",
        "Nothing, if the condition is as intended.",
        postgrest: "42501";
    WhenFailed "when_failed" => FORBIDDEN, "when_refused", Client, Both,
        "The route's `when` cannot be evaluated for this request and caller; `detail` says why.",
        "Test `has(caller.claims.NAME)` before reading a claim that not every token has.",
        postgrest: "42501";

    CallerInactive "caller_inactive" => FORBIDDEN, "caller_inactive", Client, Both,
        "The query `facts.caller` reports that the caller is not active.",
        "Activate the caller's row.",
        gotrue: "user_banned", postgrest: "42501";
    CallerAbsent "caller_absent" => FORBIDDEN, "profile_missing", Client, Both,
        "The query `facts.caller` returns no row: the account has no profile yet.",
        "Sign in again, which inserts the row where `identity.profile` is configured; or insert it. Anonymous users are not asked about, unless `facts.anonymous` is true.",
        postgrest: "42501";
    NotYours "not_yours" => NOT_FOUND, "not_found", Client, Both,
        "The resource exists, but the caller is not its owner, shares no team with it, it is not public, and no role grants `ACTION:any`.",
        "Share it, or grant `ACTION:any` to a role of the caller.",
        postgrest: "PGRST125";
    Absent "absent" => NOT_FOUND, "not_found", Client, Both,
        "No such resource, or not under the parent named in the request.",
        "Check the id.",
        postgrest: "PGRST125";
    LineageCycle "lineage_cycle" => NOT_FOUND, "not_found", Client, Both,
        "The chain of the resource's parents has a cycle.",
        "Correct the parent in the database.",
        postgrest: "PGRST125";
    LineageMissing "lineage_missing" => NOT_FOUND, "not_found", Client, Both,
        "A parent of the resource does not exist.",
        "Correct the parent in the database.",
        postgrest: "PGRST125";
    LineageDeep "lineage_deep" => NOT_FOUND, "not_found", Client, Both,
        "The resource has more than ten ancestors in its chain of parents.",
        "Correct the parents in the database.",
        postgrest: "PGRST125";
    FactsUnavailable "facts_unavailable" => SERVICE_UNAVAILABLE, "facts_unavailable", Dependency, Both,
        "A fact that the decision needs cannot be looked up, and no cached value is recent enough.",
        "Check that the server under `database.url` answers and accepts the queries under `facts` and `resources`; `foregate check` prints what is allowed during an outage.",
        gotrue: "unexpected_failure", postgrest: "PGRST001";
    LookupsTooMany "lookups_too_many" => TOO_MANY_REQUESTS, "too_many_requests", Client, Both,
        "Too many requests of the caller (without one: of its address) wait for facts from the database.",
        "Send fewer requests at once, or raise `database.pool_per_caller` or `database.queue_per_caller`.",
        gotrue: "over_request_rate_limit", postgrest: "PGRST003";
    BudgetSpent "budget_spent" => SERVICE_UNAVAILABLE, "budget_spent", Dependency, Both,
        "The request was not decided within `budget`; `layers` in the log line shows which layer took the time.",
        "Speed up what that layer waited for, or raise `budget`.",
        gotrue: "request_timeout", postgrest: "PGRST003";
    BindingFailed "binding_failed" => BAD_GATEWAY, "binding_failed", Upstream, Both,
        "The response of a `learn` route does not name the resource that it must name, or the resource could not be bound to the caller; the client did not get the response.",
        "See `detail`: the response must be JSON without a content coding, have the field, and be at most 1 MiB; or the id is another user's already.",
        gotrue: "unexpected_failure", postgrest: "PGRST000";

    // The upstream.
    UpstreamConnect "upstream_connect" => BAD_GATEWAY, "upstream_unreachable", Upstream, Both,
        "No server of the upstream accepted a connection.",
        "Check that the servers run and are reachable.",
        gotrue: "unexpected_failure", postgrest: "PGRST000";
    UpstreamConnectTimeout "upstream_connect_timeout" => GATEWAY_TIMEOUT, "upstream_timeout", Upstream, Both,
        "Connecting took longer than `connect_timeout`.",
        "Check the network between the gateway and the upstream.",
        gotrue: "request_timeout", postgrest: "PGRST003";
    UpstreamBusy "upstream_busy" => SERVICE_UNAVAILABLE, "upstream_busy", Upstream, Both,
        "This worker's share of `max_connections` to every server was in use for `connect_timeout`, or its share of `max_streams` by live streams, or by requests that wait for their body.",
        "Raise the limit, or add servers.",
        gotrue: "unexpected_failure", postgrest: "PGRST000";
    UpstreamClosed "upstream_closed" => BAD_GATEWAY, "upstream_closed", Upstream, Both,
        "The upstream closed the connection before it answered, and repeating the request was not safe.",
        "See the upstream's log.",
        gotrue: "unexpected_failure", postgrest: "PGRST000";
    UpstreamProtocol "upstream_protocol" => BAD_GATEWAY, "upstream_protocol", Upstream, Both,
        "The upstream's response is invalid in its `protocol`, or switches protocols without or against the request.",
        "See the upstream's log.",
        gotrue: "unexpected_failure", postgrest: "PGRST000";
    UpstreamFirstByteTimeout "upstream_first_byte_timeout" => GATEWAY_TIMEOUT, "upstream_timeout", Upstream, Both,
        "The head of the upstream's response took longer than the first-byte timeout.",
        "Speed the upstream up, or raise `timeouts.first_byte` of the route.",
        gotrue: "request_timeout", postgrest: "PGRST003";
    UpstreamTotalTimeout "upstream_total_timeout" => GATEWAY_TIMEOUT, "upstream_timeout", Upstream, Both,
        "The exchange took longer than `timeouts.total`.",
        "Speed the upstream up, or raise `timeouts.total` of the route.",
        gotrue: "request_timeout", postgrest: "PGRST003";
    Internal "internal" => INTERNAL_SERVER_ERROR, "internal", Gateway, Both,
        "A defect in this process; the request was not forwarded, or its answer was lost.",
        "Report it with the log lines of this decision id.",
        gotrue: "unexpected_failure", postgrest: "PGRSTX00";
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn no_error_format_tells_apart_what_the_public_code_does_not() {
        let mut seen = HashMap::new();
        for reason in Reason::ALL {
            let codes = (reason.gotrue_code(), reason.postgrest_code());
            let first = *seen.entry(reason.public_code()).or_insert(codes);
            assert_eq!(first, codes, "{reason:?}");
        }
    }

    #[test]
    fn only_the_end_of_a_session_has_the_code_that_ends_it() {
        for reason in Reason::ALL {
            let ends = reason.gotrue_code() == "session_not_found";
            assert_eq!(
                ends,
                reason.public_code() == "session_not_found",
                "{reason:?}"
            );
            // supabase-js keeps its session at 500 to 504, whatever the body says.
            if reason.status().is_server_error() {
                assert!(!ends && (500..=504).contains(&reason.status().as_u16()));
            }
        }
    }
}
