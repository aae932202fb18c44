//! Sockets and workers: accepting connections, and ending them.
//!
//! Decides: which worker gets a connection (the one with the fewest), how many connections there
//! may be, of all clients and of one, which one ends when all are taken, and how the process
//! drains. Trusts: the configuration for addresses. Not here: the
//! protocols of a connection (`connection`).
//!
//! A worker is a thread with a runtime of its own. A connection never changes its worker, so a
//! request shares nothing with another thread except what is read without a global lock. Listeners
//! are assigned to workers in turn; the worker that accepts a connection hands it on if another has
//! fewer.

pub mod connection;
mod http1;
mod idle;
mod load;
mod metrics;
mod poll;
mod protocols;
mod redirect;
mod refusals;
mod resets;
mod shares;
mod socket;
pub mod tls;
mod worker;
mod workers;

pub use socket::ListeningSocket;
pub use workers::Workers;
