//! A route: which requests match it, who may use it, and where they go. `router` selects the route
//! of a request.

use std::time::Duration;

use hyper::Method;

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
    /// The label in metrics and logs. Default: methods and path.
    pub name: String,
    /// Hosts this route is limited to; empty means every host.
    pub hosts: Vec<String>,
    /// The path patterns, at least one.
    pub paths: Vec<Pattern>,
    /// The methods; GET adds HEAD. All routable methods if the route map lists none.
    pub methods: Methods,
    /// Who may use the route.
    pub access: Access,
    /// Where a permitted request goes. `None` only for `access: deny`.
    pub target: Option<Target>,
    /// Whether Supabase's anonymous users count as users here.
    pub anonymous: bool,
    /// Applications of third parties, by the claim `client_id`, whose tokens count as their users'
    /// own here. Default none.
    pub clients: Vec<String>,
    /// Where to look for a credential, in this order.
    pub credentials: Vec<CredentialSource>,
    /// Whether a public route forwards the credential unchanged.
    pub pass_credentials: bool,
    /// The required authenticator assurance level: 1 or 2.
    pub aal: u8,
    /// The action of the request, for `roles.grants`. Default: by method.
    pub action: Option<Action>,
    /// A condition that must hold besides the checks of the layers.
    pub when: Option<Condition>,
    /// The resources that a request names; the caller must have access to each.
    pub resources: Vec<Demand>,
    /// The resources that the body of a request names; the caller must have access to each.
    pub body_ids: Vec<BodyIds>,
    /// The ownership to learn from the response.
    pub learn: Option<Learn>,
    /// Whether `/x/` is the same as `/x`.
    pub trailing_slash: TrailingSlash,
    /// How the part of the path behind `{*rest}` is handled.
    pub tail: Tail,
    /// Longest request body in bytes. Default 1 MiB.
    pub body_limit: u64,
    /// How long a client may send no byte of a body. Default that of all connections.
    pub body_idle: Option<Duration>,
    /// Bytes a second that a client must send of a body; 0 for no limit. Default likewise.
    pub body_rate: Option<u64>,
    /// Time limits; `None` uses the upstream's limit or has none.
    pub timeouts: Timeouts,
    /// Whether a client may upgrade to WebSocket. Default: no.
    pub websocket: bool,
    /// Whether WebSocket messages are those of Supabase Realtime, whose tokens are verified.
    /// Default: no.
    pub realtime: bool,
    /// The format of refusals. Default `problem`.
    pub errors: ErrorsSetting,
    /// Whether a request needs a publishable key of Supabase; `None` does not check.
    pub apikey: Option<ApiKey>,
    /// The grants on tables behind PostgREST; `None` does not check.
    pub rest: Option<RestRules>,
    /// Layers that are waived here, including gateway-wide waivers.
    pub waived: Vec<Waiver>,
    /// The line of the route in the route map, for messages.
    pub line: u32,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone; no credential is read.
    Public,
    /// Anyone; a credential, if present, must be good.
    Optional,
    /// Authenticated users.
    User,
    /// No one: 404.
    Deny,
}

/// Whether a request needs one of the publishable keys of Supabase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKey {
    /// It does.
    Required,
    /// A request without a key passes; another key is refused.
    Optional,
}

/// Where a permitted request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Index into [`Config::upstreams`](crate::policy::Config::upstreams).
    Upstream(usize),
    /// An endpoint of the gateway itself.
    Serve(Serve),
}

/// The endpoints of the gateway itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// 200 `{"status":"healthy"}`.
    Health,
    /// The identity server's own paths.
    IdentityServer,
    /// A sign-in route. `identity` creates these; the route map cannot.
    SignIn(Endpoint),
    /// Panics, to show that a panic is a 500 and does not stop the gateway. Only in `environment:
    /// development`.
    Panic,
}

impl Serve {
    /// Whether the endpoint needs the caller's token, to act for the caller at the identity server.
    pub fn acts_for_caller(self) -> bool {
        matches!(self, Self::SignIn(_) | Self::IdentityServer)
    }
}

/// A place where a request may carry a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// `Authorization: Bearer`.
    Bearer,
    /// The cookie of a session.
    Cookie,
    /// A query key, written `query.NAME`.
    Query(String),
}

/// The meaning of a trailing slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailingSlash {
    /// `/x/` matches as `/x`; the slash is forwarded.
    Same,
    /// `/x/` is another path.
    Strict,
}

/// How the part of a path behind `{*rest}` is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Canonicalized like the rest of the path.
    Canonical,
    /// Forwarded byte for byte, for object stores: it may be encoded twice, hold `;`, empty
    /// segments or bytes that are not UTF-8. `%2F`, `%5C`, dot segments and control characters are
    /// still refused.
    Opaque,
}

/// Time limits of a route.
#[derive(Clone, Debug, Default)]
pub struct Timeouts {
    /// Until the head of the response.
    pub first_byte: Option<Duration>,
    /// Between two parts of the response body.
    pub stream_idle: Option<Duration>,
    /// For the whole exchange.
    pub total: Option<Duration>,
}

impl Route {
    /// Whether a request to this route may name resources.
    pub fn names_resources(&self) -> bool {
        !self.resources.is_empty() || !self.body_ids.is_empty()
    }

    /// Whether a request needs a publishable key; `None` where keys are not checked. Behind `rest`
    /// and `realtime` are parts of Supabase, some of which take a key for a user's token.
    pub fn key_demand(&self) -> Option<ApiKey> {
        let is_supabase = self.rest.is_some() || self.realtime;
        self.apikey
            .or_else(|| is_supabase.then_some(ApiKey::Optional))
    }

    /// Whether the route reads this query key as a credential.
    pub fn reads_query(&self, name: &str) -> bool {
        self.credentials
            .iter()
            .any(|source| matches!(source, CredentialSource::Query(key) if key == name))
    }

    /// The action of a request by this method: the route's own, or else the method's.
    pub fn action_of(&self, method: &Method) -> &str {
        match &self.action {
            Some(action) => action.as_str(),
            None => Action::of_method(method),
        }
    }

    /// How the route waives a layer at this time, if it does.
    pub fn waived(&self, layer: LayerName, now: i64) -> Option<WaivedMode> {
        self.waived
            .iter()
            .find(|waiver| waiver.layer == layer && waiver.until > now)
            .map(|waiver| waiver.mode)
    }
}
