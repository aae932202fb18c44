//! `identity.supabase`: where Supabase Auth is, and with which keys it is called.

use std::num::NonZeroUsize;

use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, TRANSFER_ENCODING};

use crate::config::check::Checker;
use crate::config::macros::{wire, words};
use crate::config::node::Text;
use crate::config::wire::{List, Named, Value};
use crate::policy::outbound_url::{OutboundUrl, OutboundUrlError};
use crate::policy::sign_in::{self as checked, ConfirmEmail};
use crate::policy::tokens::TokenIssuer;
use crate::secrets::secret::Secret;
use crate::tokens::{is_public_api_key, is_service_key};

wire! {
    /// Supabase Auth.
    struct Supabase {
        url: Text => URL,
        clear_text: bool = false,
        issuer: Text,
        publishable_keys: List<Text> => PUBLISHABLE,
        secret_key: Text,
        secret_key_file: Text,
        address_header: Text,
        concurrency: usize [1..=10_000] = 64,
        queue: usize [0..=100_000] = 256,
        prefix: Text,
        register: RegisterBy = RegisterBy::SignUp,
        confirm_email: ConfirmEmail = ConfirmEmail::Auto,
        redirect_to: List<Text>,
        me: Named<Text>,
    }
}

words! {
    impl ConfirmEmail { "auto" => ConfirmEmail::Auto, "required" => ConfirmEmail::Required, }
    impl RegisterBy { "signup" => RegisterBy::SignUp, "admin" => RegisterBy::Admin, }
}

/// By which operation of the identity server `register` creates accounts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RegisterBy {
    /// `POST /signup`, as any client.
    SignUp,
    /// `POST /admin/users`, with the secret key.
    Admin,
}

/// Where Supabase has it, below the URL of a project.
const PATH: &str = "/auth/v1";

const URL: &str = "write the URL of the project, such as `https://project.supabase.co`";
const PUBLISHABLE: &str = "write the project's `sb_publishable_…` key, or its `anon` key";
const SECRET: &str = "write the project's `sb_secret_…` key into it";

/// Fields that cannot carry the client's address, because they mean something else.
const TAKEN: [HeaderName; 6] = [
    AUTHORIZATION,
    CONTENT_LENGTH,
    COOKIE,
    HOST,
    TRANSFER_ENCODING,
    HeaderName::from_static("apikey"),
];

impl Checker<'_> {
    pub(super) fn supabase(
        &mut self,
        wire: &Supabase,
        tokens: Option<&[TokenIssuer]>,
    ) -> Option<checked::Supabase> {
        let url = self.supabase_url(wire);
        let issuer = url
            .as_ref()
            .and_then(|url| self.supabase_issuer(wire, url, tokens));
        let publishable_keys = self.publishable_keys(wire);
        let secret_key = self.supabase_secret(wire);
        let address_header = wire.address_header.then(|text| {
            text.parse(
                |text| text.parse().ok().filter(|name| !TAKEN.contains(name)),
                "cannot carry the client's address",
                "write what GOTRUE_RATE_LIMIT_HEADER says there, or `Sb-Forwarded-For`",
                self.report,
            )
        });
        let forwarded_for = HeaderName::from_static("x-forwarded-for");
        Some(checked::Supabase {
            url: url?,
            issuer: issuer?,
            publishable_keys: publishable_keys?,
            secret_key: secret_key?,
            address_header: address_header?.unwrap_or(forwarded_for),
            concurrency: NonZeroUsize::new(wire.concurrency()?)?,
            queue: wire.queue()?,
        })
    }

    fn supabase_url(&mut self, wire: &Supabase) -> Option<OutboundUrl> {
        let (text, clear_text) = (wire.url.good()?, wire.clear_text()?);
        let parsed = match clear_text {
            true => OutboundUrl::parse_any(&text.value.value),
            false => OutboundUrl::parse(&text.value.value),
        };
        let mut url = match parsed {
            Ok(url) => url,
            Err(OutboundUrlError::Malformed(why)) => {
                return self.report.refuse_instead(&text.place, why, URL);
            }
            Err(OutboundUrlError::ClearText) => {
                return self.report.refuse_instead(
                    &text.place,
                    "is in clear text, and passwords are sent there",
                    "write `https`, or add `clear_text: true` if the server is reached over a private network",
                );
            }
        };
        if clear_text && !url.site.tls {
            let message = "passwords go to the identity server in clear text";
            self.report.warn(&text.place, message);
        }
        let path = url.path.trim_end_matches('/');
        if path.contains('?') || path.ends_with(PATH) {
            let message = format!("has more than the URL of the project; `{PATH}` is added to it");
            return self.report.refuse_instead(&text.place, message, URL);
        }
        url.path = format!("{path}{PATH}");
        Some(url)
    }

    /// The `iss` of its tokens, which must be accepted here: otherwise nobody who signs in could
    /// use the token they get.
    fn supabase_issuer(
        &mut self,
        wire: &Supabase,
        url: &OutboundUrl,
        tokens: Option<&[TokenIssuer]>,
    ) -> Option<String> {
        let (issuer, shown, place) = match wire.issuer.optional()? {
            Some(text) => {
                let shown = text.value.shown().to_owned();
                (text.value.value.clone(), shown, text.place.clone())
            }
            None => {
                let shown = match &wire.url.good()?.value.written {
                    None => url.to_string(),
                    Some(variables) => format!("{variables}{PATH}"),
                };
                (url.to_string(), shown, wire.place.below("issuer"))
            }
        };
        if tokens.is_some_and(|tokens| !tokens.iter().any(|entry| entry.issuer == issuer)) {
            return self.report.refuse_instead(
                &place,
                format!("no entry of `tokens` accepts the server's issuer, `{shown}`"),
                format!("add `{{ issuer: \"{shown}\", audience: authenticated, algorithms: ES256, jwks_url: … }}` under `tokens`, or write the `issuer` it has"),
            );
        }
        Some(issuer)
    }

    fn publishable_keys(&mut self, wire: &Supabase) -> Option<Vec<Secret>> {
        self.each(&wire.publishable_keys.good()?.value, |checker, text| {
            if is_service_key(&text.value.value) {
                return checker.report.refuse_instead(
                    &text.place,
                    "is a secret key with full access; clients could use it",
                    PUBLISHABLE,
                );
            }
            checker.api_key(&text.value.value, text)
        })
    }

    fn supabase_secret(&mut self, wire: &Supabase) -> Option<Option<Secret>> {
        if !wire.has_secret() {
            return Some(None);
        }
        let (key, value) = self.one_of(
            &wire.place,
            &[
                ("secret_key", &wire.secret_key),
                ("secret_key_file", &wire.secret_key_file),
            ],
            ("has no secret key", SECRET),
        )?;
        let text = match key {
            "secret_key" => value.value.value.clone(),
            _ => self.secret_file(value, SECRET)?,
        };
        if is_public_api_key(&text) {
            return self.report.refuse_instead(
                &value.place,
                "is a publishable key, which may do nothing that needs a secret one",
                SECRET,
            );
        }
        self.api_key(&text, value).map(Some)
    }

    fn api_key(&mut self, text: &str, written: &Value<Text>) -> Option<Secret> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "is not a key: empty, or with characters that a header cannot hold";
            return self.report.refuse(&written.place, message);
        }
        Some(Secret::new(text))
    }
}

impl Supabase {
    /// The `iss` of its tokens, written or by default; `None` if the URL is wrong.
    pub(super) fn issuer_text(&self) -> Option<String> {
        if let Some(written) = self.issuer.optional()? {
            return Some(written.value.value.clone());
        }
        let mut url = OutboundUrl::parse_any(&self.url.good()?.value.value).ok()?;
        url.path = format!("{}{PATH}", url.path.trim_end_matches('/'));
        Some(url.to_string())
    }

    /// Whether a secret key was written, well or badly.
    pub(super) fn has_secret(&self) -> bool {
        self.secret_key.is_written() || self.secret_key_file.is_written()
    }
}
