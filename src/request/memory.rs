//! The memory of bodies that are read before they are forwarded: so much for all of them in this
//! process, and so much for each client. It is taken as bytes arrive, not as they are announced,
//! and given back when the body is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use super::holder::{Holder, SITE};
use crate::denial::{Denial, Reason};
use crate::network::Network;
use crate::policy::listen::InspectedBodies;

/// The memory of bodies, of one process.
#[derive(Debug, Default)]
pub struct BodyMemory {
    all: AtomicU64,
    by_client: DashMap<Client, u64>,
}

/// One of the two sides of a [`Holder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    Network(Network),
    Subject(u64),
}

/// The memory that one body holds. Dropping it gives the memory back.
#[derive(Debug)]
pub(crate) struct Reservation {
    memory: Arc<BodyMemory>,
    holder: Holder,
    limits: InspectedBodies,
    bytes: u64,
}

impl BodyMemory {
    /// Nothing yet, for a body of this client.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        holder: Holder,
        limits: InspectedBodies,
    ) -> Reservation {
        Reservation {
            memory: self.clone(),
            holder,
            limits,
            bytes: 0,
        }
    }

    /// Adds to what a client holds, and returns the sum.
    fn add(&self, client: Client, bytes: u64) -> u64 {
        let mut held = self.by_client.entry(client).or_default();
        *held = held.saturating_add(bytes);
        *held
    }

    fn subtract(&self, client: Client, bytes: u64) {
        if let Some(mut held) = self.by_client.get_mut(&client) {
            *held = held.saturating_sub(bytes);
        }
        self.by_client.remove_if(&client, |_, held| *held == 0);
    }
}

impl Reservation {
    /// Takes so many bytes more.
    ///
    /// # Errors
    ///
    /// [`Reason::ClientBusy`] if the client holds its share, [`Reason::BodiesBusy`] if all clients
    /// together hold the whole. The memory stays taken until this is dropped.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Denial> {
        if bytes == 0 {
            return Ok(());
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        let mut is_above = false;
        for (client, shares) in clients(self.holder) {
            let held = self.memory.add(client, bytes);
            is_above |= held > self.limits.share.saturating_mul(shares);
        }
        let all = self.memory.all.fetch_add(bytes, Ordering::Relaxed);
        if is_above {
            return Err(Reason::ClientBusy.because("inspected bodies"));
        }
        match all.saturating_add(bytes) > self.limits.memory {
            true => Err(Reason::BodiesBusy.into()),
            false => Ok(()),
        }
    }
}

impl Reservation {
    /// Gives back all but so many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let excess = self.bytes.saturating_sub(bytes);
        if excess == 0 {
            return;
        }
        self.bytes -= excess;
        self.memory.all.fetch_sub(excess, Ordering::Relaxed);
        for (client, _) in clients(self.holder) {
            self.memory.subtract(client, excess);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// As whom the holder is counted, and how many shares each may hold.
fn clients(holder: Holder) -> impl Iterator<Item = (Client, u64)> {
    let own = holder.network().map(|own| (Client::Network(own), 1));
    let site = holder.site();
    let site = site.map(|site| (Client::Network(site), SITE as u64));
    let subject = holder.subject.map(|subject| (Client::Subject(subject), 1));
    own.into_iter().chain(site).chain(subject)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: InspectedBodies = InspectedBodies {
        timeout: Duration::from_secs(30),
        memory: 100,
        share: 40,
    };

    fn reserve(memory: &Arc<BodyMemory>, address: u64, subject: Option<u64>) -> Reservation {
        memory.reserve(Holder::numbered(address, subject), LIMITS)
    }

    /// A refused body is dropped.
    fn refused(mut reservation: Reservation, bytes: usize) -> Result<Reservation, Reason> {
        match reservation.grow(bytes) {
            Ok(()) => Ok(reservation),
            Err(denial) => Err(denial.reason),
        }
    }

    #[test]
    fn a_client_holds_its_share_and_all_clients_the_whole() {
        let memory = Arc::new(BodyMemory::default());
        let of = |address| reserve(&memory, address, None);
        let first = refused(of(1), 30).expect("room");
        assert_eq!(refused(of(1), 11).err(), Some(Reason::ClientBusy));
        let more = refused(of(1), 10).expect("the rest of its share");
        let second = refused(of(2), 40).expect("another share");
        assert_eq!(refused(of(3), 21).err(), Some(Reason::BodiesBusy));
        drop(first);
        let third = refused(of(3), 21).expect("room again");
        drop((more, second, third));
        assert_eq!(memory.all.load(Ordering::Relaxed), 0);
        assert!(memory.by_client.is_empty());
    }

    #[test]
    fn who_has_no_share_holds_what_all_may_hold() {
        let memory = Arc::new(BodyMemory::default());
        let of = |subject| memory.reserve(Holder::unnamed(subject), LIMITS);
        let _most = refused(of(None), 90).expect("no share");
        assert_eq!(refused(of(None), 11).err(), Some(Reason::BodiesBusy));
        assert_eq!(refused(of(Some(7)), 41).err(), Some(Reason::ClientBusy));
    }

    #[test]
    fn a_user_with_many_addresses_holds_one_share() {
        let memory = Arc::new(BodyMemory::default());
        let of = |address, subject| reserve(&memory, address, Some(subject));
        let _first = refused(of(1, 7), 40).expect("room");
        assert_eq!(refused(of(2, 7), 1).err(), Some(Reason::ClientBusy));
        assert!(refused(of(2, 8), 40).is_ok());
    }
}
