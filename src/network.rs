//! What counts as one client address: an IPv4 address, or the /64 of an IPv6 address, which is the
//! least that one customer gets. An IPv4-mapped IPv6 address is the IPv4 address.

use std::net::{IpAddr, Ipv6Addr};

/// The network that a client's address counts as.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Network {
    /// An IPv4 address.
    V4([u8; 4]),
    /// A /64.
    V6([u8; 8]),
    /// A /48.
    Site([u8; 6]),
}

impl Network {
    /// The network of one client: an IPv4 address, or a /64.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => Self::V6(prefix(address)),
        }
    }

    /// The /48 of an IPv6 address, which is the most that one customer usually gets; it holds
    /// 65,536 of [`Network::of`]. `None` for an IPv4 address.
    pub(crate) fn site(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(Self::Site(prefix(address))),
        }
    }

    /// Its bytes, of another length for each kind.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
            Self::Site(octets) => octets,
        }
    }
}

fn prefix<const LENGTH: usize>(address: Ipv6Addr) -> [u8; LENGTH] {
    let octets = address.octets();
    octets.first_chunk().copied().unwrap_or([0; LENGTH])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> (Vec<u8>, Option<Vec<u8>>) {
        let address: IpAddr = text.parse().unwrap_or_else(|_| unreachable!("{text}"));
        let bytes = |network: Network| network.bytes().to_vec();
        (
            bytes(Network::of(address)),
            Network::site(address).map(bytes),
        )
    }

    #[test]
    fn an_address_counts_as_its_network_and_an_ipv6_address_also_as_its_site() {
        assert_eq!(networks("192.0.2.1"), (vec![192, 0, 2, 1], None));
        assert_eq!(networks("::ffff:192.0.2.1"), networks("192.0.2.1"));
        let (network, site) = networks("2001:db8:1:2:3:4:5:6");
        assert_eq!(network, [0x20, 1, 0xd, 0xb8, 0, 1, 0, 2]);
        assert_eq!(site, Some(vec![0x20, 1, 0xd, 0xb8, 0, 1]));
        assert_eq!(networks("2001:db8:1:2::"), networks("2001:db8:1:2:3:4:5:6"));
        assert_ne!(networks("2001:db8:1:3::").0, networks("2001:db8:1:2::").0);
        assert_eq!(networks("2001:db8:1:3::").1, networks("2001:db8:1:2::").1);
    }
}
