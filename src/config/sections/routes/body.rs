//! `body`: how long a body may be, and the resources that it names.

use std::time::Duration;

use super::context::RouteContext;
use super::route::Route;
use crate::config::check::Checker;
use crate::config::sections::routes::wire::{Body, BodyId, FIELD};
use crate::config::units::Size;
use crate::config::wire::Field;
use crate::policy::resources::{BodyIds, BodyStep};
use crate::request::body::INSPECTED_LIMIT;

/// Longest body unless something else is written.
const LIMIT: Size = Size(1 << 20);

/// The limit of a route, or the default one.
pub(super) fn limit(route: &Field<Body>, default: &Field<Body>) -> Option<u64> {
    let default = default.good().and_then(|body| body.value.limit.or(LIMIT));
    Some(route.section()?.limit.or(default.unwrap_or(LIMIT))?.0)
}

/// How long a client may send no byte, if the route or the defaults say so.
pub(super) fn idle(route: &Field<Body>, default: &Field<Body>) -> Option<Option<Duration>> {
    either(route, default, |body| &body.idle)
}

/// The bytes a second that a client must send, likewise.
pub(super) fn rate(route: &Field<Body>, default: &Field<Body>) -> Option<Option<u64>> {
    Some(either(route, default, |body| &body.rate)?.map(|rate| rate.0))
}

/// The value that the route has, or the default one, or none.
fn either<T: Clone>(
    route: &Field<Body>,
    default: &Field<Body>,
    key: impl Fn(&Body) -> &Field<T>,
) -> Option<Option<T>> {
    let of = |body: &Field<Body>| -> Option<Option<T>> {
        let body = body.section()?;
        Some(key(&body).optional()?.map(|value| value.value.clone()))
    };
    // A bad default is reported once, where it is written.
    Some(of(route)?.or_else(|| of(default).flatten()))
}

impl Checker<'_> {
    /// The resources a body names.
    pub(super) fn body_ids(
        &mut self,
        wire: &Route,
        context: &RouteContext<'_>,
    ) -> Option<Vec<BodyIds>> {
        let body = wire.body.section()?;
        let Some(list) = body.ids.optional()? else {
            return Some(Vec::new());
        };
        if let Some(limit) = body.limit.good()
            && limit.value.0 > INSPECTED_LIMIT
        {
            return self.report.refuse_instead(
                &limit.place,
                "exceeds the limit for a body inspected for `ids` (1MiB)",
                "write 1MiB or less, or remove `ids`",
            );
        }
        let names = context.attributes?.names();
        self.each(&list.value, |checker, item| {
            checker.body_id(&item.value, &names)
        })
    }

    fn body_id(&mut self, wire: &BodyId, names: &[&str]) -> Option<BodyIds> {
        let choice = format!("write one of {}", names.join(", "));
        let kind = wire
            .kind
            .required(&wire.place, "kind", &choice, self.report)
            .and_then(|kind| self.kind_index(kind, names));
        let field = wire.field.good();
        let steps = field.and_then(|field| {
            field.parse(
                body_steps,
                "is not a path into a JSON body",
                FIELD,
                self.report,
            )
        });
        Some(BodyIds {
            written: field?.value.value.clone(),
            steps: steps?,
            kind: kind?,
            max: wire.max()?,
            action: wire.action.optional()?.map(|action| action.value.clone()),
        })
    }
}

/// `items[].id` and the like.
fn body_steps(text: &str) -> Option<Vec<BodyStep>> {
    let mut steps = Vec::new();
    for part in text.split('.') {
        let name = part.trim_end_matches("[]");
        let lists = (part.len() - name.len()) / 2;
        if name.is_empty() && !steps.is_empty() || name.contains(['[', ']']) {
            return None;
        }
        if !name.is_empty() {
            steps.push(BodyStep::Member(name.to_owned()));
        }
        steps.extend(std::iter::repeat_n(BodyStep::Items, lists));
    }
    (!steps.is_empty()).then_some(steps)
}
