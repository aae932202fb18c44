//! Settings of listeners, TLS, trusted proxies, connection limits and CORS.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::policy::rate::Rate;

/// One listening socket.
#[derive(Debug)]
pub struct Listen {
    /// Port 0 takes a free port.
    pub address: SocketAddr,
    /// What the listener does with a connection.
    pub kind: ListenKind,
}

/// What a listener does with a connection.
#[derive(Debug)]
pub enum ListenKind {
    /// TLS, then HTTP/1.1 or HTTP/2 by ALPN.
    Tls(Tls),
    /// Clear text HTTP/1.1 and HTTP/2, behind an edge that terminated TLS (`tls: off`).
    Plain,
    /// Answers every GET and HEAD with a redirect to this port of the same host.
    RedirectToHttps {
        /// The port of the redirect; 443 is omitted from the URL.
        port: u16,
    },
}

/// TLS of one listener.
#[derive(Debug)]
pub struct Tls {
    /// At least one. SNI selects; the first is the default.
    pub certificates: Vec<Certificate>,
    /// Client certificates, if they are requested.
    pub client: Option<ClientAuth>,
    /// Whether sessions may be resumed. Always off with client certificates, because a resumed
    /// session would not be checked against a changed CA.
    pub resumption: bool,
}

/// A certificate chain and its key, both PEM. Contents are read by `check`, so that a broken file
/// is a config problem.
#[derive(Debug)]
pub struct Certificate {
    /// The file of the chain.
    pub cert: PathBuf,
    /// The chain, leaf first, and its key, ready for rustls.
    pub key: Arc<rustls::sign::CertifiedKey>,
    /// The DNS names of the leaf, lower case; `*.` wildcards as written.
    pub names: Vec<String>,
}

/// Client certificates against one CA.
#[derive(Debug)]
pub struct ClientAuth {
    /// The trusted roots of client certificates.
    pub roots: Arc<rustls::RootCertStore>,
    /// Whether a connection without a certificate is refused.
    pub required: bool,
}

/// Peers that may state the client's address and scheme.
#[derive(Debug, Default)]
pub struct TrustedProxies {
    /// Peers whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted.
    pub from: Vec<IpNet>,
    /// How many entries of `X-Forwarded-For`, from the right, were written by trusted proxies. At
    /// least 1.
    pub hops: usize,
}

impl TrustedProxies {
    /// Whether a peer at this address may state its client's. Not for an IPv4-mapped IPv6 address:
    /// its canonical form decides.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.from.iter().any(|network| network.contains(&address))
    }
}

/// Protocol limits. Each default is stated in `config/foregate.yaml`.
#[derive(Clone, Debug)]
pub struct Connections {
    /// Open client connections over all listeners, if there are file descriptors enough. When all
    /// are taken, those end that have been idle for the longest time; while none is idle, further
    /// ones wait in the kernel's queue.
    pub max: usize,
    /// Open connections of one client: an IPv4 address, or the /64 of an IPv6 address. The /48
    /// around it may have twice as many. `None`: an eighth of all, and at least 64.
    pub max_per_address: Option<usize>,
    /// TLS handshakes of one client.
    pub handshakes_per_address: Rate,
    /// Time limit of the TLS handshake, and on clear text of the first byte.
    pub handshake: Duration,
    /// Time limit of a request head: from its first byte, and for the first head from the end of
    /// the handshake.
    pub head: Duration,
    /// How long a connection may stay open without a running request.
    pub idle: Duration,
    /// The age after which a connection ends gracefully, over HTTP/1.1 with the next answer, so that
    /// its client opens another one, perhaps to another replica. `None`: never.
    pub max_age: Option<Duration>,
    /// How long the client may send no byte of a request body, or accept no byte of a response.
    pub body_idle: Duration,
    /// Bytes a second that a client must send of a request body, once it was waited for as long as
    /// `body_grace`; 0 for no limit.
    pub body_rate: u64,
    /// How long a client may send more slowly than `body_rate`.
    pub body_grace: Duration,
    /// Limits of the bodies that are read into memory.
    pub inspected: InspectedBodies,
    /// How long a WebSocket on which a client must authenticate by a message may wait for that.
    pub first_token: Duration,
    /// Header fields of one request.
    pub max_headers: usize,
    /// Bytes of one request head.
    pub max_head: usize,
    /// Bytes of path and query together.
    pub max_uri: usize,
    /// Bytes of one token. Default 8 KiB.
    pub max_token: usize,
    /// Bytes of answers that are held for one connection whose client takes them slowly; more are
    /// not read from the upstream.
    pub unsent: usize,
    /// Bytes of answers that are held for all clients. Above it the client that holds most is ended,
    /// its largest connection first.
    pub unsent_total: usize,
    /// Concurrent streams of one HTTP/2 connection.
    pub h2_streams: u32,
    /// Streams that a client may reset before they are accepted, on one HTTP/2 connection
    /// (CVE-2023-44487).
    pub h2_resets: usize,
    /// Tokens of one address that may be refused after a check of their signature; beyond that no
    /// more are checked. Default: 3000 a minute.
    pub refused_tokens: Rate,
}

/// Limits of the request bodies that are read into memory before they are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedBodies {
    /// Time limit of a whole body.
    pub timeout: Duration,
    /// Bytes that all of them may hold together, in this process.
    pub memory: u64,
    /// Bytes that those of one client may hold together.
    pub share: u64,
}

/// How slowly a client may send a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyPace {
    /// How long it may send nothing.
    pub idle: Duration,
    /// Bytes a second that it must send; 0 for no limit.
    pub rate: u64,
    /// How long it may be slower than that. Only the time in which it was waited for counts.
    pub grace: Duration,
}

/// Cross-origin rules (the Fetch standard).
#[derive(Debug)]
pub struct Cors {
    /// Exact origins in the form of browsers: scheme, host, port. Never `*`.
    pub origins: Vec<HeaderValue>,
    /// Whether a page may send cookies (`Access-Control-Allow-Credentials`). A bearer token that
    /// the page sets itself only needs `allow_headers`.
    pub credentials: bool,
    /// Request headers a page may set.
    pub allow_headers: Vec<HeaderName>,
    /// Response headers a page may read.
    pub expose_headers: Vec<HeaderName>,
    /// How long a browser may cache a preflight.
    pub max_age: Duration,
}
