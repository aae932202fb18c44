//! Sessions: what ends them before their tokens expire.
//!
//! Decides:  `token_revoked`, `session_revoked`, `subject_revoked` and `issuer_revoked`.
//! Trusts:   the operator or the identity server that revoked something; the store, for what it holds being ours, and for nothing else.
//! Not here: who may revoke (`admin`), and what an outage of the store means for a request (`outage`).
//!
//! A [`Revocation`] names a token, a session, a subject or an issuer. Every replica has the whole list in memory ([`list`]), asked on every
//! request. What keeps the replicas' lists alike is the protocol in [`replica`]: a state machine without input, output or clock, which the
//! [`Follower`] drives against the store, and a model checker explores.

pub mod coarsen;
mod follower;
pub mod list;
mod metrics;
pub mod replica;
pub mod revocation;

pub use follower::{Follower, Revocations, Revoked, Status};
pub use list::{CleanAt, Listed};
pub use metrics::{RevocationMetrics, WebhookResult};
pub use revocation::{Name, Revocation, What};
