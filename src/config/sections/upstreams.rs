//! `upstreams`: named groups of servers. A server is a scheme, a host and a port, and nothing that
//! would be ignored.
//!
//! The network between is trusted: what is spoken there is clear text.

use std::num::NonZeroUsize;
use std::time::Duration;

use hyper::header::HeaderValue;

use crate::config::check::Checker;
use crate::config::macros::{wire, words};
use crate::config::node::Text;
use crate::config::units::{HOUR, Percent, TICK, millis, mins, secs};
use crate::config::wire::{Field, List, Named, Value};
use crate::policy::outbound_url::{Url, host};
use crate::policy::upstream::{self as checked, Authorization, Protocol, UpstreamHost};

wire! {
    /// One group.
    struct Upstream {
        servers: List<Text> => "write at least one, such as `servers: [http://127.0.0.1:8000]`",
        host: Text,
        connect_timeout: Duration [TICK..=mins(5)] = millis(500),
        first_byte_timeout: Duration [TICK..=HOUR] = secs(30),
        pool_idle: Duration [TICK..=HOUR] = secs(60),
        max_connections: usize [1..=1_000_000] = 1024,
        max_streams: usize [1..=4_000_000],
        client_share: Percent [Percent(1)..=Percent(100)] = Percent(25),
        authorization: Authorization = Authorization::Keep,
        protocol: Protocol = Protocol::Http1,
    }
    later ["assertion"]
}

words! {
    impl Authorization { "keep" => Authorization::Keep, "drop" => Authorization::Drop, } later ["remint"]
    impl Protocol { "http1" => Protocol::Http1, "http2" => Protocol::Http2, }
}

impl Checker<'_> {
    /// Every group, in the order it was written: routes refer to it by its index.
    pub(crate) fn upstreams(
        &mut self,
        field: &Field<Named<Upstream>>,
        workers: Option<usize>,
    ) -> Option<Vec<checked::Upstream>> {
        self.each_of(field, |checker, name, wire| {
            let name = checker.name(&name.value, &name.place);
            checker.upstream(name?, &wire?.value, workers)
        })
    }

    fn upstream(
        &mut self,
        name: String,
        wire: &Upstream,
        workers: Option<usize>,
    ) -> Option<checked::Upstream> {
        let servers = wire.servers.good().map(|list| &list.value);
        let servers = servers.and_then(|list| self.each(list, Self::server));
        let host = self.upstream_host(&wire.host);
        let limits = [
            (&wire.max_connections, "connection"),
            (&wire.max_streams, "stream"),
        ];
        for (limit, name) in limits {
            if let (Some(limit), Some(workers)) = (limit.good(), workers)
                && limit.value < workers
            {
                self.report.problem_instead(
                    &limit.place,
                    format!(
                        "leaves some of {workers} workers without a {name}, and they share none"
                    ),
                    format!("write {workers} or more, or fewer `workers`"),
                );
            }
        }
        let max_connections = wire.max_connections()?;
        let max_streams = match wire.max_streams.optional()? {
            None => default_streams(max_connections, wire.protocol()?),
            Some(streams) => streams.value,
        };
        Some(checked::Upstream {
            name,
            servers: servers?,
            host: host?,
            connect_timeout: wire.connect_timeout()?,
            first_byte_timeout: wire.first_byte_timeout()?,
            pool_idle: wire.pool_idle()?,
            max_connections: NonZeroUsize::new(max_connections)?,
            max_streams: NonZeroUsize::new(max_streams)?,
            client_share: wire.client_share()?.0,
            authorization: wire.authorization()?,
            protocol: wire.protocol()?,
        })
    }

    fn server(&mut self, text: &Value<Text>) -> Option<(String, u16)> {
        const EXAMPLE: &str = "write scheme, host and port, such as `http://127.0.0.1:8000`";
        let why = match Url::parse(&text.value.value) {
            Ok(Url { tls: true, .. }) => {
                return self.report.refuse(&text.place, "`https` to a server does not work yet in this version; write `http` and keep the network between private");
            }
            Ok(Url { path, .. }) if path != "/" => {
                "has a path or query; requests are forwarded under their own"
            }
            Ok(Url { host, port, .. }) => return Some((host, port)),
            Err(why) => why,
        };
        self.report.refuse_instead(&text.place, why, EXAMPLE)
    }

    fn upstream_host(&mut self, field: &Field<Text>) -> Option<UpstreamHost> {
        let Some(text) = field.optional()? else {
            return Some(UpstreamHost::Keep);
        };
        text.parse(
            upstream_host,
            "is not a host name",
            "write `keep`, or a host name, with a port if the servers want one",
            self.report,
        )
    }
}

/// How many live streams there may be, unless it is written. An idle stream costs a server less
/// than a request does; and over HTTP/2 many of them share a connection. Four is a choice.
fn default_streams(connections: usize, protocol: Protocol) -> usize {
    match protocol {
        Protocol::Http1 => connections * 4,
        Protocol::Http2 => (connections * protocol.requests_per_connection())
            .min(4096)
            .max(connections * 4),
    }
}

fn upstream_host(text: &str) -> Option<UpstreamHost> {
    if text == "keep" {
        return Some(UpstreamHost::Keep);
    }
    let name = match text.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => text,
    };
    host(name)?;
    HeaderValue::from_str(text).ok().map(UpstreamHost::Value)
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

    #[test]
    fn an_upstream_has_defaults_and_servers_without_a_path() {
        let upstream = good(&with_route("path: /a, access: public"))
            .config
            .upstreams
            .remove(0);
        assert_eq!(
            (upstream.name.as_str(), upstream.servers),
            ("kong", vec![("127.0.0.1".to_owned(), 8000)])
        );
        assert_eq!(
            (upstream.host, upstream.authorization),
            (UpstreamHost::Keep, Authorization::Keep)
        );
        let rest = with_route("path: /a, access: public");
        for (server, word) in [
            ("http://a/b", "path"),
            ("http://u:p@a", "password"),
            ("a:80", "http://"),
            ("ftp://a", "http://"),
        ] {
            each_refused(
                &rest.replace("http://127.0.0.1:8000", server),
                &[("", "upstreams.kong.servers[0]", word)],
            );
        }
        for limit in ["max_connections", "max_streams"] {
            let capped = format!("http://127.0.0.1:8000], {limit}: 1");
            let place = format!("upstreams.kong.{limit}");
            each_refused(
                &rest.replace("http://127.0.0.1:8000]", &capped),
                &[("workers: 2\n", &place, "2 workers")],
            );
        }
    }

    #[test]
    fn the_streams_of_an_upstream_follow_its_connections_unless_they_are_written() {
        let streams = |more: &str| {
            let text = with_route("path: /a, access: public");
            let limits = format!("http://127.0.0.1:8000], {more}");
            let text = text.replace(
                "http://127.0.0.1:8000]",
                limits.trim_end_matches([',', ' ']),
            );
            good(&text).config.upstreams.remove(0).max_streams.get()
        };
        assert_eq!(streams(""), 4096);
        assert_eq!(streams("max_connections: 100"), 400);
        assert_eq!(streams("protocol: http2"), 4096);
        assert_eq!(streams("protocol: http2, max_connections: 20"), 2000);
        assert_eq!(streams("protocol: http2, max_connections: 2000"), 8000);
        assert_eq!(streams("max_streams: 7"), 7);
    }
}
