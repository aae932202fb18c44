//! The client's address and scheme: the peer's, or those that a trusted proxy reports.
//!
//! `X-Forwarded-For` and `X-Forwarded-Proto` are trusted only from a peer in
//! `trusted_proxies.from`, and only as many entries, from the right, as `trusted_proxies.hops`.
//!
//! [`client_networks`] says as whom a client is counted, for every share and every rate.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use super::host::LastHost;
use crate::network::Networks;
use crate::policy::listen::TrustedProxies;
use crate::tokens::WorkerCache;

/// A connection, as far as it is known before its first request.
#[derive(Debug)]
pub struct Connection {
    /// The address of the peer; an IPv4-mapped IPv6 address is stored as IPv4.
    address: IpAddr,
    port: u16,
    /// The address as text, written once for all requests of the connection.
    text: HeaderValue,
    /// As whom the peer counts, unless it is a trusted proxy.
    networks: Networks,
    /// Whether this gateway terminated TLS on it.
    pub over_tls: bool,
    /// The host of its last request.
    pub host: LastHost,
    /// The tokens that were verified recently on the same worker.
    pub worker_cache: Rc<WorkerCache>,
}

impl Connection {
    /// A connection from a peer to a worker with this cache of tokens.
    pub fn new(peer: SocketAddr, over_tls: bool, worker_cache: Rc<WorkerCache>) -> Self {
        let address = peer.ip().to_canonical();
        Self {
            address,
            port: peer.port(),
            text: as_text(address),
            networks: Networks::of(address),
            over_tls,
            host: LastHost::default(),
            worker_cache,
        }
    }
}

impl Connection {
    /// As whom the peer is counted; see [`client_networks`].
    pub(crate) fn client_networks(&self, trusted: &TrustedProxies) -> Option<Networks> {
        client_networks(self.address, trusted)
    }

    /// The peer's address.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// The peer's port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The peer's address as text.
    pub(crate) fn text(&self) -> &HeaderValue {
        &self.text
    }
}

/// The client, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address of the client.
    pub address: IpAddr,
    /// The address as text.
    pub text: HeaderValue,
    /// Whether the client used TLS, to the gateway or to a trusted proxy.
    pub https: bool,
    /// As whom the client is counted; see [`client_networks`].
    pub(crate) networks: Option<Networks>,
}

/// As whom whoever has this address is counted: for connections, handshakes, requests and streams
/// of an upstream, memory, refused tokens, lookups and attempts to sign in.
///
/// `None` for a trusted proxy. It is met as a peer, or where it names no client, or where it names
/// another proxy as one. Its share would be one for all its clients, and the first of them could
/// take it from the others. What all clients hold together is limited all the same.
pub(crate) fn client_networks(address: IpAddr, trusted: &TrustedProxies) -> Option<Networks> {
    (!trusted.contains(address.to_canonical())).then(|| Networks::of(address))
}

impl Client {
    /// The client that sent a request. Needs the headers before they are cleaned.
    pub fn of(connection: &Connection, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        let Connection {
            address, over_tls, ..
        } = *connection;
        let direct = Self {
            address,
            text: connection.text.clone(),
            https: over_tls,
            networks: Some(connection.networks),
        };
        if !trusted.contains(address) {
            return direct;
        }
        let https = forwarded_proto(headers).unwrap_or(over_tls);
        match forwarded_for(headers, trusted.hops) {
            Some(address) => Self {
                address,
                text: as_text(address),
                https,
                networks: client_networks(address, trusted),
            },
            None => Self {
                https,
                networks: None,
                ..direct
            },
        }
    }
}

fn as_text(address: IpAddr) -> HeaderValue {
    // Digits, dots and colons are valid in a header value.
    HeaderValue::from_str(&address.to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// The entry `hops` positions from the right; with fewer entries the leftmost, which a trusted
/// proxy wrote, too.
fn forwarded_for(headers: &HeaderMap, hops: usize) -> Option<IpAddr> {
    // A line with invalid bytes keeps its position: without it, the entry of the trusted proxy
    // would move.
    let lines: Vec<_> = headers
        .get_all("x-forwarded-for")
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    let entries: Vec<&str> = lines
        .iter()
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .collect();
    let index = entries.len().saturating_sub(hops.max(1));
    address(entries.get(index)?)
}

/// An address, with or without brackets and port.
fn address(text: &str) -> Option<IpAddr> {
    let parsed = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    parsed
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|address| address.to_canonical())
}

/// Reads the last entry of the last line; the client may have written the entries before it.
fn forwarded_proto(headers: &HeaderMap) -> Option<bool> {
    match headers
        .get_all("x-forwarded-proto")
        .iter()
        .next_back()?
        .to_str()
        .ok()?
        .rsplit(',')
        .next()?
        .trim()
    {
        "https" | "wss" => Some(true),
        "http" | "ws" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(peer: &str, lines: &[&'static str], hops: usize) -> Client {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_static(line));
        }
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        let trusted = TrustedProxies {
            from: vec!["10.0.0.0/8".parse().expect("a network")],
            hops,
        };
        let connection = Connection::new(peer.parse().expect("an address"), false, Rc::default());
        Client::of(&connection, &headers, &trusted)
    }

    fn client(peer: &str, lines: &[&'static str], hops: usize) -> String {
        let client = read(peer, lines, hops);
        format!("{} {}", client.address, client.https)
    }

    #[test]
    fn a_client_counts_by_its_address_and_a_proxy_that_names_none_counts_as_nobody() {
        let of = |text: &str| Networks::of(text.parse().expect("an address"));
        for (peer, lines, counted) in [
            ("192.0.2.1:5", &[][..], Some("192.0.2.1")),
            ("192.0.2.1:5", &["203.0.113.9"], Some("192.0.2.1")),
            ("10.1.1.1:5", &["203.0.113.9"], Some("203.0.113.9")),
            ("10.1.1.1:5", &["[2001:db8::1]:443"], Some("2001:db8::2")),
            ("10.1.1.1:5", &[], None),
            ("10.1.1.1:5", &["unknown"], None),
            ("10.1.1.1:5", &["10.9.9.9"], None),
            ("[::ffff:10.1.1.1]:5", &["::ffff:10.9.9.9"], None),
        ] {
            assert_eq!(
                read(peer, lines, 1).networks,
                counted.map(of),
                "{peer} {lines:?}"
            );
        }
    }

    #[test]
    fn forwarded_fields_are_trusted_only_from_trusted_peers_and_for_their_hops() {
        assert_eq!(
            client("192.0.2.1:5", &["203.0.113.9"], 1),
            "192.0.2.1 false"
        );
        assert_eq!(
            client("10.1.1.1:5", &["203.0.113.9"], 1),
            "203.0.113.9 true"
        );
        assert_eq!(
            client("[::ffff:10.1.1.1]:5", &["203.0.113.9"], 1),
            "203.0.113.9 true"
        );
        assert_eq!(
            client("10.1.1.1:5", &["6.6.6.6, 203.0.113.9"], 1),
            "203.0.113.9 true"
        );
        assert_eq!(
            client("10.1.1.1:5", &["6.6.6.6", "203.0.113.9, 10.2.2.2"], 2),
            "203.0.113.9 true"
        );
        assert_eq!(
            client("10.1.1.1:5", &["203.0.113.9"], 3),
            "203.0.113.9 true"
        );
        assert_eq!(
            client("10.1.1.1:5", &["[2001:db8::1]:443"], 1),
            "2001:db8::1 true"
        );
        assert_eq!(client("10.1.1.1:5", &["unknown"], 1), "10.1.1.1 true");
        assert_eq!(client("10.1.1.1:5", &[], 1), "10.1.1.1 true");
    }
}
