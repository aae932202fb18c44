//! `cors`: cross-origin rules.
//!
//! An origin is written exactly as browsers send it, so that it can be compared byte for byte; no
//! wildcard, no `null`.

use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};

use crate::config::check::Checker;
use crate::config::decode::Decode;
use crate::config::macros::wire;
use crate::config::node::{Node, Text};
use crate::config::problem::Report;
use crate::config::units::{DAY, secs};
use crate::config::wire::{Field, List, ListOrEmpty, Value};
use crate::policy::listen as checked;
use crate::policy::outbound_url::host;

wire! {
    /// The rules.
    struct Cors {
        origins: List<Text> => "write the sites that may call, such as `origins: [https://app.example.com]`",
        credentials: bool = false,
        allow_headers: ListOrEmpty<HeaderName>,
        expose_headers: ListOrEmpty<HeaderName>,
        max_age: Duration [Duration::ZERO..=DAY] = secs(600),
    }
}

impl Decode for HeaderName {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        Value::<Text>::decode(node, report)?.parse(
            |text| text.parse().ok().filter(|name: &Self| name.as_str() != "*"),
            "is not the name of one header",
            "write a name such as `x-request-id`",
            report,
        )
    }
}

/// Request headers that a Supabase client sends, with resumable uploads and tracing.
const ALLOW_HEADERS: [HeaderName; 21] = [
    HeaderName::from_static("authorization"),
    HeaderName::from_static("apikey"),
    HeaderName::from_static("content-type"),
    HeaderName::from_static("x-client-info"),
    HeaderName::from_static("x-supabase-api-version"),
    HeaderName::from_static("x-use-cookie"),
    HeaderName::from_static("x-csrf-token"),
    HeaderName::from_static("accept-profile"),
    HeaderName::from_static("content-profile"),
    HeaderName::from_static("prefer"),
    HeaderName::from_static("range"),
    HeaderName::from_static("x-upsert"),
    HeaderName::from_static("tus-resumable"),
    HeaderName::from_static("upload-length"),
    HeaderName::from_static("upload-offset"),
    HeaderName::from_static("upload-metadata"),
    HeaderName::from_static("x-region"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
    HeaderName::from_static("x-request-id"),
];

/// Response headers that such a client reads.
const EXPOSE_HEADERS: [HeaderName; 10] = [
    HeaderName::from_static("content-range"),
    HeaderName::from_static("x-total-count"),
    HeaderName::from_static("link"),
    HeaderName::from_static("x-supabase-api-version"),
    HeaderName::from_static("x-sb-error-code"),
    HeaderName::from_static("location"),
    HeaderName::from_static("upload-offset"),
    HeaderName::from_static("retry-after"),
    HeaderName::from_static("server-timing"),
    HeaderName::from_static("x-request-id"),
];

impl Checker<'_> {
    /// `Some(None)` if there are none.
    pub(crate) fn cors(&mut self, field: &Field<Cors>) -> Option<Option<checked::Cors>> {
        field.then(|wire| {
            let wire = &wire.value;
            let origins = self.each(&wire.origins.good()?.value, Self::origin);
            Some(checked::Cors {
                origins: origins?,
                credentials: wire.credentials()?,
                allow_headers: names_or(&wire.allow_headers, &ALLOW_HEADERS)?,
                expose_headers: names_or(&wire.expose_headers, &EXPOSE_HEADERS)?,
                max_age: wire.max_age()?,
            })
        })
    }

    /// An origin, byte for byte as a browser sends it: it is compared, never interpreted.
    fn origin(&mut self, text: &Value<Text>) -> Option<HeaderValue> {
        if let Err(why) = origin(&text.value.value) {
            return self.report.refuse_instead(
                &text.place,
                format!("`{}` {why}", text.value.shown()),
                "write scheme and host, and a port if it is not the scheme's, such as `https://app.example.com`",
            );
        }
        HeaderValue::from_str(&text.value.value).ok()
    }
}

fn names_or(
    field: &Field<ListOrEmpty<HeaderName>>,
    default: &[HeaderName],
) -> Option<Vec<HeaderName>> {
    match field.optional()? {
        Some(list) => list.value.0.values(),
        None => Some(default.to_vec()),
    }
}

fn origin(text: &str) -> Result<(), &'static str> {
    if text.contains('*') {
        return Err(
            "has a `*`: every origin must be written out, so that each site is trusted by name",
        );
    }
    if text == "null" {
        return Err("is what any sandboxed page sends, so it identifies no site");
    }
    let (scheme, rest) = text.split_once("://").ok_or("is not an origin")?;
    let fits =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.');
    if !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.chars().all(fits) {
        return Err("has no lower-case scheme");
    }
    if rest.contains('/') {
        return Err("has a path or a trailing slash, and browsers send neither");
    }
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (rest, None),
    };
    if host(name).is_none_or(|lower| lower != name) {
        return Err("has no lower-case host name");
    }
    match port.map(|port| {
        port.parse::<u16>()
            .ok()
            .filter(|number| number.to_string() == port)
    }) {
        Some(None | Some(0)) => Err("has no valid port"),
        Some(Some(443)) if scheme == "https" => {
            Err("has the port of its scheme, which browsers leave out")
        }
        Some(Some(80)) if scheme == "http" => {
            Err("has the port of its scheme, which browsers leave out")
        }
        Some(Some(_)) | None => Ok(()),
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]
mod tests {
    use crate::config::tests::*;

    use super::*;

    #[test]
    fn an_origin_is_written_as_a_browser_sends_it() {
        for good in [
            "https://app.example.com",
            "http://localhost:5173",
            "https://a:444",
            "capacitor://localhost",
            "http://[::1]:3000",
        ] {
            assert_eq!(origin(good), Ok(()), "{good}");
        }
        for bad in [
            "*",
            "null",
            "https://*.a",
            "https://a/",
            "https://a:443",
            "http://a:80",
            "https://A",
            "a.example",
            "https://a:080",
            "https://",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_that_is_not_one_site_is_refused_with_its_key() {
        let rest = with_route("path: /a, access: public");
        each_refused(
            &rest,
            &[
                (
                    "cors: { origins: ['*'] }\n",
                    "cors.origins[0]",
                    "written out",
                ),
                (
                    "cors: { origins: ['null'] }\n",
                    "cors.origins[0]",
                    "identifies no site",
                ),
                (
                    "cors: { origins: ['https://a/'] }\n",
                    "cors.origins[0]",
                    "trailing slash",
                ),
                (
                    "cors: { credentials: true }\n",
                    "cors.origins",
                    "is missing",
                ),
            ],
        );
    }
}
