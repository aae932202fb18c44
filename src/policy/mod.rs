//! What was meant: the configuration with real types, in which nothing invalid can be written down.
//!
//! Decides: nothing; these are values. Trusts: `check`, the only module that makes them. Not here: how they are written in YAML
//! (`file`), and what the gateway builds from them (`snapshot`).

pub mod condition;
pub mod endpoint;
pub mod methods;
pub mod outage;
pub mod path;
pub mod rest;
pub mod router;
pub mod side_url;
pub mod spelling;
pub mod sql_template;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use ipnet::IpNet;
use jsonwebtoken::Algorithm;

use crate::auth::LayerName;
use crate::auth::roles::Action;
use crate::database::ParamType;
use crate::policy::condition::Condition;
use crate::policy::endpoint::Endpoint;
use crate::policy::methods::Methods;
use crate::policy::path::Pattern;
use crate::policy::rest::RestRules;
use crate::policy::side_url::SideUrl;
use crate::policy::sql_template::Template;
use crate::secrets::secret::Secret;
use crate::store::Rate;

/// The largest clock difference that an entry of `tokens` may allow: how much longer than its `exp` a token may be accepted.
pub const LARGEST_LEEWAY: Duration = Duration::from_secs(60);

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

/// A secret of the gateway's own.
#[derive(Clone, Debug)]
pub struct MasterKey {
    /// Its name, which stands in what it seals.
    pub id: String,
    /// At least 32 bytes that look random.
    pub secret: Secret,
}

/// Where replicas share what they know.
#[derive(Debug)]
pub enum StoreChoice {
    /// Nowhere: one replica, and its memory.
    Memory,
    /// In Redis. There is at least one of [`Config::keys`].
    Redis(Redis),
}

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    /// TLS, for `rediss://`.
    pub tls: Option<StoreTls>,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port, 6379 by default.
    pub port: u16,
    /// The ACL user; without one, Redis takes the password for its user `default`.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The number of the database.
    pub database: u8,
    /// How long a command on one record may take. Default 100 ms; what reads or writes many may take ten times as long.
    pub timeout: Duration,
    /// How long a connection may take to be made. Default 1 s.
    pub connect_timeout: Duration,
    /// What the names of records begin with. Default `foregate`.
    pub prefix: String,
}

impl Redis {
    /// Where it is, without user and password.
    pub fn shown(&self) -> String {
        let scheme = if self.tls.is_some() {
            "rediss"
        } else {
            "redis"
        };
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        format!("{scheme}://{host}:{}/{}", self.port, self.database)
    }
}

/// TLS to the store.
#[derive(Debug)]
pub struct StoreTls {
    /// What the server's certificate must lead to; `None` is the system's root certificates.
    pub roots: Option<Arc<rustls::RootCertStore>>,
}

/// The operator's PostgreSQL.
#[derive(Debug)]
pub struct Database {
    /// Where statements go; a pooler in transaction mode will do.
    pub server: DatabaseServer,
    /// A direct connection to the same database, where notifications are listened for.
    pub notify: Option<DatabaseServer>,
    /// How many statements run at once. Default 8.
    pub pool: NonZeroUsize,
    /// How long a connection may take to be made. Default 2 s.
    pub connect_timeout: Duration,
}

/// Where a PostgreSQL server is, and who we are there.
#[derive(Debug)]
pub struct DatabaseServer {
    /// Whose certificate is checked; `None` for `sslmode=disable`.
    pub tls: Option<StoreTls>,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port, 5432 by default.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The password.
    pub password: Option<Secret>,
    /// The name of the database.
    pub database: String,
}

impl DatabaseServer {
    /// Where it is, without user and password.
    pub fn shown(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let tls = if self.tls.is_some() {
            ""
        } else {
            " without TLS"
        };
        format!("postgres://{host}:{}/{}{tls}", self.port, self.database)
    }
}

/// What is asked about callers.
#[derive(Debug)]
pub struct Facts {
    /// The type that subjects have in the queries. Default uuid.
    pub subject: ParamType,
    /// Gives a row with `active` for `$1`, a subject.
    pub caller: Option<Query>,
    /// Gives rows with `team` and `role` for `$1`, a subject.
    pub memberships: Option<Query>,
}

/// A query, and where it was written.
#[derive(Debug)]
pub struct Query {
    /// The query.
    pub sql: Template,
    /// The path of its key.
    pub key: String,
    /// Its line.
    pub line: u32,
    /// Its column.
    pub column: u32,
}

/// A kind of thing that somebody owns.
#[derive(Debug)]
pub struct ResourceKind {
    /// Its name in the route map.
    pub name: String,
    /// The type of its ids. Default uuid.
    pub id: ParamType,
    /// Where its rows are.
    pub rows: RowSource,
    /// Index of the kind that the column `within` names one of.
    pub within: Option<usize>,
    /// Whether the column `parent` names another of the same kind.
    pub has_parent: bool,
}

/// Where the rows of a kind are.
#[derive(Debug)]
pub enum RowSource {
    /// In the database.
    Query(Query),
    /// In [`Config::static_facts`].
    Static,
    /// Nowhere: what is known is what answers of `learn` routes told.
    Learned,
}

/// Facts that are written down in the configuration.
#[derive(Debug, Default)]
pub struct StaticFacts {
    /// Subjects that may do nothing.
    pub inactive: HashSet<String>,
    /// By subject, the teams and the role in each.
    pub memberships: HashMap<String, Vec<(String, String)>>,
    /// By kind and id.
    pub rows: HashMap<(String, String), StaticRow>,
}

/// The row of one thing.
#[derive(Clone, Debug, Default)]
pub struct StaticRow {
    /// The owner's subject.
    pub owner: Option<String>,
    /// The word for who else may see it.
    pub visibility: Option<String>,
    /// Teams, with the access level of each.
    pub teams: Vec<(String, String)>,
    /// The id of what it lies in.
    pub within: Option<String>,
    /// The id of what it was made from.
    pub parent: Option<String>,
}

/// A thing that a request must be allowed to touch.
#[derive(Clone, Debug)]
pub struct Demand {
    /// What kind of thing.
    pub of: DemandOf,
    /// Where the request names it.
    pub id: IdPlace,
    /// What is done to it; what the route does, if nothing else was written.
    pub action: Option<Action>,
    /// Where the request names what it must lie in.
    pub within: Option<IdPlace>,
}

/// Things that a request must be allowed to touch, named in its JSON.
#[derive(Clone, Debug)]
pub struct BodyIds {
    /// The field, for messages.
    pub written: String,
    /// How to get there.
    pub steps: Vec<BodyStep>,
    /// Index into [`Config::resources`].
    pub kind: usize,
    /// How many there may be. Default 100.
    pub max: usize,
    /// What is done to them; what the route does, if nothing else was written.
    pub action: Option<Action>,
}

/// A step into a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// A member of an object.
    Member(String),
    /// Every item of a list.
    Items,
}

/// What kind of thing a [`Demand`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemandOf {
    /// The caller.
    Caller,
    /// Index into [`Config::resources`].
    Kind(usize),
}

/// Where a request names a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdPlace {
    /// A path parameter.
    Path(String),
    /// A query key.
    Query(String),
}

/// What the answer of a route teaches.
#[derive(Clone, Debug)]
pub struct Learn {
    /// Index into [`Config::resources`].
    pub kind: usize,
    /// The fields that lead to the id in the answer's JSON.
    pub field: Vec<String>,
    /// How long it is known. Default 24 h.
    pub keep: Duration,
}

/// The sign-in routes, which the gateway answers itself.
#[derive(Debug)]
pub struct SignIn {
    /// What their paths begin with, without a slash at the end. Default `/api/v1/auth`; `None` if there are none.
    pub prefix: Option<String>,
    /// Whether new users must prove their e-mail address first. Default `auto`.
    pub confirm_email: ConfirmEmail,
    /// How long each may take. Default: 8 s for `login`, 15 s for `register`, 8 s for every other.
    pub deadlines: Deadlines,
    /// How often somebody may try, at these routes or at the identity server's own.
    pub throttle: Throttling,
    /// Makes a user's row: `$1` is the subject (uuid), `$2` the e-mail address, `$3` the name (both text). Does nothing if it is there.
    pub profile: Option<Arc<str>>,
}

/// Whether new users must prove that an e-mail address is theirs before they sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmEmail {
    /// They are signed in at once.
    Auto,
    /// They are sent a message first.
    Required,
}

/// How long requests to sign in may take, all calls together.
#[derive(Clone, Debug)]
pub struct Deadlines {
    /// `login`.
    pub login: Duration,
    /// `register`.
    pub register: Duration,
    /// Every other.
    pub other: Duration,
}

/// How often somebody may try to sign in. What is counted, and why, is said in [`crate::sign_in::throttle`].
#[derive(Clone, Debug)]
pub struct Throttling {
    /// Failed sign-ins. Default: 20 a minute from one address, 5 a minute from one address on one account.
    pub login: Limits,
    /// Registrations. Default: 3 a minute from one address.
    pub register: Limits,
    /// Failed refreshes. Default: 10 a minute from one address.
    pub refresh: Limits,
    /// Messages that are sent on request. Default: 2 a minute from one address.
    pub reset: Limits,
    /// Failed one-time codes. Default: 10 a minute from one address, 5 a minute from one address on one account.
    pub verify: Limits,
    /// Failures of one account, from everywhere, beyond which attempts wait. Default: 10 an hour.
    pub everywhere: Rate,
    /// How long such an attempt waits at most. Default 2 s.
    pub longest_delay: Duration,
    /// How long a refused password takes at least, whether or not there is such an account. Default 300 ms.
    pub refusal_floor: Duration,
    /// How many may wait at once. Default 1000.
    pub waiting: usize,
}

/// The limits of one kind of attempt.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From one address.
    pub address: Rate,
    /// From one address on one account; `None` where the account makes no difference.
    pub account: Option<Rate>,
}

/// Supabase Auth, in front of which the gateway stands.
#[derive(Debug)]
pub struct Supabase {
    /// Where it is: the project's URL with `/auth/v1` behind it.
    pub url: SideUrl,
    /// The `iss` of the tokens that it gives; an entry of [`Config::tokens`] has it.
    pub issuer: String,
    /// Keys that clients may have, at least one. The first is what the gateway sends.
    pub publishable_keys: Vec<Secret>,
    /// The key of an administrator.
    pub secret_key: Option<Secret>,
    /// The field that tells the server whose call it is. Default `X-Forwarded-For`.
    pub address_header: HeaderName,
    /// Calls that run at once. Default 64.
    pub concurrency: NonZeroUsize,
    /// Calls that wait until fewer run. Default 256.
    pub queue: usize,
}

impl Supabase {
    /// The key the gateway sends where any client's would do.
    pub fn publishable_key(&self) -> &Secret {
        self.publishable_keys
            .first()
            .unwrap_or_else(|| unreachable!("`check` wants at least one"))
    }
}

/// One listening socket.
#[derive(Debug)]
pub struct Listen {
    /// Port 0 takes a free port.
    pub address: SocketAddr,
    /// What happens on a connection.
    pub kind: ListenKind,
}

/// What a listener does with a connection.
#[derive(Debug)]
pub enum ListenKind {
    /// TLS, then HTTP/1.1 or HTTP/2 by ALPN.
    Tls(Tls),
    /// Clear text HTTP/1.1 and HTTP/2, behind an edge that ended TLS (`tls: off`).
    Plain,
    /// Answers every GET and HEAD with a redirect to this port of the same host.
    RedirectToHttps {
        /// The port readers are sent to; 443 is left out of the URL.
        port: u16,
    },
}

/// TLS of one listener.
#[derive(Debug)]
pub struct Tls {
    /// At least one; SNI picks, the first is the default.
    pub certificates: Vec<Certificate>,
    /// Client certificates, if asked for.
    pub client: Option<ClientAuth>,
    /// Whether sessions may be resumed. Forced off with client certificates: a resumed session would skip a changed CA.
    pub resumption: bool,
}

/// A certificate chain and its key, both PEM. Contents are read by `check`, so that a broken file is a config problem.
#[derive(Debug)]
pub struct Certificate {
    /// Where the chain was read from.
    pub cert: PathBuf,
    /// The chain, leaf first, and its key, ready for rustls.
    pub key: Arc<rustls::sign::CertifiedKey>,
    /// The DNS names of the leaf, lower case; `*.` wildcards as written.
    pub names: Vec<String>,
}

/// Client certificates against one CA.
#[derive(Debug)]
pub struct ClientAuth {
    /// Roots a client certificate must lead to.
    pub roots: Arc<rustls::RootCertStore>,
    /// Whether a connection without a certificate is refused.
    pub required: bool,
}

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

/// The list of what is revoked.
#[derive(Debug)]
pub struct Revocations {
    /// How many entries are kept before they are coarsened. Default 100,000.
    pub capacity: NonZeroUsize,
    /// The longest any issuer's tokens live. Default 24 h.
    pub token_lifetime: Duration,
    /// The longest the identity server lets a session be refreshed. Default 30 days.
    pub session_lifetime: Duration,
    /// Messages of the identity server; absent means that none are taken.
    pub webhook: Option<Webhook>,
}

impl Revocations {
    /// How long a revoked token of unknown end is remembered, in seconds: as long as one that was issued just now is accepted anywhere.
    pub fn remembers_tokens(&self) -> i64 {
        seconds(self.token_lifetime.saturating_add(LARGEST_LEEWAY))
    }

    /// How long a revoked session or sign-in is remembered, in seconds. The last token of a session may be issued in its last moment, and
    /// lives on.
    pub fn remembers_sessions(&self) -> i64 {
        seconds(self.session_lifetime).saturating_add(self.remembers_tokens())
    }
}

/// Sessions in a cookie, and how many sessions a user may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Name of the cookie. It begins with `__Host-` (RFC 6265bis, section 4.1.3.2) but in development. Default [`OWN_COOKIE`].
    ///
    /// [`OWN_COOKIE`]: crate::request::headers::OWN_COOKIE
    pub cookie: String,
    /// On which requests from other sites a browser sends it. Default: lax.
    pub same_site: SameSite,
    /// How long a session may go without a request. Default 30 min.
    pub idle: Duration,
    /// How long a session lives at most. Default 12 h.
    pub lifetime: Duration,
    /// Sessions of one user at once, by cookie or by token; the oldest ends. Default 10.
    pub max_per_user: usize,
    /// How many sessions a process remembers. Default 100,000.
    pub cache: NonZeroUsize,
}

/// What a browser demands of a cookie with this in front of its name: `Secure`, `Path=/`, and no `Domain`, so that no other host, and no
/// page in clear text, can set it (RFC 6265bis, section 4.1.3.2).
pub const HOST_PREFIX: &str = "__Host-";

/// Whether a browser takes a cookie of this name with `Secure` alone. Only in development may it be another.
pub fn is_secure_name(name: &str) -> bool {
    name.starts_with(HOST_PREFIX) || name.starts_with("__Secure-")
}

/// On which requests from other sites a browser sends a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// When a user follows a link.
    Lax,
    /// On none.
    Strict,
    /// On all.
    None,
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Messages of the identity server, signed as Standard Webhooks says.
#[derive(Debug)]
pub struct Webhook {
    /// Whose users they are about.
    pub issuer: String,
    /// At least one; any of them may have signed.
    pub secrets: Vec<aws_lc_rs::hmac::Key>,
}

/// Which peers may say who the client is.
#[derive(Debug, Default)]
pub struct TrustedProxies {
    /// Peers whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub from: Vec<IpNet>,
    /// How many entries of `X-Forwarded-For`, from the right, trusted proxies wrote. At least 1.
    pub hops: usize,
}

/// Protocol limits. Each default is stated in `config/foregate.yaml`.
#[derive(Clone, Debug)]
pub struct Connections {
    /// Open client connections over all listeners; further ones wait in the kernel's queue.
    pub max: usize,
    /// TLS handshake, and on clear text the first byte.
    pub handshake: Duration,
    /// A complete request head: from its first byte, and the first head from the end of the handshake.
    pub head: Duration,
    /// A connection without a running request.
    pub idle: Duration,
    /// A request body without a byte from the client, and an answer without a byte taken by the client.
    pub body_idle: Duration,
    /// Header fields of one request.
    pub max_headers: usize,
    /// Bytes of one request head.
    pub max_head: usize,
    /// Bytes of path and query together.
    pub max_uri: usize,
    /// Streams that run at once on one HTTP/2 connection.
    pub h2_streams: u32,
    /// Streams a client may reset before they were accepted, on one HTTP/2 connection (CVE-2023-44487).
    pub h2_resets: usize,
}

/// One issuer entry: an `iss` with the algorithms and keys that may speak for it.
#[derive(Debug)]
pub struct TokenIssuer {
    /// The exact `iss`.
    pub issuer: String,
    /// At least one; one match with `aud` is enough (RFC 7519, section 4.1.3).
    pub audience: Vec<String>,
    /// At least one, all of the same family as the key.
    pub algorithms: Vec<Algorithm>,
    /// Where the keys come from.
    pub keys: KeySource,
    /// Claims with the values they must have one of, besides `exp iss aud sub`. A dotted name is a path into objects.
    pub require: Vec<(String, Vec<String>)>,
    /// Clock difference allowed for `exp` and `nbf`. Default 5 s.
    pub leeway: Duration,
    /// After this instant, in Unix seconds, the entry is ignored.
    pub until: Option<i64>,
}

/// Where an issuer's keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// An HMAC secret of at least the hash's length (RFC 7518, section 3.2). Already read if it came from `secret_file`.
    Secret(Secret),
    /// A JWK set, read from a file by `check`.
    Set {
        /// The document.
        json: String,
        /// Where it was read from.
        file: PathBuf,
    },
    /// A JWK set that the issuer publishes, and may change.
    Published(Publication),
}

/// Where an issuer publishes its keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Publication {
    /// `jwks_url`: the JWK set itself.
    Jwks(SideUrl),
    /// `discovery_url`: a document that names the place of the JWK set (OpenID Connect Discovery 1.0, section 4).
    Discovery(SideUrl),
}

impl Publication {
    /// The URL that is written in the configuration.
    pub fn url(&self) -> &SideUrl {
        match self {
            Self::Jwks(url) | Self::Discovery(url) => url,
        }
    }
}

/// Where roles come from, and what each grants.
#[derive(Debug)]
pub struct Roles {
    /// Path into the token's claims to a string or a list of strings. Default `app_metadata.roles`.
    pub from: Vec<String>,
    /// Roles given by the operator to subjects: (role, subjects).
    pub list: Vec<(String, Vec<String>)>,
    /// What each role may do. Default: `user: [read, write]`, `admin: ["*"]`. Every user has the role `user`.
    pub grants: Vec<(String, Grants)>,
}

/// The actions of one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grants {
    /// `"*"`: every action.
    All,
    /// These actions.
    Actions(Vec<Action>),
}

/// A named group of servers that serve the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Name in the route map and in metrics.
    pub name: String,
    /// At least one, used in turn: (host, port).
    pub servers: Vec<(String, u16)>,
    /// The `Host` the servers see.
    pub host: UpstreamHost,
    /// Default 500 ms.
    pub connect_timeout: Duration,
    /// Until the head of the answer. Default 30 s.
    pub first_byte_timeout: Duration,
    /// How long an unused connection is kept. Default 60 s.
    pub pool_idle: Duration,
    /// Connections to one server, over all workers, of which each has its part. Default 1024.
    pub max_connections: NonZeroUsize,
    /// What becomes of the caller's token.
    pub authorization: Authorization,
    /// What is spoken. Default HTTP/1.1.
    pub protocol: Protocol,
}

/// The `Host` that an upstream sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The canonical host of the request.
    Keep,
    /// Always this.
    Value(HeaderValue),
}

/// What is spoken to the servers of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on a connection.
    Http1,
    /// HTTP/2 in clear text, without asking first (RFC 9113, section 3.3). gRPC needs it.
    Http2,
}

/// How refusals are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errors {
    /// `application/problem+json` (RFC 9457); a request in gRPC is refused in gRPC all the same.
    Problem,
    /// Always as a gRPC status.
    Grpc,
    /// As Supabase Auth does, in the version that the client asks for.
    Gotrue,
    /// As PostgREST does.
    Postgrest,
}

/// What becomes of the caller's access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// Forward the verified caller's token, and nothing else.
    Keep,
    /// Forward no token.
    Drop,
}

/// Cross-origin rules (the Fetch standard).
#[derive(Debug)]
pub struct Cors {
    /// Exact origins, as a browser writes them: scheme, host, port. Never `*`.
    pub origins: Vec<HeaderValue>,
    /// Whether a page may send cookies (`Access-Control-Allow-Credentials`); a bearer token that it sets itself needs `allow_headers` only.
    pub credentials: bool,
    /// Request headers a page may set.
    pub allow_headers: Vec<HeaderName>,
    /// Answer headers a page may read.
    pub expose_headers: Vec<HeaderName>,
    /// How long a browser may remember a preflight.
    pub max_age: Duration,
}

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
    pub errors: Errors,
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

/// A layer that judges but does not refuse, or does not judge, for a time.
#[derive(Clone, Debug)]
pub struct Waiver {
    /// Which layer.
    pub layer: LayerName,
    /// How it is waived.
    pub mode: WaivedMode,
    /// When it enforces again, in Unix seconds; at most 30 days ahead.
    pub until: i64,
    /// Why, for the start and the log.
    pub reason: String,
}

/// How a layer is waived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaivedMode {
    /// Judge, record what would have been refused, let pass.
    Shadow,
    /// Do not judge.
    Off,
}
