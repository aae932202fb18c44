//! A statement, and why there is no answer to one.

use std::sync::Arc;

use crate::database::value::Param;

/// Why a call returned no rows. An error never means that there are none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DatabaseError {
    /// There is no connection, it broke, the server is silent, or the circuit breaker is open. The
    /// statement may have been executed.
    Away,
    /// The server ended the statement at its time limit, or the caller stopped waiting, after which
    /// the statement may still be executed. Says nothing about the server.
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
pub(super) enum Access {
    Read,
    Write,
}
