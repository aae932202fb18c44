//! The sign-in routes: where they are, how long they may take, and a user's row in the database.
//!
//! The routes below `prefix` are checked like any other, and everything else below it is denied.

use std::time::Duration;

use super::{Identity, Supabase};
use crate::config::check::Checker;
use crate::config::macros::wire;
use crate::config::node::Text;
use crate::config::place::Place;
use crate::config::sections::routes::context::RouteContext;
use crate::config::sections::routes::overlap::Placed;
use crate::config::sections::routes::route::Route;
use crate::config::sections::routes::wire::{Body, ResourceField};
use crate::config::units::{Size, mins, secs};
use crate::config::wire::{Field, List, Many, Section, Value};
use crate::policy::endpoint::Endpoint;
use crate::policy::roles::Action;
use crate::policy::route::{Access, CredentialSource, Serve};
use crate::policy::sign_in::{self as checked, Insert, SignIn, Throttling};

wire! {
    /// How long a request to sign in may take.
    struct Deadlines {
        login: Duration [secs(1)..=mins(5)] = secs(8),
        register: Duration [secs(1)..=mins(5)] = secs(15),
        other: Duration [secs(1)..=mins(5)] = secs(8),
    }

    /// A user's row in the database.
    struct Profile {
        insert: Text,
        select: Text,
    }
}

/// Where the routes are unless something else is written.
const PREFIX: &str = "/api/v1/auth";

/// Longest body of a sign-in route: a token of some kilobytes, and a name.
const BODY: Size = Size(16 << 10);

const INSERT: &str = "write such as `insert into users (id, email, full_name) values ($1, $2, $3) on conflict do nothing`";

impl Checker<'_> {
    /// How users sign in. `Some(None)` if there is no identity server.
    pub(crate) fn sign_in(
        &mut self,
        field: &Field<Identity>,
        has_database: bool,
    ) -> Option<Option<SignIn>> {
        field.then(|wire| {
            let wire = &wire.value;
            let deadlines = deadlines(&wire.deadlines);
            let throttle = self.throttle(&wire.throttle);
            if let (Some(deadlines), Some(throttle)) = (&deadlines, &throttle) {
                self.floor_below_deadline(wire, deadlines, throttle);
            }
            let profile = wire.profile.then(|wire| self.profile(wire, has_database));
            let supabase = wire.supabase.good()?;
            let prefix = self.prefix(&supabase.value.prefix);
            let register = self.registration(supabase);
            let redirect_to = self.redirects(&supabase.value.redirect_to);
            let me = self.me(wire, has_database);
            Some(SignIn {
                prefix: prefix?,
                register: register?,
                redirect_to: redirect_to?,
                me: me?,
                deadlines: deadlines?,
                throttle: throttle?,
                profile: profile?.flatten(),
            })
        })
    }

    /// A refusal that is held longer than a login may take would look like an identity server that
    /// does not answer.
    fn floor_below_deadline(
        &mut self,
        wire: &Identity,
        deadlines: &checked::Deadlines,
        throttle: &Throttling,
    ) {
        let written = wire.throttle.good();
        if let Some(place) = written.and_then(|throttle| throttle.value.refusal_floor.place())
            && throttle.refusal_floor >= deadlines.login
        {
            self.report.problem_instead(
                place,
                "is not shorter than a login may take",
                "write less than `identity.deadlines.login`",
            );
        }
    }

    /// `Some(None)` for `none`.
    fn prefix(&mut self, field: &Field<Text>) -> Option<Option<String>> {
        let Some(text) = field.optional()? else {
            return Some(Some(PREFIX.to_owned()));
        };
        if text.value.value == "none" {
            return Some(None);
        }
        let prefix = text.parse(
            |text| is_prefix(text).then(|| text.to_owned()),
            "cannot be the beginning of a path",
            "write a path without a slash at the end, such as `/api/v1/auth`, or `none` for no sign-in routes",
            self.report,
        );
        prefix.map(Some)
    }

    /// The statement that inserts the row. `Some(None)` if something else inserts it.
    fn profile(&mut self, wire: &Value<Profile>, has_database: bool) -> Option<Option<Insert>> {
        if !wire.value.insert.is_written() && !wire.value.select.is_written() {
            return self.report.refuse_instead(&wire.place, "is empty", INSERT);
        }
        let insert = &wire.value.insert;
        insert.then(|insert| self.insert(insert, has_database))
    }

    fn insert(&mut self, insert: &Value<Text>, has_database: bool) -> Option<Insert> {
        if !has_database {
            return self.report.refuse_instead(
                &insert.place,
                "there is no `database` to write it to",
                "add `database: { url: … }`, or remove it",
            );
        }
        // It is carried out again when the user signs in, in case it failed before.
        let sql = insert.value.value.to_ascii_lowercase();
        if !sql.contains("on conflict") || !sql.contains("$1") {
            return self.report.refuse_instead(
                &insert.place,
                "must name the user by `$1`, and do nothing `on conflict`: it is carried out more than once",
                INSERT,
            );
        }
        Some(Insert {
            sql: insert.value.value.as_str().into(),
            key: insert.place.key.clone(),
            line: insert.place.line,
            column: insert.place.column,
        })
    }

    /// The routes themselves, checked like any other.
    pub(crate) fn sign_in_routes(
        &mut self,
        field: &Field<Identity>,
        context: &RouteContext<'_>,
    ) -> Vec<Placed> {
        let Some(supabase) = field.good().and_then(|wire| wire.value.supabase.good()) else {
            return Vec::new();
        };
        let routes = made_routes(supabase);
        routes
            .iter()
            .filter_map(|route| self.route(route, context))
            .map(|placed| Placed {
                is_made: true,
                ..placed
            })
            .collect()
    }
}

fn deadlines(field: &Field<Deadlines>) -> Option<checked::Deadlines> {
    let wire = field.section()?;
    Some(checked::Deadlines {
        login: wire.login()?,
        register: wire.register()?,
        other: wire.other()?,
    })
}

/// The routes that nobody wrote, as if they had been written at `identity.supabase`.
fn made_routes(supabase: &Value<Supabase>) -> Vec<Route> {
    let Value { value: wire, place } = supabase;
    let prefix = match wire.prefix.optional() {
        Some(None) => PREFIX,
        Some(Some(text)) if is_prefix(&text.value.value) => &text.value.value,
        // A bad prefix was reported; and there is `none`.
        Some(Some(_)) | None => return Vec::new(),
    };
    let mut routes: Vec<Route> = Endpoint::ALL
        .into_iter()
        .map(|endpoint| made_route(prefix, endpoint, place))
        .collect();
    // What an older client still requests there must not reach a server that would answer it in its
    // own way.
    let paths = [prefix.to_owned(), format!("{prefix}/{{*rest}}")];
    routes.push(Route {
        place: place.clone(),
        path: good(Many(list(paths.map(text), place)), place),
        access: good(Access::Deny, place),
        ..Route::absent()
    });
    routes
}

fn made_route(prefix: &str, endpoint: Endpoint, place: &Place) -> Route {
    let path = text(format!("{prefix}/{}", endpoint.path()));
    let route = Route {
        place: place.clone(),
        path: good(Many(list([path], place)), place),
        methods: good(Many(list([endpoint.method()], place)), place),
        access: good(Access::Public, place),
        resource: good(ResourceField::Nothing, place),
        serve: good(Serve::SignIn(endpoint), place),
        body: good(
            Body {
                limit: good(BODY, place),
                ..Body::absent()
            },
            place,
        ),
        ..Route::absent()
    };
    if !endpoint.is_for_users() {
        return route;
    }
    let sources = [CredentialSource::Bearer, CredentialSource::Cookie];
    Route {
        access: good(Access::User, place),
        // Anonymous users sign out, too.
        anonymous: good(true, place),
        // Nobody needs a role for their own session.
        action: Action::parse("read").map_or(Field::Bad, |read| good(read, place)),
        credentials: good(list(sources, place), place),
        ..route
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

fn good<T>(value: T, place: &Place) -> Field<T> {
    Field::Good(Value {
        value,
        place: place.clone(),
    })
}

fn list<T, const N: usize>(values: [T; N], place: &Place) -> List<T> {
    let value = |value| Value {
        value,
        place: place.clone(),
    };
    List {
        items: values.into_iter().map(value).collect(),
        written: N,
    }
}

fn text(value: String) -> Text {
    Text {
        value,
        written: None,
    }
}
