//! Revocations: tokens, sessions, users and issuers that are refused before they expire, on every
//! replica within a second.
//!
//! Decides:  which revocations are the same one ([`Revocation::name`]), and which tokens they
//!           refuse (`list`).
//! Trusts:   whoever revokes; the store for authentic answers, not for durability (`replica`).
//! Not here: sessions in cookies (`sessions`), and how a request is answered while the list is not
//!           complete (`policy::outage`).
//!
//! An id is always named together with its issuer: a `sub` or a `session_id` alone means nothing.

pub mod coarsen;
mod exemption;
mod follower;
pub mod list;
mod metrics;
pub mod replica;
mod revocations;
mod target;

pub use target::{Kind, Name, Note, Revocation, Target, bucket_of, canonical_id, token_digest};

pub use exemption::{Exemption, SECOND_FACTOR};
pub use follower::Follower;
pub(crate) use list::signed_in;
pub use list::{CleanAt, Hit, Listed};
pub use metrics::{RevocationMetrics, WebhookResult};
pub use revocations::{Found, ListStatus, Query, Revocations, RevokeOutcome, UndoOutcome};
