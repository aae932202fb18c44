//! Where requests come in, and the limits of a connection.
//!
//! Decides: nothing; these are values. Trusts: `config::check`, which makes them. Not here: sockets (`listen`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use ipnet::IpNet;

/// One listening socket.
#[derive(Debug)]
pub struct Listen {
    /// Port 0 takes a free port.
    pub address: SocketAddr,
    /// What happens on a connection.
    pub kind: ListenKind,
}

/// What a listener does with a connection.
#[derive(Debug)]
pub enum ListenKind {
    /// TLS, then HTTP/1.1 or HTTP/2 by ALPN.
    Tls(Tls),
    /// Clear text HTTP/1.1 and HTTP/2, behind an edge that ended TLS (`tls: off`).
    Plain,
    /// Answers every GET and HEAD with a redirect to this port of the same host.
    RedirectToHttps {
        /// The port readers are sent to; 443 is left out of the URL.
        port: u16,
    },
}

/// TLS of one listener.
#[derive(Debug)]
pub struct Tls {
    /// At least one; SNI picks, the first is the default.
    pub certificates: Vec<Certificate>,
    /// Client certificates, if asked for.
    pub client: Option<ClientAuth>,
    /// Whether sessions may be resumed. Forced off with client certificates: a resumed session would skip a changed CA.
    pub resumption: bool,
}

/// A certificate chain and its key, both PEM. Contents are read by `check`, so that a broken file is a config problem.
#[derive(Debug)]
pub struct Certificate {
    /// Where the chain was read from.
    pub cert: PathBuf,
    /// The chain, leaf first, and its key, ready for rustls.
    pub key: Arc<rustls::sign::CertifiedKey>,
    /// The DNS names of the leaf, lower case; `*.` wildcards as written.
    pub names: Vec<String>,
}

/// Client certificates against one CA.
#[derive(Debug)]
pub struct ClientAuth {
    /// Roots a client certificate must lead to.
    pub roots: Arc<rustls::RootCertStore>,
    /// Whether a connection without a certificate is refused.
    pub required: bool,
}

/// Which peers may say who the client is.
#[derive(Debug, Default)]
pub struct TrustedProxies {
    /// Peers whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub from: Vec<IpNet>,
    /// How many entries of `X-Forwarded-For`, from the right, trusted proxies wrote. At least 1.
    pub hops: usize,
}

/// Protocol limits. Each default is stated in `config/foregate.yaml`.
#[derive(Clone, Debug)]
pub struct Connections {
    /// Open client connections over all listeners; further ones wait in the kernel's queue.
    pub max: usize,
    /// TLS handshake, and on clear text the first byte.
    pub handshake: Duration,
    /// A complete request head: from its first byte, and the first head from the end of the handshake.
    pub head: Duration,
    /// A connection without a running request.
    pub idle: Duration,
    /// A request body without a byte from the client, and an answer without a byte taken by the client.
    pub body_idle: Duration,
    /// Header fields of one request.
    pub max_headers: usize,
    /// Bytes of one request head.
    pub max_head: usize,
    /// Bytes of path and query together.
    pub max_uri: usize,
    /// Streams that run at once on one HTTP/2 connection.
    pub h2_streams: u32,
    /// Streams a client may reset before they were accepted, on one HTTP/2 connection (CVE-2023-44487).
    pub h2_resets: usize,
}

/// Cross-origin rules (the Fetch standard).
#[derive(Debug)]
pub struct Cors {
    /// Exact origins, as a browser writes them: scheme, host, port. Never `*`.
    pub origins: Vec<HeaderValue>,
    /// Whether a page may send cookies (`Access-Control-Allow-Credentials`); a bearer token that it sets itself needs `allow_headers` only.
    pub credentials: bool,
    /// Request headers a page may set.
    pub allow_headers: Vec<HeaderName>,
    /// Answer headers a page may read.
    pub expose_headers: Vec<HeaderName>,
    /// How long a browser may remember a preflight.
    pub max_age: Duration,
}
