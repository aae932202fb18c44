//! Owners that are learned from upstream responses, for resources without rows, such as a job in
//! the upstream's memory. A resource belongs to the caller whose response first named its id, for
//! as long as the route says.
//!
//! Decides:  whether a route that learns may run now, and what becomes of an owner that cannot be
//!           stored.
//! Trusts:   the upstream not to reuse ids.
//! Not here: reading the id from a response (`upstream::learn`).
//!
//! Nobody can be asked again for what a response taught, so it must not be lost. A request to such
//! a route is refused while the store is known to be away: nothing has happened yet, and a retry is
//! safe. What is learned before the outage is noticed is kept here and stored later ([`bindings`]):
//! the job runs already, and its owner must be able to follow and cancel it.

pub(super) mod bindings;

use std::time::Duration;

pub use self::bindings::{BindError, Binding};
use super::{Facts, LookupContext};
use crate::denial::{Denial, Reason};

impl Facts {
    /// The owner of a learned resource, and whether that took a round trip to the store.
    pub(super) async fn learned(
        &self,
        kind: usize,
        id: &str,
        asking: LookupContext<'_>,
    ) -> Result<(Option<Binding>, bool), Denial> {
        let name = record_name(self.kind(kind), id);
        self.cache().bindings().find(name, asking).await
    }

    /// Refuses a request whose response could not be bound to the caller.
    ///
    /// # Errors
    ///
    /// The store is away, or too many bindings wait for it.
    pub fn may_bind(&self) -> Result<(), Denial> {
        match self.cache().bindings().has_room() {
            true => Ok(()),
            false => Err(Reason::StoreUnavailable.because("the response could not be bound")),
        }
    }

    /// Binds a resource to its owner for this long.
    ///
    /// # Errors
    ///
    /// It may not be bound to this owner.
    pub async fn bind(
        &self,
        kind: usize,
        id: &str,
        owner: &Binding,
        keep: Duration,
    ) -> Result<(), BindError> {
        let name = record_name(self.kind(kind), id);
        self.cache().bindings().bind(name, owner, keep).await
    }
}

fn record_name(resource_type: &str, id: &str) -> Vec<u8> {
    format!("{resource_type}\0{id}").into_bytes()
}
