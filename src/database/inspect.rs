//! Inspecting statements without executing them, each time on a connection of its own that is
//! thrown away: preparing a statement leaves a name on the connection.

use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use super::fault::of_connecting;
use super::pool::{LINGER, Pool};
use super::read_set::{self, ReadSet};
use super::statement::{DatabaseError, Description};
use super::transaction::meaning;
use crate::policy::resources::ParamType;

/// The SQLSTATE `insufficient_privilege`.
const FORBIDDEN: &str = "42501";

/// A statement to inspect.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The SQL text.
    pub sql: Arc<str>,
    /// The types of its parameters.
    pub params: Vec<ParamType>,
}

impl Pool {
    /// The columns of each statement, or the database's message if it refuses the statement, or
    /// would refuse to execute it.
    pub(super) async fn describe(
        &self,
        statements: &[Inspected],
        deadline: Instant,
    ) -> Result<Vec<Result<Description, String>>, DatabaseError> {
        let client = self.own_connection(deadline).await?;
        let mut descriptions = Vec::with_capacity(statements.len());
        for Inspected { sql, params } in statements {
            let description = describe_one(&client, sql, params, deadline).await?;
            descriptions.push(match description {
                Ok(description) => match read_set::permits(&client, sql, params, deadline).await? {
                    Ok(()) => Ok(description),
                    Err(refusal) => Err(refusal),
                },
                Err(refusal) => Err(refusal),
            });
        }
        Ok(descriptions)
    }

    /// For each statement the database's message if row-level security may hide rows of it from the
    /// role.
    pub(super) async fn row_security(
        &self,
        statements: &[Inspected],
        deadline: Instant,
    ) -> Result<Vec<Option<String>>, DatabaseError> {
        let client = self.own_connection(deadline).await?;
        // The server then refuses a statement that a policy would filter.
        let begin = format!(
            "{}; set local row_security = off",
            read_set::begin(deadline)
        );
        let mut filtered = Vec::with_capacity(statements.len());
        for Inspected { sql, params } in statements {
            let prepared = prepare_one(&client, &begin, sql, params).await?;
            filtered.push(match prepared {
                Err((code, message)) if code == FORBIDDEN => Some(message),
                // Whatever else is wrong with it is found when it is described.
                Ok(_) | Err(_) => None,
            });
        }
        Ok(filtered)
    }

    /// What each statement reads.
    pub(super) async fn read_sets(
        &self,
        statements: &[(Arc<str>, ParamType)],
        deadline: Instant,
    ) -> Result<Vec<ReadSet>, DatabaseError> {
        self.permits()?;
        let client = self.own_connection(deadline).await?;
        read_set::of(&client, statements, deadline)
            .await
            .map_err(|error| self.failure(&error))
    }

    async fn own_connection(&self, deadline: Instant) -> Result<Client, DatabaseError> {
        self.connector
            .connect_until(deadline + LINGER)
            .await
            .map_err(|error| self.unconnected(of_connecting(&error)))
    }
}

async fn describe_one(
    client: &Client,
    sql: &str,
    params: &[ParamType],
    deadline: Instant,
) -> Result<Result<Description, String>, DatabaseError> {
    let prepared = prepare_one(client, &read_set::begin(deadline), sql, params).await?;
    Ok(match prepared {
        Ok(statement) => Ok(Description {
            columns: statement
                .columns()
                .iter()
                .map(|column| (column.name().to_owned(), column.type_().name().to_owned()))
                .collect(),
        }),
        Err((code, message)) => Err(format!("{message} ({code})")),
    })
}

/// Prepares a statement; if the database refuses it, its SQLSTATE and message. In a transaction of
/// its own: behind a pooler in transaction mode, a prepared statement lives only as long as that.
async fn prepare_one(
    client: &Client,
    begin: &str,
    sql: &str,
    params: &[ParamType],
) -> Result<Result<Statement, (String, String)>, DatabaseError> {
    client
        .batch_execute(begin)
        .await
        .map_err(|_| DatabaseError::Away)?;
    client.clear_type_cache();
    let types: Vec<Type> = params.iter().map(|kind| kind.sql()).collect();
    let prepared = match client.prepare_typed(sql, &types).await {
        Ok(statement) => Ok(statement),
        Err(error) => match (meaning(&error), error.as_db_error()) {
            (DatabaseError::Refused(code), Some(refusal)) => {
                Err((code, refusal.message().to_owned()))
            }
            // A timeout or an outage says nothing about the statement.
            (failure, _) => return Err(failure),
        },
    };
    client
        .batch_execute("rollback")
        .await
        .map_err(|_| DatabaseError::Away)?;
    Ok(prepared)
}
