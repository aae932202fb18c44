//! The identity server, the sign-in routes, and how often somebody may try.
//!
//! Decides: nothing; these are values. Trusts: `config::check`, which makes them. Not here: what is counted, and why (`sign_in::throttle`).

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderName;

use crate::policy::rate::Rate;
use crate::policy::side_url::SideUrl;
use crate::secrets::secret::Secret;

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
