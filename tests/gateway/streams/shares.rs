//! Live streams have a limit of their own, and each client its share of it.

use foregate::denial::Reason;

use super::socket::{Socket, Sockets};
use super::{OPEN, gateway};
use crate::support::client::Door;
use crate::support::tokens::subject;
use crate::support::{Gateway, Http};

/// A gateway that lets so many streams pass to each of both servers, beside two requests.
async fn limited(sockets: &Sockets, limits: &str) -> Gateway {
    let url = sockets.url();
    gateway(sockets, |config| {
        let origin = config
            .get("upstreams")
            .split('"')
            .nth(1)
            .unwrap()
            .to_owned();
        config
            .set("workers", "1")
            .set("trusted_proxies", "{ from: [127.0.0.1] }")
            .upstream("origin", &origin, limits)
            .upstream("sockets", &url, limits);
    })
    .await
}

fn from(address: &str, token: &str) -> [(&'static str, String); 2] {
    [
        ("authorization", format!("Bearer {token}")),
        ("x-forwarded-for", address.to_owned()),
    ]
}

/// The fields of a WebSocket handshake.
const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

#[tokio::test]
async fn live_streams_take_no_connections_from_requests() {
    let sockets = Sockets::start();
    let gateway = limited(&sockets, ", max_connections: 2, connect_timeout: 500ms").await;
    gateway.origin.on("/events/a", |exchange| {
        exchange.begin(200, &[("content-type", "text/event-stream")]);
        exchange.event("begun");
        exchange.wait_for_close();
    });
    let token = gateway.issuer.token();
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(Socket::open(&gateway, "/ws/a", &token).await);
    }
    let call = HANDSHAKE.iter().fold(
        gateway.get(Http::One, "/ws/a").bearer(&token),
        |call, (name, value)| call.header(name, value),
    );
    call.send().await.is_denied(Reason::UpstreamBusy);
    open.pop();
    gateway.metric_becomes(OPEN, &[], 7.0).await;
    open.push(Socket::open(&gateway, "/ws/a", &token).await);
    for socket in &mut open {
        socket.echo("here").await;
    }
    drop(open);
    gateway.metric_becomes(OPEN, &[], 0.0).await;
    for http in Http::BOTH {
        let mut streams = Vec::new();
        for _ in 0..8 {
            let call = gateway.get(http, "/events/a").bearer(&token);
            let mut stream = call.begin().await;
            assert_eq!(stream.chunk().await.unwrap().unwrap(), "data: begun\n\n");
            streams.push(stream);
        }
        for _ in 0..4 {
            gateway.get(http, "/public/a").send().await.is_ok();
        }
        let call = gateway.get(http, "/events/a").bearer(&token);
        call.send().await.is_denied(Reason::UpstreamBusy);
        drop(streams);
        gateway.metric_becomes(OPEN, &[], 0.0).await;
    }
}

#[tokio::test]
async fn a_client_that_holds_its_share_of_the_streams_opens_no_more_and_others_do() {
    let sockets = Sockets::start();
    let limits = ", max_connections: 2, max_streams: 16";
    let gateway = limited(&sockets, limits).await;
    let token = |name: &str| gateway.issuer.token_of(&subject(name));
    let mut open = Vec::new();
    for number in 0..8 {
        let fields = from("2001:db8:1:2::1", &token(&format!("user {number}")));
        open.push(Socket::open_with(&gateway, Door::Tls, "/ws/a", &fields).await);
    }
    let refused = |address: &'static str, name: &str| {
        let fields = from(address, &token(name));
        let call = gateway.get(Http::One, "/ws/a");
        let call = fields
            .iter()
            .fold(call, |call, (name, value)| call.header(name, value));
        let call = HANDSHAKE
            .iter()
            .fold(call, |call, (name, value)| call.header(name, value));
        async move {
            call.send().await.is_denied(Reason::ClientBusy);
        }
    };
    refused("2001:db8:1:2::2", "another").await;
    // One user from many addresses.
    for number in 0..4 {
        let fields = from(&format!("192.0.2.{number}"), &token("everywhere"));
        open.push(Socket::open_with(&gateway, Door::Tls, "/ws/a", &fields).await);
    }
    refused("192.0.2.9", "everywhere").await;
    let fields = from("192.0.2.9", &token("somebody else"));
    open.push(Socket::open_with(&gateway, Door::Tls, "/ws/a", &fields).await);
    for socket in &mut open {
        socket.echo("here").await;
    }
}

#[tokio::test]
async fn a_client_that_holds_its_share_of_the_events_opens_no_more_and_others_do() {
    let sockets = Sockets::start();
    let limits = ", max_connections: 2, max_streams: 16";
    let gateway = limited(&sockets, limits).await;
    gateway.origin.on("/events/a", |exchange| {
        exchange.begin(200, &[("content-type", "text/event-stream")]);
        exchange.event("begun");
        exchange.wait_for_close();
    });
    let token = gateway.issuer.token();
    for http in Http::BOTH {
        let get = |address: &str| {
            let token = match address {
                "192.0.2.1" => token.clone(),
                _ => gateway.issuer.token_of(&subject(address)),
            };
            let fields = from(address, &token);
            let call = gateway.get(http, "/events/a");
            fields
                .iter()
                .fold(call, |call, (name, value)| call.header(name, value))
        };
        let mut streams = Vec::new();
        for _ in 0..8 {
            streams.push(get("192.0.2.1").begin().await);
        }
        get("192.0.2.1").send().await.is_denied(Reason::ClientBusy);
        for _ in 0..4 {
            streams.push(get("192.0.2.2").begin().await);
        }
        for mut stream in streams {
            assert_eq!(stream.chunk().await.unwrap().unwrap(), "data: begun\n\n");
        }
        gateway.metric_becomes(OPEN, &[], 0.0).await;
    }
}
