//! A route: which requests it takes, who may come, and where they go.
//!
//! Decides: nothing; these are values. Trusts: `config::check`, which makes them. Not here: which route a request belongs to (`router`).

use std::time::Duration;

use crate::denial::format::ErrorsSetting;
use crate::policy::condition::Condition;
use crate::policy::endpoint::Endpoint;
use crate::policy::layers::{LayerName, WaivedMode, Waiver};
use crate::policy::methods::Methods;
use crate::policy::path::Pattern;
use crate::policy::resources::{BodyIds, Demand, Learn};
use crate::policy::rest::RestRules;
use crate::policy::roles::Action;

/// One route.
#[derive(Debug)]
pub struct Route {
    /// Metric label. Default: methods and path.
    pub name: String,
    /// Hosts this route is limited to; empty means every host.
    pub hosts: Vec<String>,
    /// One or more patterns.
    pub paths: Vec<Pattern>,
    /// Methods; HEAD is added wherever GET is. All standard methods if none were written.
    pub methods: Methods,
    /// Who may come.
    pub access: Access,
    /// Where a permitted request goes. `None` only for `access: deny`.
    pub target: Option<Target>,
    /// Whether Supabase's anonymous users count as users here.
    pub anonymous: bool,
    /// Where a credential is looked for, in this order.
    pub credentials: Vec<CredentialSource>,
    /// Forward the credential of a public route untouched.
    pub pass_credentials: bool,
    /// The least authenticator assurance level: 1 or 2.
    pub aal: u8,
    /// What the request does, for `roles.grants`. Default: by method.
    pub action: Option<Action>,
    /// What must hold besides what the layers ask.
    pub when: Option<Condition>,
    /// The things it touches, each of which the caller must be allowed to.
    pub resources: Vec<Demand>,
    /// The things its body names, each of which the caller must be allowed to touch.
    pub body_ids: Vec<BodyIds>,
    /// What its answer teaches.
    pub learn: Option<Learn>,
    /// Whether `/x/` is the same as `/x`.
    pub trailing_slash: TrailingSlash,
    /// How the part behind `{*rest}` is read.
    pub tail: Tail,
    /// Longest request body in bytes. Default 1 MiB.
    pub body_limit: u64,
    /// Time limits; `None` takes the upstream's or has no limit.
    pub timeouts: Timeouts,
    /// Whether a client may change the connection to WebSocket. Default: no.
    pub websocket: bool,
    /// Whether messages of a WebSocket are those of Supabase Realtime, and the tokens in them are judged. Default: no.
    pub realtime: bool,
    /// How refusals are written. Default `problem`.
    pub errors: ErrorsSetting,
    /// Whether a publishable key of Supabase must come with a request; `None` does not look.
    pub apikey: Option<ApiKey>,
    /// What is granted of a PostgREST behind the route; `None` does not look.
    pub rest: Option<RestRules>,
    /// Layers that do not enforce here, gateway-wide settings already merged in.
    pub waived: Vec<Waiver>,
    /// The line the route starts at, for messages.
    pub line: u32,
}

/// Who may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody; no credential is read.
    Public,
    /// Anybody; a credential, if there is one, must be good.
    Optional,
    /// A verified user.
    User,
    /// Nobody: 404.
    Deny,
}

/// Whether one of the publishable keys of Supabase must come with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKey {
    /// One of them must.
    Required,
    /// One of them or none.
    Optional,
}

/// Where a permitted request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Index into [`Config::upstreams`].
    Upstream(usize),
    /// Answered here.
    Serve(Serve),
}

/// What this process can answer itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// 200 `{"status":"healthy"}`.
    Health,
    /// The identity server's own paths.
    IdentityServer,
    /// A sign-in route; made for `identity`, and not to be written.
    SignIn(Endpoint),
    /// Panics, to prove that a panic is a 500 and no outage. Only in `environment: development`.
    Panic,
}

impl Serve {
    /// Whether what answers needs the caller's token, to act for them at the identity server.
    pub fn acts_for_caller(self) -> bool {
        matches!(self, Self::SignIn(_) | Self::IdentityServer)
    }
}

/// One place a credential may be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// `Authorization: Bearer`.
    Bearer,
    /// The cookie of a session.
    Cookie,
    /// A query key, written `query.NAME`.
    Query(String),
}

/// What a trailing slash means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailingSlash {
    /// `/x/` is judged as `/x`; the slash is forwarded as it came.
    Same,
    /// `/x/` is another path.
    Strict,
}

/// How the part of a path behind `{*rest}` is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Like the rest of the path.
    Canonical,
    /// Forwarded byte for byte, for object stores: it may be encoded twice, hold `;`, empty segments or bytes that are not UTF-8.
    /// `%2F`, `%5C`, dot segments and control characters are still refused.
    Opaque,
}

/// Time limits of a route.
#[derive(Clone, Debug, Default)]
pub struct Timeouts {
    /// Until the head of the answer.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the answer's body.
    pub stream_idle: Option<Duration>,
    /// The whole exchange.
    pub total: Option<Duration>,
}

impl Route {
    /// Whether a request here may name things that somebody owns.
    pub fn names_resources(&self) -> bool {
        !self.resources.is_empty() || !self.body_ids.is_empty()
    }

    /// Whether a query key is a credential here.
    pub fn reads_query(&self, name: &str) -> bool {
        self.credentials
            .iter()
            .any(|source| matches!(source, CredentialSource::Query(key) if key == name))
    }

    /// How a layer is waived here at this time, if it is.
    pub fn waived(&self, layer: LayerName, now: i64) -> Option<WaivedMode> {
        self.waived
            .iter()
            .find(|waiver| waiver.layer == layer && waiver.until > now)
            .map(|waiver| waiver.mode)
    }
}
