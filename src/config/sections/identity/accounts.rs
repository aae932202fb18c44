//! How accounts are created, and where links in messages may lead.

use super::supabase::RegisterBy;
use super::Supabase;
use crate::config::check::Checker;
use crate::config::node::Text;
use crate::config::wire::{Field, List, Value};
use crate::policy::sign_in::Registration;

/// The longest address of a link in bytes. A choice: longer ones break in mail programs.
const LONGEST_REDIRECT: usize = 1024;

impl Checker<'_> {
    pub(super) fn registration(&mut self, supabase: &Value<Supabase>) -> Option<Registration> {
        let wire = &supabase.value;
        let confirm = wire.confirm_email();
        match wire.register()? {
            RegisterBy::SignUp => match wire.confirm_email.place() {
                None => confirm.map(|_| Registration::SignUp),
                Some(place) => self.report.refuse_instead(
                    place,
                    "is the identity server's to decide with `register: signup`, the default",
                    "remove it and change the setting there, or add `register: admin`",
                ),
            },
            RegisterBy::Admin if !wire.has_secret() => {
                let place = wire.register.place().unwrap_or(&supabase.place);
                self.report.refuse_instead(
                    place,
                    "needs a secret key",
                    "add `secret_key_file`, or write `register: signup`",
                )
            }
            RegisterBy::Admin => {
                if let Some(place) = wire.register.place() {
                    self.report.warn(
                        place,
                        "new accounts bypass the identity server's captcha, its hook before a user is created, its confirmation setting and its limits",
                    );
                }
                confirm.map(Registration::Admin)
            }
        }
    }

    /// Every address is written in full: a pattern would also match what somebody else can write.
    pub(super) fn redirects(&mut self, field: &Field<List<Text>>) -> Option<Vec<String>> {
        let redirects = field.then(|list| {
            self.each(&list.value, |checker, text| {
                text.parse(
                    |text| is_redirect(text).then(|| text.to_owned()),
                    "is not the address of a page",
                    "write it in full, such as `https://app.example.com/new-password`",
                    checker.report,
                )
            })
        });
        redirects.map(Option::unwrap_or_default)
    }
}

/// An address with a scheme, such as that of a page or of an app, without a fragment, in which the
/// identity server puts tokens.
fn is_redirect(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let is_scheme_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_');
    let is_script = ["javascript", "data", "vbscript"].contains(&&*scheme.to_ascii_lowercase());
    !rest.is_empty()
        && text.len() <= LONGEST_REDIRECT
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(is_scheme_byte)
        && !is_script
        && rest.bytes().all(|byte| byte.is_ascii_graphic())
        && !rest.contains(['#', '"', '<', '>', '\\', '^', '`', '{', '|', '}', '*'])
}
