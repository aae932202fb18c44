//! The pool: a bounded number of connections, each with one transaction at a time.
//!
//! Decides: who waits for a connection, and what becomes of one after a call. Trusts: `connect` to make them. Not here: SQL.
//!
//! One transaction at a time, because a statement that waits for a lock would hold up all that came behind it on the same connection.

#![allow(
    clippy::disallowed_types,
    reason = "the lock is held for a push or a pop on the background runtime, never across an await"
)]

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, join3};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout, timeout_at};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::connect::Connector;
use super::metrics::DatabaseMetrics;
use super::reading::{self, Reading};
use super::value::Rows;
use super::{Access, DatabaseError, Description, Statement};
use crate::breaker::{Breaker, Outage};
use crate::clock;
use crate::policy;
use crate::policy::resources::ParamType;

/// How often a database that is away is asked whether it is back. A choice.
const PROBE: Duration = Duration::from_millis(250);

/// How long after its deadline the server may take to give a connection back, before it is thrown away.
const LINGER: Duration = Duration::from_secs(1);

/// The connections.
#[derive(Debug)]
pub(super) struct Pool {
    connector: Connector,
    connect_timeout: Duration,
    idle: Mutex<Vec<Client>>,
    permits: Arc<Semaphore>,
    breaker: Breaker,
    opened: Notify,
    metrics: Arc<DatabaseMetrics>,
}

impl Pool {
    pub(super) fn new(
        config: &policy::storage::Database,
        metrics: Arc<DatabaseMetrics>,
    ) -> anyhow::Result<Arc<Self>> {
        metrics.is_up(false);
        Ok(Arc::new(Self {
            connector: Connector::new(&config.server, config, "foregate")?,
            connect_timeout: config.connect_timeout,
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(config.pool.get())),
            breaker: Breaker::new(clock::now()),
            opened: Notify::new(),
            metrics,
        }))
    }

    pub(super) fn permits(&self) -> Result<(), DatabaseError> {
        self.breaker.permits().map_err(|_| DatabaseError::Away)
    }

    pub(super) fn metrics(&self) -> &DatabaseMetrics {
        &self.metrics
    }

    pub(super) fn outage(&self) -> Outage {
        self.breaker.outage()
    }

    /// One transaction, on a connection of the pool.
    pub(super) async fn run(
        self: &Arc<Self>,
        access: Access,
        statements: Arc<[Statement]>,
        deadline: Instant,
    ) -> Result<Vec<Rows>, DatabaseError> {
        let started = clock::now();
        let outcome = self.attempt(access, &statements, deadline).await;
        let now = clock::now();
        self.metrics.took(
            now.saturating_duration_since(started),
            outcome.as_ref().err(),
        );
        match &outcome {
            Ok(_) | Err(DatabaseError::Refused(_)) => self.breaker.answered(now),
            Err(DatabaseError::Busy) => {}
            Err(DatabaseError::Away | DatabaseError::Deadline) => {
                if self.breaker.failed() {
                    self.opened.notify_one();
                    self.metrics.is_up(false);
                    tracing::error!("the database does not answer; the breaker is open");
                }
            }
        }
        outcome
    }

    async fn attempt(
        self: &Arc<Self>,
        access: Access,
        statements: &Arc<[Statement]>,
        deadline: Instant,
    ) -> Result<Vec<Rows>, DatabaseError> {
        let within = tokio::time::Instant::from_std(deadline);
        let mut permit = timeout_at(within, self.permits.clone().acquire_owned())
            .await
            .map_err(|_| DatabaseError::Busy)?
            .map_err(|_| DatabaseError::Away)?;
        // A connection that the server closed while it was idle is found out by asking. Then another is taken, and in the end a new one.
        loop {
            let (client, is_fresh) = match self.take() {
                Some(client) => (client, false),
                None => {
                    let client = timeout_at(within, self.connector.connect(None))
                        .await
                        .map_err(|_| DatabaseError::Deadline)?
                        .map_err(|error| self.failure(&error))?;
                    (client, true)
                }
            };
            let (pool, statements) = (self.clone(), statements.clone());
            let mut asking = Box::pin(async move {
                let outcome = transaction(&client, access, &statements, deadline).await;
                let is_closed = match &outcome {
                    Ok(_) => client.is_closed(),
                    // Whatever became of the transaction, it is over.
                    Err(_) => client.is_closed() || client.batch_execute("rollback").await.is_err(),
                };
                if !is_closed {
                    pool.give_back(client);
                }
                (outcome, is_closed, permit)
            });
            let Ok((outcome, is_closed, returned)) = timeout_at(within, &mut asking).await else {
                // The server ends it about now. That it says so is waited for, so that the connection can be used again.
                tokio::spawn(async move { timeout(LINGER, asking).await.is_ok() });
                return Err(DatabaseError::Deadline);
            };
            permit = returned;
            match outcome {
                Ok(rows) => return Ok(rows),
                Err(error) if is_closed && !is_fresh && access == Access::Read => {
                    tracing::debug!(%error, "a kept connection to the database was closed");
                }
                Err(error) => return Err(self.failure(&error)),
            }
        }
    }

    fn take(&self) -> Option<Client> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(client) = idle.pop() {
            if !client.is_closed() {
                return Some(client);
            }
        }
        None
    }

    fn give_back(&self, client: Client) {
        if !client.is_closed() && !self.breaker.is_open() {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(client);
        }
    }

    fn failure(&self, error: &Error) -> DatabaseError {
        let failure = meaning(error);
        if let DatabaseError::Refused(code) = &failure
            && self.metrics.may_tell(clock::unix_now())
        {
            // Its message may hold what was asked for.
            tracing::error!(sqlstate = code, "the database refused a statement");
        }
        failure
    }

    /// Asks on a connection of its own, and throws it away.
    pub(super) async fn describe(
        &self,
        statements: &[(Arc<str>, ParamType)],
        deadline: Instant,
    ) -> Result<Vec<Result<Description, String>>, DatabaseError> {
        let client = self
            .connector
            .connect_until(deadline + LINGER)
            .await
            .map_err(|_| DatabaseError::Away)?;
        // Names live as long as a transaction behind a pooler in transaction mode.
        let mut descriptions = Vec::with_capacity(statements.len());
        for (sql, kind) in statements {
            client
                .batch_execute(&reading::begin(deadline))
                .await
                .map_err(|_| DatabaseError::Away)?;
            client.clear_type_cache();
            let described = client.prepare_typed(sql, &[kind.sql()]).await;
            descriptions.push(match described {
                Ok(statement) => Ok(Description {
                    columns: statement
                        .columns()
                        .iter()
                        .map(|column| (column.name().to_owned(), column.type_().name().to_owned()))
                        .collect(),
                }),
                Err(error) => match (meaning(&error), error.as_db_error()) {
                    (DatabaseError::Refused(code), Some(refusal)) => {
                        Err(format!("{} ({code})", refusal.message()))
                    }
                    // That it has no time, or goes away, says nothing about the statement.
                    (failure, _) => return Err(failure),
                },
            });
            client
                .batch_execute("rollback")
                .await
                .map_err(|_| DatabaseError::Away)?;
        }
        Ok(descriptions)
    }

    /// Asks on a connection of its own, and throws it away.
    pub(super) async fn readings(
        &self,
        statements: &[(Arc<str>, ParamType)],
        deadline: Instant,
    ) -> Result<Vec<Reading>, DatabaseError> {
        self.permits()?;
        let client = self
            .connector
            .connect_until(deadline + LINGER)
            .await
            .map_err(|_| DatabaseError::Away)?;
        reading::of(&client, statements, deadline)
            .await
            .map_err(|error| self.failure(&error))
    }

    /// Whether it answers now.
    async fn probe(&self) -> bool {
        let probing = async {
            let client = self.connector.connect(None).await?;
            client.batch_execute("select 1").await?;
            Ok::<_, Error>(client)
        };
        match timeout(self.connect_timeout, probing).await {
            Ok(Ok(client)) => {
                let was_open = self.breaker.close(clock::now());
                self.give_back(client);
                if was_open {
                    self.metrics.is_up(true);
                    tracing::info!("the database answers");
                }
                true
            }
            Ok(Err(error)) => {
                if self.metrics.may_tell(clock::unix_now()) {
                    tracing::warn!(%error, "no connection to the database");
                }
                false
            }
            Err(_) => false,
        }
    }
}

/// Asks a database that is away until it is back, for as long as somebody has the pool.
pub(super) fn watch(pool: &Arc<Pool>) {
    let pool: Weak<Pool> = Arc::downgrade(pool);
    tokio::spawn(async move {
        loop {
            let Some(pool) = pool.upgrade() else { return };
            if pool.breaker.is_open() {
                // What was open before it went away may never answer.
                pool.idle
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clear();
                if pool.probe().await {
                    continue;
                }
                drop(pool);
                sleep(PROBE).await;
            } else {
                // Looked at again from time to time, so that a pool nobody has ends.
                let _ = timeout(LINGER, pool.opened.notified()).await;
            }
        }
    });
}

/// What the answer of the server means.
fn meaning(error: &Error) -> DatabaseError {
    match error.code() {
        // Ended by `statement_timeout`, or by `lock_timeout`.
        Some(code) if matches!(code.code(), "57014" | "55P03") => DatabaseError::Deadline,
        // It shuts down, starts up, has no connection left, or a pooler lost the server: classes 57P, 53 and 08.
        Some(code)
            if code.code().starts_with("57P")
                || code.code().starts_with("53")
                || code.code().starts_with("08") =>
        {
            DatabaseError::Away
        }
        Some(code) => DatabaseError::Refused(code.code().to_owned()),
        None => DatabaseError::Away,
    }
}

/// Everything at once: the pieces are written before the first is answered.
async fn transaction(
    client: &Client,
    access: Access,
    statements: &[Statement],
    deadline: Instant,
) -> Result<Vec<Rows>, Error> {
    let left = deadline
        .saturating_duration_since(clock::now())
        .as_millis()
        .max(1);
    let mode = match access {
        // All of it is seen at one moment.
        Access::Read => "isolation level repeatable read, read only",
        Access::Write => "read write",
    };
    let begin = format!("begin {mode}; set local statement_timeout = {left}");
    let params: Vec<Vec<(&(dyn ToSql + Sync), Type)>> = statements
        .iter()
        .map(|statement| {
            let params = statement.params.iter();
            params
                .map(|param| (param as &(dyn ToSql + Sync), param.kind()))
                .collect()
        })
        .collect();
    let asked = statements
        .iter()
        .zip(&params)
        .map(|(statement, params)| async move {
            match access {
                Access::Read => client
                    .query_typed(&statement.sql, params)
                    .await
                    .and_then(|rows| texts(&rows)),
                Access::Write => {
                    client
                        .execute_typed(&statement.sql, params)
                        .await
                        .map(|changed| Rows {
                            rows: Vec::new(),
                            changed,
                        })
                }
            }
        });
    let (begun, rows, ended) = join3(
        client.batch_execute(&begin),
        join_all(asked),
        client.batch_execute("commit"),
    )
    .await;
    begun?;
    let rows: Vec<Rows> = rows.into_iter().collect::<Result<_, _>>()?;
    ended?;
    Ok(rows)
}

fn texts(rows: &[Row]) -> Result<Rows, Error> {
    let text = |row: &Row| {
        (0..row.len())
            .map(|column| row.try_get::<_, Option<String>>(column))
            .collect::<Result<Vec<_>, _>>()
    };
    let rows: Vec<_> = rows.iter().map(text).collect::<Result<_, _>>()?;
    Ok(Rows {
        changed: rows.len() as u64,
        rows,
    })
}
