//! Two routes that would own the same request, and two routes of the same name.
//!
//! If the order of routes decided, a map would change its meaning when somebody sorts it. So every
//! request has one owner, and a second one is an error that names the first.

use std::collections::{HashMap, HashSet};

use crate::config::check::Checker;
use crate::config::place::Place;
use crate::policy::route::Route;

/// A route, and the places that are marked when it is wrong.
pub(crate) struct Placed {
    pub route: Route,
    /// Where it begins.
    pub place: Place,
    /// Whether nobody wrote it: it was made for `identity`.
    pub is_made: bool,
    /// Where its name was written.
    pub name: Option<Place>,
    /// Where each path was written, in the order of `route.paths`.
    pub paths: Vec<Place>,
}

impl Placed {
    /// A route that was written as `wire`.
    pub(super) fn new(route: Route, wire: &super::route::Route) -> Option<Self> {
        let paths = &wire.path.good()?.value.0.items;
        Some(Self {
            route,
            place: wire.place.clone(),
            is_made: false,
            name: wire.name.place().cloned(),
            paths: paths.iter().map(|path| path.place.clone()).collect(),
        })
    }
}

impl Checker<'_> {
    /// Reports every overlap and every repeated name.
    pub(super) fn distinct(&mut self, routes: &[Placed]) {
        let mut owners: HashMap<String, Vec<usize>> = HashMap::new();
        let mut overlapping = HashSet::new();
        for (index, placed) in routes.iter().enumerate() {
            for (pattern, place) in placed.route.paths.iter().zip(&placed.paths) {
                let owners = owners.entry(pattern.shape(false)).or_default();
                let owner = owners
                    .iter()
                    .filter_map(|other| routes.get(*other))
                    .find(|other| other.place == placed.place || meet(&other.route, &placed.route));
                if let Some(owner) = owner {
                    self.report_overlap(placed, owner, place);
                    overlapping.insert(index);
                }
                owners.push(index);
            }
        }
        self.distinct_names(routes, &overlapping);
    }

    fn report_overlap(&mut self, placed: &Placed, owner: &Placed, place: &Place) {
        let message = if owner.place == placed.place {
            "two paths of this route have the same shape; remove one".to_owned()
        } else if owner.is_made {
            format!(
                "the sign-in routes of `identity` (line {}) and the route at line {} would own the same requests: path shape, host and method overlap (HEAD comes with GET); remove it, or move them with `prefix`",
                owner.place.line, placed.place.line,
            )
        } else {
            format!(
                "the route at line {} and the one at line {} would own the same requests: path shape, host and method overlap (HEAD comes with GET)",
                owner.place.line, placed.place.line,
            )
        };
        self.report.problem(place, message);
    }

    fn distinct_names(&mut self, routes: &[Placed], overlapping: &HashSet<usize>) {
        let mut lines: HashMap<&str, u32> = HashMap::new();
        for (index, placed) in routes.iter().enumerate() {
            let Some(line) = lines.get(placed.route.name.as_str()) else {
                lines.insert(&placed.route.name, placed.place.line);
                continue;
            };
            match &placed.name {
                Some(place) => self.report.problem(
                    place,
                    format!("is also the name of the route at line {line}; write another"),
                ),
                // A repeated route has the name of the first; that was reported already.
                None if overlapping.contains(&index) => {}
                None => {
                    let message = format!(
                        "is missing, and the default is also the name of the route at line {line}"
                    );
                    self.report.problem_instead(
                        &placed.place.below("name"),
                        message,
                        "write a `name`",
                    );
                }
            }
        }
    }
}

fn meet(a: &Route, b: &Route) -> bool {
    let hosts = a.hosts.is_empty()
        || b.hosts.is_empty()
        || a.hosts.iter().any(|host| b.hosts.contains(host));
    hosts && a.methods.overlaps(b.methods)
}
