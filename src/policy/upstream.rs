//! Settings of an upstream: a named group of servers.

use std::num::NonZeroUsize;
use std::time::Duration;

use hyper::header::HeaderValue;

/// A named group of equivalent servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Name in the route map and in metrics.
    pub name: String,
    /// Host and port of each server, at least one. They are used in turn.
    pub servers: Vec<(String, u16)>,
    /// The `Host` that the servers get.
    pub host: UpstreamHost,
    /// Time limit of connecting. Default 500 ms.
    pub connect_timeout: Duration,
    /// Time limit until the head of the response. Default 30 s.
    pub first_byte_timeout: Duration,
    /// How long an unused connection is kept. Default 60 s.
    pub pool_idle: Duration,
    /// Connections to one server, over all workers, of which each has its share. Default 1024.
    pub max_connections: NonZeroUsize,
    /// Live streams and tunnels for each server, over all workers. They do not count as
    /// connections. Default four times `max_connections`.
    pub max_streams: NonZeroUsize,
    /// The part of these limits, in percent, that one client may hold while more than half is in
    /// use. Default 25.
    pub client_share: usize,
    /// Whether the caller's token is forwarded.
    pub authorization: Authorization,
    /// The protocol. Default HTTP/1.1.
    pub protocol: Protocol,
}

/// The `Host` that an upstream gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The canonical host of the request.
    Keep,
    /// Always this value.
    Value(HeaderValue),
}

/// The protocol to the servers of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on a connection.
    Http1,
    /// HTTP/2 in clear text with prior knowledge (RFC 9113, section 3.3). gRPC needs it.
    Http2,
}

impl Protocol {
    /// How many requests share a connection before another one is opened: over HTTP/2, what servers
    /// commonly allow. If a server allows fewer, the rest waits.
    pub const fn requests_per_connection(self) -> usize {
        match self {
            Self::Http1 => 1,
            Self::Http2 => 100,
        }
    }
}

/// Whether the caller's access token is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// Forward the verified caller's token, and nothing else.
    Keep,
    /// Forward no token.
    Drop,
}
