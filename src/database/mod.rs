//! The operator's PostgreSQL: facts are read from it, and a new user's profile is written to it.
//!
//! Decides:  how long a statement may take, how many run at once (`pool`), and what a failure
//!           means: away, too late, or refused (`transaction`).
//! Trusts:   the operator's SQL, and the server's certificate where there is TLS (`connect`).
//! Not here: what rows mean, and which triggers must report changes (`facts`).
//!
//! A call is one transaction in one round trip. Its statements are unnamed, so that nothing of it
//! stays on the server connection, which a pooler in transaction mode (PgBouncer, Supavisor) may
//! change between calls. A call runs to its end in the background even if its caller has left, and
//! the connection goes back into the pool; the server ends it at `database.statement_timeout`. So
//! the time that a caller has says nothing about the database: the circuit breaker opens if the
//! server is silent beyond that limit, or cannot be reached.

mod connect;
mod fault;
mod handle;
mod inspect;
mod listener;
pub mod metrics;
mod pool;
mod read_set;
mod statement;
mod transaction;
mod value;

pub use self::inspect::Inspected;
pub use handle::Database;
pub use statement::{DatabaseError, Description, Statement};

pub use self::listener::Listener;
pub use self::metrics::DatabaseMetrics;
pub use self::read_set::{ReadSet, Rewriter, Table, Trigger, definitions};
pub use self::value::{Param, Rows};
