//! What was written: the keys of the route map, one struct a mapping, one line a key.
//!
//! Decides: which keys exist, of what type each is, and what is said about keys that do nothing yet. Trusts: `wire` to read them.
//! Not here: whether values make sense, and defaults (`check`).
//!
//! `config/foregate.yaml` shows every key of this file, and a test holds the two together.

use std::time::Duration;

use crate::policy::rest::Embeds;

use super::macros::{wire, words};
use super::node::{Kind, Node, Text};
use super::problem::Report;
use super::units::{Date, Size};
use super::wire::{Decode, Field, Keys, List, Many, Named, Names, Value, wrong};
use crate::denial::format::ErrorsSetting;
use crate::policy::Environment;
use crate::policy::layers::WaivedMode;
use crate::policy::rate::Rate;
use crate::policy::resources::ParamType;
use crate::policy::route::{Access, ApiKey, Serve, Tail, TrailingSlash};
use crate::policy::sessions::SameSite;
use crate::policy::sign_in::ConfirmEmail;
use crate::policy::upstream::{Authorization, Protocol};

wire! {
    /// The whole file.
    struct File {
        environment: Environment,
        keys: List<Key>,
        workers: i128,
        listen: List<Listen>,
        hosts: List<Text>,
        admin: Admin,
        trusted_proxies: TrustedProxies,
        connections: Connections,
        drain: Duration,
        store: Store,
        database: Database,
        facts: Facts,
        resources: Named<Resource>,
        static_facts: StaticFacts,
        budget: Duration,
        identity: IdentityProvider,
        tokens: List<Issuer>,
        token_cache: i128,
        revocations: Revocations,
        sessions: Sessions,
        roles: Roles,
        upstreams: Named<Upstream>,
        cors: Cors,
        layers: Layers,
        defaults: Defaults,
        routes: List<Route>,
    }
    later [
        "assertion", "limits",
    ]

    /// A secret of the gateway's own.
    struct Key {
        id: Text,
        secret: Text,
        secret_file: Text,
    }

    /// Where replicas share what they know.
    struct Store {
        redis: Text,
        ca: Text,
        timeout: Duration,
        connect_timeout: Duration,
        prefix: Text,
    }

    /// The operator's PostgreSQL.
    struct Database {
        url: Text,
        notify_url: Text,
        ca: Text,
        pool: i128,
        connect_timeout: Duration,
    }

    /// Who signs users in.
    struct IdentityProvider {
        supabase: Supabase,
        deadlines: Deadlines,
        throttle: Throttle,
        profile: Profile,
    }

    /// What a user has in the database.
    struct Profile {
        insert: Text,
    }

    /// How long a request to sign in may take.
    struct Deadlines {
        login: Duration,
        register: Duration,
        other: Duration,
    }

    /// How often somebody may try.
    struct Throttle {
        login: AttemptLimits,
        register: AttemptLimits,
        refresh: AttemptLimits,
        reset: AttemptLimits,
        verify: AttemptLimits,
        everywhere: Rate,
        longest_delay: Duration,
        refusal_floor: Duration,
        waiting: i128,
    }

    /// The limits of one kind of attempt.
    struct AttemptLimits {
        address: Rate,
        account: Rate,
    }

    /// Supabase Auth.
    struct Supabase {
        url: Text,
        clear_text: bool,
        issuer: Text,
        publishable_keys: List<Text>,
        secret_key: Text,
        secret_key_file: Text,
        address_header: Text,
        concurrency: i128,
        queue: i128,
        prefix: Text,
        confirm_email: ConfirmEmail,
    }

    /// What is asked about callers.
    struct Facts {
        subject: ParamType,
        caller: Text,
        memberships: Text,
    }

    /// Where the rows of one kind of thing are.
    struct Resource {
        query: Text,
        id: ParamType,
        within: Text,
        parent: Text,
        learned: bool,
    }

    /// Facts that are written down here, in place of a database.
    struct StaticFacts {
        inactive: List<Text>,
        memberships: Named<Named<Text>>,
        resources: Named<Named<StaticRow>>,
    }

    /// The row of one thing.
    struct StaticRow {
        owner: Text,
        visibility: Text,
        teams: Named<Text>,
        within: Text,
        parent: Text,
    }

    /// One socket.
    struct Listen {
        address: Text,
        tls: TlsOrOff,
        redirect_to_https: Redirect,
    }

    /// TLS of one socket.
    struct Tls {
        certificates: List<Certificate>,
        client_ca: Text,
        client_auth: ClientAuth,
        resumption: bool,
    }

    /// A chain and its key.
    struct Certificate {
        cert: Text,
        key: Text,
    }

    /// Metrics and health, and what operators may do.
    struct Admin {
        address: Text,
        hosts: List<Text>,
        operators: List<Operator>,
    }

    /// Somebody who may change things.
    struct Operator {
        name: Text,
        token: Text,
        token_file: Text,
        token_sha256: Text,
    }

    /// Whose `X-Forwarded-For` is believed.
    struct TrustedProxies {
        from: List<Text>,
        hops: i128,
    }

    /// Protocol limits.
    struct Connections {
        max: i128,
        handshake: Duration,
        head: Duration,
        idle: Duration,
        body_idle: Duration,
        max_headers: i128,
        max_head: Size,
        max_uri: Size,
        h2_streams: i128,
        h2_resets: i128,
    }

    /// One issuer of tokens.
    struct Issuer {
        issuer: Text,
        audience: Many<Text>,
        algorithms: Many<Text>,
        secret: Text,
        secret_file: Text,
        jwks_file: Text,
        jwks_url: Text,
        discovery_url: Text,
        require: Named<Many<Text>>,
        leeway: Duration,
        until: Date,
    }

    /// The list of what is revoked.
    struct Revocations {
        capacity: i128,
        token_lifetime: Duration,
        session_lifetime: Duration,
        webhook: Webhook,
    }

    /// Messages of the identity server.
    struct Webhook {
        issuer: Text,
        secret: Many<Text>,
        secret_file: Many<Text>,
    }

    /// Sessions in a cookie, and how many a user may have.
    struct Sessions {
        cookie: Text,
        same_site: SameSite,
        idle: Duration,
        lifetime: Duration,
        max_per_user: i128,
        cache: i128,
    }

    /// Where roles come from and what they grant.
    struct Roles {
        from: Text,
        list: Named<Many<Text>>,
        grants: Named<Many<Text>>,
    }

    /// A group of servers.
    struct Upstream {
        servers: List<Text>,
        host: Text,
        connect_timeout: Duration,
        first_byte_timeout: Duration,
        pool_idle: Duration,
        max_connections: i128,
        authorization: Authorization,
        protocol: Protocol,
    }
    later ["assertion"]

    /// Cross-origin rules.
    struct Cors {
        origins: List<Text>,
        credentials: bool,
        allow_headers: List<Text>,
        expose_headers: List<Text>,
        max_age: Duration,
    }

    /// Which layers do not enforce for a time.
    struct Layers {
        roles: Layer,
        ownership: Layer,
        lineage: Layer,
    }
    later ["abuse", "audit", "context", "emergency", "media"]
    refused {
        "identity": "the layer `identity` is always enforced; remove the key",
        "identifiers": "the layer `identifiers` is always enforced; remove the key",
        "when": "the layer `when` is always enforced; remove the key, or the route's `when`",
        "performance": "the layer `performance` wraps the others and refuses nothing by itself; see `budget`",
    }

    /// How one layer is waived.
    struct Layer {
        mode: Mode,
        until: Date,
        reason: Text,
    }

    /// What routes have unless they say otherwise.
    struct Defaults {
        upstream: Text,
        body: Body,
        trailing_slash: TrailingSlash,
        timeouts: Timeouts,
    }
    later ["errors", "limits"]
    refused {
        "access": "every route writes its own `access`, so that reading a route is enough to know who may come; remove it here",
        "resource": "every route with a path parameter writes its own `resource`, so that none is opened by a default; remove it here",
    }

    /// One route.
    struct Route {
        path: Many<Text>,
        name: Text,
        methods: Many<Text>,
        hosts: List<Text>,
        access: Access,
        resource: ResourceField,
        anonymous: bool,
        credentials: List<Text>,
        pass_credentials: bool,
        aal: Aal,
        action: Text,
        when: Text,
        upstream: Text,
        serve: Serve,
        trailing_slash: TrailingSlash,
        tail: Tail,
        body: Body,
        timeouts: Timeouts,
        upgrade: List<Upgrade>,
        realtime: bool,
        errors: ErrorsSetting,
        apikey: ApiKey,
        rest: Rest,
        layers: Layers,
        learn: Learn,
    }
    later ["limits"]

    /// A thing that a route is about.
    struct ResourceOf {
        kind: Text,
        id: Text,
        action: Text,
        within: Text,
    }

    /// What an answer teaches.
    struct Learn {
        kind: Text,
        field: Text,
        keep: Duration,
    }
    later ["limits", "when"]

    /// What is granted of a PostgREST.
    struct Rest {
        tables: Named<RestTable>,
        embeds: Embeds,
        rpc: List<Text>,
        schemas: List<Text>,
        openapi: bool,
    }

    /// What is granted of one table.
    struct RestTable {
        read: Columns,
        write: Columns,
        delete: bool,
    }

    /// What may be sent.
    struct Body {
        limit: Size,
        ids: List<BodyId>,
    }

    /// Things that a body names.
    struct BodyId {
        field: Text,
        kind: Text,
        max: i128,
        action: Text,
    }

    /// Time limits of a route.
    struct Timeouts {
        first_byte: Duration,
        stream_idle: Duration,
        total: Duration,
    }
}

/// `tls: off`, or how TLS is done.
#[derive(Clone, Debug)]
pub(crate) enum TlsOrOff {
    /// Clear text.
    Off,
    /// TLS.
    On(Box<Tls>),
}

impl Decode for TlsOrOff {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) => Tls::decode(node, report).map(|tls| Self::On(Box::new(tls))),
            Kind::Bool(false) => Some(Self::Off),
            Kind::Text(text)
                if text.value == "off" || (text.written.is_some() && text.value == "false") =>
            {
                Some(Self::Off)
            }
            Kind::Null
            | Kind::Bool(_)
            | Kind::Integer(_)
            | Kind::Float
            | Kind::Text(_)
            | Kind::List(_)
            | Kind::Broken => wrong(&node, "`off`, or a mapping with `certificates`", report),
        }
    }
}

/// `redirect_to_https: true`, or the port to send readers to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Redirect {
    /// Port 443.
    Default,
    /// This port; not checked yet.
    Port(i128),
}

impl Decode for Redirect {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        match &node.kind {
            Kind::Bool(true) => Some(Self::Default),
            Kind::Integer(port) => Some(Self::Port(*port)),
            Kind::Text(Text {
                value,
                written: Some(_),
            }) if value == "true" => Some(Self::Default),
            Kind::Text(Text {
                written: Some(_), ..
            }) => i128::decode(node, report).map(Self::Port),
            Kind::Null
            | Kind::Bool(_)
            | Kind::Float
            | Kind::Text(_)
            | Kind::List(_)
            | Kind::Map(_)
            | Kind::Broken => wrong(&node, "`true` or a port", report),
        }
    }
}

/// What a route is about: one thing, several, or nothing that anybody owns.
#[derive(Clone, Debug)]
pub(crate) enum ResourceField {
    /// `none`.
    Nothing,
    /// All of these.
    Things(Vec<Value<ResourceThing>>),
}

/// One thing that a route is about.
#[derive(Clone, Debug)]
pub(crate) enum ResourceThing {
    /// A kind alone.
    Kind(Text),
    /// `{ self: … }`: the caller.
    Caller {
        id: Text,
        action: Option<Value<Text>>,
    },
    /// `{ kind: …, id: … }`.
    Of(Box<ResourceOf>),
}

impl Decode for ResourceField {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) if text.value == "none" => Some(Self::Nothing),
            Kind::List(_) => {
                let place = node.place.clone();
                let list = List::<ResourceThing>::decode(node, report)?;
                list.at_least_one(&place, report);
                (list.written > 0 && list.items.len() == list.written)
                    .then_some(Self::Things(list.items))
            }
            Kind::Null
            | Kind::Bool(_)
            | Kind::Integer(_)
            | Kind::Float
            | Kind::Text(_)
            | Kind::Map(_)
            | Kind::Broken => Some(Self::Things(vec![Value::decode(node, report)?])),
        }
    }
}

impl Decode for ResourceThing {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) => Some(Self::Kind(text.clone())),
            Kind::Map(entries) if entries.iter().any(|entry| entry.name == "self") => {
                const CALLER: Names = Names {
                    known: &["self", "action"],
                    later: &[],
                    refused: &[],
                };
                let mut keys = Keys::open(node, &CALLER, report)?;
                let id: Field<Text> = keys.take("self", report);
                let action = keys.take("action", report);
                let action = match action {
                    Field::Absent => None,
                    Field::Bad => return None,
                    Field::Good(action) => Some(action),
                };
                let id = id.good()?.value.clone();
                Some(Self::Caller { id, action })
            }
            Kind::Map(_) => ResourceOf::decode(node, report).map(|of| Self::Of(Box::new(of))),
            Kind::Null
            | Kind::Bool(_)
            | Kind::Integer(_)
            | Kind::Float
            | Kind::List(_)
            | Kind::Broken => wrong(
                &node,
                "`none`, a kind of `resources`, a mapping, or a list of these",
                report,
            ),
        }
    }
}

/// Whether a connection without a client certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    /// It is let in.
    Optional,
    /// It is refused.
    Required,
}

/// How a layer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As designed.
    Enforce,
    /// Not so, for a time.
    Waived(WaivedMode),
}

/// `true`, or the names of columns.
#[derive(Clone, Debug)]
pub(crate) enum Columns {
    /// All of them, or none.
    All(bool),
    /// These.
    These(List<Text>),
}

impl Decode for Columns {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        match &node.kind {
            Kind::List(_) => List::decode(node, report).map(Self::These),
            Kind::Bool(all) => Some(Self::All(*all)),
            Kind::Null
            | Kind::Integer(_)
            | Kind::Float
            | Kind::Text(_)
            | Kind::Map(_)
            | Kind::Broken => wrong(&node, "`true`, or a list of columns", report),
        }
    }
}

/// The least authenticator assurance level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aal(pub u8);

/// What a client may change a connection to; one way works so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// RFC 6455.
    Websocket,
}

words! {
    impl Environment { "production" => Environment::Production, "development" => Environment::Development, }
    impl ClientAuth { "optional" => ClientAuth::Optional, "required" => ClientAuth::Required, }
    impl Authorization { "keep" => Authorization::Keep, "drop" => Authorization::Drop, } later ["remint"]
    impl Mode {
        "enforce" => Mode::Enforce,
        "shadow" => Mode::Waived(WaivedMode::Shadow),
        "off" => Mode::Waived(WaivedMode::Off),
    }
    impl ConfirmEmail { "auto" => ConfirmEmail::Auto, "required" => ConfirmEmail::Required, }
    impl Access {
        "public" => Access::Public,
        "optional" => Access::Optional,
        "user" => Access::User,
        "deny" => Access::Deny,
    } later ["service", "signed"]
    impl ParamType {
        "uuid" => ParamType::Uuid,
        "text" => ParamType::Text,
        "integer" => ParamType::Integer,
    }
    impl Aal { "aal1" => Aal(1), "aal2" => Aal(2), }
    impl Serve { "health" => Serve::Health, "identity_server" => Serve::IdentityServer, "panic" => Serve::Panic, }
    impl TrailingSlash { "same" => TrailingSlash::Same, "strict" => TrailingSlash::Strict, }
    impl Tail { "canonical" => Tail::Canonical, "opaque" => Tail::Opaque, }
    impl ErrorsSetting {
        "problem" => ErrorsSetting::Problem,
        "grpc" => ErrorsSetting::Grpc,
        "gotrue" => ErrorsSetting::Gotrue,
        "postgrest" => ErrorsSetting::Postgrest,
    }
    impl ApiKey { "required" => ApiKey::Required, "optional" => ApiKey::Optional, }
    impl Embeds { "deny" => Embeds::Deny, "tables" => Embeds::Tables, }
    impl Upgrade { "websocket" => Upgrade::Websocket, }
    impl SameSite { "lax" => SameSite::Lax, "strict" => SameSite::Strict, "none" => SameSite::None, }
    impl Protocol { "http1" => Protocol::Http1, "http2" => Protocol::Http2, }
}
