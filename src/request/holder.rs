//! Who holds something that clients share, such as requests to an upstream or memory: the client's
//! address, and the user if one is proven. Each of the two may hold its share, and the /48 around
//! the address [`SITE`] times as much. Whoever has neither is limited only by what all may hold.

use super::peer::Client;
use crate::network::{Network, Networks};
use crate::tokens::Verified;

/// How many shares a /48 has, which is the most that one customer usually gets. A choice.
pub(crate) const SITE: usize = 2;

/// A client as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// As whom the client's address is counted, if it is.
    networks: Option<Networks>,
    /// The hash of the user.
    pub(crate) subject: Option<u64>,
}

impl Holder {
    /// The client of a request, and its user.
    pub(crate) fn of(client: &Client, verified: Option<&Verified>) -> Self {
        Self {
            networks: client.networks,
            subject: verified.map(Verified::subject_hash),
        }
    }

    /// The address, or its /64.
    pub(crate) fn network(&self) -> Option<Network> {
        self.networks.map(|networks| networks.own)
    }

    /// The /48 of an IPv6 address.
    pub(crate) fn site(&self) -> Option<Network> {
        self.networks.and_then(|networks| networks.site)
    }
}

#[cfg(test)]
impl Holder {
    /// A client with this number in its address.
    pub(crate) fn numbered(number: u64, subject: Option<u64>) -> Self {
        let own = Network::V6(number.to_be_bytes());
        Self {
            networks: Some(Networks { own, site: None }),
            subject,
        }
    }

    /// A client with this number in its address, in the /48 that all of them share.
    pub(crate) fn in_site(number: u64) -> Self {
        let own = Network::V6(number.to_be_bytes());
        let site = Some(Network::Site([1; 6]));
        Self {
            networks: Some(Networks { own, site }),
            subject: None,
        }
    }

    /// One whose address is not counted.
    pub(crate) fn unnamed(subject: Option<u64>) -> Self {
        Self {
            networks: None,
            subject,
        }
    }
}
