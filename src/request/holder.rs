//! Who holds something that clients share, such as requests to an upstream or memory: the client's
//! address, and the user if one is proven. Each of the two may hold its share.

use std::net::IpAddr;

use super::peer::Client;
use crate::tokens::Verified;

/// A client as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The address; of IPv6 the first 64 bits, because a client has all addresses below them.
    pub(crate) address: u64,
    /// The hash of the user.
    pub(crate) subject: Option<u64>,
}

impl Holder {
    /// The client of a request, and its user.
    pub(crate) fn of(client: &Client, verified: Option<&Verified>) -> Self {
        Self {
            address: counted(client.address),
            subject: verified.map(Verified::subject_hash),
        }
    }
}

/// IPv4 addresses lie below `::/64`, from which no client comes but this machine.
fn counted(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_client_is_its_network_and_an_ipv4_client_its_address() {
        let of = |text: &str| counted(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:1:3::3"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
