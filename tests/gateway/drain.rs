//! Draining the process: running requests finish, connections close gracefully, and the process
//! does end.

use std::os::unix::process::ExitStatusExt as _;

use crate::support::client::Door;
use crate::support::load::Load;
use crate::support::log::says;
use crate::support::raw_h2::{Ending, RawTwo};
use crate::support::{Gate, Gateway, Http, Origin, Reply, eventually, in_time};

#[tokio::test]
async fn running_requests_are_finished_and_nothing_new_is_accepted() {
    for signal in ["TERM", "INT"] {
        let gate = Gate::new();
        let mut gateway = Gateway::before(gated(&gate), |_| {}).await;
        assert_eq!(gateway.admin_status("/readyz"), 200);
        let running = Http::BOTH.map(|http| {
            let connector = gateway.connector(http, Door::Tls);
            tokio::spawn(connector.call("GET", "/public/gated").send())
        });
        gateway.origin.has_seen(2).await;
        gateway.signal(signal);

        eventually("it is not ready", || gateway.admin_status("/readyz") == 503).await;
        assert_eq!(gateway.admin_status("/livez"), 200);
        for door in [Door::Tls, Door::Plain, Door::Redirect] {
            refuses_connections(&gateway, door).await;
        }
        gate.open();
        let mut ids = Vec::new();
        for (answer, http) in running.into_iter().zip(Http::BOTH) {
            let answer = in_time("the answer", answer).await.unwrap();
            answer.is_ok();
            let close = if http == Http::One { "close" } else { "" };
            assert_eq!(answer.header("connection"), close);
            ids.push(answer.id().to_owned());
        }
        let status = gateway.wait_exit().await;
        assert_eq!(status.code(), Some(0), "{signal}: {:?}", status.signal());
        for id in ids {
            assert_eq!(gateway.log_line(&id)["end"], "complete");
        }
        assert_eq!(gateway.log().all(|entry| says(entry, "stopped")).len(), 1);
    }
}

#[tokio::test]
async fn a_keep_alive_connection_may_send_one_more_request_and_is_then_closed() {
    let mut gateway = Gateway::start().await;
    let mut client = gateway.connect(Http::One).await;
    client.get("/public/x").send().await.is_ok();
    gateway.signal("TERM");
    refuses_connections(&gateway, Door::Tls).await;
    let answer = client.get("/public/x").send().await;
    assert_eq!(answer.is_ok().header("connection"), "close");
    eventually("it is closed", || client.is_closed()).await;
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    assert_eq!(gateway.log_line(answer.id())["status"], 200);
}

#[tokio::test]
async fn connections_without_a_request_are_closed() {
    let mut gateway = Gateway::start().await;
    let mut one = gateway.connect(Http::One).await;
    one.get("/public/x").send().await.is_ok();
    let _unused = gateway.connect(Http::One).await;
    let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    let stream = two.request(&RawTwo::get("/public/x")).await;
    assert_eq!(two.ending(stream).await, Ending::Answered(b"ok".to_vec()));
    gateway.signal("TERM");
    assert_eq!(two.ending(stream + 2).await, Ending::GoneAway(None));
    eventually("it is closed", || one.is_closed()).await;
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    assert!(!gateway.log().text().contains("cut at the end"));
}

#[tokio::test]
async fn an_endless_request_is_cut_at_the_deadline_and_logged() {
    let origin = Origin::start();
    origin.on("/public/endless", |x| {
        x.begin(200, &[]);
        x.chunk(b"beginning");
        x.wait_for_close();
    });
    let mut gateway = Gateway::before(origin, |config| {
        config.set("drain", "500ms");
    })
    .await;
    let mut ids = Vec::new();
    let mut running = Vec::new();
    for http in Http::BOTH {
        let mut answer = gateway.get(http, "/public/endless").begin().await;
        assert!(answer.chunk().await.unwrap().is_ok());
        ids.push(answer.id().to_owned());
        running.push(answer);
    }
    gateway.signal("TERM");
    for answer in running {
        assert!(answer.try_finish().await.is_err());
    }
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    let cut =
        |entry: &serde_json::Value| says(entry, "connections aborted at the end of the drain");
    assert_eq!(gateway.log().all(cut)[0]["connections"], 2);
    for id in ids {
        assert_eq!(gateway.log_line(&id)["end"], "client_gone");
    }
}

#[tokio::test]
async fn a_connection_waiting_for_a_slot_does_not_keep_the_process_alive() {
    let gate = Gate::new();
    let mut gateway = Gateway::before(gated(&gate), |config| {
        config.set("connections", "{ max: 1 }");
    })
    .await;
    let connector = gateway.connector(Http::One, Door::Plain);
    let running = tokio::spawn(connector.call("GET", "/public/gated").send());
    gateway.origin.has_seen(1).await;
    let mut waiting = gateway.raw(Door::Plain).await;
    gateway.signal("TERM");
    refuses_connections(&gateway, Door::Plain).await;
    assert_eq!(waiting.read().await, b"");
    gate.open();
    in_time("the answer", running).await.unwrap().is_ok();
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sent_request_fails_when_the_process_drains_under_load() {
    let mut gateway = Gateway::start().await;
    let load = Load::start(&gateway, "/me")
        .await
        .with_fresh_connections(&gateway, "/me");
    load.goes_on(200).await;
    gateway.signal("TERM");
    let outcome = load.finish().await;
    assert!(outcome.failed.is_empty(), "{outcome:#?}");
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    let lines = gateway.log().all(|entry| says(entry, "request"));
    assert_eq!(lines.len(), outcome.answered);
    assert_eq!(gateway.origin.take().len(), outcome.answered);
    println!("{} requests, none failed", outcome.answered);
}

// === helpers ===

/// An origin whose `/public/gated` answers when the gate is open.
fn gated(gate: &Gate) -> Origin {
    let (origin, gate) = (Origin::start(), gate.clone());
    origin.on("/public/gated", move |x| {
        gate.pass();
        x.reply(&Reply::ok());
    });
    origin
}

async fn refuses_connections(gateway: &Gateway, door: Door) {
    eventually("connections are refused", || {
        std::net::TcpStream::connect(gateway.address(door)).is_err()
    })
    .await;
}
