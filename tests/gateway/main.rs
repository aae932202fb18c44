//! End-to-end tests: the real program, real sockets, real certificates. The list of modules is the
//! test plan.
//!
//! A test's name is the sentence it proves. A test of a refusal proves that the origin stayed
//! silent. Cases run on HTTP/1.1 and HTTP/2 wherever both can carry them. Every answer is checked
//! by the harness itself (`support::answer`), every gateway has a folder, certificates, keys and
//! ports of its own, and nothing sleeps for luck.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]
#![allow(dead_code, reason = "the harness offers more than each module needs")]
#![allow(unreachable_pub, reason = "one word for what other modules may use")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the ban list is about the gateway; its doubles block, lock and measure as they please"
)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else it is, the test fails"
)]

mod admin;
mod apikeys;
mod auth_server;
mod browser;
mod causes;
mod cli;
mod clients;
mod clock;
mod conformance;
mod cors;
mod database;
mod descriptors;
mod dialects;
mod drain;
mod headers;
mod hostile;
mod identifiers;
mod identity;
mod keys;
mod learned;
mod lineage;
mod listen;
mod logs;
mod lookup_shares;
mod mirror;
mod notifications;
mod overload;
mod ownership;
mod passthrough;
mod path;
mod performance;
mod policy;
mod random;
mod real;
mod reasons;
mod refused_tokens;
mod reload;
mod rest;
mod revocation;
mod roles;
mod sessions;
mod shares;
mod sign_in;
mod smoke;
mod store;
mod streaming;
mod streams;
mod supabase;
mod support;
mod upstream;
mod velro;
mod when;
mod worlds;
