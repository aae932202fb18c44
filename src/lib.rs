//! Foregate, an auth gateway: the architecture map.
//!
//! ```text
//! listen ──► request ──► auth (the chain) ──► upstream | serve
//!   TLS        canonical     Permit or Denial      pool, stream
//!                                │
//!                                └──► one Record per request: log, metrics
//! ```
//!
//! Begin with [`gateway`]: it is the page that says what happens to a request. Then [`request`], which refuses everything ambiguous
//! before anybody judges; [`auth::chain`], the order of the layers; one layer, such as [`auth::roles`]; [`upstream`], which takes a
//! permit and nothing else; and [`denial`], the table of all refusals. What replicas share is behind [`store`], and what is answered while it
//! is away is one table, [`outage`]; what was revoked, and how every replica comes to know it, is in [`sessions`]. Whose a thing is, and how old
//! that knowledge may be, is in [`facts`], which asks the operator's [`database`].
//!
//! What is absent is worth knowing:
//!
//! - Only [`gateway`] knows the whole order of events; only [`auth::chain`] knows the order of layers.
//! - Nothing under [`auth`] reads a body, opens a socket, logs, counts or knows an HTTP status. A body that rules judge is read by
//!   [`request::body`], when the chain says so.
//! - Only [`denial`] knows the statuses of refusals. Only [`record`] writes the request's line.
//! - Only [`auth::performance`] asks for facts; the layers behind it look nothing up. What is remembered are facts, never verdicts.
//! - Only [`streams`] ends an answer that has begun for a reason of its own.
//! - [`sessions::replica`], the protocol of the list of revocations, has no input, output or clock: a model checker explores it.
//! - Only [`auth::chain`] can make a [`auth::Permit`]; only [`upstream`] and [`serve`], with [`identity`] behind it, use one up.
//! - Nothing behind [`request`] sees an uncanonical path (but a route's opaque tail) or a client's identity header.
//! - The wire structs of [`config`] are not used outside it.
//! - No `unsafe`. The time is asked for in [`clock`]; ids read it, too. Nothing mutable is global but the allocator, the panic hook and
//!   the log's subscriber.
//!
//! Ranked tenets: safe, then legible, then fast.

pub mod admin;
pub mod auth;
pub mod breaker;
pub mod budget;
pub mod cli;
pub mod clock;
pub mod config;
pub mod database;
pub mod denial;
pub mod facts;
pub mod gateway;
pub mod http_client;
mod json;
mod line;
pub mod listen;
pub mod log;
pub mod panics;
pub mod policy;
pub mod record;
pub mod request;
pub mod revocation;
pub mod secrets;
pub mod server;
pub mod sessions;
pub mod sign_in;
pub mod store;
pub mod streams;
pub mod tokens;
pub mod upstream;
mod weak_list;
