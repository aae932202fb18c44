//! Foregate, an auth gateway: the architecture map.
//!
//! ```text
//! listen ──► request ──► auth (the chain) ──► upstream | sign_in
//!   TLS        canonical     Permit or Denial      pool, stream
//!                                │
//!                                └──► one Record per request: log line, metrics
//! ```
//!
//! Begin with [`gateway`]: it is the page that says what happens to a request. Then [`request`],
//! which refuses everything ambiguous before any layer is asked; [`auth::chain`], the order of the
//! layers; one layer, such as [`auth::roles`]; [`upstream`], which takes a permit and nothing else;
//! and [`denial`], the table of all refusals. What the operator meant is in [`policy`]; [`config`]
//! makes it from YAML. What replicas share is behind [`store`]; what was revoked, and how every
//! replica learns of it, is in [`revocation`]; who owns a resource, and how old that knowledge may
//! be, is in [`facts`], which asks the operator's [`database`].
//!
//! # Floors
//!
//! A module imports only from rows below its own. `tests/floors.rs` reads this table and every
//! `use crate::`, and fails on an import that runs up or sideways.
//!
//! | modules | what they are |
//! |---|---|
//! | `main` | arguments in, exit status out |
//! | `cli` | the commands: run, demo, check, test, token, revoke, revocations |
//! | `server` | puts the process together: start, reload, query checks, drain |
//! | `admin`, `listen` | sockets and TLS; connections are driven here |
//! | `gateway` | what happens to a request; answers, metrics registry, connection state |
//! | `streams`, `config` | how live streams end; YAML to policy |
//! | `sign_in`, `upstream` | what a permit is spent on |
//! | `live` | what is open, and when it is authorized again |
//! | `auth` | layers, chain, permit; the snapshot that authorizes by one policy |
//! | `request` | one canonical request |
//! | `sessions`, `record` | sessions in cookies; the record of a request, its trail, its metrics |
//! | `tokens`, `facts` | proofs and attributes |
//! | `revocation`, `database` | the replicated list; PostgreSQL |
//! | `store`, `http_client` | Redis and memory; the gateway's own calls |
//! | `policy` | what the operator meant: routes, router, roles, resources, conditions, limits |
//! | `denial`, `secrets`, `log` | refusals; keys and digests; where log lines go |
//! | `breaker`, `budget`, `clock`, `fault`, `http1`, `json`, `line`, `metrics`, `network`, `panics`, `weak_list` | the ground |
//!
//! # What is absent
//!
//! - Only [`gateway`] knows the whole order of events; only [`auth::chain`] knows the order of
//!   layers.
//! - Nothing under [`auth`] reads a body, opens a socket, logs, counts or knows an HTTP status. A
//!   body that rules inspect is read by [`request::body`], when the chain says so.
//! - Only [`denial`] knows the statuses of refusals. Only [`record`] writes the request's line.
//! - Only [`auth::performance`] looks facts up; the layers behind it look nothing up. What is
//!   cached are facts, never verdicts.
//! - Only [`streams`] ends an answer that has begun for a reason of its own.
//! - [`revocation::replica`], the protocol of the list of revocations, has no input, output or
//!   clock: a model checker explores it.
//! - Only [`auth::chain`] can make a [`auth::Permit`]; only [`upstream`] and [`sign_in`] consume
//!   one.
//! - Nothing behind [`request`] sees an uncanonical path (but a route's opaque tail) or a client's
//!   identity header.
//! - No `unsafe`. The time is asked for in [`clock`]; ids read it, too. Nothing mutable is global
//!   but the allocator, the panic hook, the log's subscriber and the correction of the clock.
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | access | who may come to a route: `public`, `optional`, `user` or `deny` |
//! | action | what a request does to a resource: `read`, `write`, `delete` or the operator's own |
//! | authorize | to decide whether a request may go on; a condition is evaluated, a token verified |
//! | caller | the user that a request proved, or nobody |
//! | chain | the layers in their order |
//! | decision id | the id of a request, its `X-Request-Id` and `request_id` |
//! | denial | a refusal: one reason for the operator, one public code for the client |
//! | fact | what the database says of a caller or a resource; it has an age |
//! | failure matrix | what is answered while a dependency is away |
//! | invalidate | to make a cached fact stale because a write may have changed it |
//! | layer | one check of the chain |
//! | permit | proof that every layer let a request pass; forwarding consumes it |
//! | policy | the checked configuration |
//! | record | everything noted of one request; it becomes the log line and the metrics |
//! | relation | why a caller may act on a resource: owner, team, public or role |
//! | replica | one gateway process of several that share a store |
//! | resource | something that somebody owns, of a resource type (YAML: `kind`) |
//! | route map | the YAML that configures all of this |
//! | session | one sign-in of a user, over all its tokens |
//! | shadow | a layer decides and is recorded, but does not refuse |
//! | snapshot | what authorizes by the policy in force; a reload replaces it |
//! | store | what replicas share: Redis, or the memory of a single one |
//! | stream | an answer that lasts: WebSocket, server-sent events, gRPC, and any other after some seconds |
//! | upstream | a named group of servers behind the gateway |
//! | waiver | a layer in shadow or off, with an end and a reason |
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
pub mod fault;
pub mod gateway;
mod http1;
pub mod http_client;
mod json;
mod line;
pub mod listen;
mod live;
pub mod log;
mod metrics;
mod network;
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
