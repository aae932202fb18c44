//! Whose a thing is that only an answer told of, such as a job that lives in the upstream's memory.
//!
//! Decides:  that a thing belongs to whoever was first told its id, for as long as the route says.
//! Trusts:   the upstream to give a new id to each thing; the store's seal for who wrote a record.
//! Not here: how the id is found in an answer (`upstream::learn`).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;

use super::{Asking, Facts};
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::store::{Kind, Swap};

/// Whose a thing is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Binding {
    /// The issuer that knows the subject.
    pub issuer: String,
    /// The owner.
    pub subject: String,
}

/// Why an id was not bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unbound {
    /// It is somebody else's already.
    Taken,
    /// The store cannot keep it.
    Unkept,
}

impl Facts {
    /// Whose the thing is, and whether the store had to be asked.
    pub(super) async fn learned(
        &self,
        kind: usize,
        id: &str,
        asking: Asking<'_>,
    ) -> Result<(Option<Binding>, bool), Denial> {
        let within = tokio::time::Instant::from_std(asking.deadline);
        let name = name(self.kind(kind), id);
        match timeout_at(within, self.shelf().store().get(Kind::Learned, &name)).await {
            Ok(Ok(None)) => Ok((None, true)),
            Ok(Ok(Some(record))) => match serde_json::from_slice(&record) {
                Ok(binding) => Ok((Some(binding), true)),
                Err(_) => Err(Reason::FactsUnavailable.because("a binding that makes no sense")),
            },
            Ok(Err(why)) => Err(Reason::FactsUnavailable.because(format!("the store: {why}"))),
            Err(_) => Err(Reason::BudgetSpent.because("the store is too slow")),
        }
    }

    /// Binds a thing to its owner, for this long.
    ///
    /// # Errors
    ///
    /// It is not known to be bound to this owner.
    pub async fn bind(
        &self,
        kind: usize,
        id: &str,
        owner: &Binding,
        keep: Duration,
    ) -> Result<(), Unbound> {
        let outcome = self.try_bind(kind, id, owner, keep).await;
        self.shelf().metrics().learned(outcome.is_ok());
        outcome
    }

    async fn try_bind(
        &self,
        kind: usize,
        id: &str,
        owner: &Binding,
        keep: Duration,
    ) -> Result<(), Unbound> {
        let store = self.shelf().store();
        let name = name(self.kind(kind), id);
        let value = serde_json::to_vec(owner).map_err(|_| Unbound::Unkept)?;
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        for _ in 0..3 {
            let (known, version) = store
                .read(Kind::Learned, &name)
                .await
                .map_err(|_| Unbound::Unkept)?;
            // The same answer may be repeated; another owner's id never changes hands.
            if known.is_some_and(|known| known != value) {
                return Err(Unbound::Taken);
            }
            let expires = clock::unix_millis().saturating_add(keep);
            match store
                .swap(Kind::Learned, &name, &version, &value, expires)
                .await
            {
                Ok(Swap::Done(_)) => return Ok(()),
                Ok(Swap::Lost) => {}
                Err(_) => return Err(Unbound::Unkept),
            }
        }
        Err(Unbound::Unkept)
    }
}

fn name(kind: &str, id: &str) -> Vec<u8> {
    format!("{kind}\0{id}").into_bytes()
}
