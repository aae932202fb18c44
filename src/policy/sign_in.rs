//! Settings of the identity server, of the sign-in routes, and of their rate limits.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderName;

use crate::policy::outbound_url::OutboundUrl;
use crate::policy::rate::Rate;
use crate::policy::resources::{ParamType, Query};
use crate::secrets::secret::Secret;

/// The sign-in routes, which the gateway serves itself.
#[derive(Debug)]
pub struct SignIn {
    /// The prefix of their paths, without a trailing slash. Default `/api/v1/auth`; `None` if there
    /// are none.
    pub prefix: Option<String>,
    /// How `register` creates accounts. Default `signup`.
    pub register: Registration,
    /// Addresses to which the links of messages may lead, each in full.
    pub redirect_to: Vec<String>,
    /// What `me` and `whoami` show of a user's own row and metadata.
    pub me: Me,
    /// How long each route may take. Default: 8 s for `login`, 15 s for `register`, 8 s for all
    /// others.
    pub deadlines: Deadlines,
    /// Rate limits, at these routes and at the identity server's own.
    pub throttle: Throttling,
    /// Inserts a user's row. Default: something else does.
    pub profile: Option<Insert>,
}

/// A statement that inserts a user's row, and does nothing if that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    /// The SQL text: `$1` is the subject, `$2` the e-mail address or null, `$3` the full name or
    /// null.
    pub sql: Arc<str>,
    /// The path of its key in the route map.
    pub key: String,
    /// The line of its value.
    pub line: u32,
    /// The column of its value.
    pub column: u32,
}

impl Insert {
    /// The types of its parameters.
    pub const PARAMS: [ParamType; 3] = [ParamType::Uuid, ParamType::Text, ParamType::Text];
}

/// How `register` creates accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// By the identity server's sign-up. Whether sign-up is open, captchas, hooks and the
    /// confirmation of addresses are the identity server's to decide.
    SignUp,
    /// By its API for administrators, which bypasses its captcha, its hook before a user is created
    /// and its setting for confirmations. The gateway asks whether sign-up is open.
    Admin(ConfirmEmail),
}

/// Whether new users must confirm their e-mail address before they sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmEmail {
    /// No: they are signed in at once.
    Auto,
    /// Yes: they get a message first.
    Required,
}

/// What `me` and `whoami` show besides what the identity server itself writes.
#[derive(Debug, Default)]
pub struct Me {
    /// Returns the user's row for the subject `$1`, with the columns that [`MeSource::Column`]
    /// names.
    pub row: Option<Query>,
    /// The members, each with its source.
    pub members: Vec<(String, MeSource)>,
}

/// Where a member of `me` comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeSource {
    /// A column of the row.
    Column(String),
    /// A member of `app_metadata`, which only administrators write.
    AppMetadata(String),
    /// A member of `user_metadata`, which users write themselves.
    UserMetadata(String),
}

/// How long a sign-in route may take, with all its calls together.
#[derive(Clone, Debug)]
pub struct Deadlines {
    /// `login`.
    pub login: Duration,
    /// `register`.
    pub register: Duration,
    /// Every other route.
    pub other: Duration,
}

/// Rate limits of sign-in attempts. [`crate::sign_in::throttle`] describes what is counted and why.
#[derive(Clone, Debug)]
pub struct Throttling {
    /// Failed sign-ins. Default: 30 a minute from one address, 5 a minute from one address on one
    /// account.
    pub login: Limits,
    /// Registrations. Default: 60 a minute from one address, 5 a minute from one address of one
    /// account.
    pub register: Limits,
    /// Failed refreshes. Default: 30 a minute from one address.
    pub refresh: Limits,
    /// Requested messages, such as a password reset. Default: 60 a minute from one address, 3 a
    /// minute from one address to one account.
    pub reset: Limits,
    /// Failed one-time codes. Default: 30 a minute from one address, 5 a minute from one address on
    /// one account.
    pub verify: Limits,
    /// Challenges of a second factor. Default: 300 a minute from one address, 10 a minute from one
    /// address of one account.
    pub challenge: Limits,
    /// Redirects to another provider and back. Default: 120 a minute from one address.
    pub redirect: Limits,
    /// Calls by which users read and change their own accounts. Default: 3000 a minute from one
    /// address.
    pub account: Limits,
    /// Calls that tell everybody the same: settings, health and keys. Default: 600 a minute from
    /// one address.
    pub read: Limits,
    /// Failures of one account, from all addresses together, above which attempts are delayed.
    /// Default: 10 an hour.
    pub everywhere: Rate,
    /// The longest delay of such an attempt. Default 2 s.
    pub longest_delay: Duration,
    /// How long refusing a password takes at least, whether or not the account exists. Default 300
    /// ms.
    pub refusal_floor: Duration,
    /// How many attempts may be delayed at once. Default 1000.
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

/// The Supabase Auth server behind the gateway.
#[derive(Debug)]
pub struct Supabase {
    /// Its base URL: the project's URL with `/auth/v1` appended.
    pub url: OutboundUrl,
    /// The `iss` of the tokens that it issues; an entry of
    /// [`Config::tokens`](crate::policy::Config::tokens) has the same.
    pub issuer: String,
    /// The keys of clients, at least one. The gateway itself sends the first.
    pub publishable_keys: Vec<Secret>,
    /// The administrator's key.
    pub secret_key: Option<Secret>,
    /// The field that carries the client's address to the server. Default `X-Forwarded-For`.
    pub address_header: HeaderName,
    /// Calls that run at once; those of one operation may use a part of it. Default 64.
    pub concurrency: NonZeroUsize,
    /// Calls of each operation that may wait for one of these to finish. Default 256.
    pub queue: usize,
}

impl Supabase {
    /// The key that the gateway sends where the server requires a publishable key.
    pub fn publishable_key(&self) -> &Secret {
        self.publishable_keys
            .first()
            .unwrap_or_else(|| unreachable!("`check` requires at least one"))
    }
}
