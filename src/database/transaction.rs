//! One transaction in one round trip, and what the server's errors mean.

use std::time::Duration;

use futures_util::future::{join_all, join3};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::statement::{Access, DatabaseError, Statement};
use super::value::Rows;

/// Runs all statements in one transaction, each of which the server ends at `limit`. Everything is
/// written before the first answer is read.
pub(super) async fn run(
    client: &Client,
    access: Access,
    statements: &[Statement],
    limit: Duration,
) -> Result<Vec<Rows>, Error> {
    let limit = limit.as_millis().max(1);
    let mode = match access {
        // All statements see one snapshot.
        Access::Read => "isolation level repeatable read, read only",
        Access::Write => "read write",
    };
    let begin = format!("begin {mode}; set local statement_timeout = {limit}");
    let params: Vec<Vec<(&(dyn ToSql + Sync), Type)>> = statements
        .iter()
        .map(|statement| {
            let params = statement.params.iter();
            params
                .map(|param| (param as &(dyn ToSql + Sync), param.kind()))
                .collect()
        })
        .collect();
    let queries = statements
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
        join_all(queries),
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

/// What an error of the server or of its connection means.
pub(super) fn meaning(error: &Error) -> DatabaseError {
    match error.code() {
        // `statement_timeout` or `lock_timeout` ended it.
        Some(code) if matches!(code.code(), "57014" | "55P03") => DatabaseError::Deadline,
        // Classes 57P, 53 and 08: the server shuts down, starts up or has no connection left, or a
        // pooler lost it.
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
