//! Rewrites the `Location` of an upstream's answer.
//!
//! An absolute URL that names the upstream itself is changed to name this gateway: the client
//! cannot reach the upstream, and should not learn of it. Resumable uploads (tus) are answered with
//! such a `Location`. Paths stay: an upstream that does not know where it is mounted must be
//! configured there.

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};

use crate::policy::upstream::{Upstream, UpstreamHost};
use crate::request::Inbound;

const FIELDS: [HeaderName; 2] = [header::LOCATION, header::CONTENT_LOCATION];

/// Rewrites the URLs that name the upstream.
pub(super) fn rewrite(headers: &mut HeaderMap, upstream: &Upstream, request: &Inbound) {
    for name in FIELDS {
        let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) else {
            continue;
        };
        let Some(rest) = after_authority(value, upstream) else {
            continue;
        };
        let scheme = if request.client().https {
            "https"
        } else {
            "http"
        };
        let host = request.host().value().to_str().unwrap_or_default();
        if let Ok(value) = HeaderValue::from_str(&format!("{scheme}://{host}{rest}")) {
            headers.insert(name, value);
        }
    }
}

/// The part after the authority, if the authority is the upstream's.
fn after_authority<'v>(value: &'v str, upstream: &Upstream) -> Option<&'v str> {
    let (scheme, rest) = value.split_once("://")?;
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    let is_server = |(host, port): &(String, u16)| {
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.clone(),
        };
        authority.eq_ignore_ascii_case(&format!("{host}:{port}"))
            || *port == default_port && authority.eq_ignore_ascii_case(&host)
    };
    let is_host = match &upstream.host {
        UpstreamHost::Keep => false,
        UpstreamHost::Value(host) => host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()),
    };
    (is_host || upstream.servers.iter().any(is_server)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use super::*;
    use crate::policy::upstream::{Authorization, Protocol};

    fn upstream(host: UpstreamHost) -> Upstream {
        Upstream {
            name: "storage".to_owned(),
            servers: vec![("storage".to_owned(), 5000), ("::1".to_owned(), 80)],
            host,
            connect_timeout: Duration::from_secs(1),
            first_byte_timeout: Duration::from_secs(1),
            pool_idle: Duration::from_secs(1),
            max_connections: NonZeroUsize::MIN,
            max_streams: NonZeroUsize::MIN,
            client_share: 25,
            authorization: Authorization::Keep,
            protocol: Protocol::Http1,
        }
    }

    #[test]
    fn only_a_url_of_the_upstream_itself_is_rewritten() {
        let keep = upstream(UpstreamHost::Keep);
        for (value, rest) in [
            ("http://storage:5000/a?b", Some("/a?b")),
            ("HTTPS://Storage:5000", Some("")),
            ("http://[::1]/a", Some("/a")),
            ("http://[::1]:80/a", Some("/a")),
            ("https://[::1]/a", None),
            ("http://storage/a", None),
            ("http://storage:50001/a", None),
            ("http://other:5000/a", None),
            ("http://storage:5000@evil.test/a", None),
            ("//storage:5000/a", None),
            ("/a", None),
            ("ftp://storage:5000/a", None),
        ] {
            assert_eq!(after_authority(value, &keep), rest, "{value}");
        }
        let named = upstream(UpstreamHost::Value(HeaderValue::from_static(
            "p.supabase.co",
        )));
        assert_eq!(
            after_authority("https://p.supabase.co/a", &named),
            Some("/a")
        );
        assert_eq!(after_authority("https://p.supabase.co/a", &keep), None);
    }
}
