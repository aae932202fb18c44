//! This gateway's own cookie among the cookies of a request and of a response.

use hyper::HeaderMap;
use hyper::header::{self, HeaderValue};

/// The default name of this gateway's cookie (`sessions.cookie`). No upstream receives it, and none
/// may set it.
pub const DEFAULT_COOKIE: &str = "__Host-foregate";

/// This gateway's cookie in a request.
#[derive(Clone, PartialEq, Eq)]
pub enum GatewayCookie {
    /// The value of the cookie, which occurs once, under its exact name.
    One(Box<str>),
    /// The cookie occurs more than once, or in a spelling that only some servers accept.
    Ambiguous,
}

impl std::fmt::Debug for GatewayCookie {
    /// Omits the value, which is a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::One(_) => "One(…)",
            Self::Ambiguous => "Ambiguous",
        })
    }
}

pub(super) fn keep_upstream_cookies(headers: &mut HeaderMap, own: &str) {
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

/// HTTP/2 clients may split `Cookie` into several fields; HTTP/1.1 has one (RFC 9113, section
/// 8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
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

pub(super) fn take_own_cookie(headers: &mut HeaderMap, own: &str) -> Option<GatewayCookie> {
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
        (Some(value), None) => GatewayCookie::One(value.into()),
        _ => GatewayCookie::Ambiguous,
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
    // Some servers read `=name=value` as a cookie of that name.
    let pair = pair.trim_ascii();
    let pair = pair.strip_prefix(b"=").unwrap_or(pair);
    let name = pair.split(|&byte| byte == b'=').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(own.as_bytes())
}
