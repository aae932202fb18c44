//! Clients that ask and do not take the answers.

use crate::support::client::Door;
use crate::support::raw_h2::{Ending, RawTwo, SETTINGS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Gateway, Http, Reply, eventually, in_time};

/// Longer than what the kernel and TLS hold for a connection that takes nothing.
const ANSWER: usize = 60_000;

/// A gateway with these limits, before an origin that answers at length.
async fn with(limits: &str) -> Gateway {
    let gateway = Gateway::with(|config| {
        config.set("workers", "1").set("connections", limits);
    })
    .await;
    gateway.origin.on("/public/long", |exchange| {
        exchange.reply(&Reply::ok().body("x".repeat(ANSWER)));
    });
    gateway
}

/// A connection whose client takes one byte of each answer.
async fn greedy(gateway: &Gateway, requests: usize) -> RawTwo {
    let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, section 6.5.2).
    two.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]).await;
    for _ in 0..requests {
        two.request(&RawTwo::get("/public/long")).await;
    }
    two
}

fn unsent(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("foregate_unsent_bytes", &[])
}

fn ended(gateway: &Gateway, cause: &str) -> f64 {
    let labels = [("cause", cause)];
    let metrics = gateway.metrics();
    metrics.sum("foregate_connections_failed_total", &labels)
}

#[tokio::test]
async fn what_a_client_does_not_take_is_bounded_and_ends_its_connection() {
    let gateway = with("{ unsent: 256KiB, body_idle: 3s }").await;
    let mut two = greedy(&gateway, 90).await;
    eventually("answers are held", || unsent(&gateway) > 250_000.0).await;
    // One answer may begin just below the limit.
    for _ in 0..10 {
        gateway.get(Http::One, "/public/x").send().await.is_ok();
        assert!(unsent(&gateway) < 262_144.0 + 65_536.0);
    }
    // Requests on the same connection do not prolong it.
    while ended(&gateway, "stalled") == 0.0 {
        two.request(&RawTwo::get("/health")).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    eventually("nothing is held", || unsent(&gateway) == 0.0).await;
    eventually("no stream is open", || {
        gateway.metrics().sum("foregate_h2_streams", &[]) == 0.0
    })
    .await;
}

#[tokio::test]
async fn the_clients_that_hold_most_are_ended_when_all_hold_too_much() {
    let gateway = with("{ unsent: 256KiB, unsent_total: 1MiB, body_idle: 1h }").await;
    let modest = greedy(&gateway, 1).await;
    let mut all = Vec::new();
    for _ in 0..12 {
        all.push(greedy(&gateway, 8).await);
    }
    eventually("some are ended", || {
        let labels = [("cause", "unsent")];
        gateway
            .metrics()
            .sum("foregate_clients_ended_total", &labels)
            >= 1.0
    })
    .await;
    eventually("the rest is within the limit", || {
        unsent(&gateway) <= 1_048_576.0
    })
    .await;
    // What these clients hold may still be more than three quarters.
    for http in Http::BOTH {
        let other = gateway.connector(http, Door::Tls).coming_from("127.0.0.2");
        other.call("GET", "/public/x").send().await.is_ok();
    }
    // Who holds little is not ended.
    let mut modest = modest;
    let stream = modest.request(&RawTwo::get("/health")).await;
    let window = 1000_u32.to_be_bytes();
    modest.send(8, 0, stream, &window).await;
    assert!(matches!(modest.ending(stream).await, Ending::Answered(_)));
}

#[tokio::test]
async fn a_request_ends_with_the_last_byte_that_its_client_takes() {
    let gateway = with("{ body_idle: 1h }").await;
    let mut two = greedy(&gateway, 1).await;
    eventually("the answer is held", || unsent(&gateway) > 0.0).await;
    let open = || gateway.metrics().sum("foregate_h2_streams", &[]);
    assert_eq!(open(), 1.0);
    let window = u32::try_from(ANSWER).unwrap().to_be_bytes();
    two.send(8, 0, 1, &window).await;
    assert!(matches!(two.ending(1).await, Ending::Answered(body) if body.len() == ANSWER));
    eventually("the request is over", || open() == 0.0).await;
    assert_eq!(unsent(&gateway), 0.0);
}

#[tokio::test]
async fn an_http_1_client_that_stops_reading_holds_one_piece_and_is_ended() {
    let gateway = with("{ body_idle: 2s }").await;
    gateway.origin.on("/public/long", |exchange| {
        exchange.reply(&Reply::ok().body("x".repeat(20 << 20)));
    });
    for door in [Door::Tls, Door::Plain] {
        let before = ended(&gateway, "stalled");
        let mut raw = gateway.raw(door).await;
        raw.write("GET /public/long HTTP/1.1\r\nHost: api.test\r\n\r\n")
            .await;
        eventually("it is ended", || {
            assert!(unsent(&gateway) <= 65_536.0);
            ended(&gateway, "stalled") > before
        })
        .await;
        eventually("nothing is held", || unsent(&gateway) == 0.0).await;
    }
}

#[tokio::test]
async fn an_http_1_client_that_does_not_even_read_heads_is_ended() {
    let gateway = with("{ body_idle: 2s }").await;
    let stream = gateway.connector(Http::One, Door::Plain).open().await;
    let (_unread, mut write) = tokio::io::split(stream.unwrap());
    let asking = tokio::spawn(async move {
        let requests = "HEAD /health HTTP/1.1\r\nHost: api.test\r\n\r\n".repeat(100);
        while write.write_all(requests.as_bytes()).await.is_ok() {}
    });
    eventually("it is ended", || ended(&gateway, "stalled") == 1.0).await;
    in_time("the end", asking).await.unwrap();
}

#[tokio::test]
async fn a_part_of_an_answer_without_a_length_is_a_reset_when_its_client_is_ended() {
    let gateway = with("{ body_idle: 2s }").await;
    gateway.origin.on("/public/chunks", |exchange| {
        exchange.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while exchange.raw(format!("{:x}\r\n{}\r\n", 60_000, "x".repeat(60_000)).as_bytes()) {}
    });
    let mut stream = gateway
        .connector(Http::One, Door::Plain)
        .open()
        .await
        .unwrap();
    let request = b"GET /public/chunks HTTP/1.0\r\nHost: api.test\r\n\r\n";
    stream.write_all(request).await.unwrap();
    eventually("it is ended", || ended(&gateway, "stalled") == 1.0).await;
    let read = in_time("the end", stream.read_to_end(&mut Vec::new())).await;
    assert!(read.is_err(), "{read:?}");
}
