//! The routes.

use hyper::Method;

use super::overlap::Placed;
use super::{Checker, DAY, TICK, or, section};
use crate::config::checked::{
    Access, CredentialSource, Environment, Route, Serve, Tail, Target, Timeouts, TrailingSlash,
    Waiver,
};
use crate::config::file::{self, Defaults, File};
use crate::config::units::Size;
use crate::config::wire::{Field, List, Value, nearest};
use crate::config::yaml::Text;
use crate::request::method::{Methods, ROUTABLE};
use crate::request::path::Pattern;

/// Longest body unless something else is written.
const BODY_LIMIT: u64 = 1 << 20;
/// Longest body that can be written.
const BODY_MAX: u64 = 1 << 40;

/// What routes are checked against.
struct Around<'a> {
    environment: Option<Environment>,
    defaults: &'a Defaults,
    /// Names of the upstreams, in order; those that are themselves wrong included.
    upstreams: Vec<&'a str>,
    /// The gateway's hosts; empty if any host is answered.
    hosts: Vec<String>,
    has_tokens: bool,
    waived: Vec<Waiver>,
}

impl Checker<'_> {
    /// Every route, and that no two of them own the same request.
    pub(super) fn routes(
        &mut self,
        file: &File,
        environment: Option<Environment>,
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
            hosts: file.hosts.good().map_or_else(Vec::new, |list| {
                list.value
                    .items
                    .iter()
                    .map(|text| text.value.value.to_ascii_lowercase())
                    .collect()
            }),
            has_tokens: file.tokens.is_written(),
            waived: waived.clone().unwrap_or_default(),
        };
        // Once here, so that a bad default is told even if every route writes its own.
        self.unknown_upstream(&defaults.upstream, &around);
        self.body_limit(&defaults.body, &Field::Absent);
        self.timeouts(&defaults.timeouts, &Field::Absent);
        let example = "write at least one, such as `routes: [{ path: /health, access: public, serve: health }]`";
        let list = file
            .routes
            .required(&file.place, "routes", example, self.report)?;
        list.value.at_least_one(&list.place, self.report);

        let routes: Vec<Placed> = list
            .value
            .items
            .iter()
            .filter_map(|item| self.route(&item.value, &around))
            .collect();
        self.distinct(&routes);
        waived?;
        (routes.len() == list.value.written)
            .then(|| routes.into_iter().map(|placed| placed.route).collect())
    }

    fn route(&mut self, wire: &file::Route, around: &Around<'_>) -> Option<Placed> {
        let paths = self.paths(wire);
        let choice = "write who may come: `public`, `optional`, `user` or `deny`";
        let access = wire
            .access
            .required(&wire.place, "access", choice, self.report)
            .map(|access| access.value);
        let methods = self.methods(&wire.methods);
        let hosts = self.route_hosts(&wire.hosts, &around.hosts);
        self.resource(wire, paths.as_deref(), access);
        let credentials = self.credentials(&wire.credentials);
        self.fits_access(wire, access, around);
        let target = self.target(wire, access, around);
        let action = match &wire.action {
            Field::Absent => Some(None),
            Field::Bad => None,
            Field::Good(text) => self.action(text).map(Some),
        };
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
            trailing_slash: slash?,
            tail: tail?,
            body_limit: body_limit?,
            timeouts: timeouts?,
            waived: waived?,
            line: wire.place.line,
        };
        Some(Placed {
            route,
            place: wire.place.clone(),
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

    /// A path that names a thing must say whose thing it is, even if that is nobody's business yet.
    fn resource(&mut self, wire: &file::Route, paths: Option<&[Pattern]>, access: Option<Access>) {
        match &wire.resource {
            Field::Bad => {}
            Field::Good(only)
                if only
                    .value
                    .0
                    .as_ref()
                    .is_some_and(|text| text.value == "none") => {}
            Field::Good(only) => {
                self.report.problem_instead(
                    &only.place,
                    "resources do not work yet in this version",
                    "write `resource: none`, and let the server behind judge who owns what",
                );
            }
            Field::Absent if access == Some(Access::Deny) => {}
            Field::Absent => {
                let parameter = paths
                    .into_iter()
                    .flatten()
                    .any(|path| path.parameters().next().is_some());
                if parameter {
                    self.report.problem_instead(
                        &wire.place.below("resource"),
                        "is missing, and the path has a parameter that names something",
                        "write `resource: none` if the server behind judges who owns it",
                    );
                }
            }
        }
    }

    fn credentials(&mut self, field: &Field<List<Text>>) -> Option<Vec<CredentialSource>> {
        let list = match field {
            Field::Absent => return Some(vec![CredentialSource::Bearer]),
            Field::Bad => return None,
            Field::Good(list) => list,
        };
        list.value.at_least_one(&list.place, self.report);
        let sources = self.each(&list.value, Self::credential)?;
        for (index, (source, item)) in sources.iter().zip(&list.value.items).enumerate() {
            if sources.iter().take(index).any(|other| other == source) {
                self.report
                    .problem(&item.place, "is written twice; remove one");
            }
        }
        Some(sources)
    }

    fn credential(&mut self, text: &Value<Text>) -> Option<CredentialSource> {
        match text.value.value.as_str() {
            "bearer" => return Some(CredentialSource::Bearer),
            "cookie" => {
                self.report.problem(
                    &text.place,
                    "`cookie` does not work yet in this version; write `bearer` or `query.NAME`",
                );
                return None;
            }
            _ => {}
        }
        let name = text.value.value.strip_prefix("query.").filter(|name| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '~'))
        });
        if name.is_none() {
            let message = format!("`{}` is not a place for a credential", text.value.shown());
            self.report.problem_instead(
                &text.place,
                message,
                "write `bearer`, or `query.NAME` with letters, digits, `_`, `-`, `.` and `~`",
            );
        }
        name.map(|name| CredentialSource::Query(name.to_owned()))
    }

    /// Keys that would look as if they protected something, and do not with this access.
    fn fits_access(&mut self, wire: &file::Route, access: Option<Access>, around: &Around<'_>) {
        let Some(access) = access else { return };
        let judged = matches!(access, Access::User | Access::Optional);
        if judged && !around.has_tokens {
            let place = wire
                .access
                .good()
                .map_or(&wire.place, |access| &access.place);
            self.report.problem_instead(
                place,
                "no user can be proven: there are no `tokens`",
                "add `tokens`, or write `access: public`",
            );
        }
        let written = [
            (
                "credentials",
                wire.credentials.good().map(|value| &value.place),
            ),
            ("aal", wire.aal.good().map(|value| &value.place)),
            ("action", wire.action.good().map(|value| &value.place)),
            ("anonymous", wire.anonymous.good().map(|value| &value.place)),
        ];
        if !judged {
            let word = if access == Access::Public {
                "public"
            } else {
                "deny"
            };
            for (key, place) in written {
                if let Some(place) = place {
                    let message = format!(
                        "has no effect with `access: {word}`, which reads no credential; remove `{key}`, or write `access: user`"
                    );
                    self.report.problem(place, message);
                }
            }
        }
        if let Some(pass) = wire.pass_credentials.good()
            && pass.value
            && access != Access::Public
        {
            self.report.problem(&pass.place, "works with `access: public` only; elsewhere `authorization` of the upstream decides");
        }
    }

    /// `Some(None)` for a route that goes nowhere.
    fn target(
        &mut self,
        wire: &file::Route,
        access: Option<Access>,
        around: &Around<'_>,
    ) -> Option<Option<Target>> {
        let written = [
            wire.upstream.good().map(|value| &value.place),
            wire.serve.good().map(|value| &value.place),
        ];
        if access == Some(Access::Deny) {
            for place in written.into_iter().flatten() {
                self.report
                    .problem(place, "a route with `access: deny` goes nowhere; remove it");
            }
            return Some(None);
        }
        if let [Some(_), Some(serve)] = written {
            self.report.problem(
                serve,
                "cannot stand beside `upstream`; remove one of the two",
            );
            return None;
        }
        match (&wire.serve, &wire.upstream) {
            (Field::Good(serve), _) => self
                .serve(serve, around)
                .map(|serve| Some(Target::Serve(serve))),
            (Field::Bad, _) | (_, Field::Bad) => None,
            (Field::Absent, upstream @ Field::Good(_)) => {
                self.unknown_upstream(upstream, around).map(Some)
            }
            (Field::Absent, Field::Absent) => match &around.defaults.upstream {
                Field::Good(default) => {
                    index_of(&default.value, around).map(|index| Some(Target::Upstream(index)))
                }
                Field::Bad => None,
                Field::Absent => {
                    let choice = "write `upstream: NAME` or `serve: health`, or an `upstream` under `defaults`";
                    self.report.problem_instead(
                        &wire.place,
                        "does not say where a permitted request goes",
                        choice,
                    );
                    None
                }
            },
        }
    }

    fn serve(&mut self, serve: &Value<Serve>, around: &Around<'_>) -> Option<Serve> {
        if serve.value == Serve::Panic && around.environment == Some(Environment::Production) {
            self.report.problem(
                &serve.place,
                "`panic` works in `environment: development` only",
            );
            return None;
        }
        Some(serve.value)
    }

    /// The index of an upstream; tells if there is none of that name.
    fn unknown_upstream(&mut self, field: &Field<Text>, around: &Around<'_>) -> Option<Target> {
        let text = field.good()?;
        if let Some(index) = index_of(&text.value, around) {
            return Some(Target::Upstream(index));
        }
        let message = format!("there is no upstream `{}`", text.value.shown());
        let near = nearest(&text.value.value, around.upstreams.iter().copied())
            .filter(|_| text.value.written.is_none());
        let instead = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None if around.upstreams.is_empty() => "add it under `upstreams`".to_owned(),
            None => format!("the upstreams are {}", around.upstreams.join(", ")),
        };
        self.report.problem_instead(&text.place, message, instead);
        None
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
            stream_idle: stream_idle?,
            total: total?,
        })
    }
}

fn index_of(name: &Text, around: &Around<'_>) -> Option<usize> {
    around
        .upstreams
        .iter()
        .position(|known| *known == name.value)
}

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
