//! `upstream` and `serve`: where the permitted requests of a route go.
//!
//! There is one target, and none for a route that is denied.

use super::context::RouteContext;
use super::route::Route;
use crate::config::check::Checker;
use crate::config::macros::words;
use crate::config::node::Text;
use crate::config::wire::{Field, Value};
use crate::policy::Environment;
use crate::policy::route::{Access, Serve, Target};
use crate::policy::spelling::nearest;

words! {
    impl Serve { "health" => Serve::Health, "identity_server" => Serve::IdentityServer, "panic" => Serve::Panic, }
}

impl Checker<'_> {
    /// `Some(None)` for a route that goes nowhere.
    pub(super) fn target(
        &mut self,
        wire: &Route,
        access: Option<Access>,
        context: &RouteContext<'_>,
    ) -> Option<Option<Target>> {
        if access == Some(Access::Deny) {
            let written = [wire.upstream.place(), wire.serve.place()];
            for place in written.into_iter().flatten() {
                let message = "a route with `access: deny` goes nowhere; remove it";
                self.report.problem(place, message);
            }
            return Some(None);
        }
        match (wire.serve.optional()?, wire.upstream.optional()?) {
            (Some(serve), Some(_)) => self.report.refuse(
                &serve.place,
                "cannot be combined with `upstream`; remove one of the two",
            ),
            (Some(serve), None) => {
                let serve = self.serve(wire, serve, access, context)?;
                Some(Some(Target::Serve(serve)))
            }
            (None, Some(_)) => self.named_upstream(&wire.upstream, context).map(Some),
            (None, None) => match context.defaults.upstream.optional()? {
                Some(default) => {
                    let index = index_of(&default.value, context)?;
                    Some(Some(Target::Upstream(index)))
                }
                None => self.report.refuse_instead(
                    &wire.place,
                    "does not say where a permitted request goes",
                    "write `upstream: NAME` or `serve: health`, or an `upstream` under `defaults`",
                ),
            },
        }
    }

    fn serve(
        &mut self,
        wire: &Route,
        serve: &Value<Serve>,
        access: Option<Access>,
        context: &RouteContext<'_>,
    ) -> Option<Serve> {
        if serve.value == Serve::IdentityServer {
            self.fits_identity_server(wire, serve, access, context)?;
        }
        if serve.value == Serve::Panic && context.environment == Some(Environment::Production) {
            let message = "`panic` works in `environment: development` only";
            return self.report.refuse(&serve.place, message);
        }
        Some(serve.value)
    }

    /// The identity server's own paths are below one place, for users and for those who are not
    /// signed in.
    fn fits_identity_server(
        &mut self,
        wire: &Route,
        serve: &Value<Serve>,
        access: Option<Access>,
        context: &RouteContext<'_>,
    ) -> Option<()> {
        if !context.has_identity {
            return self.report.refuse_instead(
                &serve.place,
                "there is no identity server",
                "write `identity: { supabase: { url: …, publishable_keys: […] } }`",
            );
        }
        if access.is_some_and(|access| access != Access::Optional) {
            let message =
                "needs `access: optional`: anonymous clients sign in there, and users sign out";
            return self.report.refuse(&serve.place, message);
        }
        let paths = wire.path.good().map(|many| many.value.0.items.as_slice());
        for path in paths.unwrap_or_default() {
            if !path.value.value.ends_with("/{*rest}") {
                return self.report.refuse_instead(
                    &path.place,
                    "`identity_server` answers everything below a path",
                    "write `/auth/v1/{*rest}`",
                );
            }
        }
        Some(())
    }

    /// The upstream of that name; reports if there is none.
    pub(super) fn named_upstream(
        &mut self,
        field: &Field<Text>,
        context: &RouteContext<'_>,
    ) -> Option<Target> {
        let text = field.good()?;
        if let Some(index) = index_of(&text.value, context) {
            return Some(Target::Upstream(index));
        }
        let near = nearest(&text.value.value, context.upstreams.iter().copied())
            .filter(|_| text.value.written.is_none());
        let instead = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None if context.upstreams.is_empty() => "add it under `upstreams`".to_owned(),
            None => format!("the upstreams are {}", context.upstreams.join(", ")),
        };
        let message = format!("there is no upstream `{}`", text.value.shown());
        self.report.refuse_instead(&text.place, message, instead)
    }
}

fn index_of(name: &Text, context: &RouteContext<'_>) -> Option<usize> {
    let mut names = context.upstreams.iter();
    names.position(|known| *known == name.value)
}
