//! Sessions: who is signed in, by cookie or by token, and what ends that before the tokens expire.
//!
//! Decides:  `token_revoked`, `session_revoked`, `subject_revoked` and `issuer_revoked`; `session_unknown` and `session_expired`.
//! Trusts:   the operator or the identity server that revoked something; the store, for what it holds being ours, and for nothing else.
//! Not here: who may revoke (`admin`), who may sign in (`identity`), and what an outage of the store means for a request (`outage`).
//!
//! A session is a record ([`record`]) that a cookie leads to ([`cookie`]), kept in memory where it is used ([`lookup`]) and renewed before its
//! tokens expire ([`renew`]). Signing in begins one and ends those that are too many ([`sign_in`]).
//!
//! A [`Revocation`] names a token, a session, a subject or an issuer. Every replica has the whole list in memory ([`list`]), asked on every
//! request. What keeps the replicas' lists alike is the protocol in [`replica`]: a state machine without input, output or clock, which the
//! [`Follower`] drives against the store, and a model checker explores. That list is also what ends a cookie on all replicas at once: nobody
//! waits for a memory to forget it.

mod agent;
pub mod cookie;
mod index;
mod live;
pub mod lookup;
mod metrics;
pub mod record;
pub mod renew;
pub mod sign_in;
mod unstored;

pub use live::{Live, Proven};
pub use lookup::{Found, Sessions};
pub use metrics::SessionMetrics;
