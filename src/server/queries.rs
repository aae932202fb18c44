//! Checks the queries of a configuration against the database, and records the result in the
//! process. A gateway that starts while the database is away repeats the check until the queries
//! fit.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::sleep;

use crate::breaker::Outage;
use crate::config::{Problem, Problems};
use crate::facts::schema::{self, Difference, QueryStatus};
use crate::gateway::process::Process;

/// How often the check is tried again while the database is unreachable.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Upper bound of the growing pause before the database is asked again about queries that do not
/// fit it: a migration may add what is missing at any time.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The differences as problems of the configuration file, whose name is `file`; `None` if there are
/// none.
pub(crate) fn problems(file: &str, differences: Vec<Difference>) -> Option<Problems> {
    let problems = differences.into_iter().map(|difference| {
        let Difference {
            key,
            line,
            column,
            message,
            instead,
        } = difference;
        Problem::at(file, line, column, &key, message, instead)
    });
    Problems::all(problems.collect())
}

/// Checks the queries as soon as the database is reachable, and repeats the check until they fit.
/// Each set of problems is logged once.
///
/// The check covers the configuration in force. A reload checks its own configuration, and its
/// result counts, too.
pub(super) async fn check_later(file: String, process: Weak<Process>) {
    let mut pause = RETRY_PAUSE;
    let mut logged = None;
    loop {
        sleep(pause).await;
        let Some(process) = process.upgrade() else {
            return;
        };
        let Some(database) = process.database() else {
            return;
        };
        if process.queries() == QueryStatus::Fit {
            return;
        }
        if database.outage() != Outage::Reachable {
            pause = RETRY_PAUSE;
            continue;
        }
        pause = (2 * pause).min(LONGEST_PAUSE);
        let Ok(differences) = schema::check(process.snapshot().config(), database).await else {
            continue;
        };
        match problems(&file, differences) {
            None => {
                process.found_queries(QueryStatus::Fit);
                return tracing::info!("the queries fit the database");
            }
            Some(problems) => {
                process.found_queries(QueryStatus::Unfit);
                let problems = problems.to_string();
                if logged.as_ref() != Some(&problems) {
                    tracing::error!(
                        problems,
                        "the queries of the configuration do not fit the database; requests that need their facts are refused"
                    );
                }
                logged = Some(problems);
            }
        }
    }
}
