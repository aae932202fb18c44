//! Sessions in a cookie, and how many sessions a user may have.
//!
//! Decides: that no other host of the site can set the cookie, outside of development, and that a session does not outlive the memory of its
//! revocation. Trusts: `revocations` for how long that is. Not here: the sessions (`sessions`).

use std::num::NonZeroUsize;
use std::time::Duration;

use super::{Checker, DAY, HOUR, or, secs, section};
use crate::config::file;
use crate::config::node::Text;
use crate::config::units::written;
use crate::config::wire::{Field, Value};
use crate::policy::Environment;
use crate::policy::revocations::Revocations;
use crate::policy::sessions::{HOST_PREFIX, SameSite, Sessions, is_secure_name};
use crate::request::headers::OWN_COOKIE;

/// A shorter one says no more than this, and a longer one makes every request longer.
const LONGEST_NAME: usize = 64;

impl Checker<'_> {
    /// What is said of sessions, or the defaults.
    pub(super) fn sessions(
        &mut self,
        field: &Field<file::Sessions>,
        environment: Option<Environment>,
        revocations: Option<&Revocations>,
    ) -> Option<Sessions> {
        let absent = file::Sessions::absent();
        let wire = section(field, &absent)?;
        let cookie = match &wire.cookie {
            Field::Absent => Some(OWN_COOKIE.to_owned()),
            Field::Bad => None,
            Field::Good(text) => self.cookie_name(text, environment),
        };
        let same_site = or(&wire.same_site, SameSite::Lax);
        if let (Some(name), Some(SameSite::None), Some(written)) =
            (&cookie, same_site, wire.same_site.good())
            && !is_secure_name(name)
        {
            self.report.problem_instead(
                &written.place,
                "`none` makes browsers refuse a cookie that is not `Secure`",
                "begin its name with `__Host-`",
            );
        }
        let lifetimes = secs(1)..=90 * DAY;
        let idle = self.duration(&wire.idle, lifetimes.clone(), HOUR / 2);
        let lifetime = self.duration(&wire.lifetime, lifetimes, 12 * HOUR);
        self.lifetimes_fit(wire, idle, lifetime, revocations);
        let max_per_user = self.number(&wire.max_per_user, 1..=1000, 10_usize);
        let cache = self.number(&wire.cache, 1..=10_000_000, 100_000_usize);
        Some(Sessions {
            cookie: cookie?,
            same_site: same_site?,
            idle: idle?,
            lifetime: lifetime?,
            max_per_user: max_per_user?,
            cache: NonZeroUsize::new(cache?)?,
        })
    }

    fn lifetimes_fit(
        &mut self,
        wire: &file::Sessions,
        idle: Option<Duration>,
        lifetime: Option<Duration>,
        revocations: Option<&Revocations>,
    ) {
        let (Some(idle), Some(lifetime)) = (idle, lifetime) else {
            return;
        };
        let place = wire
            .lifetime
            .good()
            .or(wire.idle.good())
            .map(|it| &it.place);
        let Some(place) = place else { return };
        if idle > lifetime {
            let message = "`idle` is longer than `lifetime`, which ends every session";
            self.report.problem(place, message);
        }
        if let Some(most) = revocations.map(|revocations| revocations.session_lifetime)
            && lifetime > most
        {
            let message = format!(
                "`lifetime` is longer than `revocations.session_lifetime` ({}), after which it is forgotten that a session was revoked",
                written(most)
            );
            self.report.problem(place, message);
        }
    }

    fn cookie_name(
        &mut self,
        text: &Value<Text>,
        environment: Option<Environment>,
    ) -> Option<String> {
        let name = &text.value.value;
        let rest = name.strip_prefix(HOST_PREFIX);
        let is_token = (1..=LONGEST_NAME).contains(&name.len())
            && rest != Some("")
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if !is_token {
            let message = format!("`{}` cannot be the name of a cookie", text.value.shown());
            let instead =
                format!("write `{OWN_COOKIE}`, or another name of letters, digits and `-`");
            self.report.problem_instead(&text.place, message, instead);
            return None;
        }
        if rest.is_none() && environment == Some(Environment::Production) {
            self.report.problem_instead(
                &text.place,
                "does not begin with `__Host-`, so another host of the same site could set it",
                format!("write `{OWN_COOKIE}`; only `environment: development` may do without"),
            );
            return None;
        }
        Some(name.clone())
    }
}
