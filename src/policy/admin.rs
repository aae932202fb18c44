//! The admin listener, and what operators may do there.
//!
//! Decides: nothing; these are values. Trusts: `config::check`, which makes them. Not here: answering them (`admin`).

use std::net::SocketAddr;

/// The admin listener: `/metrics`, `/livez`, `/readyz`, and what operators may do; clear text.
#[derive(Debug)]
pub struct Admin {
    /// Default `127.0.0.1:9901`.
    pub address: SocketAddr,
    /// Names under which operators may call it, besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Who may change things. Nobody by default.
    pub operators: Vec<Operator>,
}

/// Somebody who may change things.
#[derive(Clone, Debug)]
pub struct Operator {
    /// As the log says it.
    pub name: String,
    /// SHA-256 of the token that proves it.
    pub token_sha256: [u8; 32],
}
