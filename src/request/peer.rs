//! Who is really calling: the peer, or what a trusted proxy says of it.
//!
//! Decides: the client's address and the scheme it used. Trusts: `X-Forwarded-For` and `X-Forwarded-Proto`, but only from a peer in
//! `trusted_proxies.from`, and only as many entries, from the right, as `trusted_proxies.hops`. Not here: what an address may do.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;

use crate::config::checked::TrustedProxies;

/// The client as far as it can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address; an IPv4-mapped IPv6 address is written as IPv4.
    pub address: IpAddr,
    /// Whether the client itself spoke TLS, here or to a trusted proxy.
    pub https: bool,
}

impl Client {
    /// Who sent this request. Reads the headers before they are cleaned.
    pub fn of(
        peer: SocketAddr,
        over_tls: bool,
        headers: &HeaderMap,
        trusted: &TrustedProxies,
    ) -> Self {
        let address = peer.ip().to_canonical();
        let direct = Self {
            address,
            https: over_tls,
        };
        if !trusted
            .from
            .iter()
            .any(|network| network.contains(&address))
        {
            return direct;
        }
        Self {
            address: forwarded_for(headers, trusted.hops).unwrap_or(address),
            https: forwarded_proto(headers).unwrap_or(over_tls),
        }
    }
}

/// The entry `hops` places from the right; with fewer entries the leftmost, which a trusted proxy wrote too.
fn forwarded_for(headers: &HeaderMap, hops: usize) -> Option<IpAddr> {
    let lines: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let entries: Vec<&str> = lines
        .iter()
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .collect();
    let place = entries.len().checked_sub(hops.max(1)).unwrap_or_default();
    address(entries.get(place)?)
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

fn forwarded_proto(headers: &HeaderMap) -> Option<bool> {
    match headers
        .get("x-forwarded-proto")?
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
    use hyper::header::HeaderValue;

    fn client(peer: &str, lines: &[&'static str], hops: usize) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_static(line));
        }
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        let trusted = TrustedProxies {
            from: vec!["10.0.0.0/8".parse().expect("a network")],
            hops,
        };
        let client = Client::of(peer.parse().expect("an address"), false, &headers, &trusted);
        format!("{} {}", client.address, client.https)
    }

    #[test]
    fn only_a_trusted_peer_is_believed_and_only_for_its_hops() {
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
