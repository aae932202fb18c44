//! Removes header fields that a client may not send, or an upstream may not return.
//!
//! Decides:  which header fields are removed, in both directions.
//! Trusts:   no identity or forwarding field of a client, and no field of an upstream in our name.
//! Not here: the fields that the gateway adds for the upstream (`upstream::headers`).
//!
//! Names are compared *folded* (case, `-`, `_` and `.` alike), because many servers fold them: to a
//! WSGI application `X_User_Id` and `X-User-Id` are one variable.

mod cookies;
mod names;
#[cfg(test)]
mod tests;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};

pub use self::cookies::{DEFAULT_COOKIE, GatewayCookie};
pub use self::names::is_reserved;

use self::cookies::{join_cookies, keep_upstream_cookies, take_own_cookie};
use self::names::{PROTECTED_NAMES, fold, is_hop_by_hop, is_ordinary, may_be_reserved};
use super::apikey::is_key_field;

/// The result of one pass over the fields of a request. For the usual request it shows that no
/// further lookup is needed.
#[derive(Debug, Default)]
pub struct HeaderScan {
    /// The number of `Authorization` fields.
    pub authorizations: usize,
    /// Whether there is a `Host` field.
    pub host: bool,
    /// Whether there is an `Upgrade` field.
    pub upgrade: bool,
    /// Whether a field carries an API key.
    pub keys: bool,
    cookies: usize,
    lengths: usize,
    connection: bool,
    te: bool,
    unwanted: bool,
}

impl HeaderScan {
    /// Scans every field once.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut scan = Self::default();
        for (name, _) in headers {
            match name.as_str() {
                "authorization" => scan.authorizations += 1,
                "host" => scan.host = true,
                "upgrade" => scan.upgrade = true,
                "cookie" => scan.cookies += 1,
                "content-length" => scan.lengths += 1,
                "connection" => scan.connection = true,
                "te" => scan.te = true,
                name if is_key_field(name) => {
                    scan.keys = true;
                    scan.unwanted |= is_unwanted(name);
                }
                name => scan.unwanted |= is_unwanted(name),
            }
        }
        scan
    }
}

fn is_unwanted(name: &str) -> bool {
    !is_ordinary(name) && (is_hop_by_hop(name) || may_be_reserved(name) && is_reserved(name))
}

/// Removes from a request the fields that only this gateway may set, and those for this hop alone.
/// Fields named by `Connection` are removed before any check, so that a client cannot have a field
/// checked and then removed. Returns the cookie named `own`, if there is one.
pub fn clean_request(
    headers: &mut HeaderMap,
    scan: &HeaderScan,
    own: &str,
) -> Option<GatewayCookie> {
    // Checked first, because `Connection` names a valid `TE`.
    let keeps_trailers = scan.te && accepts_trailers(headers);
    if scan.connection {
        remove_named_by_connection(headers);
    }
    if scan.unwanted || scan.connection || scan.te || scan.upgrade {
        remove_where(headers, is_unwanted);
    }
    if keeps_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if scan.lengths > 1 {
        keep_one_length(headers);
    }
    if scan.cookies > 1 {
        join_cookies(headers);
    }
    match scan.cookies {
        0 => None,
        _ => take_own_cookie(headers, own),
    }
}

/// Merges equal lengths into one (RFC 9110, section 8.6). Lengths that differ were refused before.
fn keep_one_length(headers: &mut HeaderMap) {
    if let Some(length) = headers.get(header::CONTENT_LENGTH).cloned() {
        headers.insert(header::CONTENT_LENGTH, length);
    }
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    let names_trailers = |text: &str| {
        text.split(',')
            .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
    };
    headers
        .get_all(header::TE)
        .iter()
        .any(|value| value.to_str().is_ok_and(names_trailers))
}

/// Removes from a response the fields for this hop alone, and those that an upstream may not set in
/// our name. Returns whether a field holds a location.
pub fn clean_response(headers: &mut HeaderMap, own: &str) -> bool {
    let (mut connection, mut unwanted, mut sets_cookies) = (false, false, false);
    let (mut names_fields, mut has_location) = (false, false);
    for (name, value) in &*headers {
        match name.as_str() {
            "connection" => {
                connection = true;
                names_fields |= !is_connection_option(value.as_bytes());
            }
            "set-cookie" => sets_cookies = true,
            "location" | "content-location" => has_location = true,
            name => unwanted |= is_unwanted_answer(name),
        }
    }
    if names_fields {
        remove_named_by_connection(headers);
    }
    if connection {
        headers.remove(header::CONNECTION);
    }
    if unwanted {
        remove_where(headers, is_unwanted_answer);
    }
    if sets_cookies {
        keep_upstream_cookies(headers, own);
    }
    has_location
}

fn is_unwanted_answer(name: &str) -> bool {
    // `Alt-Svc` would direct clients past this gateway.
    let ours = |name: &str| {
        name == "alt-svc" || name == "x-request-id" || fold(name).starts_with("x-foregate-")
    };
    !is_ordinary(name) && (is_hop_by_hop(name) || ours(name))
}

/// Whether a trailer field may be forwarded: it must be none of the fields that belong into a head
/// (RFC 9110, section 6.5.1), and no identity field.
pub fn is_allowed_trailer(name: &str) -> bool {
    !is_hop_by_hop(name)
        && !is_reserved(name)
        && !PROTECTED_NAMES.contains(&name)
        && !matches!(
            name,
            "set-cookie"
                | "content-type"
                | "content-encoding"
                | "content-range"
                | "trailer"
                | "location"
                | "www-authenticate"
        )
}

fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    // One pass per removed name; the usual request has one or two such fields.
    while let Some(name) = headers.keys().find(|name| unwanted(name.as_str())).cloned() {
        headers.remove(name);
    }
}

fn remove_named_by_connection(headers: &mut HeaderMap) {
    // Every `Connection` line counts, not just the first: a client may split the list to smuggle a
    // name past us (RFC 9110, section 7.6.1).
    let mut named = Vec::new();
    for line in headers.get_all(header::CONNECTION) {
        let names = line
            .as_bytes()
            .split(|&byte| byte == b',')
            .map(<[u8]>::trim_ascii);
        named.extend(
            names
                .filter(|name| !is_connection_option(name))
                .filter_map(|name| HeaderName::from_bytes(name).ok()),
        );
    }
    for name in named {
        headers.remove(name);
    }
}

/// Whether an option of `Connection` is one of the usual ones, which name no field.
fn is_connection_option(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"keep-alive") || word.eq_ignore_ascii_case(b"close")
}
