//! Groups of servers.
//!
//! Decides: that a server is a scheme, a host and a port and nothing that would be ignored. Trusts: the network between, since what is spoken there
//! is clear text. Not here: connections (`upstream`).

use std::num::NonZeroUsize;

use hyper::header::HeaderValue;

use super::{Checker, HOUR, MINUTES_5, TICK, or, secs};
use crate::config::file;
use crate::config::node::Text;
use crate::config::wire::{Field, Named, Value};
use crate::policy::side_url::{Url, host};
use crate::policy::upstream::{Authorization, Protocol, Upstream, UpstreamHost};

impl Checker<'_> {
    /// Every group, in the order it was written: routes refer to it by its index.
    pub(super) fn upstreams(
        &mut self,
        field: &Field<Named<file::Upstream>>,
        workers: Option<usize>,
    ) -> Option<Vec<Upstream>> {
        let named = match field {
            Field::Absent => return Some(Vec::new()),
            Field::Bad => return None,
            Field::Good(named) => &named.value.0,
        };
        let mut upstreams = Vec::with_capacity(named.len());
        for (name, wire) in named {
            let known = self.name(&name.value, &name.place);
            upstreams.extend(
                wire.as_ref()
                    .and_then(|wire| self.upstream(known?, &wire.value, workers)),
            );
        }
        (upstreams.len() == named.len()).then_some(upstreams)
    }

    fn upstream(
        &mut self,
        name: String,
        wire: &file::Upstream,
        workers: Option<usize>,
    ) -> Option<Upstream> {
        let example = "write at least one, such as `servers: [http://127.0.0.1:8000]`";
        let servers = wire
            .servers
            .required(&wire.place, "servers", example, self.report);
        let servers = servers.and_then(|list| {
            list.value.at_least_one(&list.place, self.report);
            self.each(&list.value, Self::server)
        });
        let host = self.upstream_host(&wire.host);
        let connect_timeout = self.duration(
            &wire.connect_timeout,
            TICK..=MINUTES_5,
            std::time::Duration::from_millis(500),
        );
        let first_byte_timeout = self.duration(&wire.first_byte_timeout, TICK..=HOUR, secs(30));
        let pool_idle = self.duration(&wire.pool_idle, TICK..=HOUR, secs(60));
        let max_connections = self.number(&wire.max_connections, 1..=1_000_000, 1024_usize);
        if let (Some(limit), Some(connections), Some(workers)) =
            (wire.max_connections.good(), max_connections, workers)
            && connections < workers
        {
            self.report.problem_instead(
                &limit.place,
                format!(
                    "leaves some of {workers} workers without a connection, and they share none"
                ),
                format!("write {workers} or more, or fewer `workers`"),
            );
            return None;
        }
        let authorization = or(&wire.authorization, Authorization::Keep);
        let protocol = or(&wire.protocol, Protocol::Http1);
        Some(Upstream {
            name,
            servers: servers?,
            host: host?,
            connect_timeout: connect_timeout?,
            first_byte_timeout: first_byte_timeout?,
            pool_idle: pool_idle?,
            max_connections: NonZeroUsize::new(max_connections?)?,
            authorization: authorization?,
            protocol: protocol?,
        })
    }

    fn server(&mut self, text: &Value<Text>) -> Option<(String, u16)> {
        const EXAMPLE: &str = "write scheme, host and port, such as `http://127.0.0.1:8000`";
        match Url::parse(&text.value.value) {
            Ok(Url { tls: true, .. }) => {
                self.report.problem(&text.place, "`https` to a server does not work yet in this version; write `http` and keep the network between private");
                None
            }
            Ok(Url { path, .. }) if path != "/" => {
                self.report.problem_instead(
                    &text.place,
                    "has a path or query; requests are forwarded under their own",
                    EXAMPLE,
                );
                None
            }
            Ok(Url { host, port, .. }) => Some((host, port)),
            Err(why) => {
                self.report.problem_instead(&text.place, why, EXAMPLE);
                None
            }
        }
    }

    fn upstream_host(&mut self, field: &Field<Text>) -> Option<UpstreamHost> {
        let text = match field {
            Field::Absent => return Some(UpstreamHost::Keep),
            Field::Bad => return None,
            Field::Good(text) => text,
        };
        let value = text.value.value.as_str();
        if value == "keep" {
            return Some(UpstreamHost::Keep);
        }
        let name = match value.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            _ => value,
        };
        let value = host(name).and_then(|_| HeaderValue::from_str(value).ok());
        if value.is_none() {
            let message = format!("`{}` is not a host name", text.value.shown());
            self.report.problem_instead(
                &text.place,
                message,
                "write `keep`, or a host name, with a port if the servers want one",
            );
        }
        value.map(UpstreamHost::Value)
    }
}
