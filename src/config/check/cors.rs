//! Cross-origin rules.
//!
//! Decides: that an origin is written exactly as browsers send it, so that it can be compared byte for byte; no wildcard, no `null`. Trusts: the
//! operator, for which sites are good. Not here: answering a preflight (`cors`).

use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};

use super::{Checker, DAY, or, secs};
use crate::config::file;
use crate::config::node::Text;
use crate::config::wire::{Field, List, Value};
use crate::policy::listen::Cors;
use crate::policy::side_url::host;

/// Request headers that a Supabase client sends, uploads that can be resumed and traces included.
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

/// Answer headers that such a client reads.
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
    /// The rules; `Some(None)` if there are none.
    pub(super) fn cors(&mut self, field: &Field<file::Cors>) -> Option<Option<Cors>> {
        let wire = match field {
            Field::Absent => return Some(None),
            Field::Bad => return None,
            Field::Good(wire) => &wire.value,
        };
        let example = "write the sites that may call, such as `origins: [https://app.example.com]`";
        let origins = wire
            .origins
            .required(&wire.place, "origins", example, self.report);
        let origins = origins.and_then(|list| {
            list.value.at_least_one(&list.place, self.report);
            self.each(&list.value, Self::origin)
        });
        let credentials = or(&wire.credentials, false);
        let allow_headers = self.header_names(&wire.allow_headers, &ALLOW_HEADERS);
        let expose_headers = self.header_names(&wire.expose_headers, &EXPOSE_HEADERS);
        let max_age = self.duration(&wire.max_age, Duration::ZERO..=DAY, secs(600));
        Some(Some(Cors {
            origins: origins?,
            credentials: credentials?,
            allow_headers: allow_headers?,
            expose_headers: expose_headers?,
            max_age: max_age?,
        }))
    }

    /// An origin, byte for byte as a browser sends it: it is compared, never interpreted.
    fn origin(&mut self, text: &Value<Text>) -> Option<HeaderValue> {
        let checked = origin(&text.value.value);
        if let Err(why) = checked {
            let message = format!("`{}` {why}", text.value.shown());
            self.report.problem_instead(&text.place, message, "write scheme and host, and a port if it is not the scheme's, such as `https://app.example.com`");
        }
        checked.ok()?;
        HeaderValue::from_str(&text.value.value).ok()
    }

    fn header_names(
        &mut self,
        field: &Field<List<Text>>,
        default: &[HeaderName],
    ) -> Option<Vec<HeaderName>> {
        let list = match field {
            Field::Absent => return Some(default.to_vec()),
            Field::Bad => return None,
            Field::Good(list) => &list.value,
        };
        self.each(list, |checker, text| {
            let name = text
                .value
                .value
                .parse::<HeaderName>()
                .ok()
                .filter(|name| name.as_str() != "*");
            if name.is_none() {
                let message = format!("`{}` is not the name of one header", text.value.shown());
                checker.report.problem(&text.place, message);
            }
            name
        })
    }
}

fn origin(text: &str) -> Result<(), &'static str> {
    if text.contains('*') {
        return Err(
            "has a `*`: every origin is written out, so that a page can be trusted by name",
        );
    }
    if text == "null" {
        return Err("is what any sandboxed page sends, so it names nobody");
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
mod tests {
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
}
