//! Settings of the list of revocations, and of the webhook that adds to it.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::policy::sessions::seconds;
use crate::policy::tokens::LARGEST_LEEWAY;

/// The settings of the list of revocations.
#[derive(Debug)]
pub struct Revocations {
    /// How many entries the list holds before they are coarsened. Default 100,000.
    pub capacity: NonZeroUsize,
    /// The longest lifetime of any issuer's tokens. Default 24 h.
    pub token_lifetime: Duration,
    /// How long the identity server lets a session be refreshed. Default 30 days.
    pub session_lifetime: Duration,
    /// Messages of the identity server; `None` accepts none.
    pub webhook: Option<Webhook>,
}

impl Revocations {
    /// How long the revocation of a token with an unknown `exp` is kept, in seconds: as long as a
    /// token that was issued now is accepted anywhere.
    pub fn remembers_tokens(&self) -> i64 {
        seconds(self.token_lifetime.saturating_add(LARGEST_LEEWAY))
    }

    /// How long the revocation of a session or sign-in is kept, in seconds. The last token of a
    /// session may be issued at its very end, and lives on.
    pub fn remembers_sessions(&self) -> i64 {
        seconds(self.session_lifetime).saturating_add(self.remembers_tokens())
    }
}

/// Messages of the identity server, signed by Standard Webhooks.
#[derive(Debug)]
pub struct Webhook {
    /// The issuer whose users they are about.
    pub issuer: String,
    /// The signing keys, at least one; each of them is accepted.
    pub secrets: Vec<aws_lc_rs::hmac::Key>,
}
