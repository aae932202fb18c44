//! What makes the gateway end a stream, and that nothing else does.

use serde_json::json;

use super::socket::{End, Parting, Socket, Sockets};
use super::{OPEN, ended, gateway};
use crate::support::tokens::now;
use crate::support::{Gateway, Http, eventually};

fn told(code: u16, word: &str) -> End {
    End::Told(code, word.to_owned())
}

#[tokio::test]
async fn only_the_tunnel_of_an_expired_token_ends() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    let expires = now() + 3;
    let short = gateway
        .issuer
        .sign(&gateway.issuer.claims().expiring(expires));
    let mut socket = Socket::open(&gateway, "/ws/a", &short).await;
    let mut neighbour = Socket::open(&gateway, "/ws/a", &gateway.issuer.token()).await;
    socket.echo("so far").await;
    assert_eq!(socket.end().await, told(4401, "token_expired"));
    assert!(now() >= expires, "not before");
    neighbour.echo("still here").await;
    ended(&gateway, "websocket", "expired", 1.0).await;
    assert_eq!(gateway.log_line(&socket.id)["cause"], "expired");
    let partings = || sockets.partings();
    eventually("the server is told", || {
        partings() == [Parting::Closed(Some(4401))]
    })
    .await;
    neighbour.echo("and still").await;
    assert_eq!(gateway.metrics().sum(OPEN, &[]), 1.0);
}

#[tokio::test]
async fn only_a_newer_token_of_the_same_session_prolongs_a_stream() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    let subject = uuid::Uuid::now_v7().to_string();
    let expires = now() + 3;
    let claims = |session: &str| {
        gateway
            .issuer
            .claims()
            .with("sub", subject.as_str())
            .session(session)
    };
    let sign = |session: &str| gateway.issuer.sign(&claims(session).expiring(expires));
    let mut prolonged = Socket::open(&gateway, "/ws/a", &sign("one")).await;
    let mut other = Socket::open(&gateway, "/ws/a", &sign("two")).await;
    // A session of the same name of another user does not prolong it either.
    for newer in [
        gateway.issuer.sign(&claims("one")),
        gateway.issuer.sign(&gateway.issuer.claims().session("two")),
    ] {
        gateway
            .get(Http::Two, "/me")
            .bearer(&newer)
            .send()
            .await
            .is_ok();
    }
    assert_eq!(other.end().await, told(4401, "token_expired"));
    assert!(now() >= expires);
    prolonged.echo("still here").await;
    ended(&gateway, "websocket", "expired", 1.0).await;
    assert_eq!(gateway.metrics().sum(OPEN, &[]), 1.0);
}

#[tokio::test]
async fn only_revoked_streams_end() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    let subject = uuid::Uuid::now_v7().to_string();
    let earlier = |session: &str| {
        let claims = gateway.issuer.claims().with("sub", subject.as_str());
        let signed_in = json!([{ "method": "password", "timestamp": now() - 3600 }]);
        gateway
            .issuer
            .sign(&claims.session(session).with("amr", signed_in))
    };
    let one = earlier("one");
    let mut first = Socket::open(&gateway, "/ws/a", &one).await;
    let mut second = Socket::open(&gateway, "/ws/a", &earlier("two")).await;
    let mut third = Socket::open(&gateway, "/ws/a", &earlier("three")).await;
    let mut neighbour = Socket::open(&gateway, "/ws/a", &gateway.issuer.token()).await;
    let issuer = crate::support::tokens::ISSUER;

    gateway.revoke(&json!({ "kind": "token", "token": one }));
    assert_eq!(first.end().await, told(4401, "token_revoked"));
    second.echo("still here").await;
    gateway.revoke(&json!({ "kind": "session", "issuer": issuer, "session": "two" }));
    assert_eq!(second.end().await, told(4401, "session_not_found"));
    third.echo("still here").await;
    gateway.revoke(&json!({ "kind": "subject", "issuer": issuer, "subject": subject }));
    assert_eq!(third.end().await, told(4401, "session_not_found"));
    neighbour.echo("still here").await;
    ended(&gateway, "websocket", "revoked", 3.0).await;
    assert_eq!(gateway.metrics().sum(OPEN, &[]), 1.0);
}

#[tokio::test]
async fn a_stream_ends_only_if_the_new_route_map_denies_it() {
    let sockets = Sockets::start();
    let mut gateway = gateway(&sockets, |_| {}).await;
    let admin = gateway
        .issuer
        .claims()
        .with("app_metadata", json!({ "roles": ["admin"] }));
    let mut allowed = Socket::open(&gateway, "/ws/a", &gateway.issuer.sign(&admin)).await;
    let mut denied = Socket::open(&gateway, "/ws/a", &gateway.issuer.token()).await;
    gateway.signal("HUP");
    gateway
        .metric_becomes(
            "foregate_config_reloads_total",
            &[("result", "unchanged")],
            1.0,
        )
        .await;
    gateway
        .reload(|config| {
            config.more_routes("- { path: /new, access: public }");
        })
        .await;
    // Streams are reauthorized in order: whatever this change would have ended has ended once the
    // next change has taken effect.
    denied.echo("still here").await;
    gateway
        .reload(|config| {
            let routes = config.get("routes").replace(
                "resource: none, upstream: sockets",
                "resource: none, action: admin, upstream: sockets",
            );
            config.set("routes", &routes);
        })
        .await;
    assert_eq!(denied.end().await, told(4403, "role_insufficient"));
    allowed.echo("still here").await;
    ended(&gateway, "websocket", "denied", 1.0).await;
    gateway
        .reload(|config| {
            let routes = config.get("routes").replace(", upgrade: [websocket]", "");
            config.set("routes", &routes);
        })
        .await;
    assert_eq!(allowed.end().await, told(4403, "upgrade_refused"));
    gateway.metric_becomes(OPEN, &[], 0.0).await;
}

#[tokio::test]
async fn removing_an_issuer_ends_its_streams() {
    let sockets = Sockets::start();
    let mut gateway = gateway(&sockets, |_| {}).await;
    let legacy = gateway.issuer.sign_legacy(&gateway.issuer.claims());
    let mut socket = Socket::open(&gateway, "/ws/a", &legacy).await;
    let mut neighbour = Socket::open(&gateway, "/ws/a", &gateway.issuer.token()).await;
    gateway
        .reload(|config| {
            let tokens: String = config
                .get("tokens")
                .lines()
                .filter(|line| !line.contains("HS256"))
                .map(|line| format!("\n{line}"))
                .collect();
            config.set("tokens", &tokens);
        })
        .await;
    assert_eq!(socket.end().await, told(4401, "token_key_unknown"));
    neighbour.echo("still here").await;
}

#[tokio::test]
async fn streams_are_told_of_a_drain_before_its_deadline() {
    let sockets = Sockets::start();
    let mut gateway = gateway(&sockets, |_| {}).await;
    let token = gateway.issuer.token();
    let mut one = Socket::open(&gateway, "/ws/a", &token).await;
    let mut two = Socket::open(&gateway, "/ws/a", &token).await;
    gateway.signal("TERM");
    for socket in [&mut one, &mut two] {
        assert_eq!(socket.end().await, told(1001, "drained"));
    }
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    assert!(!gateway.log().text().contains("cut at the end"));
    for socket in [one, two] {
        let line = gateway.log_line(&socket.id);
        assert_eq!(
            (&line["end"], &line["cause"]),
            (&json!("ended"), &json!("drained"))
        );
    }
    let told = Parting::Closed(Some(1001));
    assert_eq!(sockets.partings(), [told.clone(), told]);
}

#[tokio::test]
async fn a_public_stream_outlives_revocations() {
    let sockets = Sockets::start();
    let url = sockets.url();
    let gateway = Gateway::with(|config| {
        config.upstream("sockets", &url, "").more_routes(
            "- { path: /anybody, access: public, upstream: sockets, upgrade: [websocket] }",
        );
    })
    .await;
    let mut socket = Socket::open(&gateway, "/anybody", &gateway.issuer.token()).await;
    let issuer = crate::support::tokens::ISSUER;
    gateway.revoke(&json!({ "kind": "issuer", "issuer": issuer }));
    gateway.get(Http::One, "/public/x").send().await.is_ok();
    socket.echo("still here").await;
}
