//! Tunnels: when one is opened, and that it is transparent.

use foregate::denial::Reason;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::socket::{End, Parting, Socket, Sockets};
use super::{ENDED, OPEN, ended, gateway};
use crate::support::client::Door;
use crate::support::raw::Outcome;
use crate::support::{Gateway, Http, Origin, Reply, eventually};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub(super) fn handshake(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: api.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    )
}

fn switching(accept: &str, more: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn messages_pass_both_ways_however_large() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    let token = gateway.issuer.token();
    for kind in ["websocket", "sse", "grpc"] {
        assert_eq!(gateway.metrics().sum(OPEN, &[("kind", kind)]), 0.0);
    }
    for door in [Door::Tls, Door::Plain] {
        let mut socket = Socket::open_at(&gateway, door, "/ws/a?b=c", &token).await;
        assert_eq!(gateway.metrics().sum(OPEN, &[("kind", "websocket")]), 1.0);
        for length in [0, 1, 125, 126, 65_535, 65_536, 3 << 20] {
            socket.echo_bytes(vec![b'x'; length]).await;
        }
        socket.echo("and text").await;
        let id = socket.id.clone();
        assert!(
            gateway
                .log()
                .all(|line| line["request_id"] == id)
                .is_empty()
        );
        assert_eq!(socket.close(4321).await, End::Told(4321, String::new()));
        let line = gateway.log_line(&id);
        assert_eq!(line["end"], "complete");
        assert_eq!(line["stream"], "websocket");
        assert_eq!(line["cause"], "finished");
        assert_eq!(line["status"], 101);
        assert!(line["sent"].as_u64() > Some(3 << 20), "{line}");
        assert!(line["received"].as_u64() > Some(3 << 20), "{line}");
    }
    ended(&gateway, "websocket", "finished", 2.0).await;
    gateway
        .metric_becomes(OPEN, &[("kind", "websocket")], 0.0)
        .await;
    let closed = Parting::Closed(Some(4321));
    assert_eq!(sockets.partings(), [closed.clone(), closed]);
    gateway.is_quiet().await;
}

#[tokio::test]
async fn the_server_may_close_first() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    let mut socket = Socket::open(&gateway, "/ws/a", &gateway.issuer.token()).await;
    socket.say("please close").await;
    assert_eq!(
        socket.end().await,
        End::Told(4000, "as you please".to_owned())
    );
    ended(&gateway, "websocket", "finished", 1.0).await;
}

#[tokio::test]
async fn bytes_sent_right_after_the_handshake_are_not_lost() {
    let origin = Origin::start();
    origin.on("/raw/greeting", |exchange| {
        let mut answer = switching(&derive_accept_key(KEY.as_bytes()), "").into_bytes();
        answer.extend(b"\x81\x05hello");
        exchange.raw(&answer);
        exchange.wait_for_close();
    });
    let sockets = Sockets::start();
    let url = sockets.url();
    let gateway = Gateway::before(origin, |config| {
        config
            .upstream("sockets", &url, "")
            .more_routes(
                "- { path: /early, access: public, upstream: sockets, upgrade: [websocket] }",
            )
            .more_routes(super::ROUTES);
    })
    .await;
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write(handshake("/raw/greeting", "")).await;
    assert_eq!(raw.answer().await.answer().status, 101);
    assert_eq!(raw.read().await, b"\x81\x05hello");
    // A masked `hi` in the same packet as the handshake.
    let mut raw = gateway.raw(Door::Plain).await;
    let mut early = handshake("/early", "").into_bytes();
    early.extend([0x81, 0x82, 1, 1, 1, 1, b'h' ^ 1, b'i' ^ 1]);
    raw.write(early).await;
    assert_eq!(raw.answer().await.answer().status, 101);
    assert_eq!(raw.read().await, b"\x81\x02hi");
}

#[tokio::test]
async fn the_server_sees_a_handshake_of_its_own_and_chooses_from_what_was_offered() {
    let origin = Origin::start();
    origin.on("/raw/x", |exchange| {
        let accept = derive_accept_key(KEY.as_bytes());
        let chosen =
            "Sec-WebSocket-Protocol: phoenix\r\nSet-Cookie: a=b\r\nServer: s\r\nKeep-Alive: 1\r\n";
        exchange.raw(switching(&accept, chosen).as_bytes());
        exchange.wait_for_close();
    });
    let gateway = Gateway::before(origin, |config| {
        config.more_routes("- { path: \"/raw/{*rest}\", access: public, upgrade: [websocket] }");
    })
    .await;
    let mut raw = gateway.raw(Door::Tls).await;
    let more = "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: phoenix\r\nSec-WebSocket-Extensions: x-a; b=c\r\n\
                X-User-Id: 1\r\nConnection: x-hop\r\nX-Hop: 1\r\nOrigin: https://a.test\r\n";
    raw.write(handshake("/raw/x", more)).await;
    let answer = raw.answer().await.answer();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-protocol"), "phoenix");
    assert_eq!(answer.header("set-cookie"), "a=b");
    assert_eq!(answer.header("connection"), "Upgrade");
    let seen = gateway.origin.only();
    for (name, value) in [
        ("upgrade", Some("websocket")),
        ("connection", Some("Upgrade")),
        ("sec-websocket-key", Some(KEY)),
        ("sec-websocket-version", Some("13")),
        ("sec-websocket-protocol", Some("chat, phoenix")),
        ("sec-websocket-extensions", Some("x-a; b=c")),
        ("origin", Some("https://a.test")),
        ("x-user-id", None),
        ("x-hop", None),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn a_tunnel_opens_only_after_a_101_that_answers_the_handshake() {
    let good = derive_accept_key(KEY.as_bytes());
    let bad = [
        switching(&derive_accept_key(b"another"), ""),
        switching(&good, "").replace("Upgrade: websocket\r\n", ""),
        switching(&good, "").replace("Connection: Upgrade\r\n", ""),
        switching(&good, "").replace("Upgrade: websocket", "Upgrade: h2c"),
        switching(&good, "").replace("Sec-WebSocket-Accept", "X-Accept"),
        switching(&good, "Sec-WebSocket-Protocol: chat\r\n"),
        switching(&good, "Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        switching(&good, &format!("Sec-WebSocket-Accept: {good}\r\n")),
    ];
    let origin = Origin::start();
    for (number, answer) in bad.iter().cloned().enumerate() {
        origin.on(&format!("/raw/{number}"), move |exchange| {
            exchange.raw(answer.as_bytes());
            exchange.wait_for_close();
        });
    }
    let sockets = Sockets::start();
    let url = sockets.url();
    let gateway = Gateway::before(origin, |config| {
        config
            .upstream("sockets", &url, "")
            .more_routes(super::ROUTES);
    })
    .await;
    for number in 0..bad.len() {
        let mut raw = gateway.raw(Door::Tls).await;
        raw.write(handshake(&format!("/raw/{number}"), "")).await;
        let answer = raw.answer().await.answer();
        answer.is_denied(Reason::UpstreamProtocol);
        eventually("the server is left", || {
            gateway.origin.open_connections() == 0
        })
        .await;
    }
    assert_eq!(gateway.metrics().sum(ENDED, &[]), 0.0);
}

#[tokio::test]
async fn any_answer_but_a_101_is_an_ordinary_answer() {
    let origin = Origin::start();
    origin.on("/raw/200", |exchange| exchange.reply(&Reply::ok()));
    origin.on("/raw/403", |exchange| {
        exchange.reply(&Reply::new(403).body("no"))
    });
    let sockets = Sockets::start();
    let url = sockets.url();
    let gateway = Gateway::before(origin, |config| {
        config
            .upstream("sockets", &url, "")
            .more_routes(super::ROUTES);
    })
    .await;
    let mut raw = gateway.raw(Door::Tls).await;
    // On the same connection, which still speaks HTTP.
    for (path, status) in [("/raw/200", 200), ("/raw/403", 403), ("/raw/200", 200)] {
        raw.write(handshake(path, "")).await;
        assert_eq!(raw.answer().await.answer().status, status);
    }
    assert_eq!(gateway.origin.requests().len(), 3);
    assert_eq!(gateway.origin.connections(), 1);
}

#[tokio::test]
async fn an_upgrade_that_is_not_offered_reaches_no_server() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    let good = handshake("/raw/x", "");
    let refused = [
        handshake("/public/x", ""),
        good.replace("Upgrade: websocket", "Upgrade: h2c"),
        good.replace("Upgrade: websocket", "Upgrade: websocket, h2c"),
        good.replace("Upgrade: websocket", "Upgrade: TLS/1.0"),
        good.replace("Connection: Upgrade", "Connection: keep-alive"),
        good.replace("Version: 13", "Version: 12"),
        good.replace(KEY, "c2hvcnQ="),
        good.replace("Sec-WebSocket-Key", "X-Key"),
        good.replace("GET ", "POST "),
        handshake("/raw/x", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"),
        handshake("/raw/x", "Upgrade: websocket\r\n"),
        handshake("/raw/x", "Content-Length: 3\r\n") + "abc",
    ];
    for door in [Door::Tls, Door::Plain] {
        for head in &refused {
            let mut raw = gateway.raw(door).await;
            raw.write(head).await;
            raw.answer()
                .await
                .answer()
                .is_denied(Reason::UpgradeRefused);
            gateway.origin.saw_nothing();
        }
    }
    let mut raw = gateway.raw(Door::Redirect).await;
    raw.write(&good).await;
    raw.answer()
        .await
        .answer()
        .is_denied(Reason::UpgradeRefused);
    // HTTP/2 has no `Upgrade`, and its own mechanism (RFC 8441) is not offered.
    let answer = gateway
        .call(Http::Two, "CONNECT", "/raw/x")
        .try_send()
        .await;
    if let Ok(answer) = answer {
        answer.finish().await.is_denied(Reason::MethodRefused);
    }
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn an_unauthenticated_client_gets_no_tunnel() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    for (more, reason) in [
        (String::new(), Reason::TokenMissing),
        (
            format!("Authorization: Bearer {}\r\n", gateway.issuer.expired()),
            Reason::TokenExpired,
        ),
    ] {
        let mut raw = gateway.raw(Door::Tls).await;
        raw.write(handshake("/ws/a", &more)).await;
        raw.answer().await.answer().is_denied(reason);
    }
    assert_eq!(sockets.partings(), []);
    assert_eq!(gateway.metrics().sum(ENDED, &[]), 0.0);
}

#[tokio::test]
async fn a_side_that_vanishes_closes_the_other() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    let token = gateway.issuer.token();
    let mut socket = Socket::open(&gateway, "/ws/a", &token).await;
    socket.echo("here").await;
    let id = socket.id.clone();
    drop(socket);
    eventually("the server sees it", || {
        sockets.partings() == [Parting::Broken]
    })
    .await;
    assert_eq!(gateway.log_line(&id)["end"], "client_gone");
    ended(&gateway, "websocket", "client_gone", 1.0).await;

    let mut socket = Socket::open(&gateway, "/ws/a", &token).await;
    socket.say("please vanish").await;
    assert_eq!(socket.end().await, End::Untold);
    assert_eq!(gateway.log_line(&socket.id)["end"], "upstream_failed");
    ended(&gateway, "websocket", "upstream_gone", 1.0).await;
    gateway.metric_becomes(OPEN, &[], 0.0).await;
}

#[tokio::test]
async fn a_side_that_does_not_read_slows_the_other_down() {
    let origin = Origin::start();
    let written = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = written.clone();
    origin.on("/raw/flood", move |exchange| {
        exchange.raw(switching(&derive_accept_key(KEY.as_bytes()), "").as_bytes());
        let mut frame = vec![0x82, 127];
        frame.extend((1_u64 << 16).to_be_bytes());
        frame.extend(vec![0; 1 << 16]);
        while exchange.raw(&frame) {
            counter.fetch_add(frame.len(), std::sync::atomic::Ordering::Relaxed);
        }
    });
    let sockets = Sockets::start();
    let url = sockets.url();
    let gateway = Gateway::before(origin, |config| {
        config
            .set("connections", "{ body_idle: 500ms }")
            .upstream("sockets", &url, "")
            .more_routes(super::ROUTES);
    })
    .await;
    let mut raw = gateway.raw(Door::Plain).await;
    raw.write(handshake("/raw/flood", "")).await;
    assert_eq!(raw.answer().await.answer().status, 101);
    // The client reads nothing more, and is disconnected after a while; until then only kernel
    // buffers were filled.
    ended(&gateway, "websocket", "stalled", 1.0).await;
    assert!(written.load(std::sync::atomic::Ordering::Relaxed) < 64 << 20);
    assert!(gateway.rss() < 200 << 20);
    drop(raw);
}

#[tokio::test]
async fn connection_limits_do_not_end_an_idle_tunnel_and_it_counts_as_a_connection() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |config| {
        config.set(
            "connections",
            "{ idle: 200ms, head: 200ms, body_idle: 200ms }",
        );
    })
    .await;
    let mut socket = Socket::open(&gateway, "/ws/a", &gateway.issuer.token()).await;
    // Other connections are closed for being idle, several times over.
    for _ in 0..3 {
        let mut client = gateway.connect(Http::One).await;
        client.get("/public/x").send().await.is_ok();
        gateway
            .metric_becomes("foregate_connections", &[], 2.0)
            .await;
        eventually("it is closed", || client.is_closed()).await;
    }
    gateway
        .metric_becomes("foregate_connections", &[], 1.0)
        .await;
    socket.echo("still here").await;
}

#[tokio::test]
async fn a_tunnel_ends_by_its_idle_limit_and_by_its_total_limit() {
    let sockets = Sockets::start();
    let url = sockets.url();
    let gateway = gateway(&sockets, |config| {
        config.upstream("sockets", &url, "").more_routes(
            r#"
            - { path: /idle, access: public, upstream: sockets, upgrade: [websocket], timeouts: { stream_idle: 300ms } }
            - { path: /total, access: public, upstream: sockets, upgrade: [websocket], timeouts: { total: 600ms } }
            "#,
        );
    })
    .await;
    for (path, cause) in [("/idle", "idle"), ("/total", "time_limit")] {
        let mut socket = Socket::open(&gateway, path, "unread").await;
        assert_eq!(socket.end().await, End::Told(1001, cause.to_owned()));
        ended(&gateway, "websocket", cause, 1.0).await;
        assert_eq!(gateway.log_line(&socket.id)["end"], "ended");
    }
    let told = Parting::Closed(Some(1001));
    eventually("the server is told", || {
        sockets.partings() == [told.clone(), told.clone()]
    })
    .await;
}

#[tokio::test]
async fn invalid_frames_are_forwarded_and_nothing_is_inserted() {
    let origin = Origin::start();
    origin.on("/raw/noise", |exchange| {
        exchange.raw(switching(&derive_accept_key(KEY.as_bytes()), "").as_bytes());
        exchange.raw(&[0xff; 64]);
        exchange.wait_for_close();
    });
    let sockets = Sockets::start();
    let url = sockets.url();
    let gateway = Gateway::before(origin, |config| {
        config.upstream("sockets", &url, "").more_routes(
            "- { path: \"/raw/{*rest}\", access: public, upgrade: [websocket], timeouts: { stream_idle: 300ms } }",
        );
    })
    .await;
    let mut raw = gateway.raw(Door::Plain).await;
    raw.write(handshake("/raw/noise", "")).await;
    assert_eq!(raw.answer().await.answer().status, 101);
    let mut noise = Vec::new();
    loop {
        let more = raw.read().await;
        if more.is_empty() {
            break;
        }
        noise.extend(more);
    }
    assert_eq!(noise, [0xff; 64]);
    ended(&gateway, "websocket", "idle", 1.0).await;
    assert!(matches!(raw.answer().await, Outcome::Closed));
}

#[tokio::test]
async fn a_quiet_socket_is_not_ended_for_another_connection() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |config| {
        config.set("connections", "{ max: 2 }");
    })
    .await;
    let token = gateway.issuer.token();
    let mut socket = Socket::open_at(&gateway, Door::Plain, "/ws/a", &token).await;
    for http in Http::BOTH {
        for _ in 0..3 {
            let mut client = gateway.connect(http).await;
            client.get("/public/a").send().await.is_ok();
        }
    }
    socket.echo("still open").await;
}
