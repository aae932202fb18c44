//! The list of revocations, and who may add to it from outside.
//!
//! Decides: nothing; these are values. Trusts: `config::check`, which makes them. Not here: the list itself (`revocation`).

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::policy::sessions::seconds;
use crate::policy::tokens::LARGEST_LEEWAY;

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

/// Messages of the identity server, signed as Standard Webhooks says.
#[derive(Debug)]
pub struct Webhook {
    /// Whose users they are about.
    pub issuer: String,
    /// At least one; any of them may have signed.
    pub secrets: Vec<aws_lc_rs::hmac::Key>,
}
