//! A named group of servers.
//!
//! Decides: nothing; these are values. Trusts: `config::check`, which makes them. Not here: connections to them (`upstream`).

use std::num::NonZeroUsize;
use std::time::Duration;

use hyper::header::HeaderValue;

/// A named group of servers that serve the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Name in the route map and in metrics.
    pub name: String,
    /// At least one, used in turn: (host, port).
    pub servers: Vec<(String, u16)>,
    /// The `Host` the servers see.
    pub host: UpstreamHost,
    /// Default 500 ms.
    pub connect_timeout: Duration,
    /// Until the head of the answer. Default 30 s.
    pub first_byte_timeout: Duration,
    /// How long an unused connection is kept. Default 60 s.
    pub pool_idle: Duration,
    /// Connections to one server, over all workers, of which each has its part. Default 1024.
    pub max_connections: NonZeroUsize,
    /// What becomes of the caller's token.
    pub authorization: Authorization,
    /// What is spoken. Default HTTP/1.1.
    pub protocol: Protocol,
}

/// The `Host` that an upstream sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The canonical host of the request.
    Keep,
    /// Always this.
    Value(HeaderValue),
}

/// What is spoken to the servers of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on a connection.
    Http1,
    /// HTTP/2 in clear text, without asking first (RFC 9113, section 3.3). gRPC needs it.
    Http2,
}

/// What becomes of the caller's access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// Forward the verified caller's token, and nothing else.
    Keep,
    /// Forward no token.
    Drop,
}
