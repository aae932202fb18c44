//! The sign-in routes: where they are, how long they may take, and how often they may be asked.
//!
//! Decides: the routes below `prefix`, which are checked like any other, and that whatever else is below it is denied. Trusts: `identity::endpoints`
//! for what they are. Not here: where the identity server is (`identity`).

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::overlap::Placed;
use super::routes::Around;
use super::{Checker, MINUTES_5, or, secs, section};
use crate::config::file;
use crate::config::node::Text;
use crate::config::place::Place;
use crate::config::units::Size;
use crate::config::wire::{Field, List, Many, Value};
use crate::policy::endpoint::Endpoint;
use crate::policy::rate::Rate;
use crate::policy::route::{Access, Serve};
use crate::policy::sign_in::{ConfirmEmail, Deadlines, Limits, SignIn, Throttling};

/// Where the routes are unless something else is written.
const PREFIX: &str = "/api/v1/auth";

/// Longest body of a sign-in route, in bytes: a token of some kilobytes, and a name.
const BODY: u64 = 16 << 10;

/// What a wrong password takes: bcrypt of cost 10, on a machine with other things to do, and the way there and back. A choice.
const REFUSAL_FLOOR: Duration = Duration::from_millis(300);

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

impl Checker<'_> {
    /// How users sign in. `Some(None)` if nobody signs them in.
    pub(super) fn sign_in(
        &mut self,
        field: &Field<file::IdentityProvider>,
        has_database: bool,
    ) -> Option<Option<SignIn>> {
        let wire = match field {
            Field::Absent => return Some(None),
            Field::Bad => return None,
            Field::Good(provider) => &provider.value,
        };
        let absent = file::Supabase::absent();
        let supabase = section(&wire.supabase, &absent)?;
        let prefix = self.prefix(&supabase.prefix);
        let confirm_email = or(&supabase.confirm_email, ConfirmEmail::Auto);
        let deadlines = self.deadlines(&wire.deadlines);
        let throttle = self.throttle(&wire.throttle);
        if let (Some(deadlines), Some(throttle)) = (&deadlines, &throttle) {
            self.floor_below_deadline(wire, deadlines, throttle);
        }
        let profile = self.profile(&wire.profile, has_database);
        Some(Some(SignIn {
            prefix: prefix?,
            confirm_email: confirm_email?,
            deadlines: deadlines?,
            throttle: throttle?,
            profile: profile?,
        }))
    }

    /// A refusal that is held for longer than a login may take would be told as an identity server that does not answer.
    fn floor_below_deadline(
        &mut self,
        wire: &file::IdentityProvider,
        deadlines: &Deadlines,
        throttle: &Throttling,
    ) {
        let written = wire.throttle.good();
        let written = written.and_then(|throttle| throttle.value.refusal_floor.good());
        if let Some(written) = written
            && throttle.refusal_floor >= deadlines.login
        {
            self.report.problem_instead(
                &written.place,
                "is longer than a login may take",
                "write less than `identity.deadlines.login`",
            );
        }
    }

    /// `Some(None)` for `none`.
    fn prefix(&mut self, field: &Field<Text>) -> Option<Option<String>> {
        let text = match field {
            Field::Absent => return Some(Some(PREFIX.to_owned())),
            Field::Bad => return None,
            Field::Good(text) => text,
        };
        let prefix = text.value.value.as_str();
        if prefix == "none" {
            return Some(None);
        }
        let fits = is_prefix(prefix);
        if !fits {
            self.report.problem_instead(
                &text.place,
                format!(
                    "`{}` is not what a path can begin with",
                    text.value.shown()
                ),
                "write a path without a slash at the end, such as `/api/v1/auth`, or `none` for no sign-in routes",
            );
        }
        fits.then(|| Some(prefix.to_owned()))
    }

    /// `Some(None)` if users have no row.
    fn profile(
        &mut self,
        field: &Field<file::Profile>,
        has_database: bool,
    ) -> Option<Option<Arc<str>>> {
        let wire = match field {
            Field::Absent => return Some(None),
            Field::Bad => return None,
            Field::Good(wire) => wire,
        };
        let example = "write such as `insert into users (id, email, full_name) values ($1, $2, $3) on conflict do nothing`";
        let insert = wire
            .value
            .insert
            .required(&wire.place, "insert", example, self.report)?;
        if !has_database {
            self.report.problem_instead(
                &insert.place,
                "there is no `database` to write it to",
                "add `database: { url: … }`, or remove it",
            );
            return None;
        }
        // It is carried out again when the user signs in, in case it failed before.
        let sql = insert.value.value.to_ascii_lowercase();
        if !sql.contains("on conflict") || !sql.contains("$1") {
            self.report.problem_instead(
                &insert.place,
                "must name the user by `$1`, and do nothing `on conflict`: it is carried out more than once",
                example,
            );
            return None;
        }
        Some(Some(insert.value.value.as_str().into()))
    }

    fn deadlines(&mut self, field: &Field<file::Deadlines>) -> Option<Deadlines> {
        let absent = file::Deadlines::absent();
        let wire = section(field, &absent)?;
        let range = || secs(1)..=MINUTES_5;
        let login = self.duration(&wire.login, range(), secs(8));
        let register = self.duration(&wire.register, range(), secs(15));
        let other = self.duration(&wire.other, range(), secs(8));
        Some(Deadlines {
            login: login?,
            register: register?,
            other: other?,
        })
    }

    fn throttle(&mut self, field: &Field<file::Throttle>) -> Option<Throttling> {
        let absent = file::Throttle::absent();
        let wire = section(field, &absent)?;
        let login = self.limits(&wire.login, 20, Some(5));
        let register = self.limits(&wire.register, 3, None);
        let refresh = self.limits(&wire.refresh, 10, None);
        let reset = self.limits(&wire.reset, 2, None);
        let verify = self.limits(&wire.verify, 10, Some(5));
        let everywhere = or(&wire.everywhere, Rate::new(count(10), HOUR));
        let longest_delay = self.duration(
            &wire.longest_delay,
            Duration::ZERO..=Duration::from_secs(5),
            secs(2),
        );
        let refusal_floor = self.duration(
            &wire.refusal_floor,
            Duration::ZERO..=Duration::from_secs(5),
            REFUSAL_FLOOR,
        );
        let waiting = self.number(&wire.waiting, 0..=100_000, 1000_usize);
        Some(Throttling {
            login: login?,
            register: register?,
            refresh: refresh?,
            reset: reset?,
            verify: verify?,
            everywhere: everywhere?,
            longest_delay: longest_delay?,
            refusal_floor: refusal_floor?,
            waiting: waiting?,
        })
    }

    /// Limits a minute. Where the account makes no difference, a limit of it is a mistake.
    fn limits(
        &mut self,
        field: &Field<file::AttemptLimits>,
        address: u32,
        account: Option<u32>,
    ) -> Option<Limits> {
        let absent = file::AttemptLimits::absent();
        let wire = section(field, &absent)?;
        let a_minute = |number| Rate::new(count(number), MINUTE);
        if let (None, Some(written)) = (account, wire.account.good()) {
            self.report.problem(
                &written.place,
                "nothing is counted by account here; remove it, or write it under `login` or `verify`",
            );
            return None;
        }
        let address = or(&wire.address, a_minute(address));
        let account = match account {
            Some(number) => or(&wire.account, a_minute(number)).map(Some),
            None => Some(None),
        };
        Some(Limits {
            address: address?,
            account: account?,
        })
    }

    /// The routes themselves, checked like any other.
    pub(super) fn sign_in_routes(
        &mut self,
        field: &Field<file::IdentityProvider>,
        around: &Around<'_>,
    ) -> Vec<Placed> {
        let Some(supabase) = field.good().and_then(|wire| wire.value.supabase.good()) else {
            return Vec::new();
        };
        let wire = &supabase.value;
        let prefix = match &wire.prefix {
            Field::Absent => PREFIX,
            Field::Good(text) if is_prefix(&text.value.value) => &text.value.value,
            // What is bad was told; and there is `none`.
            Field::Good(_) | Field::Bad => return Vec::new(),
        };
        let place = &supabase.place;
        let has_secret = wire.secret_key.is_written() || wire.secret_key_file.is_written();
        let mut routes: Vec<file::Route> = Endpoint::ALL
            .into_iter()
            .filter(|endpoint| has_secret || *endpoint != Endpoint::Register)
            .map(|endpoint| sign_in_route(prefix, endpoint, place))
            .collect();
        // What an older client may still ask there must not reach a server that would answer it in its own way.
        routes.push(file::Route {
            path: good(
                many(&[prefix.to_owned(), format!("{prefix}/{{*rest}}")], place),
                place,
            ),
            access: good(Access::Deny, place),
            ..bare(place)
        });
        routes
            .iter()
            .filter_map(|route| self.route(route, around))
            .map(|placed| Placed {
                is_made: true,
                ..placed
            })
            .collect()
    }
}

fn is_prefix(text: &str) -> bool {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let is_segment = |segment: &str| {
        !segment.is_empty() && !matches!(segment, "." | "..") && segment.bytes().all(is_plain)
    };
    text.strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(is_segment))
}

fn sign_in_route(prefix: &str, endpoint: Endpoint, place: &Place) -> file::Route {
    file::Route {
        path: good(
            many(&[format!("{prefix}/{}", endpoint.path())], place),
            place,
        ),
        methods: good(many(&[endpoint.method().as_str().to_owned()], place), place),
        access: good(
            match endpoint.is_for_users() {
                true => Access::User,
                false => Access::Public,
            },
            place,
        ),
        resource: good(file::ResourceField::Nothing, place),
        // Whoever is anonymous signs out, too.
        anonymous: match endpoint.is_for_users() {
            true => good(true, place),
            false => Field::Absent,
        },
        // Nobody needs a right for what is his own session.
        action: match endpoint.is_for_users() {
            true => good(text("read".to_owned()), place),
            false => Field::Absent,
        },
        credentials: match endpoint.is_for_users() {
            true => good(
                many(&["bearer".to_owned(), "cookie".to_owned()], place).0,
                place,
            ),
            false => Field::Absent,
        },
        serve: good(Serve::SignIn(endpoint), place),
        body: good(
            file::Body {
                limit: good(Size(BODY), place),
                ..file::Body::absent()
            },
            place,
        ),
        ..bare(place)
    }
}

fn bare(place: &Place) -> file::Route {
    file::Route {
        place: place.clone(),
        ..file::Route::absent()
    }
}

fn good<T>(value: T, place: &Place) -> Field<T> {
    Field::Good(Value {
        value,
        place: place.clone(),
    })
}

fn many(values: &[String], place: &Place) -> Many<Text> {
    let items = values.iter().map(|value| Value {
        value: text(value.clone()),
        place: place.clone(),
    });
    Many(List {
        items: items.collect(),
        written: values.len(),
    })
}

fn text(value: String) -> Text {
    Text {
        value,
        written: None,
    }
}

fn count(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}
