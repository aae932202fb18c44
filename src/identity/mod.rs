//! The identity server, Supabase Auth (GoTrue): the one place where passwords are checked and tokens are issued.
//!
//! Decides:  how it is called ([`IdentityServer`]), and what its answers are ([`Grant`], [`AuthError`]).
//! Trusts:   the identity server, for the users it signs in.
//! Not here: whose tokens are accepted (`tokens`), and what was revoked (`sessions`).
//!
//! The identity server is slow by nature (it hashes passwords) and may be away. So every call has a deadline, calls run in bounded numbers on the
//! background runtime, and a breaker keeps a server that does not answer from costing everybody that deadline.

pub mod door;
pub mod endpoints;
pub mod flight;
mod grant;
mod later;
mod metrics;
mod operation;
mod refresh;
mod renewer;
mod server;
pub mod throttle;

pub use grant::{ApiVersion, AuthError, Grant};
pub use later::{Later, LaterMetrics};
pub use metrics::IdentityMetrics;
pub use operation::Operation;
pub use refresh::{Refresh, Refreshed};
pub use server::{ApiKey, Call, CallError, IdentityServer, Reply};
