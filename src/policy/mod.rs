//! The policy: the checked configuration, in types that cannot represent an invalid one.
//!
//! Decides:  the meaning of routes, paths, roles, conditions and limits; most of it is plain
//!           values.
//! Trusts:   `config`, the only module that makes these values.
//! Not here: their YAML form (`config::file`), and what the gateway builds from them
//!           (`auth::snapshot`).

pub mod admin;
pub mod condition;
pub mod endpoint;
pub mod in_force;
pub mod layers;
pub mod listen;
pub mod methods;
pub mod outage;
pub mod outbound_url;
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
use crate::policy::listen::{Connections, Cors, Listen, TrustedProxies};
use crate::policy::resources::{Facts, ResourceType, StaticFacts};
use crate::policy::revocations::Revocations;
use crate::policy::roles::Roles;
use crate::policy::route::Route;
use crate::policy::sessions::Sessions;
use crate::policy::sign_in::{SignIn, Supabase};
use crate::policy::storage::{Database, StoreChoice};
use crate::policy::tokens::TokenIssuer;
use crate::policy::upstream::Upstream;
use crate::secrets::MasterKey;

/// The whole configuration, checked.
#[derive(Debug)]
pub struct Config {
    /// Whether development helpers (`token`, `serve: panic`) may be used.
    pub environment: Environment,
    /// The gateway's own secrets, from which a key is derived for each purpose. The first encrypts
    /// and signs; all of them decrypt and verify.
    pub keys: Vec<MasterKey>,
    /// Where replicas share state.
    pub store: StoreChoice,
    /// Where facts are read from.
    pub database: Option<Database>,
    /// The queries about callers.
    pub facts: Facts,
    /// The resource types; routes refer to them by index.
    pub resources: Vec<ResourceType>,
    /// Facts that the configuration states itself.
    pub static_facts: Arc<StaticFacts>,
    /// How long authorizing a request may take, from the complete head. Default 50 ms.
    pub budget: Duration,
    /// The identity server; `None` if users do not sign in through this gateway.
    pub identity: Option<Arc<Supabase>>,
    /// The sign-in routes; `None` without an identity server.
    pub sign_in: Option<SignIn>,
    /// Worker threads, each with its own runtime and upstream pools. Default: the number of cores.
    pub workers: NonZeroUsize,
    /// The listeners; at least one.
    pub listen: Vec<Listen>,
    /// The host names that this gateway serves, lower case and without port; empty means any.
    pub hosts: Vec<String>,
    /// The admin listener.
    pub admin: Admin,
    /// The peers whose `X-Forwarded-For` is trusted. Default: none.
    pub trusted_proxies: TrustedProxies,
    /// Protocol limits of every listener.
    pub connections: Arc<Connections>,
    /// How long running requests may take to finish after SIGTERM.
    pub drain: Duration,
    /// How long the client of a stream of events, or of a WebSocket, may be told nothing before it
    /// is sent a comment or a ping. `None`: for ever.
    pub stream_keepalive: Option<Duration>,
    /// The issuers of tokens that prove a user.
    pub tokens: Vec<TokenIssuer>,
    /// How many verified tokens are cached.
    pub token_cache: NonZeroUsize,
    /// The list of revocations.
    pub revocations: Revocations,
    /// Sessions in a cookie, and how many sessions a user may have.
    pub sessions: Sessions,
    /// Where roles come from, and what they grant.
    pub roles: Roles,
    /// Named groups of servers; routes refer to them by index.
    pub upstreams: Vec<Upstream>,
    /// Cross-origin rules; without them no origin is allowed.
    pub cors: Option<Cors>,
    /// The routes, in the order of the route map.
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
