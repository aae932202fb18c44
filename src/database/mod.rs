//! The operator's PostgreSQL: facts are read from it, and a new user's profile is written to it.
//!
//! Decides:  how long a statement may take, how many run at once (`pool`), and what a failure
//!           means: away, too late, or refused (`transaction`).
//! Trusts:   the operator's SQL, and the server's certificate where there is TLS (`connect`).
//! Not here: what rows mean, and which triggers must report changes (`facts`).
//!
//! A call is one transaction in one round trip. Its statements are unnamed, so that nothing of it
//! stays on the server connection, which a pooler in transaction mode (PgBouncer, Supavisor) may
//! change between calls. A call runs to its end in the background even if its caller has left; the
//! server ends it at the deadline, and the connection goes back into the pool.

mod connect;
mod inspect;
mod listener;
pub mod metrics;
mod pool;
mod read_set;
mod transaction;
mod value;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

pub use self::listener::Listener;
pub use self::metrics::DatabaseMetrics;
pub use self::read_set::{ReadSet, Table, Trigger};
pub use self::value::{Param, Rows};

use self::listener::CHANNEL;
use self::pool::Pool;
use crate::breaker::Outage;
use crate::clock;
use crate::policy;
use crate::policy::resources::ParamType;

/// A handle of the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Arc<Pool>,
    runtime: Handle,
}

/// Why a call returned no rows. An error never means that there are none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DatabaseError {
    /// There is no connection, it broke, or the circuit breaker is open. If it broke, the statement
    /// may have been executed.
    Away,
    /// No answer in time. The statement may have been executed.
    Deadline,
    /// No connection of the pool became free in time. Nothing was sent, so this says nothing about
    /// the database.
    Busy,
    /// The database returned an error, with this SQLSTATE, such as `42703` for an unknown column.
    Refused(String),
}

impl DatabaseError {
    /// The name in logs and metric labels.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Deadline => "deadline",
            Self::Busy => "busy",
            Self::Refused(_) => "refused",
        }
    }
}

impl std::fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "refused with SQLSTATE {code}"),
            Self::Away | Self::Deadline | Self::Busy => f.write_str(self.as_str()),
        }
    }
}

impl std::error::Error for DatabaseError {}

/// A statement with its parameters.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The SQL, with `$1`, `$2`, …
    pub sql: Arc<str>,
    /// The values of the parameters.
    pub params: Vec<Param>,
}

/// What a statement returns under the live schema.
#[derive(Clone, Debug)]
pub struct Description {
    /// The columns: name, and name of the type.
    pub columns: Vec<(String, String)>,
}

/// Whether a call may change data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    Read,
    Write,
}

impl Database {
    /// Starts a pool that connects on demand. Must be called inside the background runtime, which
    /// will drive all its connections.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn start(
        config: &policy::storage::Database,
        metrics: Arc<DatabaseMetrics>,
    ) -> anyhow::Result<Self> {
        let pool = Pool::new(config, metrics)?;
        pool::watch(&pool);
        Ok(Self {
            pool,
            runtime: Handle::current(),
        })
    }

    /// Runs a read-only statement. All its columns must be of type text; cast the others.
    ///
    /// # Errors
    ///
    /// The rows are not known.
    pub async fn query(
        &self,
        sql: &str,
        params: &[Param],
        deadline: Instant,
    ) -> Result<Rows, DatabaseError> {
        let statement = Statement {
            sql: sql.into(),
            params: params.to_vec(),
        };
        let mut all = self.query_all(vec![statement], deadline).await?;
        Ok(all.pop().unwrap_or_default())
    }

    /// Runs several read-only statements in one round trip and on one snapshot.
    ///
    /// # Errors
    ///
    /// The rows are not known.
    pub async fn query_all(
        &self,
        statements: Vec<Statement>,
        deadline: Instant,
    ) -> Result<Vec<Rows>, DatabaseError> {
        self.call(Access::Read, statements, deadline).await
    }

    /// Executes a statement and returns how many rows it changed.
    ///
    /// # Errors
    ///
    /// The statement may have been executed, except after [`DatabaseError::Refused`].
    pub async fn execute(
        &self,
        sql: &str,
        params: &[Param],
        deadline: Instant,
    ) -> Result<u64, DatabaseError> {
        let statement = Statement {
            sql: sql.into(),
            params: params.to_vec(),
        };
        let all = self.call(Access::Write, vec![statement], deadline).await?;
        Ok(all.first().map_or(0, Rows::changed))
    }

    /// Describes statements without executing them.
    ///
    /// # Errors
    ///
    /// For all: the database cannot be asked. For one statement: the database refused it, with this
    /// message.
    pub async fn describe(
        &self,
        statements: Vec<(Arc<str>, ParamType)>,
        deadline: Instant,
    ) -> Result<Vec<Result<Description, String>>, DatabaseError> {
        let pool = self.pool.clone();
        self.run_until(
            async move { pool.describe(&statements, deadline).await },
            deadline,
        )
        .await
    }

    /// Which tables statements read, and which triggers those tables have. No statement is
    /// executed.
    ///
    /// # Errors
    ///
    /// The database cannot be asked, or refuses one of them.
    pub async fn read_sets(
        &self,
        statements: Vec<(Arc<str>, ParamType)>,
        deadline: Instant,
    ) -> Result<Vec<ReadSet>, DatabaseError> {
        let pool = self.pool.clone();
        self.run_until(
            async move { pool.read_sets(&statements, deadline).await },
            deadline,
        )
        .await
    }

    /// Runs a call on the background runtime. It ends at the deadline, or when the caller drops it.
    async fn run_until<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, DatabaseError>> + Send + 'static,
        deadline: Instant,
    ) -> Result<T, DatabaseError> {
        let mut task = JoinSet::new();
        task.spawn_on(call, &self.runtime);
        match timeout_at(deadline.into(), task.join_next()).await {
            Ok(Some(Ok(outcome))) => outcome,
            Ok(Some(Err(_)) | None) => Err(DatabaseError::Away),
            Err(_) => Err(DatabaseError::Deadline),
        }
    }

    /// Sends a notification on the channel of changed rows, over a connection that facts are read
    /// on.
    ///
    /// # Errors
    ///
    /// The notification may not have been sent.
    pub async fn notify(&self, payload: &str, deadline: Instant) -> Result<(), DatabaseError> {
        let params = [
            Param::Text(CHANNEL.to_owned()),
            Param::Text(payload.to_owned()),
        ];
        let sql = "select pg_notify($1, $2)::text";
        self.query(sql, &params, deadline).await.map(|_| ())
    }

    /// Blocks on a future. Only for threads that may block, such as the one that reloads the
    /// configuration.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Waits until the database is reachable, but not beyond the deadline.
    pub async fn until_reachable(&self, deadline: Instant) {
        while self.outage() != Outage::Reachable && clock::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whether the database answers, and if not, since when.
    pub fn outage(&self) -> Outage {
        self.pool.outage()
    }

    async fn call(
        &self,
        access: Access,
        statements: Vec<Statement>,
        deadline: Instant,
    ) -> Result<Vec<Rows>, DatabaseError> {
        if let Err(error) = self.pool.permits() {
            self.pool.metrics().refused(&error);
            return Err(error);
        }
        if deadline <= clock::now() {
            return Err(DatabaseError::Deadline);
        }
        let (answer, wait) = oneshot::channel();
        let pool = self.pool.clone();
        self.runtime.spawn(async move {
            let outcome = pool.run(access, statements.into(), deadline).await;
            // The caller may have left.
            let _ = answer.send(outcome);
        });
        // The pool keeps the deadline, too, unless its runtime is too busy.
        let within = tokio::time::Instant::from_std(deadline + GRACE);
        match timeout_at(within, wait).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(DatabaseError::Away),
            Err(_) => Err(DatabaseError::Deadline),
        }
    }
}

/// How often [`Database::until_reachable`] polls.
const POLL: Duration = Duration::from_millis(5);

/// How long after the deadline a caller stops waiting for the background runtime. A choice.
const GRACE: Duration = Duration::from_millis(2);
