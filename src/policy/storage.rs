//! Settings of the store that replicas share, and of the database of facts.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::secrets::secret::Secret;

/// Where replicas share state.
#[derive(Debug)]
pub enum StoreChoice {
    /// Not shared: a single replica with its memory.
    Memory,
    /// In Redis. There is at least one of [`Config::keys`](crate::policy::Config::keys).
    Redis(Redis),
}

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    /// TLS, for `rediss://`.
    pub tls: Option<StoreTls>,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port, 6379 by default.
    pub port: u16,
    /// The ACL user; without one, Redis uses the password for its user `default`.
    pub user: Option<String>,
    /// The password, for `AUTH`.
    pub password: Option<Secret>,
    /// The number of the database.
    pub database: u8,
    /// Time limit of a command on one record. Default 100 ms; commands on many records get ten
    /// times as long.
    pub timeout: Duration,
    /// Time limit of connecting. Default 1 s.
    pub connect_timeout: Duration,
    /// The prefix of the names of records. Default `foregate`.
    pub prefix: String,
}

impl Redis {
    /// The URL without user and password.
    pub fn shown(&self) -> String {
        let scheme = if self.tls.is_some() {
            "rediss"
        } else {
            "redis"
        };
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        format!("{scheme}://{host}:{}/{}", self.port, self.database)
    }
}

/// TLS to the store.
#[derive(Debug)]
pub struct StoreTls {
    /// The trusted roots of the server's certificate; `None` uses the system's root certificates.
    pub roots: Option<Arc<rustls::RootCertStore>>,
}

/// The operator's PostgreSQL.
#[derive(Debug)]
pub struct Database {
    /// The server for statements; a pooler in transaction mode is sufficient.
    pub server: DatabaseServer,
    /// A direct connection to the same database, for `LISTEN`.
    pub notify: Option<DatabaseServer>,
    /// How many statements run at once. Default 8.
    pub pool: NonZeroUsize,
    /// What one caller may use of them.
    pub caller_share: CallerShare,
    /// Time limit of connecting. Default 2 s.
    pub connect_timeout: Duration,
    /// Time limit of a statement, from when it has a connection. Default 1 s. A request does not
    /// wait longer than its budget, but only a statement that exceeds this limit counts as a
    /// failure of the database.
    pub statement_timeout: Duration,
}

/// What one caller may use of the database at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CallerShare {
    /// Lookups that run. Default: a quarter of the pool, at least one.
    pub running: NonZeroUsize,
    /// Requests that wait for one of these to end. Default 32.
    pub waiting: usize,
}

/// A PostgreSQL server, and the role that the gateway has there.
#[derive(Debug)]
pub struct DatabaseServer {
    /// TLS with a verified certificate; `None` for `sslmode=disable`.
    pub tls: Option<StoreTls>,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port, 5432 by default.
    pub port: u16,
    /// The role to connect as.
    pub user: String,
    /// The password of the role.
    pub password: Option<Secret>,
    /// The name of the database.
    pub database: String,
}

impl DatabaseServer {
    /// The URL without user and password.
    pub fn shown(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let tls = if self.tls.is_some() {
            ""
        } else {
            " without TLS"
        };
        format!("postgres://{host}:{}/{}{tls}", self.port, self.database)
    }
}
