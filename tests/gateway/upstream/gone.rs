//! Clients that go away: the origin's work is cancelled at once.

use foregate::denial::Reason;

use super::with_one_pool;
use crate::support::client::Door;
use crate::support::log::says;
use crate::support::raw_h2::RawTwo;
use crate::support::{Gate, Gateway, Http};

const RST_STREAM: u8 = 3;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// A gateway whose origin reports that a request has arrived, or that an answer has begun, and then
/// that the gateway has closed the connection.
async fn watched(begins: bool) -> (Gateway, Gate, Gate) {
    let gateway = with_one_pool().await;
    let (here, gone) = (Gate::new(), Gate::new());
    let gates = (here.clone(), gone.clone());
    gateway.origin.otherwise(move |exchange| {
        if begins {
            exchange.begin(200, &[]);
            exchange.chunk("begun");
        }
        gates.0.open();
        exchange.wait_for_close();
        gates.1.open();
    });
    (gateway, here, gone)
}

/// The record blames the client and not the origin.
#[track_caller]
fn blames_the_client(gateway: &Gateway) {
    let line = gateway.log().wait_for(|entry| says(entry, "request"));
    let line = line.unwrap();
    // An aborted upload may be noticed before its connection.
    let broken = line["reason"] == Reason::BodyBroken.code();
    assert!(line["end"] == "client_gone" || broken, "{line}");
    let failed = gateway.metrics().sum("foregate_upstream_failed_total", &[]);
    assert_eq!(failed, 0.0);
}

const HEADS: [&str; 3] = [
    "GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\n\r\nbody",
    "POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 9\r\n\r\nhalf",
];

#[tokio::test]
async fn a_connection_closed_before_the_head_cancels_the_request() {
    for door in [Door::Tls, Door::Plain] {
        for head in HEADS {
            let (gateway, here, gone) = watched(false).await;
            let mut raw = gateway.raw(door).await;
            raw.write(head).await;
            here.opened().await;
            drop(raw);
            gone.opened().await;
            blames_the_client(&gateway);
        }
    }
}

#[tokio::test]
async fn a_connection_closed_during_the_body_cancels_the_request() {
    for door in [Door::Tls, Door::Plain] {
        for head in HEADS {
            let (gateway, here, gone) = watched(true).await;
            let mut raw = gateway.raw(door).await;
            raw.write(head).await;
            here.opened().await;
            assert!(!raw.read().await.is_empty());
            drop(raw);
            gone.opened().await;
            blames_the_client(&gateway);
        }
    }
}

#[tokio::test]
async fn a_reset_stream_cancels_its_request_and_no_other() {
    for begins in [false, true] {
        let (gateway, here, gone) = watched(begins).await;
        gateway.origin.on("/kept", super::echo_target);
        let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
        let stream = two.request(&RawTwo::get("/x")).await;
        here.opened().await;
        two.send(RST_STREAM, 0, stream, &CANCEL).await;
        gone.opened().await;
        blames_the_client(&gateway);
        let kept = two.request(&RawTwo::get("/kept")).await;
        let ending = two.ending(kept).await;
        let whole = crate::support::raw_h2::Ending::Answered(b"/kept".to_vec());
        assert_eq!(ending, whole);
    }
}

#[tokio::test]
async fn a_lost_http_2_connection_cancels_its_requests() {
    for begins in [false, true] {
        let (gateway, here, gone) = watched(begins).await;
        let mut two = gateway.connector(Http::Two, Door::Plain).raw_h2().await;
        two.request(&RawTwo::get("/x")).await;
        here.opened().await;
        drop(two);
        gone.opened().await;
        blames_the_client(&gateway);
    }
}

#[tokio::test]
async fn an_upload_aborted_by_its_client_is_never_complete_at_the_origin() {
    for http in Http::BOTH {
        let gateway = with_one_pool().await;
        let (begun, broken) = (Gate::new(), Gate::new());
        let gates = (begun.clone(), broken.clone());
        gateway.origin.on("/x", move |exchange| {
            assert_eq!(exchange.read_some(), Some(5));
            gates.0.open();
            assert!(!exchange.read_body(), "a complete body");
            gates.1.open();
        });
        let (call, body) = gateway
            .connector(http, Door::Tls)
            .call("POST", "/x")
            .streaming();
        let sending = tokio::spawn(call.try_send());
        body.chunk("begun").await;
        begun.opened().await;
        body.break_off().await;
        broken.opened().await;
        drop(sending);
    }
}
