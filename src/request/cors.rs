//! Cross-origin requests of browsers (the Fetch standard): which origins may read responses. It
//! relies on `Origin`, which pages cannot forge. CORS protects users of browsers; it does not
//! authorize requests.
//!
//! A preflight carries no credential, so the gateway answers it itself, the same for known and
//! unknown paths, and never forwards it. If rules are configured, they replace an upstream's own
//! CORS fields: with two of them a browser refuses the response.

use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::policy;
use crate::request::Head;

/// The cross-origin rules, with prepared header values.
#[derive(Debug)]
pub struct Cors {
    origins: Vec<HeaderValue>,
    credentials: bool,
    allow_headers: HeaderValue,
    expose_headers: HeaderValue,
    max_age: HeaderValue,
}

/// Methods a page may use. The router checks the method when the request itself arrives.
const ALLOW_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

const UPSTREAM_FIELDS: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

impl Cors {
    /// Prepares the header values.
    pub fn new(cors: &policy::listen::Cors) -> Self {
        Self {
            origins: cors.origins.clone(),
            credentials: cors.credentials,
            allow_headers: list(&cors.allow_headers),
            expose_headers: list(&cors.expose_headers),
            max_age: HeaderValue::from(cors.max_age.as_secs()),
        }
    }

    /// Replaces the CORS fields of a response. Refusals have them, too, so that a page can read the
    /// reason.
    pub fn write(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>, preflight: bool) {
        for field in UPSTREAM_FIELDS {
            headers.remove(field);
        }
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin.filter(|origin| self.origins.contains(origin)) else {
            return;
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        if preflight {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static(ALLOW_METHODS),
            );
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                self.allow_headers.clone(),
            );
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        } else {
            headers.insert(
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                self.expose_headers.clone(),
            );
        }
    }
}

fn list(names: &[HeaderName]) -> HeaderValue {
    let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    // Header names are valid header values.
    HeaderValue::from_str(&names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Whether a request is a preflight, which a browser sends before a cross-origin request that is
/// not simple.
pub fn is_preflight(head: &Head) -> bool {
    *head.method() == Method::OPTIONS
        && head.headers().contains_key(header::ORIGIN)
        && head
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}
