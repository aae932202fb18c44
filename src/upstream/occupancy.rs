//! Who occupies an upstream, on one worker: the requests and live streams of each client.
//!
//! While less than half of a limit is in use, a client may hold as much as it likes. Beyond that, a
//! client that holds its share is refused (429 `client_busy`), and the others go on. Workers share
//! nothing, so a limit and its share are those of one worker.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::denial::{Denial, Reason};
use crate::network::Network;
use crate::policy::upstream::Upstream;
use crate::request::holder::{Holder, SITE};

/// A smaller limit is not divided into shares.
const SHARED_FROM: usize = 16;

/// How often a request of a client that holds its share tries again. A choice.
const RETRY: Duration = Duration::from_millis(20);

/// One of so many requests to an upstream may be sent before its body arrives. A choice: few
/// clients wait for the head of the answer before they send anything.
const EARLY: usize = 16;

/// The limits of one upstream, and who occupies them.
#[derive(Debug)]
pub(super) struct Occupancies {
    /// Requests that were sent, or may be.
    pub(super) requests: Rc<Occupancy>,
    /// Requests that wait for their client's body, or for their client's turn.
    pub(super) waiting: Rc<Occupancy>,
    /// Requests that were sent before their client sent any of its body.
    pub(super) early: Rc<Occupancy>,
    /// Live streams and tunnels.
    pub(super) streams: Rc<Occupancy>,
}

impl Occupancies {
    /// Those of a worker which has these shares of the connections and streams of each server.
    pub(super) fn new(upstream: &Upstream, connections: usize, streams: usize) -> Self {
        let servers = upstream.servers.len();
        let requests = connections * servers * upstream.protocol.requests_per_connection();
        let streams = streams * servers;
        let of = |limit| Rc::new(Occupancy::new(limit, upstream.client_share));
        Self {
            requests: of(requests),
            // A request that waits costs the upstream nothing, and the gateway as much as a stream.
            waiting: of(streams),
            early: of(early(requests)),
            streams: of(streams),
        }
    }

    /// Whether these are the limits that [`Self::new`] would set.
    pub(super) fn is_equal(&self, other: &Self) -> bool {
        let limits = |all: &Self| {
            [&all.requests, &all.streams].map(|occupancy| (occupancy.limit, occupancy.share))
        };
        limits(self) == limits(other)
    }
}

/// How many requests may be sent before their body: none of so few that one would keep others
/// waiting.
fn early(requests: usize) -> usize {
    match requests {
        0..4 => 0,
        _ => (requests / EARLY).max(1),
    }
}

/// What is occupied under one limit.
#[derive(Debug)]
pub(super) struct Occupancy {
    limit: usize,
    /// The most that one client may hold while more than half is in use.
    share: usize,
    seats: RefCell<Seats>,
}

/// Finding a seat and leaving it costs a few instructions, which every request pays. The seats of
/// each client are counted only while many are in use.
#[derive(Debug, Default)]
struct Seats {
    holders: Vec<Option<Holder>>,
    free: Vec<usize>,
    /// From the first question on, until few are in use. Requests that wait ask again and again, so
    /// an answer must not look at all seats.
    counts: Option<Counts>,
}

/// How many seats each client has.
#[derive(Debug, Default)]
struct Counts(HashMap<Client, usize>);

/// One of the sides of a [`Holder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    Network(Network),
    Subject(u64),
}

/// One request or stream. Dropping it gives its place to another.
#[derive(Debug)]
pub(crate) struct Occupant {
    occupancy: Rc<Occupancy>,
    seat: usize,
}

impl Occupancy {
    fn new(limit: usize, percent: usize) -> Self {
        let share = match limit {
            0..SHARED_FROM => usize::MAX,
            _ => (limit * percent / 100).max(1),
        };
        Self {
            limit,
            share,
            seats: RefCell::default(),
        }
    }

    /// Whether a quarter is in use: from then on, a request is sent once there is more to send than
    /// a byte.
    pub(super) fn is_busy(&self) -> bool {
        self.seats.borrow().taken() >= (self.limit / 4).max(1)
    }

    /// Whether three quarters are in use.
    pub(super) fn is_scarce(&self) -> bool {
        self.seats.borrow().taken() >= self.limit - self.limit / 4
    }

    /// Whether [`Self::take`] would refuse the client now.
    pub(super) fn check(&self, holder: Holder) -> Result<(), Reason> {
        let mut seats = self.seats.borrow_mut();
        if seats.taken() >= self.limit {
            return Err(Reason::UpstreamBusy);
        }
        self.check_share(&mut seats, holder)
    }

    fn check_share(&self, seats: &mut Seats, holder: Holder) -> Result<(), Reason> {
        match seats.taken() >= self.limit / 2 && seats.shares(holder, self.share) >= 1 {
            true => Err(Reason::ClientBusy),
            false => Ok(()),
        }
    }

    /// Takes a seat for a client, unless the client holds its share, or all are in use.
    pub(super) fn take(self: &Rc<Self>, holder: Holder) -> Result<Occupant, Reason> {
        self.check(holder)?;
        self.admit(holder)
    }

    /// Takes a seat for a client, unless the client holds its share. Something else limits the
    /// whole.
    pub(super) fn admit(self: &Rc<Self>, holder: Holder) -> Result<Occupant, Reason> {
        let mut seats = self.seats.borrow_mut();
        self.check_share(&mut seats, holder)?;
        let seat = seats.take(holder);
        Ok(Occupant {
            occupancy: self.clone(),
            seat,
        })
    }

    /// As [`Self::admit`], and waits so long until the client holds less than its share.
    pub(super) async fn admit_within(
        self: &Rc<Self>,
        holder: Holder,
        patience: Duration,
    ) -> Result<Occupant, Denial> {
        let deadline = Instant::now() + patience;
        loop {
            match self.admit(holder) {
                Ok(occupant) => return Ok(occupant),
                Err(reason) if Instant::now() >= deadline => {
                    return Err(reason.because("requests"));
                }
                Err(_) => sleep(RETRY).await,
            }
        }
    }
}

impl Seats {
    fn taken(&self) -> usize {
        self.holders.len() - self.free.len()
    }

    /// How many whole shares this client holds: by its address, by its user, or by the /48 around
    /// it, whichever is more.
    fn shares(&mut self, holder: Holder, share: usize) -> usize {
        let holders = &self.holders;
        let counts = self.counts.get_or_insert_with(|| {
            let mut counts = Counts::default();
            holders.iter().flatten().for_each(|held| counts.add(*held));
            counts
        });
        counts.most(holder) / share
    }

    fn holder(&self, seat: usize) -> Option<Holder> {
        self.holders.get(seat).copied().flatten()
    }

    fn take(&mut self, holder: Holder) -> usize {
        if let Some(counts) = &mut self.counts {
            counts.add(holder);
        }
        let free = self.free.pop();
        match free.and_then(|seat| Some((seat, self.holders.get_mut(seat)?))) {
            Some((seat, place)) => {
                *place = Some(holder);
                seat
            }
            None => {
                self.holders.push(Some(holder));
                self.holders.len() - 1
            }
        }
    }
}

impl Counts {
    fn add(&mut self, holder: Holder) {
        for (client, _) in clients(holder) {
            *self.0.entry(client).or_default() += 1;
        }
    }

    fn remove(&mut self, holder: Holder) {
        for (client, _) in clients(holder) {
            if let Entry::Occupied(mut seats) = self.0.entry(client) {
                *seats.get_mut() -= 1;
                if *seats.get() == 0 {
                    seats.remove();
                }
            }
        }
    }

    /// The most seats that count as this client's.
    fn most(&self, holder: Holder) -> usize {
        let seats = |(client, shares)| self.0.get(&client).map_or(0, |seats| seats / shares);
        clients(holder).map(seats).max().unwrap_or(0)
    }
}

/// As whom the holder is counted, and among how many shares each is divided.
fn clients(holder: Holder) -> impl Iterator<Item = (Client, usize)> {
    let own = holder.network().map(|own| (Client::Network(own), 1));
    let site = holder.site().map(|site| (Client::Network(site), SITE));
    let subject = holder.subject.map(|subject| (Client::Subject(subject), 1));
    own.into_iter().chain(site).chain(subject)
}

impl Occupant {
    /// Takes a seat in another occupancy, and then gives up its own; keeps it if it is refused.
    pub(super) fn move_to(&mut self, other: &Rc<Occupancy>) -> Result<(), Reason> {
        let holder = self.occupancy.seats.borrow().holder(self.seat);
        *self = other.take(holder.ok_or(Reason::Internal)?)?;
        Ok(())
    }
}

impl Drop for Occupant {
    fn drop(&mut self) {
        let mut seats = self.occupancy.seats.borrow_mut();
        let seats = &mut *seats;
        let Some(holder) = seats.holders.get_mut(self.seat).and_then(Option::take) else {
            return;
        };
        seats.free.push(self.seat);
        if let Some(counts) = &mut seats.counts {
            counts.remove(holder);
            // Well below the half from which on they are needed, or each request that crosses it
            // would count all seats.
            if seats.taken() < self.occupancy.limit / 4 {
                seats.counts = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: u64) -> Holder {
        Holder::numbered(address, None)
    }

    fn take(occupancy: &Rc<Occupancy>, holder: Holder, count: usize) -> Vec<Occupant> {
        (0..count)
            .map_while(|_| occupancy.take(holder).ok())
            .collect()
    }

    #[test]
    fn a_client_alone_may_hold_half_and_others_still_get_their_share() {
        let occupancy = Rc::new(Occupancy::new(100, 25));
        let first = take(&occupancy, client(1), 100);
        assert_eq!(first.len(), 50);
        assert_eq!(occupancy.take(client(1)).err(), Some(Reason::ClientBusy));
        let others = [2, 3, 4].map(|address| take(&occupancy, client(address), 100));
        assert_eq!(others.each_ref().map(Vec::len), [25, 25, 0]);
        assert_eq!(occupancy.take(client(4)).err(), Some(Reason::UpstreamBusy));
        drop(others);
        assert_eq!(take(&occupancy, client(4), 1).len(), 1);
        drop(first);
        assert_eq!(occupancy.seats.borrow().taken(), 0);
    }

    #[test]
    fn a_user_with_many_addresses_holds_one_share() {
        let occupancy = Rc::new(Occupancy::new(100, 25));
        let _half = take(&occupancy, client(0), 50);
        let user = |address: u64| Holder::numbered(address, Some(7));
        let held: Vec<_> = (1..=50)
            .map_while(|address| occupancy.take(user(address)).ok())
            .collect();
        assert_eq!(held.len(), 25);
    }

    #[test]
    fn a_site_with_many_networks_holds_two_shares() {
        let occupancy = Rc::new(Occupancy::new(100, 20));
        let _half = take(&occupancy, client(0), 50);
        let held: Vec<_> = (1..=50)
            .map_while(|number| occupancy.take(Holder::in_site(number)).ok())
            .collect();
        assert_eq!(held.len(), 40);
    }

    #[test]
    fn who_has_no_share_is_limited_by_the_whole_and_its_users_by_theirs() {
        let occupancy = Rc::new(Occupancy::new(100, 25));
        let unnamed = take(&occupancy, Holder::unnamed(None), 70);
        assert_eq!(unnamed.len(), 70);
        assert_eq!(take(&occupancy, Holder::unnamed(Some(7)), 100).len(), 25);
        assert_eq!(take(&occupancy, Holder::unnamed(None), 100).len(), 30);
    }

    #[test]
    fn seats_are_counted_while_many_are_in_use_and_the_counts_are_right() {
        let occupancy = Rc::new(Occupancy::new(100, 25));
        let counts = || {
            occupancy
                .seats
                .borrow()
                .counts
                .as_ref()
                .map(|all| all.0.len())
        };
        let user = |number| Holder::numbered(number, Some(number % 5));
        let mut held: Vec<_> = (0..49)
            .map_while(|number| occupancy.take(user(number % 7)).ok())
            .collect();
        assert_eq!(counts(), None);
        for number in 49..5000 {
            held.extend(occupancy.take(user(number % 7)).ok());
            if number % 3 > 0 {
                held.swap_remove(usize::try_from(number).unwrap_or(0) * 31 % held.len());
            }
            let seats = occupancy.seats.borrow();
            let Some(counts) = &seats.counts else {
                continue;
            };
            for number in 0..7 {
                let own = |other: &&Holder| other.network() == user(number).network();
                let seats = seats.holders.iter().flatten().filter(own).count();
                let client = user(number).network().map(Client::Network);
                let counted = client.and_then(|client| counts.0.get(&client).copied());
                assert_eq!(counted.unwrap_or(0), seats);
            }
        }
        assert!(counts().is_some());
        held.truncate(24);
        assert_eq!(counts(), None);
    }

    #[test]
    fn who_is_refused_another_seat_keeps_its_own() {
        let (requests, streams) = (Occupancy::new(20, 25), Occupancy::new(2, 25));
        let (requests, streams) = (Rc::new(requests), Rc::new(streams));
        let full = take(&streams, client(1), 2);
        let mut occupant = requests.take(client(2)).expect("a seat");
        for _ in 0..2 {
            assert_eq!(occupant.move_to(&streams), Err(Reason::UpstreamBusy));
            assert_eq!(requests.seats.borrow().taken(), 1);
        }
        drop(full);
        assert_eq!(occupant.move_to(&streams), Ok(()));
        let taken = |occupancy: &Occupancy| occupancy.seats.borrow().taken();
        assert_eq!((taken(&requests), taken(&streams)), (0, 1));
    }

    #[test]
    fn a_small_limit_is_not_divided() {
        let occupancy = Rc::new(Occupancy::new(2, 25));
        let _both = take(&occupancy, client(1), 2);
        assert_eq!(occupancy.take(client(1)).err(), Some(Reason::UpstreamBusy));
        assert!(occupancy.admit(client(1)).is_ok(), "something else limits");
    }
}
