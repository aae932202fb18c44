//! Cross-site request forgery: whether a request with a cookie was made by one of our own pages.
//! Browsers attach cookies to the requests of any site.
//!
//! Decides `csrf_origin` and `csrf_token`. It trusts browsers for `Origin` and `Sec-Fetch-Site`,
//! which no page can forge, and for not letting a page of another site read the token. Bearer
//! tokens need no such check: no browser sends one by itself.
//!
//! | request | needs an allowed `Origin` | needs `X-CSRF-Token` |
//! |---|---|---|
//! | GET, HEAD or OPTIONS | only if it says `Sec-Fetch-Site: cross-site` | no |
//! | a link to `verify`, `callback` or `authorize` of the identity server | no | no |
//! | a WebSocket's handshake | yes | no: a page cannot set it |
//! | anything else | yes | yes |
//!
//! Allowed are the origins of `cors` and the gateway's own origin, compared byte for byte as
//! browsers write them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::denial::{Denial, Reason};
use crate::policy::route::{Serve, Target};
use crate::request::Inbound;

/// The field in which a page sends the token that it got at sign-in.
pub const TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");

/// The browser's classification of the request's origin (Fetch Metadata).
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What the browser will do with the answer (Fetch Metadata).
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Operations of the identity server to which links in messages, other providers and other pages
/// lead. None acts for the user of the cookie.
const LINKED: [&str; 3] = ["verify", "callback", "authorize"];

/// Checks a request with a cookie; `expected` returns the CSRF token of its session.
pub(super) fn check(request: &Inbound, expected: impl FnOnce() -> String) -> Result<(), Denial> {
    let headers = request.headers();
    let is_safe = request.method().is_safe();
    let is_cross_site = headers
        .get_all(SITE)
        .iter()
        .any(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site"));
    let needs_origin =
        !is_safe || (is_cross_site && !is_linked(request)) || request.handshake().is_some();
    if needs_origin && !is_allowed(request) {
        let why = match headers.contains_key(header::ORIGIN) {
            true => "`Origin` is not allowed",
            false => "there is no `Origin`",
        };
        return Err(Reason::CsrfOrigin.because(why));
    }
    if is_safe {
        return Ok(());
    }
    let expected = expected();
    let is_right = |sent: &HeaderValue| {
        !expected.is_empty()
            && verify_slices_are_equal(sent.as_bytes(), expected.as_bytes()).is_ok()
    };
    match only(headers, &TOKEN) {
        Some(sent) if is_right(sent) => Ok(()),
        Some(_) => Err(Reason::CsrfToken.because("not the token of this session")),
        None => Err(Reason::CsrfToken.because("missing or repeated")),
    }
}

/// Whether somebody follows a link to such an operation. What it gives goes behind the cookie only
/// if it is of the cookie's own user.
fn is_linked(request: &Inbound) -> bool {
    let is_navigation =
        only(request.headers(), &MODE).is_some_and(|mode| mode.as_bytes() == b"navigate");
    is_navigation
        && request.method() == Method::GET
        && request.rule().target == Some(Target::Serve(Serve::IdentityServer))
        && request.tail().is_some_and(|tail| LINKED.contains(&tail))
}

fn is_allowed(request: &Inbound) -> bool {
    let Some(origin) = only(request.headers(), &header::ORIGIN) else {
        return false;
    };
    let cors = request.in_force().config().cors.as_ref();
    cors.is_some_and(|cors| cors.origins.contains(origin)) || is_own(origin, request)
}

/// Whether it is the origin to which the request itself is sent (RFC 6454, section 6.2).
fn is_own(origin: &HeaderValue, request: &Inbound) -> bool {
    let (scheme, port) = match request.client().https {
        true => ("https://", ":443"),
        false => ("http://", ":80"),
    };
    let host = request.host().value().as_bytes();
    let host = host.strip_suffix(port.as_bytes()).unwrap_or(host);
    origin.as_bytes().strip_prefix(scheme.as_bytes()) == Some(host)
}

/// The value of a field that occurs exactly once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}
