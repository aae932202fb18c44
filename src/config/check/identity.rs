//! The identity server: where it is, and with which keys it is called.
//!
//! Decides: that passwords go over TLS unless the operator says otherwise, that no secret key is handed to clients as a publishable one, and that an
//! entry of `tokens` accepts what the server issues. Trusts: the operator, for whose server it is. Not here: the sign-in routes (`sign_in`).

use std::num::NonZeroUsize;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, TRANSFER_ENCODING};

use super::{Checker, or};
use crate::config::file;
use crate::config::node::Text;
use crate::config::wire::{Field, Value};
use crate::policy::side_url::{SideUrl, SideUrlError};
use crate::policy::sign_in::Supabase;
use crate::policy::tokens::TokenIssuer;
use crate::secrets::secret::Secret;
use crate::tokens::is_service_key;

/// Where Supabase has it, below the URL of a project.
const PATH: &str = "/auth/v1";

const EXAMPLE: &str = "write the URL of the project, such as `https://project.supabase.co`";

impl Checker<'_> {
    /// Who signs users in. `Some(None)` if nobody does.
    pub(super) fn identity(
        &mut self,
        field: &Field<file::IdentityProvider>,
        tokens: Option<&[TokenIssuer]>,
    ) -> Option<Option<Arc<Supabase>>> {
        let wire = match field {
            Field::Absent => return Some(None),
            Field::Bad => return None,
            Field::Good(provider) => provider,
        };
        let example = "write `supabase: { url: …, publishable_keys: […] }`";
        let supabase =
            wire.value
                .supabase
                .required(&wire.place, "supabase", example, self.report)?;
        self.supabase(&supabase.value, tokens)
            .map(Arc::new)
            .map(Some)
    }

    fn supabase(
        &mut self,
        wire: &file::Supabase,
        tokens: Option<&[TokenIssuer]>,
    ) -> Option<Supabase> {
        let clear_text = or(&wire.clear_text, false);
        let url = wire.url.required(&wire.place, "url", EXAMPLE, self.report);
        let url = url.and_then(|text| self.supabase_url(text, clear_text?));
        let issuer = url
            .as_ref()
            .and_then(|url| self.supabase_issuer(wire, url, tokens));
        let publishable_keys = self.publishable_keys(wire);
        let secret_key = self.supabase_secret(wire);
        let address_header = match &wire.address_header {
            Field::Absent => Some(HeaderName::from_static("x-forwarded-for")),
            Field::Bad => None,
            Field::Good(text) => self.address_header(text),
        };
        let concurrency = self.number(&wire.concurrency, 1..=10_000, 64_usize);
        let queue = self.number(&wire.queue, 0..=100_000, 256_usize);
        Some(Supabase {
            url: url?,
            issuer: issuer?,
            publishable_keys: publishable_keys?,
            secret_key: secret_key?,
            address_header: address_header?,
            concurrency: NonZeroUsize::new(concurrency?)?,
            queue: queue?,
        })
    }

    fn supabase_url(&mut self, text: &Value<Text>, clear_text: bool) -> Option<SideUrl> {
        let parsed = match clear_text {
            true => SideUrl::parse_any(&text.value.value),
            false => SideUrl::parse(&text.value.value),
        };
        let mut url = match parsed {
            Ok(url) => url,
            Err(SideUrlError::Malformed(why)) => {
                self.report.problem_instead(&text.place, why, EXAMPLE);
                return None;
            }
            Err(SideUrlError::ClearText) => {
                self.report.problem_instead(
                    &text.place,
                    "is in clear text, which passwords would be, too",
                    "write `https`, or add `clear_text: true` if the way there is a network of your own",
                );
                return None;
            }
        };
        if clear_text && !url.site.tls {
            self.report.warn(
                &text.place,
                "passwords go to the identity server in clear text",
            );
        }
        let path = url.path.trim_end_matches('/');
        if path.contains('?') || path.ends_with(PATH) {
            let message = format!("has more behind the project; `{PATH}` goes without saying");
            self.report.problem_instead(&text.place, message, EXAMPLE);
            return None;
        }
        url.path = format!("{path}{PATH}");
        Some(url)
    }

    /// The `iss` of its tokens, which must be accepted here: else whoever signs in could do nothing with what they get.
    fn supabase_issuer(
        &mut self,
        wire: &file::Supabase,
        url: &SideUrl,
        tokens: Option<&[TokenIssuer]>,
    ) -> Option<String> {
        let (issuer, shown, place) = match (&wire.issuer, wire.url.good()) {
            (Field::Bad, _) | (_, None) => return None,
            (Field::Absent, Some(written)) => {
                let shown = match &written.value.written {
                    None => url.to_string(),
                    Some(variables) => format!("{variables}{PATH}"),
                };
                (url.to_string(), shown, wire.place.below("issuer"))
            }
            (Field::Good(text), _) => {
                let shown = text.value.shown().to_owned();
                (text.value.value.clone(), shown, text.place.clone())
            }
        };
        let known = |tokens: &[TokenIssuer]| tokens.iter().any(|entry| entry.issuer == issuer);
        if tokens.is_some_and(|tokens| !known(tokens)) {
            self.report.problem_instead(
                &place,
                format!("no entry of `tokens` accepts what it issues: `{shown}`"),
                format!("add `{{ issuer: \"{shown}\", audience: authenticated, algorithms: ES256, jwks_url: … }}` under `tokens`, or write the `issuer` it has"),
            );
            return None;
        }
        Some(issuer)
    }

    fn publishable_keys(&mut self, wire: &file::Supabase) -> Option<Vec<Secret>> {
        let example = "write the project's `sb_publishable_…` key, or its `anon` key";
        let list = wire.publishable_keys.required(
            &wire.place,
            "publishable_keys",
            example,
            self.report,
        )?;
        list.value.at_least_one(&list.place, self.report);
        let keys = self.each(&list.value, |checker, text| {
            if is_service_key(&text.value.value) {
                let message = "is a secret key, which opens everything; clients could use it";
                checker
                    .report
                    .problem_instead(&text.place, message, example);
                return None;
            }
            checker.api_key(&text.value.value, text)
        })?;
        (!keys.is_empty()).then_some(keys)
    }

    fn supabase_secret(&mut self, wire: &file::Supabase) -> Option<Option<Secret>> {
        let (text, written) = match (&wire.secret_key, &wire.secret_key_file) {
            (Field::Absent, Field::Absent) => return Some(None),
            (Field::Good(text), Field::Absent) => (text.value.value.clone(), text),
            (Field::Absent, Field::Good(file)) => (self.text_file(file)?, file),
            (Field::Bad, _) | (_, Field::Bad) => return None,
            (Field::Good(_), Field::Good(file)) => {
                self.report.problem(
                    &file.place,
                    "cannot stand beside `secret_key`; remove one of the two",
                );
                return None;
            }
        };
        self.api_key(&text, written).map(Some)
    }

    fn api_key(&mut self, text: &str, written: &Value<Text>) -> Option<Secret> {
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits {
            self.report.problem(
                &written.place,
                "is not a key: empty, or with characters that cannot stand in a field",
            );
        }
        fits.then(|| Secret::new(text))
    }

    fn address_header(&mut self, text: &Value<Text>) -> Option<HeaderName> {
        let name = HeaderName::try_from(text.value.value.as_str()).ok();
        let name = name.filter(|name| {
            ![
                AUTHORIZATION,
                CONTENT_LENGTH,
                COOKIE,
                HOST,
                TRANSFER_ENCODING,
            ]
            .contains(name)
                && name != "apikey"
        });
        if name.is_none() {
            self.report.problem_instead(
                &text.place,
                format!("`{}` cannot carry the client's address", text.value.shown()),
                "write what GOTRUE_RATE_LIMIT_HEADER says there, or `Sb-Forwarded-For`",
            );
        }
        name
    }
}
