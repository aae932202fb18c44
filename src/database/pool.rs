//! The connection pool: a bounded number of connections, each with one transaction at a time.
//!
//! Transactions are not pipelined, because a statement that waits for a lock would delay all
//! statements behind it on the same connection.

#![allow(
    clippy::disallowed_types,
    reason = "the lock is held for a push or a pop on the background runtime, never across an await"
)]

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout, timeout_at};
use tokio_postgres::{Client, Error};

use super::connect::Connector;
use super::fault::of_connecting;
use super::metrics::DatabaseMetrics;
use super::statement::{Access, DatabaseError, Statement};
use super::transaction::{self, meaning};
use super::value::Rows;
use crate::breaker::{Breaker, Outage};
use crate::clock;
use crate::fault::{Backoff, Fault};
use crate::policy;
use crate::policy::storage::CallerShare;

/// The SQLSTATEs whose messages name a table, column or function, and no value: a missing
/// permission, and what does not exist.
const NAMES_ONLY: [&str; 4] = ["42501", "42P01", "42703", "42883"];

/// How long after a statement's time limit the server may take to say that it ended it. After that,
/// it does not answer. A choice.
const SILENCE: Duration = Duration::from_millis(250);

/// How much longer it may take before its connection is thrown away.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// The connections, and the circuit breaker in front of them.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) connector: Connector,
    pub(super) caller_share: CallerShare,
    connect_timeout: Duration,
    statement_timeout: Duration,
    idle: Mutex<Vec<Client>>,
    permits: Arc<Semaphore>,
    breaker: Breaker,
    /// Why the last connection could not be made; `None` after one that could.
    fault: ArcSwapOption<Fault>,
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
            caller_share: config.caller_share,
            connect_timeout: config.connect_timeout,
            statement_timeout: config.statement_timeout,
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(config.pool.get())),
            breaker: Breaker::new(clock::now()),
            fault: ArcSwapOption::empty(),
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

    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.load_full().map(|fault| Fault::clone(&fault))
    }

    /// Notes why no connection could be made. Whatever the server said, it is away for this
    /// gateway: a wrong password is no answer to a statement.
    pub(super) fn unconnected(&self, fault: Fault) -> DatabaseError {
        self.fault.store(Some(Arc::new(fault)));
        DatabaseError::Away
    }

    /// Runs one transaction on a connection of the pool. Only the wait for the connection ends at
    /// `deadline`, which is the caller's: connecting and running have time limits of their own,
    /// since only those say something about the database.
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
        self.note(outcome.as_ref().err(), now);
        outcome
    }

    /// Tells the breaker how a transaction ended.
    fn note(&self, error: Option<&DatabaseError>, now: Instant) {
        match error {
            None | Some(DatabaseError::Refused(_)) => self.breaker.answered(now),
            // It never reached the database, or the database ended it at the time limit: it
            // answers, and one caller's slow statements must not refuse everybody's.
            Some(DatabaseError::Busy | DatabaseError::Deadline) => {}
            Some(DatabaseError::Away) => {
                if self.breaker.failed() {
                    self.opened.notify_one();
                    self.metrics.is_up(false);
                    let cause = self.fault().unwrap_or_else(Fault::silent);
                    tracing::error!(%cause, "the database does not answer; circuit breaker open");
                }
            }
        }
    }

    async fn attempt(
        self: &Arc<Self>,
        access: Access,
        statements: &Arc<[Statement]>,
        deadline: Instant,
    ) -> Result<Vec<Rows>, DatabaseError> {
        let permit = self.permits.clone().acquire_owned();
        let mut permit = timeout_at(deadline.into(), permit)
            .await
            .map_err(|_| DatabaseError::Busy)?
            .map_err(|_| DatabaseError::Away)?;
        // Only use shows that the server has closed an idle connection. Then the next one is taken,
        // and in the end a new one is made.
        loop {
            let (client, is_fresh) = match self.take() {
                Some(client) => (client, false),
                None => {
                    let client = timeout(self.connect_timeout, self.connector.connect(None))
                        .await
                        .map_err(|_| self.unconnected(Fault::silent()))?
                        .map_err(|error| self.unconnected(of_connecting(&error)))?;
                    self.fault.store(None);
                    (client, true)
                }
            };
            let limit = self.statement_timeout;
            // The limit is that of each statement.
            let count = u32::try_from(statements.len()).unwrap_or(u32::MAX);
            let all = limit.saturating_mul(count.max(1));
            let used = self
                .clone()
                .run_on(client, access, statements.clone(), limit);
            let mut call = Box::pin(async move { (used.await, permit) });
            let answer = timeout(all.saturating_add(SILENCE), &mut call).await;
            let Ok(((outcome, is_closed), returned)) = answer else {
                // The server should have ended the statement. It gets a little longer, so that the
                // connection can be used again.
                tokio::spawn(async move { timeout(LINGER, call).await.is_ok() });
                return Err(DatabaseError::Away);
            };
            permit = returned;
            match outcome {
                Ok(rows) => return Ok(rows),
                Err(error) if is_closed && !is_fresh && access == Access::Read => {
                    tracing::debug!(%error, "an idle database connection was closed");
                }
                Err(error) => return Err(self.failure(&error)),
            }
        }
    }

    /// Runs a transaction on this connection and puts the connection back. Also says whether the
    /// connection turned out to be closed.
    async fn run_on(
        self: Arc<Self>,
        client: Client,
        access: Access,
        statements: Arc<[Statement]>,
        limit: Duration,
    ) -> (Result<Vec<Rows>, Error>, bool) {
        let outcome = transaction::run(&client, access, &statements, limit).await;
        let is_closed = match &outcome {
            Ok(_) => client.is_closed(),
            // However the transaction ended, it must not stay open.
            Err(_) => client.is_closed() || client.batch_execute("rollback").await.is_err(),
        };
        if !is_closed {
            self.give_back(client);
        }
        (outcome, is_closed)
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

    pub(super) fn failure(&self, error: &Error) -> DatabaseError {
        let failure = meaning(error);
        if let DatabaseError::Refused(code) = &failure
            && self.metrics.may_log(clock::unix_now())
        {
            // Other messages may hold values of the statement.
            let names_only = NAMES_ONLY.contains(&code.as_str());
            let detail = error.as_db_error().filter(|_| names_only);
            tracing::error!(
                sqlstate = code,
                detail = detail.map(|error| error.message()),
                "the database refused a statement; `foregate check --connect` says which, and what to do"
            );
        }
        failure
    }

    /// Closes the breaker if the database answers now.
    ///
    /// # Errors
    ///
    /// Why it does not.
    async fn probe(&self) -> Result<(), Fault> {
        let probing = async {
            let client = self.connector.connect(None).await?;
            client.batch_execute("select 1").await?;
            Ok::<_, Error>(client)
        };
        let client = timeout(self.connect_timeout, probing)
            .await
            .map_err(|_| Fault::silent())
            .and_then(|client| client.map_err(|error| of_connecting(&error)))
            .inspect_err(|cause| {
                self.unconnected(cause.clone());
                if self.metrics.may_log(clock::unix_now()) {
                    tracing::warn!(%cause, "cannot connect to the database");
                }
            })?;
        self.fault.store(None);
        let was_open = self.breaker.close(clock::now());
        self.give_back(client);
        if was_open {
            self.metrics.is_up(true);
            tracing::info!("the database answers again");
        }
        Ok(())
    }
}

/// Probes an unreachable database until it answers, for as long as the pool exists.
pub(super) fn watch(pool: &Arc<Pool>) {
    let pool: Weak<Pool> = Arc::downgrade(pool);
    tokio::spawn(async move {
        let mut backoff = Backoff::default();
        loop {
            let Some(pool) = pool.upgrade() else { return };
            if pool.breaker.is_open() {
                // Connections from before the outage may never answer.
                pool.idle
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clear();
                let Err(fault) = pool.probe().await else {
                    backoff.reset();
                    continue;
                };
                drop(pool);
                sleep(backoff.pause(&fault)).await;
            } else {
                // Wakes up from time to time to notice that the pool was dropped.
                let _ = timeout(LINGER, pool.opened.notified()).await;
            }
        }
    });
}
