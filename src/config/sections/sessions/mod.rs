//! `sessions`: sessions in a cookie, and how many a user may have.
//!
//! Decides: that in production no other host of the site can set the cookie, and that a session
//! does not outlive the record of its revocation. Trusts: `revocations`, for how long that is. Not
//! here: the sessions (`sessions`).

#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::config::check::Checker;
use crate::config::macros::{wire, words};
use crate::config::node::Text;
use crate::config::notation::written;
use crate::config::units::{HOUR, days, mins, secs};
use crate::config::wire::{Field, Value};
use crate::policy::Environment;
use crate::policy::revocations::Revocations;
use crate::policy::sessions::{self as checked, HOST_PREFIX, SameSite, is_secure_name};
use crate::request::headers::DEFAULT_COOKIE;

wire! {
    /// The cookie, and how long a session lives.
    struct Sessions {
        cookie: Text,
        same_site: SameSite = SameSite::Lax,
        idle: Duration [secs(1)..=days(90)] = mins(30),
        lifetime: Duration [secs(1)..=days(90)] = 12 * HOUR,
        max_per_user: usize [1..=1000] = 10,
        cache: usize [1..=10_000_000] = 100_000,
    }
}

words! {
    impl SameSite { "lax" => SameSite::Lax, "strict" => SameSite::Strict, "none" => SameSite::None, }
}

/// A choice: a longer name makes every request longer.
const LONGEST_NAME: usize = 64;

impl Checker<'_> {
    pub(crate) fn sessions(
        &mut self,
        field: &Field<Sessions>,
        environment: Option<Environment>,
        revocations: Option<&Revocations>,
    ) -> Option<checked::Sessions> {
        let wire = field.section()?;
        let cookie = wire.cookie.then(|text| self.cookie_name(text, environment));
        let cookie = cookie.map(|name| name.unwrap_or_else(|| DEFAULT_COOKIE.to_owned()));
        if let (
            Some(name),
            Some(Value {
                value: SameSite::None,
                place,
            }),
        ) = (&cookie, wire.same_site.good())
            && !is_secure_name(name)
        {
            self.report.problem_instead(
                place,
                "`none` makes browsers refuse a cookie that is not `Secure`",
                "begin its name with `__Host-`",
            );
        }
        self.lifetimes_fit(&wire, revocations);
        Some(checked::Sessions {
            cookie: cookie?,
            same_site: wire.same_site()?,
            idle: wire.idle()?,
            lifetime: wire.lifetime()?,
            max_per_user: wire.max_per_user()?,
            cache: NonZeroUsize::new(wire.cache()?)?,
        })
    }

    fn lifetimes_fit(&mut self, wire: &Sessions, revocations: Option<&Revocations>) -> Option<()> {
        let (idle, lifetime) = (wire.idle()?, wire.lifetime()?);
        let place = wire.lifetime.place().or(wire.idle.place())?;
        if idle > lifetime {
            let message = "`idle` is longer than `lifetime`, which ends every session";
            self.report.problem(place, message);
        }
        let most = revocations?.session_lifetime;
        if lifetime > most {
            let message = format!(
                "`lifetime` is longer than `revocations.session_lifetime` ({}), after which the record of a revoked session is dropped",
                written(most)
            );
            self.report.problem(place, message);
        }
        Some(())
    }

    fn cookie_name(
        &mut self,
        text: &Value<Text>,
        environment: Option<Environment>,
    ) -> Option<String> {
        // A token of RFC 9110, section 5.6.2.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let fits = |name: &str| {
            (1..=LONGEST_NAME).contains(&name.len())
                && name != HOST_PREFIX
                && name.bytes().all(plain)
        };
        let name = text.parse(
            |name| fits(name).then(|| name.to_owned()),
            "cannot be the name of a cookie",
            &format!("write `{DEFAULT_COOKIE}`, or another name of letters, digits and `-`"),
            self.report,
        )?;
        if !name.starts_with(HOST_PREFIX) && environment == Some(Environment::Production) {
            return self.report.refuse_instead(
                &text.place,
                "does not begin with `__Host-`, so another host of the same site could set it",
                format!("write `{DEFAULT_COOKIE}`; only `environment: development` may do without"),
            );
        }
        Some(name)
    }
}
