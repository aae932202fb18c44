//! Owners that are learned from upstream responses, for resources without rows, such as a job in
//! the upstream's memory. A resource belongs to the caller whose response first named its id, for
//! as long as the route says. The upstream must not reuse ids.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;

use super::{Facts, LookupContext};
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::store::{Kind, Swap};

/// The owner of a learned resource.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Binding {
    /// The issuer of the subject.
    pub issuer: String,
    /// The owner's subject.
    pub subject: String,
}

/// Why an id was not bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BindError {
    /// It already belongs to somebody else.
    Taken,
    /// The store did not take the record.
    Unkept,
}

impl Facts {
    /// The owner of a learned resource, and whether that took a round trip to the store.
    pub(super) async fn learned(
        &self,
        kind: usize,
        id: &str,
        asking: LookupContext<'_>,
    ) -> Result<(Option<Binding>, bool), Denial> {
        let within = tokio::time::Instant::from_std(asking.deadline);
        let name = record_name(self.kind(kind), id);
        match timeout_at(within, self.cache().store().get(Kind::Learned, &name)).await {
            Ok(Ok(None)) => Ok((None, true)),
            Ok(Ok(Some(record))) => match serde_json::from_slice(&record) {
                Ok(binding) => Ok((Some(binding), true)),
                Err(_) => {
                    Err(Reason::FactsUnavailable.because("invalid record of a learned resource"))
                }
            },
            Ok(Err(why)) => Err(Reason::FactsUnavailable.because(format!("the store: {why}"))),
            Err(_) => Err(Reason::BudgetSpent.because("the store did not answer in time")),
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
        let outcome = self.try_bind(kind, id, owner, keep).await;
        self.cache().metrics().learned(outcome.is_ok());
        outcome
    }

    async fn try_bind(
        &self,
        kind: usize,
        id: &str,
        owner: &Binding,
        keep: Duration,
    ) -> Result<(), BindError> {
        let store = self.cache().store();
        let name = record_name(self.kind(kind), id);
        let value = serde_json::to_vec(owner).map_err(|_| BindError::Unkept)?;
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        for _ in 0..3 {
            let (known, version) = store
                .read(Kind::Learned, &name)
                .await
                .map_err(|_| BindError::Unkept)?;
            // A response may be repeated. A bound id never changes its owner.
            if known.is_some_and(|known| known != value) {
                return Err(BindError::Taken);
            }
            let expires = clock::unix_millis().saturating_add(keep);
            match store
                .swap(Kind::Learned, &name, &version, &value, expires)
                .await
            {
                Ok(Swap::Done(_)) => return Ok(()),
                Ok(Swap::Conflict) => {}
                Err(_) => return Err(BindError::Unkept),
            }
        }
        Err(BindError::Unkept)
    }
}

fn record_name(resource_type: &str, id: &str) -> Vec<u8> {
    format!("{resource_type}\0{id}").into_bytes()
}
