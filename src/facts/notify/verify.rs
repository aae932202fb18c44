//! Verifies that notifications report every change: reads the trigger coverage, and sends a probe
//! notification over a connection that facts are read on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::super::trigger_coverage::{self, TableCoverage, WatchedQuery};
use crate::clock;
use crate::database::{Database, DatabaseError};
use crate::fault::Fault;

/// How long reading the coverage may take.
pub(super) const COVERAGE: Duration = Duration::from_secs(5);

/// How long the probe may take to arrive.
pub(super) const ARRIVAL: Duration = Duration::from_secs(2);

/// The prefix of a probe. No resource type has such a name.
pub(super) const PROBE: &str = "+foregate ";

/// Why it is not known that every change is reported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CoverageError {
    /// There is no connection that could receive a notification.
    NotConnected(Fault),
    /// The database cannot be asked.
    Database(DatabaseError),
    /// The database cannot send notifications: it is a standby, or refuses.
    NotSent(DatabaseError),
    /// The probe did not arrive.
    NotReceived,
    /// These tables or queries are not covered.
    NotCovered(Vec<TableCoverage>),
}

impl CoverageError {
    /// Whether it only means that the database could not be asked now.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Database(error) => match error {
                DatabaseError::Away | DatabaseError::Deadline | DatabaseError::Busy => true,
                DatabaseError::Refused(_) => false,
            },
            Self::NotConnected(fault) => !fault.is_lasting(),
            Self::NotSent(_) | Self::NotReceived | Self::NotCovered(_) => false,
        }
    }
}

impl fmt::Display for CoverageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected(fault) => write!(f, "the database cannot be used: {fault}"),
            Self::Database(error) => write!(f, "the database cannot be asked: {error}"),
            Self::NotSent(error) => write!(
                f,
                "`database.url` cannot send notifications, such as on a standby: {error}"
            ),
            Self::NotReceived => f.write_str(
                "notifications sent on `database.url` do not arrive on `database.notify_url`: they are different databases, or the second is behind a pooler",
            ),
            Self::NotCovered(tables) => {
                for (index, table) in tables.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{table}")?;
                }
                f.write_str(" (deploy/sql/notify.sql)")
            }
        }
    }
}

/// A payload that only this process knows.
pub(super) fn probe() -> String {
    format!("{PROBE}{}", Uuid::now_v7())
}

/// Reads the coverage and sends the probe.
pub(super) async fn verify(
    queries: Arc<[WatchedQuery]>,
    database: Database,
    probe: String,
) -> Result<Vec<TableCoverage>, CoverageError> {
    let statements = queries
        .iter()
        .map(|query| (query.sql.clone(), query.id))
        .collect();
    let deadline = clock::now() + COVERAGE;
    let read_sets = database
        .read_sets(statements, deadline)
        .await
        .map_err(CoverageError::Database)?;
    database
        .notify(&probe, deadline)
        .await
        .map_err(|error| match error {
            DatabaseError::Refused(_) => CoverageError::NotSent(error),
            DatabaseError::Away | DatabaseError::Deadline | DatabaseError::Busy => {
                CoverageError::Database(error)
            }
        })?;
    Ok(trigger_coverage::coverage(&queries, &read_sets))
}
