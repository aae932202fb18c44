//! How long revocations are kept, how many, and who besides operators may make them.
//!
//! Decides: that a revocation outlives what it revokes, and that the webhook's issuer is one of `tokens` and its secret is random. Trusts: the
//! operator, for the longest lives of tokens and sessions. Not here: the list (`sessions`).

use std::num::NonZeroUsize;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Checker, DAY, MINUTES_5, section};
use crate::config::file;
use crate::config::node::Text;
use crate::config::wire::{Field, Value};
use crate::policy::revocations::{Revocations, Webhook};
use crate::policy::tokens::TokenIssuer;

/// Bytes of a webhook's secret, as Standard Webhooks has it.
const SECRET: std::ops::RangeInclusive<usize> = 24..=64;

const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

impl Checker<'_> {
    /// The list of revocations.
    pub(super) fn revocations(
        &mut self,
        field: &Field<file::Revocations>,
        tokens: Option<&[TokenIssuer]>,
    ) -> Option<Revocations> {
        let absent = file::Revocations::absent();
        let wire = section(field, &absent)?;
        let capacity = self.number(&wire.capacity, 100..=1_000_000, 100_000_usize);
        let token_lifetime = self.duration(&wire.token_lifetime, MINUTES_5..=30 * DAY, DAY);
        let session_lifetime = self.duration(&wire.session_lifetime, MINUTES_5..=YEAR, 30 * DAY);
        if let (Some(token), Some(session), Some(written)) = (
            token_lifetime,
            session_lifetime,
            wire.session_lifetime.good().or(wire.token_lifetime.good()),
        ) && token > session
        {
            self.report.problem(
                &written.place,
                "`token_lifetime` is longer than `session_lifetime`; a session lives as long as its last token",
            );
        }
        let webhook = match &wire.webhook {
            Field::Absent => Some(None),
            Field::Bad => None,
            Field::Good(webhook) => self.webhook(&webhook.value, tokens).map(Some),
        };
        Some(Revocations {
            capacity: NonZeroUsize::new(capacity?)?,
            token_lifetime: token_lifetime?,
            session_lifetime: session_lifetime?,
            webhook: webhook?,
        })
    }

    fn webhook(&mut self, wire: &file::Webhook, tokens: Option<&[TokenIssuer]>) -> Option<Webhook> {
        let example = "write the `issuer` of `tokens` whose users the messages are about";
        let issuer = wire
            .issuer
            .required(&wire.place, "issuer", example, self.report);
        let issuer = issuer.and_then(|text| {
            let known = |tokens: &[TokenIssuer]| {
                tokens.iter().any(|entry| entry.issuer == text.value.value)
            };
            if tokens.is_some_and(|tokens| !known(tokens)) {
                let message = format!("`{}` is not an issuer of `tokens`", text.value.shown());
                self.report.problem_instead(&text.place, message, example);
                return None;
            }
            Some(text.value.value.clone())
        });
        let secrets = self.webhook_secrets(wire);
        Some(Webhook {
            issuer: issuer?,
            secrets: secrets?,
        })
    }

    /// One secret, or several while they are changed.
    fn webhook_secrets(&mut self, wire: &file::Webhook) -> Option<Vec<hmac::Key>> {
        let written = (wire.secret.is_written(), wire.secret_file.is_written());
        let (field, in_files) = match written {
            (true, false) => (&wire.secret, false),
            (false, true) => (&wire.secret_file, true),
            (true, true) => {
                self.report.problem(
                    &wire.place.below("secret"),
                    "cannot stand beside `secret_file`; remove one of the two",
                );
                return None;
            }
            (false, false) => {
                let choice = "write `secret_file` or `secret`";
                self.report
                    .problem_instead(&wire.place, "has no secret", choice);
                return None;
            }
        };
        let many = field.good()?;
        many.value.0.at_least_one(&many.place, self.report);
        self.each(&many.value.0, |checker, item| {
            let text = match in_files {
                true => checker.text_file(item)?,
                false => item.value.value.clone(),
            };
            checker.webhook_secret(&text, item)
        })
    }

    fn webhook_secret(&mut self, text: &str, written: &Value<Text>) -> Option<hmac::Key> {
        // As Supabase shows it; other senders leave the version out.
        let encoded = text
            .strip_prefix("v1,")
            .unwrap_or(text)
            .strip_prefix("whsec_");
        let bytes = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        let bytes = bytes.filter(|bytes| SECRET.contains(&bytes.len()));
        if bytes.is_none() {
            self.report.problem_instead(
                &written.place,
                "is not a secret of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64",
                "`echo \"whsec_$(openssl rand -base64 32)\"` makes one",
            );
        }
        bytes.map(|bytes| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    }
}
