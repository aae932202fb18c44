//! Where replicas share state, and where facts are read from.
//!
//! Decides: nothing; these are values. Trusts: `config::check`, which makes them. Not here: connections (`store`, `database`).

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::secrets::secret::Secret;

/// Where replicas share what they know.
#[derive(Debug)]
pub enum StoreChoice {
    /// Nowhere: one replica, and its memory.
    Memory,
    /// In Redis. There is at least one of [`Config::keys`].
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
    /// The ACL user; without one, Redis takes the password for its user `default`.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The number of the database.
    pub database: u8,
    /// How long a command on one record may take. Default 100 ms; what reads or writes many may take ten times as long.
    pub timeout: Duration,
    /// How long a connection may take to be made. Default 1 s.
    pub connect_timeout: Duration,
    /// What the names of records begin with. Default `foregate`.
    pub prefix: String,
}

impl Redis {
    /// Where it is, without user and password.
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
    /// What the server's certificate must lead to; `None` is the system's root certificates.
    pub roots: Option<Arc<rustls::RootCertStore>>,
}

/// The operator's PostgreSQL.
#[derive(Debug)]
pub struct Database {
    /// Where statements go; a pooler in transaction mode will do.
    pub server: DatabaseServer,
    /// A direct connection to the same database, where notifications are listened for.
    pub notify: Option<DatabaseServer>,
    /// How many statements run at once. Default 8.
    pub pool: NonZeroUsize,
    /// How long a connection may take to be made. Default 2 s.
    pub connect_timeout: Duration,
}

/// Where a PostgreSQL server is, and who we are there.
#[derive(Debug)]
pub struct DatabaseServer {
    /// Whose certificate is checked; `None` for `sslmode=disable`.
    pub tls: Option<StoreTls>,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port, 5432 by default.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The password.
    pub password: Option<Secret>,
    /// The name of the database.
    pub database: String,
}

impl DatabaseServer {
    /// Where it is, without user and password.
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
