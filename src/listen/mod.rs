//! Sockets, workers, and the end of them.
//!
//! Decides: which worker a connection goes to (the one with the fewest), how many there may be, and
//! how the process ends. Trusts: the configuration for addresses. Not here: what is said on a
//! connection (`connection`).
//!
//! A worker is a thread with a runtime of its own. A connection never changes its worker, so
//! nothing a request needs is shared with another thread except what is read without a global lock.
//! Listeners are spread over the workers; the worker that accepts hands the connection on if
//! another has fewer.

pub mod connection;
mod load;
mod metrics;
mod observed;
mod poll;
mod protocols;
mod redirect;
mod socket;
pub mod tls;
mod worker;
mod workers;

pub use socket::Bound;
pub use workers::Workers;
