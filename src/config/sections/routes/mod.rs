//! `routes` and `defaults`: every route, and whether its keys fit together.
//!
//! Decides: that no key of a route is without effect. Trusts: the files beside this one, `route`
//! for one route and the others for its larger keys. Not here: choosing the route of a request
//! (`policy::router`).

mod access;
mod body;
pub(super) mod context;
mod learn;
pub(super) mod overlap;
mod resource;
mod rest;
pub(crate) mod route;
mod target;
#[cfg(test)]
mod tests;
mod upgrade;
mod when;
pub(crate) mod wire;

use self::context::RouteContext;
pub(crate) use self::route::Route;
pub(crate) use self::wire::Defaults;
use super::facts::Attributes;
use super::identity::Identity;
use super::layers::Layers;
use super::upstreams::Upstream;
use crate::config::check::Checker;
use crate::config::node::Text;
use crate::config::wire::{Field, List, Named, Section, Value};
use crate::policy::Environment;
use crate::policy::layers::Waiver;
use crate::policy::path::Pattern;
use crate::policy::route::{self as checked, Tail};
use crate::policy::upstream::Protocol;

/// What to write where there is no route.
pub(crate) const EXAMPLE: &str =
    "write at least one, such as `routes: [{ path: /health, access: public, serve: health }]`";

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
