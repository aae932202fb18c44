//! Who holds something that clients share, such as requests to an upstream or memory: the client's
//! address, and the user if one is proven. Each of the two may hold its share, and the /48 around
//! the address [`SITE`] times as much.

use super::peer::Client;
use crate::network::Network;
use crate::tokens::Verified;

/// How many shares a /48 has, which is the most that one customer usually gets. A choice.
pub(crate) const SITE: usize = 2;

/// A client as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The address, or its /64.
    pub(crate) network: Network,
    /// The /48 of an IPv6 address.
    pub(crate) site: Option<Network>,
    /// The hash of the user.
    pub(crate) subject: Option<u64>,
}

impl Holder {
    /// The client of a request, and its user.
    pub(crate) fn of(client: &Client, verified: Option<&Verified>) -> Self {
        Self {
            network: Network::of(client.address),
            site: Network::site(client.address),
            subject: verified.map(Verified::subject_hash),
        }
    }
}

#[cfg(test)]
impl Holder {
    /// A client with this number in its address.
    pub(crate) fn numbered(number: u64, subject: Option<u64>) -> Self {
        Self {
            network: Network::V6(number.to_be_bytes()),
            site: None,
            subject,
        }
    }
}
