//! What was meant: the configuration with real types, in which nothing invalid can be written down.
//!
//! Decides: nothing; these are values. Trusts: `check`, the only module that makes them. Not here: how they are written in YAML
//! (`file`), and what the gateway builds from them (`snapshot`).

pub mod admin;
pub mod condition;
pub mod endpoint;
pub mod in_force;
pub mod layers;
pub mod listen;
pub mod methods;
pub mod outage;
pub mod path;
pub mod rate;
pub mod relations;
pub mod resources;
pub mod rest;
pub mod revocations;
pub mod roles;
pub mod route;
pub mod router;
pub mod sessions;
pub mod side_url;
pub mod sign_in;
pub mod spelling;
pub mod sql_template;
pub mod storage;
pub mod tokens;
pub mod upstream;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::admin::Admin;
use crate::policy::listen::Connections;
use crate::policy::listen::Cors;
use crate::policy::listen::Listen;
use crate::policy::listen::TrustedProxies;
use crate::policy::resources::Facts;
use crate::policy::resources::ResourceKind;
use crate::policy::resources::StaticFacts;
use crate::policy::revocations::Revocations;
use crate::policy::roles::Roles;
use crate::policy::route::Route;
use crate::policy::sessions::Sessions;
use crate::policy::sign_in::SignIn;
use crate::policy::sign_in::Supabase;
use crate::policy::storage::Database;
use crate::policy::storage::StoreChoice;
use crate::policy::tokens::TokenIssuer;
use crate::policy::upstream::Upstream;
use crate::secrets::MasterKey;

/// The whole configuration, checked.
#[derive(Debug)]
pub struct Config {
    /// Whether development helpers (`token`, `serve: panic`) may be used.
    pub environment: Environment,
    /// The gateway's own secrets, from which a key is derived for each purpose. The first seals and signs, all open.
    pub keys: Vec<MasterKey>,
    /// Where replicas share what they know.
    pub store: StoreChoice,
    /// Where facts are read from.
    pub database: Option<Database>,
    /// What is asked about callers.
    pub facts: Facts,
    /// The kinds of things that somebody owns; routes refer to them by index.
    pub resources: Vec<ResourceKind>,
    /// Facts that are written down in the configuration.
    pub static_facts: Arc<StaticFacts>,
    /// How long a verdict may take, from the complete head. Default 50 ms.
    pub budget: Duration,
    /// Who signs users in; `None` if nobody does through this gateway.
    pub identity: Option<Arc<Supabase>>,
    /// The sign-in routes; `None` if nobody signs users in.
    pub sign_in: Option<SignIn>,
    /// Worker threads, each with its own runtime and upstream pools. Default: the number of cores.
    pub workers: NonZeroUsize,
    /// Where requests come in; at least one.
    pub listen: Vec<Listen>,
    /// The names this gateway answers to, lower case and without port; empty means any.
    pub hosts: Vec<String>,
    /// Metrics and health, and what operators may do.
    pub admin: Admin,
    /// Whose `X-Forwarded-For` is believed. Default: nobody's.
    pub trusted_proxies: TrustedProxies,
    /// Protocol limits of every listener.
    pub connections: Connections,
    /// How long running requests may take to finish after SIGTERM.
    pub drain: Duration,
    /// Who issues the tokens that prove a user.
    pub tokens: Vec<TokenIssuer>,
    /// How many verified tokens are remembered.
    pub token_cache: NonZeroUsize,
    /// The list of what is revoked.
    pub revocations: Revocations,
    /// Sessions in a cookie, and how many sessions a user may have.
    pub sessions: Sessions,
    /// Where roles come from, and what they grant.
    pub roles: Roles,
    /// Named groups of servers; routes refer to them by index.
    pub upstreams: Vec<Upstream>,
    /// Cross-origin rules; absent means that no origin is allowed.
    pub cors: Option<Cors>,
    /// The routes, in the order they were written.
    pub routes: Vec<Route>,
}

/// Which installation this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Real users.
    Production,
    /// A developer's machine: `token` and `serve: panic` work.
    Development,
}
