//! The sections of the route map: one file or folder each, with its keys, its checks and its tests.
//!
//! Decides: which keys exist, and which values and combinations make sense. Trusts: `wire`, for
//! values of the right type. Not here: the root of all sections (`file`), and the checked types
//! (`policy`).

pub(crate) mod admin;
pub(crate) mod connections;
pub(crate) mod cors;
pub(crate) mod database;
pub(crate) mod facts;
pub(crate) mod identity;
pub(crate) mod keys;
pub(crate) mod layers;
pub(crate) mod listen;
pub(crate) mod proxies;
pub(crate) mod revocations;
pub(crate) mod roles;
pub(crate) mod routes;
pub(crate) mod sessions;
pub(crate) mod store;
pub(crate) mod streams;
pub(crate) mod tokens;
pub(crate) mod upstreams;
