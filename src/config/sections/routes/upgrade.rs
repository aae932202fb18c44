//! `upgrade` and `realtime`: WebSocket, and messages that are authorized on it.

use hyper::Method;

use super::context::RouteContext;
use super::route::Route;
use crate::config::check::Checker;
use crate::policy::methods::Methods;
use crate::policy::route::{Access, Target};

impl Checker<'_> {
    /// Whether the route offers WebSocket, where that can work: a GET (RFC 6455, section 4.1) over
    /// HTTP/1.1 to an upstream.
    pub(super) fn websocket(
        &mut self,
        wire: &Route,
        methods: Methods,
        target: Option<Option<Target>>,
        context: &RouteContext<'_>,
    ) -> Option<bool> {
        let Some(list) = wire.upgrade.optional()? else {
            return Some(false);
        };
        let offered = list.value.items.first()?;
        if let Some(again) = list.value.items.get(1) {
            let message = "is written twice; remove one";
            return self.report.refuse(&again.place, message);
        }
        let why = match target? {
            None => "a route with `access: deny` goes nowhere; remove `upgrade`",
            Some(Target::Serve(_)) => {
                "a route that the gateway answers itself has no WebSocket; remove `upgrade`"
            }
            Some(Target::Upstream(index)) if context.speak_http2.get(index) == Some(&true) => {
                "WebSocket goes over HTTP/1.1, and the upstream has `protocol: http2`"
            }
            Some(Target::Upstream(_)) if !methods.contains(&Method::GET) => {
                "WebSocket begins with a GET, which is not one of `methods`; add it"
            }
            Some(Target::Upstream(_)) => return Some(true),
        };
        self.report.refuse(&offered.place, why)
    }

    /// Messages are authorized on a WebSocket, by the token of the user who sends them.
    pub(super) fn realtime(&mut self, wire: &Route, websocket: Option<bool>) -> Option<bool> {
        let Some(realtime) = wire.realtime.optional()?.filter(|realtime| realtime.value) else {
            return Some(false);
        };
        let why = match (websocket?, wire.access.good()?.value) {
            (false, _) => "is about messages of a WebSocket; add `upgrade: [websocket]`",
            (true, Access::Public | Access::Deny) => {
                "needs tokens, and this `access` reads none; write `optional` or `user`"
            }
            (true, Access::Optional | Access::User) => return Some(true),
        };
        self.report.refuse(&realtime.place, why)
    }
}
