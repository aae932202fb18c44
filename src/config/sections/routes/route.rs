//! One route: its keys, and the rules that they make.

use std::time::Duration;

use hyper::Method;

use super::body;
use super::context::RouteContext;
use super::overlap::Placed;
use super::wire::{Aal, Body, Learn, ResourceField, Rest, Timeouts, Upgrade};
use crate::config::check::Checker;
use crate::config::macros::wire;
use crate::config::node::Text;
use crate::config::place::Place;
use crate::config::sections::layers::Layers;
use crate::config::units::secs;
use crate::config::wire::{Field, List, Many};
use crate::denial::format::ErrorsSetting;
use crate::policy::methods::Methods;
use crate::policy::path::Pattern;
use crate::policy::roles::Action;
use crate::policy::route::{
    self as checked, Access, ApiKey, CredentialSource, Serve, Tail, Target, TrailingSlash,
};

/// Between two pieces of a response. Without any limit, a client that went away unnoticed would
/// keep its upstream connection for ever.
const STREAM_IDLE: Duration = secs(300);

wire! {
    /// One route.
    struct Route {
        path: Many<Text> => "write a path such as `/api/v1/projects/{project_id:uuid}`, or a list of them",
        name: Text,
        methods: Many<Method>,
        hosts: List<Text>,
        access: Access => "write who may come: `public`, `optional`, `user` or `deny`",
        resource: ResourceField,
        anonymous: bool = false,
        clients: List<Text>,
        credentials: List<CredentialSource>,
        pass_credentials: bool = false,
        aal: Aal = Aal(1),
        action: Action,
        when: Text,
        upstream: Text,
        serve: Serve,
        trailing_slash: TrailingSlash,
        tail: Tail = Tail::Canonical,
        body: Body,
        timeouts: Timeouts,
        upgrade: List<Upgrade>,
        realtime: bool,
        errors: ErrorsSetting = ErrorsSetting::Problem,
        apikey: ApiKey,
        rest: Rest,
        layers: Layers,
        learn: Learn,
    }
    later ["limits"]
}

impl Route {
    /// The keys that mean something only where every request has a user.
    pub(super) fn about_users(&self) -> Vec<(&'static str, Option<&Place>)> {
        vec![
            ("aal", self.aal.place()),
            ("action", self.action.place()),
            ("anonymous", self.anonymous.place()),
        ]
    }
}

impl Checker<'_> {
    /// The rules of one route.
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
            clients: self.clients(&wire.clients)?,
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
