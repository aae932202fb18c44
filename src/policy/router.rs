//! Selects the route of a request, by a canonical path and a served host. Refuses with 404
//! `route_unknown` or `route_denied`, 405 `method_not_allowed`, or 400 `path_ambiguous`.
//!
//! Selection is by host, then path, then method, without backtracking: the most specific matching
//! path owns the request (literal before parameter before tail, from left to right). A method that
//! its routes do not offer is refused, and no less specific route is tried. So there is one router
//! per host over paths, not one per method.
//!
//! *Near miss*: upstreams may ignore case, a trailing slash, trailing spaces and dots, or decode
//! escapes twice. A path that matched a parameter or a tail is therefore matched once more as the
//! most lenient server might read it. If that reading belongs to another route that is not public,
//! the request is refused. If the matched route is public, a format suffix (`.json`) is removed for
//! this, too.

use std::collections::HashMap;

use hyper::Method;

use super::methods::Methods;
use super::path::{self, Pattern};
use crate::denial::{Denial, Extra, Reason};
use crate::policy::Config;
use crate::policy::route::{Access, TrailingSlash};

/// The routers of all hosts.
#[derive(Debug)]
pub struct RouteTable {
    /// Routers of hosts that some route names.
    named: HashMap<String, Router>,
    /// The router of every other host.
    other: Router,
}

/// The route and the pattern that a request matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Index into [`Config::routes`].
    pub route: usize,
    /// Index into the route's paths.
    pub pattern: usize,
}

#[derive(Debug, Default)]
struct Router {
    paths: matchit::Router<usize>,
    /// The folded paths, each with the nodes that fold to it.
    folded: matchit::Router<Vec<usize>>,
    nodes: Vec<Node>,
}

/// A path shape, shared by routes with disjoint methods.
#[derive(Debug, Default)]
struct Node {
    offers: Vec<Offer>,
    /// Whether some route here is not public.
    guarded: bool,
    /// Whether the pattern has no parameter and no tail, so that the operator wrote exactly this
    /// path.
    literal: bool,
}

#[derive(Debug)]
struct Offer {
    methods: Methods,
    access: Access,
    selected: Selected,
}

impl RouteTable {
    /// Builds the routers.
    ///
    /// # Errors
    ///
    /// A path conflicts with another in the router. `config` has already refused overlapping
    /// routes, with their lines.
    pub fn new(config: &Config) -> Result<Self, String> {
        let mut hosts: Vec<&String> = config
            .routes
            .iter()
            .flat_map(|route| &route.hosts)
            .collect();
        hosts.sort_unstable();
        hosts.dedup();
        let named = hosts
            .into_iter()
            .map(|host| Ok((host.clone(), Router::new(config, Some(host))?)))
            .collect::<Result<_, String>>()?;
        Ok(Self {
            named,
            other: Router::new(config, None)?,
        })
    }

    /// Selects the route of a canonical path.
    ///
    /// # Errors
    ///
    /// The reasons that the header of this module lists.
    pub fn select(&self, host: &str, path: &str, method: &Method) -> Result<Selected, Denial> {
        let router = if self.named.is_empty() {
            &self.other
        } else {
            self.named.get(host).unwrap_or(&self.other)
        };
        router.select(path, method)
    }
}

impl Router {
    fn new(config: &Config, host: Option<&String>) -> Result<Self, String> {
        let mut router = Self::default();
        let mut shapes: HashMap<String, usize> = HashMap::new();
        let mut folded: HashMap<String, Vec<usize>> = HashMap::new();
        for (route_index, route) in config.routes.iter().enumerate() {
            if !(route.hosts.is_empty() || host.is_some_and(|host| route.hosts.contains(host))) {
                continue;
            }
            for (pattern_index, pattern) in route.paths.iter().enumerate() {
                let selected = Selected {
                    route: route_index,
                    pattern: pattern_index,
                };
                for shape in shapes_of(pattern, route.trailing_slash) {
                    let fresh = router.nodes.len();
                    let index = *shapes.entry(shape).or_insert(fresh);
                    if index == fresh {
                        router.nodes.push(Node {
                            literal: pattern.is_literal(),
                            ..Node::default()
                        });
                    }
                    if let Some(node) = router.nodes.get_mut(index) {
                        node.guarded |= route.access != Access::Public;
                        node.offers.push(Offer {
                            methods: route.methods,
                            access: route.access,
                            selected,
                        });
                    }
                    let folds = folded.entry(pattern.shape(true)).or_default();
                    if !folds.contains(&index) {
                        folds.push(index);
                    }
                }
            }
        }
        for (shape, index) in shapes {
            router
                .paths
                .insert(shape.as_str(), index)
                .map_err(|error| format!("`{shape}`: {error}"))?;
        }
        for (shape, indices) in folded {
            router
                .folded
                .insert(shape.as_str(), indices)
                .map_err(|error| format!("`{shape}`: {error}"))?;
        }
        Ok(router)
    }

    fn select(&self, path: &str, method: &Method) -> Result<Selected, Denial> {
        let index = *self.paths.at(path).map_err(|_| Reason::RouteUnknown)?.value;
        let node = self.nodes.get(index).ok_or(Reason::Internal)?;
        let offer = node
            .offers
            .iter()
            .find(|offer| offer.methods.contains(method));
        if !node.literal {
            let folded = path::fold(path);
            let lenient = folded.as_deref().unwrap_or(path);
            if folded.is_some() {
                self.refuse_near_miss(lenient, index)?;
            }
            // Many names contain a dot, so a suffix counts only where no credential is required.
            if let Some(name) = path::without_suffix(lenient)
                && offer.is_some_and(|offer| offer.access == Access::Public)
            {
                self.refuse_near_miss(name, index)?;
            }
        }
        match offer {
            Some(offer) if offer.access == Access::Deny => Err(Reason::RouteDenied.into()),
            Some(offer) => Ok(offer.selected),
            None => Err(node.wrong_method()),
        }
    }

    fn refuse_near_miss(&self, lenient: &str, index: usize) -> Result<(), Denial> {
        let Ok(found) = self.folded.at(lenient) else {
            return Ok(());
        };
        if found.value.contains(&index) {
            return Ok(());
        }
        let mut guarded = found
            .value
            .iter()
            .filter_map(|other| self.nodes.get(*other))
            .filter(|node| node.guarded)
            .peekable();
        if guarded.peek().is_none() {
            return Ok(());
        }
        // The refusal does not reveal a path that is only denied.
        match guarded.all(Node::is_denied) {
            true => Err(Reason::RouteDenied.into()),
            false => Err(Reason::PathAmbiguous.into()),
        }
    }
}

/// The shape of a pattern, and the one with a trailing slash if that is the same path.
fn shapes_of(pattern: &Pattern, slash: TrailingSlash) -> impl Iterator<Item = String> {
    let shape = pattern.shape(false);
    let is_both = slash == TrailingSlash::Same && !pattern.has_tail() && shape != "/";
    let with_slash = is_both.then(|| format!("{shape}/"));
    std::iter::once(shape).chain(with_slash)
}

impl Node {
    fn is_denied(&self) -> bool {
        self.offers.iter().all(|offer| offer.access == Access::Deny)
    }

    /// 405, unless the path is only denied, which the refusal does not reveal.
    fn wrong_method(&self) -> Denial {
        let offered = self
            .offers
            .iter()
            .filter(|offer| offer.access != Access::Deny)
            .fold(Methods::NONE, |methods, offer| methods.union(offer.methods));
        if offered == Methods::NONE {
            return Reason::RouteDenied.into();
        }
        Denial {
            extra: Extra::Allow(offered.to_string()),
            ..Reason::MethodNotAllowed.into()
        }
    }
}
