//! What may not come in from outside, and what may not go back.
//!
//! Decides: which header fields are removed, in both directions. Trusts: nothing a client or an upstream says about itself. Not here:
//! the fields this gateway adds for the upstream (`upstream::headers`).
//!
//! Names are compared *folded* (case, `-`, `_` and `.` alike), because many servers fold them: to a WSGI application `X_User_Id` and
//! `X-User-Id` are one variable.

use std::borrow::Cow;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};

/// What the cookie of this gateway is called unless `sessions.cookie` says otherwise. No upstream sees it, and none may set it.
pub const OWN_COOKIE: &str = "__Host-foregate";

/// This gateway's cookie, as a request came with it.
#[derive(Clone, PartialEq, Eq)]
pub enum OwnCookie {
    /// Once, under its name: its value.
    One(Box<str>),
    /// More than once, or in a spelling that some take for it and others do not.
    Ambiguous,
}

impl std::fmt::Debug for OwnCookie {
    /// The value is a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::One(_) => "One(…)",
            Self::Ambiguous => "Ambiguous",
        })
    }
}

/// Families of names, folded, that say who a request is from or where it was going.
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

/// Single names, folded, with the same meaning.
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

/// Names that decide framing, routing or identity under their own spelling, and are removed under any other.
const NEVER_MISSPELT: &[&str] = &[
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
];

/// Hop-by-hop fields (RFC 9110, section 7.6.1), `Expect` (answered here), and proxy credentials, which were meant for us.
fn is_hop_by_hop(name: &str) -> bool {
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
    // A trailing dash would otherwise hide a folded name from the exact list.
    let folded = folded.trim_matches('-');
    RESERVED_PREFIXES
        .iter()
        .any(|prefix| folded.starts_with(prefix) || prefix.strip_suffix('-') == Some(folded))
        || RESERVED_NAMES.contains(&folded)
        || folded != name && NEVER_MISSPELT.contains(&folded)
}

fn fold(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| matches!(byte, b'_' | b'.')) {
        Cow::Owned(name.replace(['_', '.'], "-"))
    } else {
        Cow::Borrowed(name)
    }
}

/// A quick look, which spares most names the comparison with every entry above.
fn may_be_reserved(name: &str) -> bool {
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

/// Names that nearly every message has, and that nothing here is about.
fn is_ordinary(name: &str) -> bool {
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

/// What one pass over the fields of a request finds; the usual request has none of it, and nothing more is looked up.
#[derive(Debug, Default)]
pub struct Survey {
    /// `Authorization` fields.
    pub authorizations: usize,
    /// Whether there is a `Host` field.
    pub host: bool,
    /// Whether the request asks to leave HTTP.
    pub upgrade: bool,
    cookies: usize,
    lengths: usize,
    connection: bool,
    te: bool,
    unwanted: bool,
}

impl Survey {
    /// Looks at every field once.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut survey = Self::default();
        for (name, _) in headers {
            match name.as_str() {
                "authorization" => survey.authorizations += 1,
                "host" => survey.host = true,
                "upgrade" => survey.upgrade = true,
                "cookie" => survey.cookies += 1,
                "content-length" => survey.lengths += 1,
                "connection" => survey.connection = true,
                "te" => survey.te = true,
                name => survey.unwanted |= is_unwanted(name),
            }
        }
        survey
    }
}

fn is_unwanted(name: &str) -> bool {
    !is_ordinary(name) && (is_hop_by_hop(name) || may_be_reserved(name) && is_reserved(name))
}

/// Removes from a request what only this gateway may say, and what was meant for this hop alone. Fields named by `Connection` go
/// before anything is judged, so that a client cannot have a field judged and then removed. Gives the cookie called `own`, if it came.
pub fn clean_request(headers: &mut HeaderMap, survey: &Survey, own: &str) -> Option<OwnCookie> {
    // Asked first: a proper `TE` is named by `Connection`.
    let keeps_trailers = survey.te && accepts_trailers(headers);
    if survey.connection {
        remove_named_by_connection(headers);
    }
    if survey.unwanted || survey.connection || survey.te || survey.upgrade {
        remove_where(headers, is_unwanted);
    }
    if keeps_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if survey.lengths > 1 {
        keep_one_length(headers);
    }
    if survey.cookies > 1 {
        join_cookies(headers);
    }
    match survey.cookies {
        0 => None,
        _ => take_own_cookie(headers, own),
    }
}

/// hyper and h2 have refused lengths that differ; equal ones are one (RFC 9110, section 8.6).
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

/// Removes from an answer what was meant for this hop alone, and what an upstream may not say in our name. Says whether a field names a place.
pub fn clean_response(headers: &mut HeaderMap, own: &str) -> bool {
    let (mut connection, mut unwanted, mut sets_cookies) = (false, false, false);
    let (mut names_fields, mut names_place) = (false, false);
    for (name, value) in &*headers {
        match name.as_str() {
            "connection" => {
                connection = true;
                names_fields |= !is_connection_option(value.as_bytes());
            }
            "set-cookie" => sets_cookies = true,
            "location" | "content-location" => names_place = true,
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
    names_place
}

fn is_unwanted_answer(name: &str) -> bool {
    // `Alt-Svc` would lead clients around this gateway.
    let ours = |name: &str| {
        name == "alt-svc" || name == "x-request-id" || fold(name).starts_with("x-foregate-")
    };
    !is_ordinary(name) && (is_hop_by_hop(name) || ours(name))
}

fn keep_upstream_cookies(headers: &mut HeaderMap, own: &str) {
    let cookies = headers.get_all(header::SET_COOKIE);
    let kept: Vec<HeaderValue> = cookies
        .iter()
        .filter(|value| !is_own_cookie(value.as_bytes(), own))
        .cloned()
        .collect();
    headers.remove(header::SET_COOKIE);
    for value in kept {
        headers.append(header::SET_COOKIE, value);
    }
}

/// Whether a trailer field may pass: it must not say what only a head may (RFC 9110, section 6.5.1), nor who the request is from.
pub fn is_allowed_trailer(name: &str) -> bool {
    !is_hop_by_hop(name)
        && !is_reserved(name)
        && !NEVER_MISSPELT.contains(&name)
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
    // One pass finds what is there; the usual request has one or two such fields.
    while let Some(name) = headers.keys().find(|name| unwanted(name.as_str())).cloned() {
        headers.remove(name);
    }
}

fn remove_named_by_connection(headers: &mut HeaderMap) {
    // Every `Connection` line counts, not just the first: a list may be split to smuggle a name past (RFC 9110, section 7.6.1).
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

/// Whether a word of `Connection` is one of the usual ones, which name no field.
fn is_connection_option(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"keep-alive") || word.eq_ignore_ascii_case(b"close")
}

/// HTTP/2 clients may split `Cookie` into several fields; HTTP/1.1 has one (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let joined = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect::<Vec<_>>()
        .join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

fn take_own_cookie(headers: &mut HeaderMap, own: &str) -> Option<OwnCookie> {
    let cookies = headers.get(header::COOKIE)?.clone();
    let pairs = || {
        cookies
            .as_bytes()
            .split(|&byte| byte == b';')
            .map(<[u8]>::trim_ascii)
    };
    let mut ours = pairs().filter(|pair| is_own_cookie(pair, own));
    let first = ours.next()?;
    let value = first
        .strip_prefix(own.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"="))
        .and_then(|value| std::str::from_utf8(value).ok());
    let taken = match (value, ours.next()) {
        (Some(value), None) => OwnCookie::One(value.into()),
        _ => OwnCookie::Ambiguous,
    };
    let kept: Vec<&[u8]> = pairs().filter(|pair| !is_own_cookie(pair, own)).collect();
    match HeaderValue::from_bytes(&kept.join(&b"; "[..])) {
        Ok(value) if !value.is_empty() => {
            headers.insert(header::COOKIE, value);
        }
        _ => {
            headers.remove(header::COOKIE);
        }
    }
    Some(taken)
}

fn is_own_cookie(pair: &[u8], own: &str) -> bool {
    // Some servers take `=name=value` for a cookie of that name.
    let pair = pair.trim_ascii();
    let pair = pair.strip_prefix(b"=").unwrap_or(pair);
    let name = pair.split(|&byte| byte == b'=').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(own.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(headers: &mut HeaderMap) -> Option<OwnCookie> {
        let survey = Survey::of(headers);
        clean_request(headers, &survey, OWN_COOKIE)
    }

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    #[test]
    fn identity_and_forwarding_fields_are_removed_however_they_are_spelt() {
        for name in [
            "x-forwarded-for",
            "x_forwarded_for",
            "x.forwarded.proto",
            "forwarded",
            "x-real-ip",
            "x_real.ip",
            "x-foregate-subject",
            "x_foregate_roles",
            "x-consumer-id",
            "x-kong-request-id",
            "kong-debug",
            "kong_debug",
            "x-user-id",
            "x-user",
            "x-velro-assertion",
            "sb-forwarded-for",
            "sb_api_key",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method-override",
            "x_http_method",
            "content_length",
            "transfer.encoding",
            "host_",
            "x-forwarded-",
            "-forwarded",
            "x-request-id",
            "traceparent",
            "x-anonymous-consumer",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_static("x"),
            );
            clean(&mut headers);
            assert!(headers.is_empty(), "{name}");
        }
    }

    #[test]
    fn ordinary_fields_stay() {
        let fields = [
            ("accept", "*/*"),
            ("authorization", "Bearer x"),
            ("apikey", "k"),
            ("x-client-info", "supabase-js"),
            ("prefer", "count=exact"),
            ("x-supabase-api-version", "2024-01-01"),
            ("x-upsert", "true"),
            ("content-length", "3"),
            ("tus-resumable", "1.0.0"),
            ("cookie", "a=b"),
        ];
        let mut headers = map(&fields);
        clean(&mut headers);
        assert_eq!(headers.len(), fields.len());
    }

    #[test]
    fn every_connection_line_counts() {
        let mut headers = map(&[
            ("connection", "close, x-one"),
            ("connection", "X-Two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
        ]);
        clean(&mut headers);
        assert_eq!(headers, map(&[("x-three", "3")]));
    }

    #[test]
    fn cookies_are_joined_and_ours_is_taken_out() {
        let mut headers = map(&[("cookie", "a=1; __Host-foregate=secret"), ("cookie", "b=2")]);
        clean(&mut headers);
        assert_eq!(headers, map(&[("cookie", "a=1; b=2")]));
        let mut headers = map(&[("cookie", "__host-Foregate=secret")]);
        clean(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn our_cookie_is_one_value_under_one_spelling_or_nobody_knows_which() {
        let one = |value: &str| Some(OwnCookie::One(value.into()));
        let ambiguous = Some(OwnCookie::Ambiguous);
        for (cookies, taken) in [
            ("a=1", None),
            ("__Host-foregate2=x", None),
            ("__Host-foregate=x", one("x")),
            ("a=1; __Host-foregate=x=y ;b=2", one("x=y")),
            ("__Host-foregate=", one("")),
            ("__Host-foregate", ambiguous.clone()),
            ("__Host-foregate =x", ambiguous.clone()),
            ("__host-foregate=x", ambiguous.clone()),
            ("=__Host-foregate=x", ambiguous.clone()),
            ("__Host-foregate=x; __Host-foregate=x", ambiguous.clone()),
            ("__Host-foregate=x; __HOST-foregate=y", ambiguous),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("cookie", HeaderValue::from_static(cookies));
            assert_eq!(clean(&mut headers), taken, "{cookies}");
        }
    }

    #[test]
    fn an_upstream_cannot_speak_in_our_name() {
        let mut headers = map(&[
            ("set-cookie", "__Host-foregate=stolen"),
            ("set-cookie", "a=1"),
            ("alt-svc", "h3=\":443\""),
            ("x-foregate-decision", "x"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("server", "kong"),
        ]);
        clean_response(&mut headers, OWN_COOKIE);
        assert_eq!(headers, map(&[("set-cookie", "a=1"), ("server", "kong")]));
    }
}
