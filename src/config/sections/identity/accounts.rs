//! How accounts are created, where links in messages may lead, and what `me` shows of a user.

use super::sign_in::Profile;
use super::supabase::RegisterBy;
use super::{Identity, Supabase};
use crate::config::check::Checker;
use crate::config::node::Text;
use crate::config::wire::{Field, List, Value};
use crate::policy::sign_in::{Me, MeSource, Registration};

/// Members of `me` and `whoami` that the gateway writes itself.
const OWN: [&str; 7] = [
    "id",
    "email",
    "role",
    "created_at",
    "updated_at",
    "metadata",
    "csrf_token",
];

/// The most members that `me` may have. A choice.
const MOST_MEMBERS: usize = 64;

/// The longest address of a link in bytes. A choice: longer ones break in mail programs.
const LONGEST_REDIRECT: usize = 1024;

const SELECT: &str =
    "add such as `profile: { select: select full_name from users where id = $1 }` below `identity`";

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

    pub(super) fn me(&mut self, wire: &Identity, has_database: bool) -> Option<Me> {
        let select = match wire.profile.optional()? {
            None => Some(None),
            Some(Value { value, .. }) => self.select(value, has_database),
        };
        let has_row = wire
            .profile
            .good()
            .is_some_and(|profile| profile.value.select.is_written());
        let field = &wire.supabase.good()?.value.me;
        if let Some(named) = field.good()
            && named.value.0.len() > MOST_MEMBERS
        {
            let message = format!("has more than {MOST_MEMBERS} members");
            return self.report.refuse(&named.place, message);
        }
        let members = self.each_of(field, |checker, name, source| {
            checker.member(name, source?, has_row)
        });
        let (row, members) = (select?, members?);
        let is_column = |(_, source): &(_, _)| matches!(source, MeSource::Column(_));
        if row.is_some() && !members.iter().any(is_column) {
            let place = wire.profile.good()?.value.select.place()?;
            let message = "nobody reads it: no member of `identity.supabase.me` is a column";
            let instead = "write such as `me: { credits: credits_balance }`, or remove it";
            return self.report.refuse_instead(place, message, instead);
        }
        Some(Me { row, members })
    }

    fn select(
        &mut self,
        profile: &Profile,
        has_database: bool,
    ) -> Option<Option<crate::policy::resources::Query>> {
        profile.select.then(|text| match has_database {
            true => self.query(text, has_database),
            false => self.report.refuse_instead(
                &text.place,
                "there is no `database` to read it from",
                "add `database: { url: … }`, or remove it",
            ),
        })
    }

    fn member(
        &mut self,
        name: &Value<String>,
        source: &Value<Text>,
        has_row: bool,
    ) -> Option<(String, MeSource)> {
        if !is_name(&name.value) || OWN.contains(&name.value.as_str()) {
            return self.report.refuse_instead(
                &name.place,
                "is not a name, or a member that is there already",
                format!(
                    "write letters, digits and `_`, and none of {}",
                    OWN.join(", ")
                ),
            );
        }
        let source = source.parse(
            MeSource::parse,
            "is no source of a member",
            "write a column of `identity.profile.select`, `app_metadata.NAME`, or `user_metadata.NAME`, which users write themselves",
            self.report,
        )
        .map(|parsed| (parsed, &source.place))?;
        match source {
            (MeSource::Column(_), place) if !has_row => self.report.refuse_instead(
                place,
                "is a column, and there is no row to read it from",
                SELECT,
            ),
            (source, _) => Some((name.value.clone(), source)),
        }
    }
}

impl MeSource {
    fn parse(text: &str) -> Option<Self> {
        let (source, name): (fn(String) -> Self, _) = match text.split_once('.') {
            None => (Self::Column, text),
            Some(("app_metadata", name)) => (Self::AppMetadata, name),
            Some(("user_metadata", name)) => (Self::UserMetadata, name),
            Some(_) => return None,
        };
        is_name(name).then(|| source(name.to_owned()))
    }
}

fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=63).contains(&text.len()) && text.bytes().all(is_plain)
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
