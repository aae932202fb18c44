//! `revocations`: how long revocations are kept, how many, and the identity server's webhook.
//!
//! Decides: that a revocation outlives what it revokes, that the webhook's issuer is one of
//! `tokens`, and that its secret is random. Trusts: the operator, for the longest lifetimes of
//! tokens and sessions. Not here: the list (`revocation`).

#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::check::Checker;
use crate::config::macros::wire;
use crate::config::node::Text;
use crate::config::units::{DAY, days, mins};
use crate::config::wire::{Field, Many, Value};
use crate::policy::revocations as checked;
use crate::policy::tokens::TokenIssuer;

wire! {
    /// The list of revoked tokens, sessions and subjects.
    struct Revocations {
        capacity: usize [100..=1_000_000] = 100_000,
        token_lifetime: Duration [mins(5)..=days(30)] = DAY,
        session_lifetime: Duration [mins(5)..=days(366)] = days(30),
        webhook: Webhook,
    }

    /// Messages of the identity server.
    struct Webhook {
        issuer: Text => ISSUER,
        secret: Many<Text>,
        secret_file: Many<Text>,
    }
}

const ISSUER: &str = "write the `issuer` of `tokens` whose users the messages are about";

/// Bytes of a webhook's secret, by Standard Webhooks.
const SECRET: RangeInclusive<usize> = 24..=64;

const MAKE_ONE: &str = "`echo \"whsec_$(openssl rand -base64 32)\"` makes one";

impl Checker<'_> {
    pub(crate) fn revocations(
        &mut self,
        field: &Field<Revocations>,
        tokens: Option<&[TokenIssuer]>,
    ) -> Option<checked::Revocations> {
        let wire = field.section()?;
        let webhook = wire.webhook.then(|wire| self.webhook(&wire.value, tokens));
        let written = wire
            .session_lifetime
            .place()
            .or(wire.token_lifetime.place());
        if let Some(place) = written
            && wire.token_lifetime()? > wire.session_lifetime()?
        {
            self.report.problem(
                place,
                "`token_lifetime` is longer than `session_lifetime`; a session lives as long as its last token",
            );
        }
        Some(checked::Revocations {
            capacity: NonZeroUsize::new(wire.capacity()?)?,
            token_lifetime: wire.token_lifetime()?,
            session_lifetime: wire.session_lifetime()?,
            webhook: webhook?,
        })
    }

    fn webhook(
        &mut self,
        wire: &Webhook,
        tokens: Option<&[TokenIssuer]>,
    ) -> Option<checked::Webhook> {
        // Nothing is known of issuers that are wrong themselves.
        let known = |text: &str| {
            tokens.is_none_or(|tokens| tokens.iter().any(|entry| entry.issuer == text))
        };
        let issuer = wire.issuer.good().and_then(|text| {
            text.parse(
                |text| known(text).then(|| text.to_owned()),
                "is not an issuer of `tokens`",
                ISSUER,
                self.report,
            )
        });
        let secrets = self.webhook_secrets(wire);
        Some(checked::Webhook {
            issuer: issuer?,
            secrets: secrets?,
        })
    }

    /// One secret, or several while they are changed.
    fn webhook_secrets(&mut self, wire: &Webhook) -> Option<Vec<hmac::Key>> {
        let (key, many) = self.one_of(
            &wire.place,
            &[("secret_file", &wire.secret_file), ("secret", &wire.secret)],
            ("has no secret", "write `secret_file` or `secret`"),
        )?;
        self.each(&many.value.0, |checker, item| {
            let text = match key {
                "secret_file" => checker.secret_file(item, MAKE_ONE)?,
                _ => item.value.value.clone(),
            };
            checker.webhook_secret(&text, item)
        })
    }

    fn webhook_secret(&mut self, text: &str, written: &Value<Text>) -> Option<hmac::Key> {
        // As Supabase shows it; other senders leave the version out.
        let versionless = text.strip_prefix("v1,").unwrap_or(text);
        let bytes = versionless
            .strip_prefix("whsec_")
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .filter(|bytes| SECRET.contains(&bytes.len()));
        match bytes {
            Some(bytes) => Some(hmac::Key::new(hmac::HMAC_SHA256, &bytes)),
            None => self.report.refuse_instead(
                &written.place,
                "is not a secret of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64",
                MAKE_ONE,
            ),
        }
    }
}
