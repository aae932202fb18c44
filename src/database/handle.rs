//! The handle on the database: statements with a deadline, and what their failures mean.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::breaker::Outage;
use crate::database::inspect::Inspected;
use crate::database::listener::CHANNEL;
use crate::database::metrics::DatabaseMetrics;
use crate::database::pool::{self, Pool};
use crate::database::read_set::ReadSet;
use crate::database::statement::Access;
use crate::database::statement::DatabaseError;
use crate::database::statement::Description;
use crate::database::statement::Statement;
use crate::database::value::{Param, Rows};
use crate::fault::Fault;
use crate::policy::resources::ParamType;
use crate::policy::storage::CallerShare;
use crate::{clock, policy};

/// A handle of the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Arc<Pool>,
    runtime: Handle,
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

    /// Runs a read-only statement and waits for it until `deadline`. All its columns must be of
    /// type text; cast the others.
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
        let call = self.query_all(vec![statement], deadline);
        let mut all = until(deadline, call).await?;
        Ok(all.pop().unwrap_or_default())
    }

    /// Runs several read-only statements in one round trip and on one snapshot. Waits for a free
    /// connection until `deadline`, and from then on for as long as `database.statement_timeout`
    /// allows.
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

    /// Executes a statement, waits for it until `deadline`, and returns how many rows it changed.
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
        let call = self.call(Access::Write, vec![statement], deadline);
        let all = until(deadline, call).await?;
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
        statements: Vec<Inspected>,
        deadline: Instant,
    ) -> Result<Vec<Result<Description, String>>, DatabaseError> {
        let pool = self.pool.clone();
        self.run_until(
            async move { pool.describe(&statements, deadline).await },
            deadline,
        )
        .await
    }

    /// For each statement the database's message if row-level security may hide rows of it from the
    /// role. No statement is executed.
    ///
    /// # Errors
    ///
    /// The database cannot be asked.
    pub async fn row_security(
        &self,
        statements: Vec<Inspected>,
        deadline: Instant,
    ) -> Result<Vec<Option<String>>, DatabaseError> {
        let pool = self.pool.clone();
        self.run_until(
            async move { pool.row_security(&statements, deadline).await },
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

    /// Why no connection can be made, as far as that is known.
    pub fn fault(&self) -> Option<Fault> {
        self.pool.fault()
    }

    /// Runs a transaction on the background runtime. Dropping the future does not end it.
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
        let pool = self.pool.clone();
        let call = async move { pool.run(access, statements.into(), deadline).await };
        // A task fails only if it panicked or the process ends.
        self.runtime
            .spawn(call)
            .await
            .unwrap_or(Err(DatabaseError::Away))
    }

    /// What one caller may use of the pool.
    pub fn caller_share(&self) -> CallerShare {
        self.pool.caller_share
    }
}

/// Stops waiting for a call at the deadline, which says nothing about the database.
async fn until<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, DatabaseError>>,
) -> Result<T, DatabaseError> {
    timeout_at(deadline.into(), call)
        .await
        .unwrap_or(Err(DatabaseError::Deadline))
}

/// How often [`Database::until_reachable`] polls.
const POLL: Duration = Duration::from_millis(5);
