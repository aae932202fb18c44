//! How many connections one client may have, and how fast it may begin TLS handshakes.
//!
//! A client is an IPv4 address, or the /64 of an IPv6 address: whoever has one of its addresses has
//! them all. The /48 around it, which one customer of a provider may have, has a share twice as
//! large. `request::peer` says who counts as one. A peer on the loopback is a client like any
//! other; what proxies for others belongs into `trusted_proxies.from`.

#![allow(
    clippy::disallowed_types,
    reason = "a connection takes the lock when it begins and when it ends, never a request"
)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::gateway::ended::EndCause;
use crate::network::{Network, Networks};
use crate::policy::listen::{Connections, TrustedProxies};
use crate::policy::rate::Rate;
use crate::request::peer::client_networks;

/// The smallest share that is not written: a browser has six connections, and an office behind one
/// address has many browsers. A choice.
const LEAST_SHARE: usize = 64;

/// The table is searched for clients without connections when it has twice as many entries as after
/// the last search, and at least so many.
const LEAST_SWEEP: usize = 1024;

/// The shares of all clients.
#[derive(Debug)]
pub(super) struct Shares {
    /// Connections of all clients, at most.
    max: usize,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    clients: HashMap<Network, Client>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Client {
    open: usize,
    /// When the bucket of its handshakes will have drained.
    drained: Instant,
}

/// The limits that apply to one connection.
#[derive(Clone, Copy, Debug)]
struct Limits {
    address: usize,
    network: usize,
    /// `None` for a connection without TLS.
    handshakes: Option<Rate>,
}

/// A connection's part of its client's share; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    client: Option<Networks>,
}

/// How many times as many connections as a new one's client another one must have, to lose one to
/// it while requests are open on all. A choice.
const FAR_MORE: usize = 8;

/// How many times as many handshakes a /48 may begin as an address. A choice.
const SITE: u32 = 2;

/// The rate of handshakes that a network has.
fn rate_of(network: Network, rate: Rate) -> Rate {
    match network {
        Network::V4(_) | Network::V6(_) => rate,
        Network::Site(_) => Rate {
            per: rate.per / SITE,
            burst: rate
                .burst
                .saturating_mul(NonZeroU32::MIN.saturating_add(SITE - 1)),
        },
    }
}

/// Which limit the network has.
fn limit(network: Network, limits: &Limits) -> (usize, EndCause) {
    match network {
        Network::V4(_) | Network::V6(_) => (limits.address, EndCause::AddressShare),
        Network::Site(_) => (limits.network, EndCause::NetworkShare),
    }
}

impl Shares {
    /// Nobody has a connection yet; all together have at most `max`.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            table: Mutex::new(Table {
                clients: HashMap::new(),
                sweep_at: LEAST_SWEEP,
            }),
        })
    }

    /// A part of the client's share for a new connection.
    ///
    /// # Errors
    ///
    /// The client has its share, or begins handshakes too fast. Every handshake counts, since it is
    /// not known before it whether it resumes a session, which costs less.
    pub(super) fn take(
        self: &Arc<Self>,
        peer: IpAddr,
        over_tls: bool,
        connections: &Connections,
        trusted: &TrustedProxies,
    ) -> Result<Share, EndCause> {
        let client = client_networks(peer, trusted);
        if let Some(client) = client {
            let limits = self.limits(connections, over_tls);
            self.add(client, &limits, clock::now())?;
        }
        Ok(Share {
            shares: self.clone(),
            client,
        })
    }

    fn limits(&self, connections: &Connections, over_tls: bool) -> Limits {
        let derived = || (self.max / 8).max(LEAST_SHARE);
        let address = connections.max_per_address.unwrap_or_else(derived);
        // Who may have all connections has no share: a further one takes the place of an idle one.
        let share = |share: usize| if share < self.max { share } else { usize::MAX };
        Limits {
            address: share(address),
            network: share(address.saturating_mul(2)),
            handshakes: over_tls.then_some(connections.handshakes_per_address),
        }
    }

    fn add(&self, client: Networks, limits: &Limits, now: Instant) -> Result<(), EndCause> {
        // A panic under the lock leaves the table consistent.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for network in client.all() {
            let (limit, cause) = limit(network, limits);
            let open = table.clients.get(&network).map_or(0, |client| client.open);
            if open >= limit {
                return Err(cause);
            }
        }
        if let Some(rate) = limits.handshakes {
            let allows = |network: Network| {
                let client = table.clients.get(&network);
                client.is_none_or(|client| {
                    client
                        .after_handshake(rate_of(network, rate), now)
                        .is_some()
                })
            };
            if !client.all().all(allows) {
                return Err(EndCause::HandshakeRate);
            }
        }
        for network in client.all() {
            let client = table.clients.entry(network).or_insert(Client {
                open: 0,
                drained: now,
            });
            if let Some(rate) = limits.handshakes
                && let Some(drained) = client.after_handshake(rate_of(network, rate), now)
            {
                client.drained = drained;
            }
            client.open += 1;
        }
        table.sweep(now);
        Ok(())
    }

    /// The client that has most connections, if it has several times as many as this one.
    pub(super) fn larger_than(&self, client: Option<Networks>) -> Option<Network> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let open = |client: Networks| table.clients.get(&client.own).map_or(0, |own| own.open);
        let least = (client.map_or(0, open) + 1) * FAR_MORE;
        let clients = table.clients.iter();
        clients
            .filter(|(network, client)| {
                !matches!(network, Network::Site(_)) && client.open >= least
            })
            .max_by_key(|(_, client)| client.open)
            .map(|(network, _)| *network)
    }

    fn remove(&self, network: Network) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(client) = table.clients.get_mut(&network) else {
            return;
        };
        client.open = client.open.saturating_sub(1);
        if client.is_forgettable(clock::now()) {
            table.clients.remove(&network);
        }
    }
}

impl Table {
    /// Forgets clients that have no connection, now and then.
    fn sweep(&mut self, now: Instant) {
        if self.clients.len() < self.sweep_at {
            return;
        }
        self.clients.retain(|_, client| !client.is_forgettable(now));
        self.sweep_at = (self.clients.len() * 2).max(LEAST_SWEEP);
    }
}

impl Client {
    /// When the bucket will have drained after one more handshake, if it has room for it.
    fn after_handshake(&self, rate: Rate, now: Instant) -> Option<Instant> {
        let drained = self.drained.max(now) + rate.per;
        let most = rate.per.saturating_mul(rate.burst.get());
        (drained.saturating_duration_since(now) <= most).then_some(drained)
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        self.open == 0 && self.drained.saturating_duration_since(now) == Duration::ZERO
    }
}

impl Share {
    /// As whom its client is counted.
    pub(super) fn client(&self) -> Option<Networks> {
        self.client
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        for network in self.client.into_iter().flat_map(Networks::all) {
            self.shares.remove(network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(address: usize) -> Limits {
        Limits {
            address,
            network: 2 * address,
            handshakes: None,
        }
    }

    fn open(shares: &Shares, address: &str, limits: &Limits, now: Instant) -> Option<EndCause> {
        let client = Networks::of(address.parse().expect("an address"));
        shares.add(client, limits, now).err()
    }

    #[test]
    fn an_address_has_its_share_and_a_48_twice_as_much() {
        let (shares, now) = (Shares::new(100), clock::now());
        let open = |address| open(&shares, address, &limits(2), now);
        for address in ["192.0.2.1", "::ffff:192.0.2.1"] {
            assert_eq!(open(address), None);
        }
        assert_eq!(open("192.0.2.1"), Some(EndCause::AddressShare));
        assert_eq!(open("192.0.2.2"), None);
        // One /64 each.
        for address in ["2001:db8:1:1::1", "2001:db8:1:1::2"] {
            assert_eq!(open(address), None);
        }
        assert_eq!(open("2001:db8:1:1::3"), Some(EndCause::AddressShare));
        for address in ["2001:db8:1:2::1", "2001:db8:1:3::1"] {
            assert_eq!(open(address), None);
        }
        assert_eq!(open("2001:db8:1:4::1"), Some(EndCause::NetworkShare));
        assert_eq!(open("2001:db8:2::1"), None);
    }

    #[test]
    fn handshakes_of_an_address_have_a_rate() {
        let (shares, now) = (Shares::new(100), clock::now());
        let rate = Rate::new(NonZeroU32::MIN.saturating_add(1), Duration::from_secs(1));
        let limits = Limits {
            handshakes: Some(rate),
            ..limits(100)
        };
        let at = |millis| now + Duration::from_millis(millis);
        let open = |address, millis| open(&shares, address, &limits, at(millis));
        for address in ["192.0.2.1", "2001:db8::1"] {
            assert_eq!(open(address, 0), None);
            assert_eq!(open(address, 0), None);
            assert_eq!(open(address, 0), Some(EndCause::HandshakeRate));
            assert_eq!(open(address, 500), None);
            assert_eq!(open(address, 501), Some(EndCause::HandshakeRate));
        }
        assert_eq!(open("192.0.2.2", 0), None);
    }

    #[test]
    fn clients_without_connections_are_forgotten() {
        let (shares, now) = (Shares::new(10), clock::now());
        let rate = Rate::new(NonZeroU32::MIN, Duration::from_secs(1));
        let limits = Limits {
            handshakes: Some(rate),
            ..limits(10)
        };
        for number in 0..5000_u32 {
            let client = Networks::of(IpAddr::V4(number.into()));
            let later = now + Duration::from_secs(number.into());
            shares.add(client, &limits, later).expect("a share");
            for network in client.all() {
                shares.remove(network);
            }
        }
        let table = shares.table.lock().expect("no panic");
        assert!(
            table.clients.len() <= 2 * LEAST_SWEEP,
            "{}",
            table.clients.len()
        );
    }
}
