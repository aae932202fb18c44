//! Where the permitted requests of a route go.
//!
//! Decides: that there is one target, and none for a route that is denied; what may be answered here by which route. Trusts: the names of the
//! upstreams. Not here: the upstreams themselves (`upstreams`).

use super::Checker;
use super::routes::Around;
use crate::config::file;
use crate::config::node::Text;
use crate::config::wire::{Field, Value};
use crate::policy::Environment;
use crate::policy::route::{Access, Serve, Target};
use crate::policy::spelling::nearest;

impl Checker<'_> {
    /// `Some(None)` for a route that goes nowhere.
    pub(super) fn target(
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
                .serve(wire, serve, access, around)
                .map(|serve| Some(Target::Serve(serve))),
            (Field::Bad, _) | (_, Field::Bad) => None,
            (Field::Absent, upstream @ Field::Good(_)) => {
                self.named_upstream(upstream, around).map(Some)
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

    fn serve(
        &mut self,
        wire: &file::Route,
        serve: &Value<Serve>,
        access: Option<Access>,
        around: &Around<'_>,
    ) -> Option<Serve> {
        if serve.value == Serve::IdentityServer {
            self.fits_identity_server(wire, serve, access, around)?;
        }
        if serve.value == Serve::Panic && around.environment == Some(Environment::Production) {
            self.report.problem(
                &serve.place,
                "`panic` works in `environment: development` only",
            );
            return None;
        }
        Some(serve.value)
    }

    /// The identity server's own paths are below one place, where both strangers and users come.
    fn fits_identity_server(
        &mut self,
        wire: &file::Route,
        serve: &Value<Serve>,
        access: Option<Access>,
        around: &Around<'_>,
    ) -> Option<()> {
        if !around.has_identity {
            self.report.problem_instead(
                &serve.place,
                "there is no identity server",
                "write `identity: { supabase: { url: …, publishable_keys: […] } }`",
            );
            return None;
        }
        if access.is_some_and(|access| access != Access::Optional) {
            let message = "needs `access: optional`: strangers sign in there, and users leave";
            self.report.problem(&serve.place, message);
            return None;
        }
        let paths = wire.path.good().map(|many| many.value.0.items.as_slice());
        for path in paths.unwrap_or_default() {
            if !path.value.value.ends_with("/{*rest}") {
                self.report.problem_instead(
                    &path.place,
                    "`identity_server` answers everything below a path",
                    "write `/auth/v1/{*rest}`",
                );
                return None;
            }
        }
        Some(())
    }

    /// The upstream of that name; tells if there is none.
    pub(super) fn named_upstream(
        &mut self,
        field: &Field<Text>,
        around: &Around<'_>,
    ) -> Option<Target> {
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
}

fn index_of(name: &Text, around: &Around<'_>) -> Option<usize> {
    around
        .upstreams
        .iter()
        .position(|known| *known == name.value)
}
