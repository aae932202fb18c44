//! `routes` and `defaults`: what each route is, key by key, and whether its keys fit together.
//!
//! Decides: the defaults of a route, and that none of its keys is without effect. Trusts: the files
//! beside this one, for the larger keys. Not here: choosing the route of a request
//! (`policy::router`).

mod access;
mod body;
pub(super) mod context;
mod learn;
pub(super) mod overlap;
mod resource;
mod rest;
mod target;
#[cfg(test)]
mod tests;
mod upgrade;
mod when;
pub(crate) mod wire;

use std::time::Duration;

use hyper::Method;

use self::context::RouteContext;
use self::overlap::Placed;
use self::wire::Timeouts;
pub(crate) use self::wire::{Defaults, Route};
use super::facts::Attributes;
use super::identity::Identity;
use super::layers::Layers;
use super::upstreams::Upstream;
use crate::config::check::Checker;
use crate::config::node::Text;
use crate::config::units::secs;
use crate::config::wire::{Field, List, Many, Named, Section, Value};
use crate::policy::Environment;
use crate::policy::layers::Waiver;
use crate::policy::methods::Methods;
use crate::policy::path::Pattern;
use crate::policy::roles::Action;
use crate::policy::route::{self as checked, Serve, Tail, Target, TrailingSlash};
use crate::policy::upstream::Protocol;

/// What to write where there is no route.
pub(crate) const EXAMPLE: &str =
    "write at least one, such as `routes: [{ path: /health, access: public, serve: health }]`";

/// Between two pieces of a response. Without any limit, a client that went away unnoticed would
/// keep its upstream connection for ever.
const STREAM_IDLE: Duration = secs(300);

/// The sections that routes depend on.
pub(crate) struct RouteSections<'a> {
    /// `None` if it is wrong.
    pub environment: Option<Environment>,
    /// `hosts`
    pub hosts: &'a Field<List<Text>>,
    /// `upstreams`
    pub upstreams: &'a Field<Named<Upstream>>,
    /// `identity`
    pub identity: &'a Field<Identity>,
    /// Whether anybody issues tokens.
    pub has_tokens: bool,
    /// `layers`
    pub layers: &'a Field<Layers>,
    /// `defaults`
    pub defaults: &'a Field<Defaults>,
    /// `routes`
    pub routes: &'a Field<List<Route>>,
}

impl<'a> RouteSections<'a> {
    /// What each route is checked against.
    fn context(
        &self,
        defaults: &'a Defaults,
        waived: Vec<Waiver>,
        attributes: Option<&'a Attributes>,
    ) -> RouteContext<'a> {
        let upstreams = self.upstreams.good().map(|named| &named.value);
        let upstreams = upstreams.into_iter().flat_map(|Named(entries)| entries);
        let speaks_http2 = |wire: &Value<Upstream>| wire.value.protocol() == Some(Protocol::Http2);
        let hosts = self.hosts.good().map(|list| &list.value.items);
        RouteContext {
            environment: self.environment,
            defaults,
            upstreams: upstreams
                .clone()
                .map(|(name, _)| name.value.as_str())
                .collect(),
            speak_http2: upstreams
                .map(|(_, wire)| wire.as_ref().is_some_and(speaks_http2))
                .collect(),
            hosts: hosts
                .into_iter()
                .flatten()
                .map(|text| text.value.value.to_ascii_lowercase())
                .collect(),
            has_tokens: self.has_tokens,
            has_identity: self.identity.is_written(),
            waived,
            attributes,
        }
    }
}

impl Checker<'_> {
    /// Every route. No two of them own the same request.
    pub(crate) fn routes(
        &mut self,
        sections: &RouteSections<'_>,
        attributes: Option<&Attributes>,
    ) -> Option<Vec<checked::Route>> {
        let absent = Defaults::absent();
        let defaults = sections.defaults.good().map_or(&absent, |wire| &wire.value);
        let waived = self.waivers(sections.layers, &[]);
        let waivers = waived.clone().unwrap_or_default();
        let context = sections.context(defaults, waivers, attributes);

        // Once here, so that a bad default is reported even if every route writes its own.
        self.named_upstream(&defaults.upstream, &context);
        if let Some(place) = defaults.body.good().and_then(|body| body.value.ids.place()) {
            let message = "every route says itself what its body names; remove it here";
            self.report.problem(place, message);
        }

        // Routes that nobody wrote come first, so that an overlap is reported at the written route.
        let mut routes = self.sign_in_routes(sections.identity, &context);
        let made = routes.len();
        let list = &sections.routes.good()?.value;
        let items = list.items.iter();
        routes.extend(items.filter_map(|item| self.route(&item.value, &context)));
        self.distinct(&routes);
        waived?;
        let is_whole =
            routes.len() - made == list.written && sections.defaults.optional().is_some();
        routes.rotate_left(made);
        is_whole.then(|| routes.into_iter().map(|placed| placed.route).collect())
    }

    pub(crate) fn route(&mut self, wire: &Route, context: &RouteContext<'_>) -> Option<Placed> {
        let paths = self.paths(wire);
        let access = wire.access.good().map(|access| access.value);
        let hosts = self.route_hosts(&wire.hosts, &context.hosts);
        let resources = self.resource(wire, paths.as_deref(), access, context);
        let learn = self.learn(wire, access, context);
        let body_ids = self.body_ids(wire, context);
        let credentials = self.credentials(&wire.credentials);
        self.fits_access(wire, access, context);
        let target = self.target(wire, access, context);
        self.learns_from_upstream(wire, target);
        let when = self.when(&wire.when, access);
        let tail = self.tail(wire, paths.as_deref());
        let waived = self.waivers(&wire.layers, &context.waived);
        let methods = methods(&wire.methods);
        let (paths, methods) = (paths?, methods?);
        let name = wire.name.then(|name| self.name_in(name));
        let apikey = self.apikey(wire, context);
        let rest = self.rest(wire, &paths, target);
        let websocket = self.websocket(wire, methods, target, context);
        let realtime = self.realtime(wire, websocket);
        let defaults = context.defaults;
        let slash = defaults.trailing_slash().unwrap_or(TrailingSlash::Same);
        let route = checked::Route {
            name: name?.unwrap_or_else(|| default_name(wire, &paths)),
            hosts: hosts?,
            paths,
            methods,
            access: access?,
            target: target?,
            anonymous: wire.anonymous()?,
            credentials: credentials?,
            pass_credentials: wire.pass_credentials()?,
            aal: wire.aal()?.0,
            action: action(wire, target?)?,
            when: when?,
            resources: resources?,
            learn: learn?,
            body_ids: body_ids?,
            trailing_slash: wire.trailing_slash.or(slash)?,
            tail: tail?,
            body_limit: body::limit(&wire.body, &defaults.body)?,
            body_idle: body::idle(&wire.body, &defaults.body)?,
            body_rate: body::rate(&wire.body, &defaults.body)?,
            timeouts: timeouts(&wire.timeouts, &defaults.timeouts)?,
            websocket: websocket?,
            realtime: realtime?,
            errors: wire.errors()?,
            apikey: apikey?,
            rest: rest?,
            waived: waived?,
            line: wire.place.line,
        };
        Placed::new(route, wire)
    }

    fn paths(&mut self, wire: &Route) -> Option<Vec<Pattern>> {
        let many = wire.path.good()?;
        self.each(&many.value.0, |checker, text| {
            let error = match Pattern::parse(&text.value.value) {
                Ok(pattern) => return Some(pattern),
                Err(error) => error,
            };
            let message = match &text.value.written {
                None => error,
                // The sentence may quote the path, and the path may hold the value of a variable.
                Some(written) => {
                    format!("`{written}` is not a path pattern once its variables are put in")
                }
            };
            checker.report.refuse(&text.place, message)
        })
    }

    fn route_hosts(
        &mut self,
        field: &Field<List<Text>>,
        gateway: &[String],
    ) -> Option<Vec<String>> {
        let hosts = self.hosts(field)?;
        let mut known = true;
        for text in field.good().map_or(&[][..], |list| &list.value.items) {
            if !gateway.is_empty() && !gateway.contains(&text.value.value.to_ascii_lowercase()) {
                known = false;
                let shown = text.value.shown();
                self.report.problem_instead(
                    &text.place,
                    format!("`{shown}` is not one of the gateway's `hosts`, so no request would come here"),
                    "add it to the top-level `hosts`, or write one of those",
                );
            }
        }
        known.then_some(hosts)
    }

    fn tail(&mut self, wire: &Route, paths: Option<&[Pattern]>) -> Option<Tail> {
        let tail = wire.tail()?;
        if let (Tail::Opaque, Some(place)) = (tail, wire.tail.place())
            && !paths.unwrap_or_default().iter().all(Pattern::has_tail)
        {
            let message = "`opaque` is for paths that end in `{*rest}`, and one of these does not";
            self.report.problem(place, message);
        }
        Some(tail)
    }
}

fn methods(field: &Field<Many<Method>>) -> Option<Methods> {
    match field.optional()? {
        None => Some(Methods::ALL),
        Some(many) => {
            let methods = many.value.0.values()?;
            methods.iter().try_fold(Methods::NONE, Methods::with)
        }
    }
}

/// What is written. What users ask of the identity server about themselves is no matter of roles,
/// whatever the method; it has rules of its own.
fn action(wire: &Route, target: Option<Target>) -> Option<Option<Action>> {
    let written = wire.action.optional()?.map(|action| action.value.clone());
    let is_passed_through = target == Some(Target::Serve(Serve::IdentityServer));
    Some(written.or_else(|| is_passed_through.then(|| Action::parse("read")).flatten()))
}

fn timeouts(route: &Field<Timeouts>, default: &Field<Timeouts>) -> Option<checked::Timeouts> {
    let (route, default) = (route.section()?, default.section()?);
    let limit = |own: &Field<Duration>, default: &Field<Duration>| {
        let own = own.optional()?.or(default.good());
        Some(own.map(|limit| limit.value))
    };
    let stream_idle = limit(&route.stream_idle, &default.stream_idle)?;
    Some(checked::Timeouts {
        first_byte: limit(&route.first_byte, &default.first_byte)?,
        stream_idle: Some(stream_idle.unwrap_or(STREAM_IDLE)),
        total: limit(&route.total, &default.total)?,
    })
}

/// `GET,POST /path`, with the methods as they were written; `ANY /path` if none were.
fn default_name(wire: &Route, paths: &[Pattern]) -> String {
    let path = paths.first().map_or("", Pattern::as_str);
    let Some(many) = wire.methods.good() else {
        return format!("ANY {path}");
    };
    let methods = many.value.0.items.iter();
    let methods: Vec<&str> = methods.map(|method| method.value.as_str()).collect();
    format!("{} {path}", methods.join(","))
}
