//! Inspecting statements without executing them, each time on a connection of its own that is
//! thrown away: preparing a statement leaves a name on the connection.

use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::Client;

use super::fault::of_connecting;
use super::pool::{LINGER, Pool};
use super::read_set::{self, ReadSet};
use super::statement::{DatabaseError, Description};
use super::transaction::meaning;
use crate::policy::resources::ParamType;

impl Pool {
    /// The columns of each statement, or the database's message if it refuses the statement, or
    /// would refuse to execute it.
    pub(super) async fn describe(
        &self,
        statements: &[(Arc<str>, ParamType)],
        deadline: Instant,
    ) -> Result<Vec<Result<Description, String>>, DatabaseError> {
        let client = self.own_connection(deadline).await?;
        let mut descriptions = Vec::with_capacity(statements.len());
        for (sql, id) in statements {
            let description = describe_one(&client, sql, *id, deadline).await?;
            descriptions.push(match description {
                Ok(description) => match read_set::permits(&client, sql, *id, deadline).await? {
                    Ok(()) => Ok(description),
                    Err(refusal) => Err(refusal),
                },
                Err(refusal) => Err(refusal),
            });
        }
        Ok(descriptions)
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

/// In a transaction of its own: behind a pooler in transaction mode, a prepared statement lives
/// only as long as that.
async fn describe_one(
    client: &Client,
    sql: &str,
    id: ParamType,
    deadline: Instant,
) -> Result<Result<Description, String>, DatabaseError> {
    client
        .batch_execute(&read_set::begin(deadline))
        .await
        .map_err(|_| DatabaseError::Away)?;
    client.clear_type_cache();
    let description = match client.prepare_typed(sql, &[id.sql()]).await {
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
            // A timeout or an outage says nothing about the statement.
            (failure, _) => return Err(failure),
        },
    };
    client
        .batch_execute("rollback")
        .await
        .map_err(|_| DatabaseError::Away)?;
    Ok(description)
}
