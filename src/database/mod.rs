//! The operator's PostgreSQL: what facts are read from, and where a new user's profile is written.
//!
//! Decides:  how long a statement may take, how many run at once, and what a failure means: away, too late, or refused.
//! Trusts:   the operator's SQL, and the server's certificate where there is TLS.
//! Not here: what rows mean (`facts`), and how a connection is made (`connect`).
//!
//! Every call is one transaction that is written in one piece, so it costs one round trip, and its statements are unnamed: nothing outlives
//! it on the server, which a pooler in transaction mode (PgBouncer, Supavisor) may change behind us. A call runs to its end in the background
//! even if nobody waits for it any more; the server itself ends it at its deadline, and the connection goes back into the pool.

mod connect;
pub mod metrics;
mod pool;
mod reading;
mod scan;
mod value;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

pub use self::metrics::DatabaseMetrics;
pub use self::reading::{Reading, Table, Trigger};
pub use self::value::{Param, Rows};

use tokio_postgres::AsyncMessage;

use self::connect::Connector;
use self::pool::Pool;
use crate::breaker::Outage;
use crate::clock;
use crate::policy;
use crate::policy::resources::ParamType;

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Arc<Pool>,
    runtime: Handle,
}

/// Why the database gave no rows. Never means that there are none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DatabaseError {
    /// There is no connection, it broke, or the database has not answered lately. If it broke, the statement may have been carried out.
    Away,
    /// No answer in time. The statement may have been carried out.
    Deadline,
    /// None of our own connections came free in time. Nothing was sent, and it says nothing about the database.
    Busy,
    /// It answered that it will not: its SQLSTATE, such as `42703` for a column that is not there.
    Refused(String),
}

impl DatabaseError {
    /// The operator's word, in logs and labels.
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

/// Makes connections that hear what the database notifies of.
#[derive(Debug)]
pub struct Listener {
    connector: Connector,
    connect_timeout: Duration,
}

/// Where changed rows are told of.
const CHANNEL: &str = "foregate_facts";

impl Listener {
    /// For this configuration; `None` if nobody listens.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn new(config: &policy::storage::Database) -> anyhow::Result<Option<Self>> {
        let Some(server) = &config.notify else {
            return Ok(None);
        };
        Ok(Some(Self {
            connector: Connector::new(server, config, "foregate listener")?,
            connect_timeout: config.connect_timeout,
        }))
    }

    /// A connection that listens, and what it hears until it breaks or the client is dropped.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn listen(
        &self,
    ) -> Result<(tokio_postgres::Client, UnboundedReceiver<AsyncMessage>), DatabaseError> {
        let (tell, said) = unbounded_channel();
        let listening = async {
            let client = self.connector.connect(Some(tell)).await?;
            client.batch_execute(&format!("listen {CHANNEL}")).await?;
            Ok::<_, tokio_postgres::Error>(client)
        };
        match tokio::time::timeout(self.connect_timeout, listening).await {
            Ok(Ok(client)) => Ok((client, said)),
            Ok(Err(error)) => Err(match error.code() {
                Some(code) => DatabaseError::Refused(code.code().to_owned()),
                None => DatabaseError::Away,
            }),
            Err(_) => Err(DatabaseError::Deadline),
        }
    }
}

/// One statement, and what it is given.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The SQL, with `$1`, `$2`, …
    pub sql: Arc<str>,
    /// What stands for them.
    pub params: Vec<Param>,
}

/// What a statement would take and give, as the live schema has it.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its columns: name, and the name of the type.
    pub columns: Vec<(String, String)>,
}

/// Whether a call may change something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    Read,
    Write,
}

impl Database {
    /// A pool that connects when it is asked. Must be called inside the background runtime, where all its connections will live.
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

    /// The rows of one statement, which must not change anything. All its columns must be text: cast what is not.
    ///
    /// # Errors
    ///
    /// It is not known which rows there are.
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

    /// The rows of several statements in one round trip, all seen at the same moment.
    ///
    /// # Errors
    ///
    /// It is not known which rows there are.
    pub async fn query_all(
        &self,
        statements: Vec<Statement>,
        deadline: Instant,
    ) -> Result<Vec<Rows>, DatabaseError> {
        self.call(Access::Read, statements, deadline).await
    }

    /// Carries a statement out, and says how many rows it changed.
    ///
    /// # Errors
    ///
    /// It is not known to be carried out; only after [`DatabaseError::Refused`] it is known not to be.
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

    /// What statements would take and give, without carrying them out. On a connection of its own, since a description leaves a name on it.
    ///
    /// # Errors
    ///
    /// For all: the database cannot be asked. For one: it refused the statement, in its own words.
    pub async fn describe(
        &self,
        statements: Vec<(Arc<str>, ParamType)>,
        deadline: Instant,
    ) -> Result<Vec<Result<Description, String>>, DatabaseError> {
        let pool = self.pool.clone();
        self.once(
            async move { pool.describe(&statements, deadline).await },
            deadline,
        )
        .await
    }

    /// Which tables statements read, and what tells of changes in them. None is carried out, and none changes anything.
    ///
    /// # Errors
    ///
    /// The database cannot be asked, or refuses one of them.
    pub async fn readings(
        &self,
        statements: Vec<(Arc<str>, ParamType)>,
        deadline: Instant,
    ) -> Result<Vec<Reading>, DatabaseError> {
        let pool = self.pool.clone();
        self.once(
            async move { pool.readings(&statements, deadline).await },
            deadline,
        )
        .await
    }

    /// Something on a connection of its own. It ends with its deadline, or with whoever waits for it.
    async fn once<T: Send + 'static>(
        &self,
        asking: impl Future<Output = Result<T, DatabaseError>> + Send + 'static,
        deadline: Instant,
    ) -> Result<T, DatabaseError> {
        let mut task = JoinSet::new();
        task.spawn_on(asking, &self.runtime);
        match timeout_at(deadline.into(), task.join_next()).await {
            Ok(Some(Ok(outcome))) => outcome,
            Ok(Some(Err(_)) | None) => Err(DatabaseError::Away),
            Err(_) => Err(DatabaseError::Deadline),
        }
    }

    /// Notifies whoever listens where changed rows are told of, on a connection that facts are read on.
    ///
    /// # Errors
    ///
    /// It is not known to have been sent.
    pub async fn notify(&self, payload: &str, deadline: Instant) -> Result<(), DatabaseError> {
        let params = [
            Param::Text(CHANNEL.to_owned()),
            Param::Text(payload.to_owned()),
        ];
        let sql = "select pg_notify($1, $2)::text";
        self.query(sql, &params, deadline).await.map(|_| ())
    }

    /// Asks something from a thread that may wait, such as one that reads a configuration.
    pub fn wait<T>(&self, asking: impl Future<Output = T>) -> T {
        self.runtime.block_on(asking)
    }

    /// Waits until it is found to answer, but not for longer than that.
    pub async fn until_reachable(&self, deadline: Instant) {
        while self.outage() != Outage::Reachable && clock::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether it answers, and if not, since when.
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
            // Whoever waited may be gone.
            let _ = answer.send(outcome);
        });
        // The pool keeps the deadline, too; this is for a runtime that is too busy to.
        let within = tokio::time::Instant::from_std(deadline + GRACE);
        match timeout_at(within, wait).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(DatabaseError::Away),
            Err(_) => Err(DatabaseError::Deadline),
        }
    }
}

/// How often a database that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How much later than its deadline a caller stops to wait for the background. A choice.
const GRACE: Duration = Duration::from_millis(2);
