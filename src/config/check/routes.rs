//! The routes.
//!
//! Decides: what each route is, key by key, with the defaults, and whether its keys fit together; the larger topics are the modules beside this one.
//! Trusts: those modules, for theirs. Not here: two routes in each other's way (`overlap`).

use std::time::Duration;

use hyper::Method;

use super::overlap::Placed;
use super::{AllFacts, Checker, DAY, TICK, or, section};
use crate::config::file::{self, Defaults, File};
use crate::config::node::Text;
use crate::config::units::Size;
use crate::config::wire::{Field, List, Value};
use crate::denial::format::ErrorsSetting;
use crate::policy::Environment;
use crate::policy::layers::Waiver;
use crate::policy::methods::{Methods, ROUTABLE};
use crate::policy::path::Pattern;
use crate::policy::roles::Action;
use crate::policy::route::{Access, Route, Serve, Tail, Target, Timeouts, TrailingSlash};
use crate::policy::upstream::Protocol;

/// Longest body unless something else is written.
const BODY_LIMIT: u64 = 1 << 20;
/// Longest body that can be written.
const BODY_MAX: u64 = 1 << 40;

/// What routes are checked against.
pub(super) struct Around<'a> {
    pub environment: Option<Environment>,
    pub defaults: &'a Defaults,
    /// Names of the upstreams, in order; those that are themselves wrong included.
    pub upstreams: Vec<&'a str>,
    /// The gateway's hosts; empty if any host is answered.
    pub hosts: Vec<String>,
    /// For each of them, whether it speaks HTTP/2.
    pub speak_http2: Vec<bool>,
    pub has_tokens: bool,
    /// Whether publishable keys are known.
    pub has_identity: bool,
    pub waived: Vec<Waiver>,
    /// What resources may be named; `None` if they are wrong.
    pub facts: Option<&'a AllFacts>,
}

impl Checker<'_> {
    /// Every route, and that no two of them own the same request.
    pub(super) fn routes(
        &mut self,
        file: &File,
        environment: Option<Environment>,
        facts: Option<&AllFacts>,
    ) -> Option<Vec<Route>> {
        let absent = Defaults::absent();
        let defaults = section(&file.defaults, &absent).unwrap_or(&absent);
        let waived = self.gateway_waivers(&file.layers);
        let around = Around {
            environment,
            defaults,
            upstreams: file.upstreams.good().map_or_else(Vec::new, |named| {
                named
                    .value
                    .0
                    .iter()
                    .map(|(name, _)| name.value.as_str())
                    .collect()
            }),
            speak_http2: file.upstreams.good().map_or_else(Vec::new, |named| {
                let protocol = |wire: &file::Upstream| or(&wire.protocol, Protocol::Http1);
                named
                    .value
                    .0
                    .iter()
                    .map(|(_, wire)| wire.as_ref().and_then(|wire| protocol(&wire.value)))
                    .map(|protocol| protocol == Some(Protocol::Http2))
                    .collect()
            }),
            hosts: file.hosts.good().map_or_else(Vec::new, |list| {
                list.value
                    .items
                    .iter()
                    .map(|text| text.value.value.to_ascii_lowercase())
                    .collect()
            }),
            has_tokens: file.tokens.is_written(),
            has_identity: file.identity.is_written(),
            waived: waived.clone().unwrap_or_default(),
            facts,
        };
        // Once here, so that a bad default is told even if every route writes its own.
        self.named_upstream(&defaults.upstream, &around);
        self.body_limit(&defaults.body, &Field::Absent);
        if let Some(ids) = defaults.body.good().and_then(|body| body.value.ids.good()) {
            self.report.problem(
                &ids.place,
                "every route says itself what its body names; remove it here",
            );
        }
        self.timeouts(&defaults.timeouts, &Field::Absent);
        let example = "write at least one, such as `routes: [{ path: /health, access: public, serve: health }]`";
        let list = file
            .routes
            .required(&file.place, "routes", example, self.report)?;
        list.value.at_least_one(&list.place, self.report);

        // Routes that nobody wrote come first, so that a written one is told to be in their way, and not they in its.
        let mut routes = self.sign_in_routes(&file.identity, &around);
        let made = routes.len();
        routes.extend(
            list.value
                .items
                .iter()
                .filter_map(|item| self.route(&item.value, &around)),
        );
        self.distinct(&routes);
        waived?;
        let is_whole = routes.len() - made == list.value.written;
        routes.rotate_left(made);
        is_whole.then(|| routes.into_iter().map(|placed| placed.route).collect())
    }

    pub(super) fn route(&mut self, wire: &file::Route, around: &Around<'_>) -> Option<Placed> {
        let paths = self.paths(wire);
        let choice = "write who may come: `public`, `optional`, `user` or `deny`";
        let access = wire
            .access
            .required(&wire.place, "access", choice, self.report)
            .map(|access| access.value);
        let methods = self.methods(&wire.methods);
        let hosts = self.route_hosts(&wire.hosts, &around.hosts);
        let resources = self.resource(wire, paths.as_deref(), access, around);
        let learn = self.learn(wire, access, around);
        let body_ids = self.body_ids(wire, around);
        let credentials = self.credentials(&wire.credentials);
        self.fits_access(wire, access, around);
        let target = self.target(wire, access, around);
        self.learns_from_upstream(wire, target);
        let action = match &wire.action {
            Field::Absent => Some(door_action(target)),
            Field::Bad => None,
            Field::Good(text) => self.action(text).map(Some),
        };
        let when = self.when(&wire.when, access);
        let default_slash = around
            .defaults
            .trailing_slash
            .good()
            .map_or(TrailingSlash::Same, |slash| slash.value);
        let slash = or(&wire.trailing_slash, default_slash);
        let tail = self.tail(wire, paths.as_deref());
        let body_limit = self.body_limit(&wire.body, &around.defaults.body);
        let timeouts = self.timeouts(&wire.timeouts, &around.defaults.timeouts);
        let waived = self.waivers(&wire.layers, &around.waived);
        let (paths, methods) = (paths?, methods?);
        let name = match &wire.name {
            Field::Absent => Some(default_name(wire, &paths)),
            Field::Bad => None,
            Field::Good(name) => self.name(&name.value.value, &name.place),
        };
        let errors = or(&wire.errors, ErrorsSetting::Problem);
        let apikey = self.apikey(wire, around);
        let rest = self.rest(wire, &paths, target);
        let websocket = self.websocket(wire, methods, target, around);
        let realtime = self.realtime(wire, websocket);
        let route = Route {
            name: name?,
            hosts: hosts?,
            paths,
            methods,
            access: access?,
            target: target?,
            anonymous: or(&wire.anonymous, false)?,
            credentials: credentials?,
            pass_credentials: or(&wire.pass_credentials, false)?,
            aal: or(&wire.aal, file::Aal(1))?.0,
            action: action?,
            when: when?,
            resources: resources?,
            learn: learn?,
            body_ids: body_ids?,
            trailing_slash: slash?,
            tail: tail?,
            body_limit: body_limit?,
            timeouts: timeouts?,
            websocket: websocket?,
            realtime: realtime?,
            errors: errors?,
            apikey: apikey?,
            rest: rest?,
            waived: waived?,
            line: wire.place.line,
        };
        Some(Placed {
            route,
            place: wire.place.clone(),
            is_made: false,
            name: wire.name.good().map(|name| name.place.clone()),
            paths: wire
                .path
                .good()?
                .value
                .0
                .items
                .iter()
                .map(|path| path.place.clone())
                .collect(),
        })
    }

    fn paths(&mut self, wire: &file::Route) -> Option<Vec<Pattern>> {
        let example =
            "write a path such as `/api/v1/projects/{project_id:uuid}`, or a list of them";
        let many = wire
            .path
            .required(&wire.place, "path", example, self.report)?;
        many.value.0.at_least_one(&many.place, self.report);
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
            checker.report.problem(&text.place, message);
            None
        })
    }

    fn methods(&mut self, field: &Field<crate::config::wire::Many<Text>>) -> Option<Methods> {
        let many = match field {
            Field::Absent => return Some(Methods::ALL),
            Field::Bad => return None,
            Field::Good(many) => many,
        };
        many.value.0.at_least_one(&many.place, self.report);
        let methods = self.each(&many.value.0, |checker, text| {
            let method = ROUTABLE
                .iter()
                .find(|method| method.as_str() == text.value.value);
            if method.is_none() {
                let names = ROUTABLE
                    .iter()
                    .map(Method::as_str)
                    .collect::<Vec<_>>()
                    .join(", ");
                let message = match text.value.value.as_str() {
                    "CONNECT" | "TRACE" => "is never served".to_owned(),
                    _ => format!(
                        "`{}` is not a method that can be routed",
                        text.value.shown()
                    ),
                };
                checker.report.problem_instead(
                    &text.place,
                    message,
                    format!("write one of {names}, in capitals"),
                );
            }
            method
        })?;
        methods.into_iter().try_fold(Methods::NONE, Methods::with)
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
                let message = format!(
                    "`{}` is not one of the gateway's `hosts`, so no request would come here",
                    text.value.shown()
                );
                self.report.problem_instead(
                    &text.place,
                    message,
                    "add it to the top-level `hosts`, or write one of those",
                );
            }
        }
        known.then_some(hosts)
    }

    fn tail(&mut self, wire: &file::Route, paths: Option<&[Pattern]>) -> Option<Tail> {
        let tail = or(&wire.tail, Tail::Canonical)?;
        if let (Tail::Opaque, Some(written)) = (tail, wire.tail.good())
            && !paths.unwrap_or_default().iter().all(Pattern::has_tail)
        {
            self.report.problem(
                &written.place,
                "`opaque` is for paths that end in `{*rest}`, and one of these does not",
            );
        }
        Some(tail)
    }

    /// Whether the route offers WebSocket, where that can work: a GET (RFC 6455, section 4.1) over HTTP/1.1 to an upstream.
    fn websocket(
        &mut self,
        wire: &file::Route,
        methods: Methods,
        target: Option<Option<Target>>,
        around: &Around<'_>,
    ) -> Option<bool> {
        let list = match &wire.upgrade {
            Field::Absent => return Some(false),
            Field::Bad => return None,
            Field::Good(list) => list,
        };
        list.value.at_least_one(&list.place, self.report);
        let offered = list.value.items.first()?;
        if let Some(again) = list.value.items.get(1) {
            self.report
                .problem(&again.place, "is written twice; remove one");
            return None;
        }
        let why = match target? {
            None => Some("a route with `access: deny` goes nowhere; remove `upgrade`"),
            Some(Target::Serve(_)) => {
                Some("what is answered here has no WebSocket; remove `upgrade`")
            }
            Some(Target::Upstream(index)) if around.speak_http2.get(index) == Some(&true) => {
                Some("WebSocket goes over HTTP/1.1, and the upstream has `protocol: http2`")
            }
            Some(Target::Upstream(_)) if !methods.contains(&Method::GET) => {
                Some("WebSocket begins with a GET, which is not one of `methods`; add it")
            }
            Some(Target::Upstream(_)) => None,
        };
        if let Some(why) = why {
            self.report.problem(&offered.place, why);
            return None;
        }
        Some(true)
    }

    /// Messages are judged on a WebSocket, for a user or for whom says that they are one.
    fn realtime(&mut self, wire: &file::Route, websocket: Option<bool>) -> Option<bool> {
        let realtime = match &wire.realtime {
            Field::Good(realtime) if realtime.value => realtime,
            Field::Absent | Field::Good(_) => return Some(false),
            Field::Bad => return None,
        };
        let access = wire.access.good().map(|access| access.value);
        let why = match (websocket?, access?) {
            (false, _) => Some("is about messages of a WebSocket; add `upgrade: [websocket]`"),
            (true, Access::Public | Access::Deny) => {
                Some("judges tokens, and this `access` reads none; write `optional` or `user`")
            }
            (true, Access::Optional | Access::User) => None,
        };
        if let Some(why) = why {
            self.report.problem(&realtime.place, why);
        }
        why.is_none().then_some(true)
    }

    fn body_limit(
        &mut self,
        route: &Field<file::Body>,
        default: &Field<file::Body>,
    ) -> Option<u64> {
        let limit = |body: &Field<file::Body>| match body {
            Field::Absent => Field::Absent,
            Field::Bad => Field::Bad,
            Field::Good(body) => body.value.limit.clone(),
        };
        let default = match limit(default) {
            Field::Good(Value {
                value: Size(limit), ..
            }) => limit,
            Field::Absent | Field::Bad => BODY_LIMIT,
        };
        self.size(&limit(route), 0..=BODY_MAX, default)
    }

    fn timeouts(
        &mut self,
        route: &Field<file::Timeouts>,
        default: &Field<file::Timeouts>,
    ) -> Option<Timeouts> {
        let absent = file::Timeouts::absent();
        let (route, default) = (section(route, &absent)?, section(default, &absent)?);
        let mut limit = |own, default: &Field<_>| {
            self.optional_duration(own, TICK..=DAY, default.good().map(|limit| limit.value))
        };
        let first_byte = limit(&route.first_byte, &default.first_byte);
        let stream_idle = limit(&route.stream_idle, &default.stream_idle);
        let total = limit(&route.total, &default.total);
        Some(Timeouts {
            first_byte: first_byte?,
            stream_idle: Some(stream_idle?.unwrap_or(STREAM_IDLE)),
            total: total?,
        })
    }
}

/// What a user asks of the identity server about themselves is no matter of roles, whatever the method; it has rules of its own.
fn door_action(target: Option<Option<Target>>) -> Option<Action> {
    let is_door = target == Some(Some(Target::Serve(Serve::IdentityServer)));
    is_door.then(|| Action::parse("read")).flatten()
}

/// Between two pieces of an answer. Without any limit, a client that went away unseen would keep its upstream connection for ever.
const STREAM_IDLE: Duration = Duration::from_secs(300);

/// `GET,POST /path`, with the methods as they were written; `ANY /path` if none were.
fn default_name(wire: &file::Route, paths: &[Pattern]) -> String {
    let methods = match wire.methods.good() {
        None => "ANY".to_owned(),
        Some(many) => many
            .value
            .0
            .items
            .iter()
            .map(|text| text.value.value.as_str())
            .collect::<Vec<_>>()
            .join(","),
    };
    format!("{methods} {}", paths.first().map_or("", Pattern::as_str))
}
