//! Streams that say nothing for a while: what ends them, and what keeps them alive.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::events::{EVENTS, last};
use super::socket::{Parting, Socket, Sockets};
use super::websocket::handshake;
use super::{ended, gateway};
use crate::support::client::Door;
use crate::support::{Gateway, Http, eventually};

const ROUTES: &str = r#"
    - { path: "/quiet/idle/{*rest}", access: public, timeouts: { stream_idle: 300ms } }
    - { path: "/quiet/total/{*rest}", access: public, timeouts: { total: 600ms } }
    - { path: "/quiet/open/{*rest}", access: public }
    - { path: /quiet/socket, access: public, upstream: sockets, upgrade: [websocket], timeouts: { stream_idle: 3500ms } }
"#;

/// A gateway whose quiet streams are kept alive every second, if they are.
async fn with(sockets: &Sockets, keepalive: bool) -> Gateway {
    let gateway = gateway(sockets, |config| {
        config.more_routes(ROUTES);
        if keepalive {
            config.set("streams", "{ keepalive: 1s }");
        }
    })
    .await;
    for route in ["/quiet/idle", "/quiet/total", "/quiet/open"] {
        gateway.origin.on(&format!("{route}/between"), |exchange| {
            exchange.begin(200, &[EVENTS]);
            exchange.chunk("data: first\n\n");
            exchange.wait_for_close();
        });
        gateway.origin.on(&format!("{route}/inside"), |exchange| {
            exchange.begin(200, &[EVENTS]);
            exchange.chunk("data: be");
            exchange.wait_for_close();
        });
    }
    gateway
}

#[tokio::test]
async fn a_stream_that_a_time_limit_ends_says_so_to_the_client_and_the_operator() {
    let sockets = Sockets::start();
    let gateway = with(&sockets, false).await;
    for (count, http) in (1_u8..).zip(Http::BOTH) {
        for (path, cause, before) in [
            ("/quiet/idle", "idle", count - 1),
            ("/quiet/total", "time_limit", 0),
        ] {
            let path = format!("{path}/between");
            let answer = gateway.get(http, &path).send().await;
            let expected = format!("data: first\n\n{}", last(cause, 503));
            assert_eq!(answer.is_ok().text(), expected);
            let line = answer.log_line();
            assert_eq!(
                (&line["end"], &line["cause"]),
                (&json!("ended"), &json!(cause))
            );
            ended(&gateway, "sse", cause, f64::from(count + before)).await;
        }
        // Inside of an event there is no room.
        let mut inside = gateway.get(http, "/quiet/idle/inside").begin().await;
        let id = inside.id().to_owned();
        assert_eq!(inside.chunk().await.unwrap().unwrap(), "data: be");
        assert!(inside.try_finish().await.is_err());
        assert_eq!(gateway.log_line(&id)["cause"], "idle");
        ended(&gateway, "sse", "idle", f64::from(count) * 2.0).await;
    }
    eventually("the origin is left alone", || {
        gateway.origin.open_connections() == 0
    })
    .await;
    let failed = gateway.metrics().sum("foregate_upstream_failed_total", &[]);
    assert_eq!(failed, 0.0);
}

#[tokio::test]
async fn a_quiet_stream_of_events_gets_comments_between_events_only() {
    let sockets = Sockets::start();
    let gateway = with(&sockets, true).await;
    for http in Http::BOTH {
        let began = Instant::now();
        let mut between = gateway.get(http, "/quiet/open/between").begin().await;
        let mut inside = gateway.get(http, "/quiet/open/inside").begin().await;
        assert_eq!(between.chunk().await.unwrap().unwrap(), "data: first\n\n");
        for _ in 0..2 {
            assert_eq!(between.chunk().await.unwrap().unwrap(), ":\n\n");
        }
        assert!(began.elapsed() >= Duration::from_millis(1900));
        assert_eq!(inside.chunk().await.unwrap().unwrap(), "data: be");
        let more = timeout(Duration::from_millis(300), inside.chunk());
        assert!(more.await.is_err(), "the event has not ended");
    }
}

#[tokio::test]
async fn a_quiet_websocket_is_pinged_and_a_client_that_answers_is_not_idle() {
    let sockets = Sockets::start();
    let gateway = with(&sockets, true).await;
    let mut socket = Socket::open(&gateway, "/quiet/socket", "unread").await;
    let ping = Message::Ping(Vec::new().into());
    // Longer than it may be idle.
    for _ in 0..5 {
        // The next one is heard once this one is answered.
        assert_eq!(socket.hear().await, ping);
    }
    socket.echo("still here").await;
    drop(socket);
    // A client that answers no ping is idle.
    let mut silent = gateway.raw(Door::Plain).await;
    silent.write(handshake("/quiet/socket", "")).await;
    assert_eq!(silent.answer().await.answer().status, 101);
    let mut heard = Vec::new();
    loop {
        match silent.read().await {
            end if end.is_empty() => break,
            more => heard.extend(more),
        }
    }
    let mut expected = [0x89, 0].repeat(3);
    expected.extend([0x88, 6]);
    expected.extend(1001_u16.to_be_bytes());
    expected.extend(b"idle");
    assert_eq!(heard, expected);
    eventually("the server is told", || {
        sockets.partings().contains(&Parting::Closed(Some(1001)))
    })
    .await;
    ended(&gateway, "websocket", "idle", 1.0).await;
}
