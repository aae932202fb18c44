//! Settings of the admin listener, and its operators.

use std::net::SocketAddr;

/// The admin listener: `/metrics`, `/livez`, `/readyz`, and operators' requests, in clear text.
#[derive(Debug)]
pub struct Admin {
    /// Default `127.0.0.1:9901`.
    pub address: SocketAddr,
    /// Host names that operators may use, besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Who may make changes. Default: no one.
    pub operators: Vec<Operator>,
}

/// A person or program that may make changes.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The name in the log.
    pub name: String,
    /// SHA-256 of the operator's token.
    pub token_sha256: [u8; 32],
}
