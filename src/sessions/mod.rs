//! Sessions of signed-in users, carried by a cookie or by a bearer token.
//!
//! Decides:  `session_unknown` and `session_expired`; which sessions a sign-in or a sign-out ends.
//! Trusts:   the store's records to be authentic, not its durability; the revocation list for which
//!           sessions were ended elsewhere.
//! Not here: the revocation list itself (`revocation`), who may revoke (`admin`) or sign in
//!           (`sign_in`), and what an outage of the store means for a request (`policy::outage`).
//!
//! A session is a record ([`record`]) that a cookie leads to ([`cookie`]). It is cached in the
//! memory of the replicas that use it ([`lookup`]), and its tokens are renewed before they expire
//! ([`renew`]). Signing in begins a session and ends those that are too many ([`sign_in`]). The
//! revocation list ends a session on all replicas at once; no replica waits for its cache to
//! expire.

mod agent;
mod begun;
mod check;
pub mod cookie;
mod index;
mod live;
pub mod lookup;
mod metrics;
mod observe;
pub mod record;
pub mod renew;
pub mod sign_in;
mod unstored;

pub use check::Recheck;
pub use live::{CachedSession, VerifiedAccess};
pub use lookup::{SessionLookup, Sessions};
pub use metrics::SessionMetrics;
