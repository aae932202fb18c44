//! Names of header fields that a client may not send, compared in folded form.

use std::borrow::Cow;

/// Prefixes of names, folded, that state the caller or the original target of a request.
const RESERVED_PREFIXES: &[&str] = &[
    "x-foregate-",
    "x-forwarded-",
    "x-consumer-",
    "x-credential-",
    "x-anonymous-consumer",
    "x-kong-",
    "kong-",
    "x-user-",
    "x-auth-",
    "x-authenticated-",
    "x-velro-",
    "x-original-",
    "x-rewrite-",
    "x-envoy-",
    "x-remote-",
    "x-webauth-",
    "x-client-cert",
    "x-ssl-client-",
    "ssl-client-",
    "remote-",
];

/// Names, folded, with the same meaning.
const RESERVED_NAMES: &[&str] = &[
    "forwarded",
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "sb-forwarded-for",
    "sb-api-key",
    "x-user",
    "x-auth",
    "x-request-id",
    "traceparent",
    "tracestate",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-host",
    "x-userinfo",
    "x-id-token",
    "x-access-token",
    "client-cert",
    "client-cert-chain",
];

/// Names that decide framing, routing or identity in their exact spelling, and are removed in any
/// other.
pub(super) const PROTECTED_NAMES: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "apikey",
    "x-api-key",
];

/// Hop-by-hop fields (RFC 9110, section 7.6.1), `Expect` (answered here), and proxy credentials,
/// which are for us.
pub(super) fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
            | "proxy-authorization"
            | "http2-settings"
    )
}

/// Whether a client may not send this field.
pub fn is_reserved(name: &str) -> bool {
    let folded = fold(name);
    // Otherwise a trailing dash would hide a folded name from the exact list.
    let folded = folded.trim_matches('-');
    RESERVED_PREFIXES
        .iter()
        .any(|prefix| folded.starts_with(prefix) || prefix.strip_suffix('-') == Some(folded))
        || RESERVED_NAMES.contains(&folded)
        || folded != name && PROTECTED_NAMES.contains(&folded)
}

pub(super) fn fold(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| matches!(byte, b'_' | b'.')) {
        Cow::Owned(name.replace(['_', '.'], "-"))
    } else {
        Cow::Borrowed(name)
    }
}

/// A fast check that rules most names out before the comparison with every entry above.
pub(super) fn may_be_reserved(name: &str) -> bool {
    let bytes = name.as_bytes();
    let likely = matches!(
        bytes,
        [b'x' | b'-', ..]
            | [b'f', b'o' | b'a' | b'l', ..]
            | [b's', b'b', ..]
            | [b'k', b'o', ..]
            | [b't', b'r', ..]
            | [b'c', b'f' | b'l', ..]
            | [b's', b's', ..]
            | [b'r', b'e', b'm', ..]
    );
    likely || name.ends_with('-') || bytes.contains(&b'_') || bytes.contains(&b'.')
}

/// Names that nearly every message has and that are never removed.
pub(super) fn is_ordinary(name: &str) -> bool {
    matches!(
        name,
        "accept"
            | "accept-encoding"
            | "accept-language"
            | "cache-control"
            | "content-encoding"
            | "content-length"
            | "content-type"
            | "date"
            | "etag"
            | "last-modified"
            | "origin"
            | "referer"
            | "server"
            | "user-agent"
            | "vary"
    )
}
