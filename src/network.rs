//! What counts as one client address: an IPv4 address, or the /64 of an IPv6 address, which is the
//! least that one customer gets. An IPv4-mapped IPv6 address is the IPv4 address.

use std::net::{IpAddr, Ipv6Addr};

/// The networks that one client counts as.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Networks {
    /// Its IPv4 address, or the /64 of its IPv6 address.
    pub(crate) own: Network,
    /// The /48 of an IPv6 address, which is the most that one customer usually gets; it holds
    /// 65,536 of the first. `None` for an IPv4 address.
    pub(crate) site: Option<Network>,
}

/// A network that a client counts as.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Network {
    /// An IPv4 address.
    V4([u8; 4]),
    /// A /64.
    V6([u8; 8]),
    /// A /48.
    Site([u8; 6]),
}

impl Networks {
    /// Those of an address. Whether it is a client's is for `request::peer` to say.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self {
                own: Network::V4(address.octets()),
                site: None,
            },
            IpAddr::V6(address) => Self {
                own: Network::V6(prefix(address)),
                site: Some(Network::Site(prefix(address))),
            },
        }
    }

    /// Its own network, and the larger one if there is one.
    pub(crate) fn all(self) -> impl Iterator<Item = Network> {
        std::iter::once(self.own).chain(self.site)
    }
}

impl Network {
    /// The /48 around a /64.
    pub(crate) fn site(&self) -> Option<Self> {
        match self {
            Self::V4(_) | Self::Site(_) => None,
            Self::V6(octets) => octets.first_chunk().copied().map(Self::Site),
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
        let Networks { own, site } = Networks::of(address);
        assert_eq!(own.site(), site);
        (bytes(own), site.map(bytes))
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
