//! Live streams: what passes through them, and what ends them.

mod calls;
mod crowd;
mod elsewhere;
mod ends;
mod events;
mod gaps;
mod lasting;
mod many;
mod quiet;
mod realtime;
mod rpc;
mod shares;
pub mod socket;
mod trials;
mod websocket;
mod withheld;

use crate::support::{Config, Gateway, Origin};
use socket::Sockets;

/// Routes for each kind of stream.
const ROUTES: &str = r#"
  - { path: "/ws/{*rest}", methods: [GET], access: user, resource: none, upstream: sockets, upgrade: [websocket] }
  - { path: "/raw/{*rest}", methods: [GET], access: public, upgrade: [websocket] }
  - { path: "/events/{*rest}", methods: [GET], access: user, resource: none }
"#;

const OPEN: &str = "foregate_streams_open";
const ENDED: &str = "foregate_streams_ended_total";

/// A gateway in front of a WebSocket server. Tokens end at their `exp`.
async fn gateway(sockets: &Sockets, change: impl FnOnce(&mut Config)) -> Gateway {
    let url = sockets.url();
    Gateway::before(Origin::start(), |config| {
        let tokens = config
            .get("tokens")
            .replace("algorithms:", "leeway: 0s, algorithms:");
        config
            .set("tokens", &tokens)
            .upstream("sockets", &url, "")
            .more_routes(ROUTES);
        change(config);
    })
    .await
}

/// Waits until so many streams of a kind have ended with this cause.
async fn ended(gateway: &Gateway, kind: &str, cause: &str, count: f64) {
    let labels = [("kind", kind), ("cause", cause)];
    gateway.metric_becomes(ENDED, &labels, count).await;
}
