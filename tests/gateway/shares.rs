//! Connections as a resource: no client takes those of others.

use std::time::Duration;

use crate::support::client::{Client, Connector};
use crate::support::raw::Outcome;
use crate::support::{Config, Door, Gate, Gateway, Http, Origin, Reply, eventually, in_time};

const ENDED: &str = "foregate_clients_ended_total";
const OPEN: &str = "foregate_connections";

fn ended(gateway: &Gateway, cause: &str) -> f64 {
    gateway.metrics().sum(ENDED, &[("cause", cause)])
}

async fn with(connections: &str) -> Gateway {
    Gateway::with(|config| {
        config.set("connections", connections);
    })
    .await
}

/// A connection that is not served ends without a byte.
async fn is_closed(connector: &Connector) -> bool {
    match connector.try_connect().await {
        Err(_) => true,
        Ok(mut client) => client.get("/public/a").try_send().await.is_err(),
    }
}

async fn answers(client: &mut Client) {
    client.get("/public/a").send().await.is_ok();
}

#[tokio::test]
async fn a_client_over_its_share_is_closed_and_others_are_served() {
    for (http, door) in [
        (Http::One, Door::Plain),
        (Http::One, Door::Tls),
        (Http::Two, Door::Tls),
    ] {
        let gateway = with("{ max: 100, max_per_address: 3 }").await;
        let own = gateway.connector(http, door);
        let mut kept = Vec::new();
        for _ in 0..3 {
            let mut client = own.connect().await;
            answers(&mut client).await;
            kept.push(client);
        }
        gateway.origin.take();
        for _ in 0..5 {
            assert!(is_closed(&own).await, "{http:?} {door:?}");
        }
        gateway.origin.saw_nothing();
        assert_eq!(ended(&gateway, "address_share"), 5.0);
        // Other addresses have their own share, and those of this one are still served.
        answers(&mut own.clone().coming_from("127.0.0.2").connect().await).await;
        for client in &mut kept {
            answers(client).await;
        }
        // One line for all of them.
        let lines = gateway.log().all(|entry| entry["cause"] == "address_share");
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["address"], "127.0.0.1");
        // What ends makes room.
        kept.pop();
        eventually("a place is free", || gateway.metrics().sum(OPEN, &[]) < 3.0).await;
        answers(&mut own.connect().await).await;
    }
}

#[tokio::test]
async fn a_trusted_proxy_has_no_share_and_no_rate() {
    let gateway = Gateway::with(|config| {
        config
            .set(
                "connections",
                "{ max: 100, max_per_address: 2, handshakes_per_address: 1/h }",
            )
            .set("trusted_proxies", "{ from: [127.0.0.1] }");
    })
    .await;
    let proxy = gateway.connector(Http::One, Door::Tls);
    let mut kept = Vec::new();
    for _ in 0..20 {
        let mut client = proxy.connect().await;
        answers(&mut client).await;
        kept.push(client);
    }
    let stranger = proxy.coming_from("127.0.0.2");
    let _two = [stranger.connect().await, stranger.connect().await];
    assert!(is_closed(&stranger).await);
}

#[tokio::test]
async fn handshakes_of_a_client_have_a_rate() {
    let gateway = with("{ handshakes_per_address: 1/h }").await;
    let own = gateway.connector(Http::Two, Door::Tls);
    for _ in 0..5 {
        answers(&mut own.connect().await).await;
    }
    gateway.origin.take();
    for _ in 0..3 {
        assert!(is_closed(&own).await);
    }
    gateway.origin.saw_nothing();
    assert_eq!(ended(&gateway, "handshake_rate"), 3.0);
    answers(&mut own.coming_from("127.0.0.2").connect().await).await;
    // Clear text needs no handshake.
    let clear = gateway.connector(Http::One, Door::Plain);
    for _ in 0..10 {
        answers(&mut clear.connect().await).await;
    }
}

#[tokio::test]
async fn the_rate_and_the_share_change_with_a_reload() {
    let mut gateway = with("{ max: 100, max_per_address: 1 }").await;
    let own = gateway.connector(Http::One, Door::Plain);
    let mut first = own.connect().await;
    answers(&mut first).await;
    assert!(is_closed(&own).await);
    gateway
        .reload(|config: &mut Config| {
            config.set("connections", "{ max: 100, max_per_address: 2 }");
        })
        .await;
    answers(&mut own.connect().await).await;
}

/// Longer than a poll, so that connections become idle at different times.
const APART: Duration = Duration::from_millis(400);

#[tokio::test]
async fn the_connection_that_was_idle_for_the_longest_time_ends_for_a_new_one() {
    for (http, door) in [
        (Http::One, Door::Plain),
        (Http::One, Door::Tls),
        (Http::Two, Door::Tls),
    ] {
        let gateway = with("{ max: 4 }").await;
        let connector = gateway.connector(http, door);
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = connector.connect().await;
            answers(&mut client).await;
            clients.push(client);
            tokio::time::sleep(APART).await;
        }
        // The first one is used again, so that the second one is idle for the longest time.
        answers(&mut clients[0]).await;
        let mut new = connector.connect().await;
        answers(&mut new).await;
        eventually("the second one is closed", || clients[1].is_closed()).await;
        for index in [0, 2, 3] {
            assert!(!clients[index].is_closed(), "{http:?} {index}");
            answers(&mut clients[index]).await;
        }
        assert_eq!(ended(&gateway, "idle_shed"), 1.0);
        assert_eq!(gateway.metrics().sum(OPEN, &[]), 4.0);
    }
}

#[tokio::test]
async fn connections_without_a_request_give_way_at_any_time() {
    let gateway = with("{ max: 3 }").await;
    let mut silent = Vec::new();
    // Nothing was sent; a part of a head; a part of a handshake.
    for (door, bytes) in [
        (Door::Plain, ""),
        (Door::Plain, "GET /public/a HTTP/1.1\r\n"),
        (Door::Tls, "\x16\x03\x01"),
    ] {
        let address = gateway.address(door);
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut stream, bytes.as_bytes()).unwrap();
        silent.push(stream);
    }
    gateway.metric_becomes(OPEN, &[], 3.0).await;
    for http in Http::BOTH {
        for _ in 0..3 {
            answers(&mut gateway.connect(http).await).await;
        }
    }
    assert!(ended(&gateway, "idle_shed") >= 1.0);
}

#[tokio::test]
async fn an_idle_client_that_confirms_nothing_gives_way_all_the_same() {
    let gateway = with("{ max: 1 }").await;
    let mut dead = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    let stream = dead
        .request(&crate::support::raw_h2::RawTwo::get("/public/a"))
        .await;
    dead.ending(stream).await;
    answers(&mut gateway.connect(Http::One).await).await;
    assert_eq!(ended(&gateway, "idle_shed"), 1.0);
}

#[tokio::test]
async fn a_connection_with_an_open_request_is_not_ended_for_another_one() {
    let gate = Gate::new();
    let (origin, passed) = (Origin::start(), gate.clone());
    origin.on("/public/gated", move |exchange| {
        passed.pass();
        exchange.reply(&Reply::ok());
    });
    let gateway = Gateway::before(origin, |config| {
        config.set("connections", "{ max: 2 }");
    })
    .await;
    let connector = gateway.connector(Http::One, Door::Plain);
    let running: Vec<_> = (0..2)
        .map(|_| tokio::spawn(connector.call("GET", "/public/gated").send()))
        .collect();
    gateway.origin.has_seen(2).await;
    let mut waiting = gateway.raw(Door::Plain).await;
    waiting
        .write("GET /public/a HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    gate.open();
    for running in running {
        in_time("an answer", running).await.unwrap().is_ok();
    }
    assert!(matches!(waiting.answer().await, Outcome::Answer(_)));
}

#[tokio::test]
async fn a_client_with_far_more_busy_connections_loses_one_to_a_newcomer() {
    let gate = Gate::new();
    let origin = Origin::start();
    let closed = gate.clone();
    origin.on("/public/held", move |exchange| {
        closed.pass();
        exchange.reply(&Reply::ok());
    });
    let gateway = Gateway::before(origin, |config| {
        config.set("connections", "{ max: 20, max_per_address: 20 }");
    })
    .await;
    let mut held = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let connector = gateway.connector(Http::One, Door::Plain);
        held.spawn(async move {
            connector
                .call("GET", "/public/held")
                .try_send()
                .await
                .is_ok()
        });
    }
    gateway.origin.has_seen(20).await;
    let newcomer = gateway
        .connector(Http::Two, Door::Tls)
        .coming_from("127.0.0.9");
    let mut newcomer = newcomer.connect().await;
    newcomer.get("/public/a").send().await.is_ok();
    assert_eq!(ended(&gateway, "share_shed"), 1.0);
    gate.open();
    let answered = held.join_all().await;
    assert_eq!(answered.iter().filter(|answered| **answered).count(), 19);
}
