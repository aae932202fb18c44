//! Overload: while more than three quarters of what all clients share are in use, new requests of
//! the clients that hold most of it are refused, before anything is done for them.
//!
//! Decides:  503 `overloaded`.
//! Trusts:   `listen`, which finds out ten times a second who holds what.
//! Not here: what is ended when all is in use (`listen`), and the shares of what only some requests
//!           need: memory for inspected bodies (`request::memory`) and requests of an upstream
//!           (`upstream::occupancy`), where those requests are refused 429.
//!
//! What the gateway answers itself is never refused: health, sign-in and the refresh of a session
//! have limits of their own, and cost less than what they prevent.

use std::cell::RefCell;
use std::cmp::Reverse;

use crate::denial::{Denial, Reason};
use crate::network::Network;
use crate::policy::route::Target;
use crate::request::Inbound;

/// A client is refused only if it holds at least this fraction (1/16) of a budget; a /48, twice
/// that. A choice: half of the default `max_per_address`.
const PARTS: usize = 16;

/// What all clients share, and may run short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Budget {
    Connections,
    Unsent,
}

/// The clients that hold most of a budget that is short, as one worker knows them.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    largest: RefCell<Vec<(Network, Budget)>>,
}

impl Budget {
    /// The key that limits it.
    const fn key(self) -> &'static str {
        match self {
            Self::Connections => "connections.max",
            Self::Unsent => "connections.unsent_total",
        }
    }
}

impl Overload {
    /// Notes who holds most. Nobody, as long as nothing is short.
    pub(crate) fn replace(&self, largest: Vec<(Network, Budget)>) {
        self.largest.replace(largest);
    }

    /// Refuses a request of a client that holds most of what is short.
    pub(crate) fn check(&self, request: &Inbound) -> Result<(), Denial> {
        let largest = self.largest.borrow();
        if largest.is_empty() {
            return Ok(());
        }
        let Some(client) = request.client().networks else {
            return Ok(());
        };
        let is_client = |network: Network| client.own == network || client.site == Some(network);
        match largest.iter().find(|(network, _)| is_client(*network)) {
            Some((_, budget)) if matches!(request.rule().target, Some(Target::Upstream(_))) => {
                Err(Reason::Overloaded.because(budget.key()))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Those who hold most of what is `used` of the `whole`: as many as it takes to bring what the
/// others hold down to three quarters, and only such as hold much of it, and at least `least`.
pub(crate) fn largest(
    whole: usize,
    used: usize,
    least: usize,
    holders: impl IntoIterator<Item = (Network, usize)>,
) -> Vec<Network> {
    let mut excess = used.saturating_sub(whole - whole / 4);
    if excess == 0 {
        return Vec::new();
    }
    let least = (whole / PARTS).max(least);
    let much = |network: &Network| match network {
        Network::V4(_) | Network::V6(_) => least,
        Network::Site(_) => 2 * least,
    };
    let mut holders: Vec<_> = holders
        .into_iter()
        .filter(|(network, held)| *held >= much(network))
        .collect();
    holders.sort_unstable_by_key(|(_, held)| Reverse(*held));
    let mut largest = Vec::new();
    for (network, held) in holders {
        // What a /64 holds, its /48 holds, too.
        if network.site().is_some_and(|site| largest.contains(&site)) {
            continue;
        }
        largest.push(network);
        excess = excess.saturating_sub(held);
        if excess == 0 {
            break;
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> Network {
        Network::V4([192, 0, 2, number])
    }

    #[test]
    fn nobody_holds_too_much_while_a_quarter_is_free() {
        assert_eq!(largest(100, 75, 1, [(address(1), 75)]), []);
        assert_eq!(largest(0, 0, 1, []), []);
    }

    #[test]
    fn only_as_many_are_refused_as_it_takes() {
        let holders = [
            (address(1), 30),
            (address(2), 40),
            (address(3), 10),
            (address(4), 1),
        ];
        assert_eq!(largest(100, 81, 1, holders), [address(2)]);
        let crowd = (0..40).map(|number| (address(number), 2));
        assert_eq!(largest(100, 80, 1, crowd), [], "nobody holds much");
        let few = [(address(1), 7), (address(2), 6)];
        assert_eq!(largest(16, 13, 8, few), [], "a browser is not much");
        let many = (0..10).map(|number| (address(number), 10));
        assert_eq!(largest(100, 100, 1, many).len(), 3);
    }

    #[test]
    fn a_site_counts_once_and_holds_much_at_twice_as_much() {
        let site = Network::Site([1; 6]);
        let inside = Network::V6([1; 8]);
        let outside = Network::V6([2; 8]);
        let holders = [(inside, 14), (outside, 2), (site, 16), (address(1), 10)];
        assert_eq!(largest(100, 100, 1, holders), [site, address(1)]);
        assert_eq!(largest(100, 90, 1, [(site, 11)]), []);
    }
}
