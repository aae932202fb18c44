//! Time limits for clients.

use std::time::Duration;

use foregate::denial::Reason;

use crate::support::client::Door;
use crate::support::{Gate, Gateway, Http, Reply, in_time};

/// Short limits, of which each test exceeds one.
async fn impatient(connections: &str) -> Gateway {
    Gateway::with(|config| {
        config.set("connections", connections);
    })
    .await
}

/// How many connections ended with this cause.
fn failed(gateway: &Gateway, cause: &str) -> f64 {
    let labels = [("cause", cause)];
    gateway
        .metrics()
        .sum("foregate_connections_failed_total", &labels)
}

#[tokio::test]
async fn an_upload_that_stops_is_a_408() {
    let gateway = impatient("{ body_idle: 300ms }").await;
    gateway.origin.otherwise(|exchange| {
        assert!(!exchange.read_body(), "a complete body");
    });
    for http in Http::BOTH {
        let (call, body) = gateway.post(http, "/public/up").streaming();
        body.chunk("begun").await;
        call.send().await.is_denied(Reason::BodyTimeout);
        let (call, silent) = gateway.post(http, "/public/up").streaming();
        call.send().await.is_denied(Reason::BodyTimeout);
        drop((body, silent));
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_is_disconnected() {
    let gateway = impatient("{ body_idle: 500ms }").await;
    let gone = Gate::new();
    let gate = gone.clone();
    gateway.origin.otherwise(move |exchange| {
        exchange.begin(200, &[]);
        while exchange.chunk([b'x'; 64 << 10]) {}
        gate.open();
    });
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write("GET /public/long HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    gone.opened().await;
    let cause = [("cause", "stalled")];
    gateway
        .metric_becomes("foregate_connections_failed_total", &cause, 1.0)
        .await;
    drop(raw);
    let answer = gateway.get(Http::Two, "/public/long").begin().await;
    gateway
        .metric_becomes("foregate_connections_failed_total", &cause, 2.0)
        .await;
    let id = answer.id().to_owned();
    assert!(answer.try_finish().await.is_err());
    assert_eq!(gateway.log_line(&id)["end"], "client_gone");
}

#[tokio::test]
async fn a_client_that_waits_for_a_slow_origin_is_not_disconnected() {
    let gateway = impatient("{ body_idle: 200ms, idle: 200ms, head: 200ms }").await;
    gateway.origin.otherwise(|exchange| {
        exchange.begin(200, &[]);
        for _ in 0..3 {
            exchange.chunk("piece");
            // Longer than every limit of the client's connection.
            std::thread::sleep(Duration::from_millis(700));
        }
        exchange.end(&[]);
    });
    for http in Http::BOTH {
        let answer = gateway.get(http, "/public/slow").send().await;
        assert_eq!(answer.is_ok().text(), "piecepiecepiece");
    }
    assert_eq!(failed(&gateway, "stalled"), 0.0);
    assert_eq!(failed(&gateway, "head_timeout"), 0.0);
}

#[tokio::test]
async fn a_request_head_that_never_arrives_times_out() {
    let gateway = impatient("{ head: 300ms }").await;
    let beginnings = [
        "",
        "GET /pub",
        "GET /public/x HTTP/1.1\r\nHost: api.test\r\nx: ",
    ];
    for door in [Door::Tls, Door::Plain] {
        for beginning in beginnings {
            if door == Door::Plain && beginning.is_empty() {
                continue; // That is the handshake's limit.
            }
            let mut raw = gateway.raw(door).await;
            raw.write(beginning).await;
            assert!(raw.read().await.is_empty(), "{beginning:?}");
        }
    }
    // A head that trickles in is slow as well, and so is a second one.
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write("GET /public/x HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    raw.answer().await.answer().is_ok();
    raw.write("GET /public/x HT").await;
    assert!(raw.read().await.is_empty());
    gateway.origin.only();
    let cause = [("cause", "head_timeout")];
    gateway
        .metric_becomes("foregate_connections_failed_total", &cause, 6.0)
        .await;
}

#[tokio::test]
async fn a_request_head_that_trickles_in_times_out() {
    let gateway = impatient("{ head: 500ms }").await;
    for (count, door) in [(1.0, Door::Tls), (2.0, Door::Plain)] {
        let mut raw = gateway.raw(door).await;
        raw.write("GET /public/x HTTP/1.1\r\nHost: api.test\r\nx: ")
            .await;
        in_time("the end", async {
            while failed(&gateway, "head_timeout") < count {
                raw.write("x").await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_gracefully() {
    let gateway = impatient("{ idle: 300ms }").await;
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write("GET /public/x HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    raw.answer().await.answer().is_ok();
    assert!(raw.read().await.is_empty());
    let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    let stream = two
        .request(&crate::support::raw_h2::RawTwo::get("/public/x"))
        .await;
    two.ending(stream).await;
    // GOAWAY without an error, then the end.
    let ending = two.ending(99).await;
    assert_eq!(ending, crate::support::raw_h2::Ending::GoneAway(None));
    gateway.is_quiet().await;
    let all = gateway
        .metrics()
        .sum("foregate_connections_failed_total", &[]);
    assert_eq!(all, 0.0, "nothing failed");
}

#[tokio::test]
async fn an_upload_that_trickles_is_a_408() {
    let gateway = impatient("{ body_rate: 1KiB, body_grace: 1s }").await;
    gateway.origin.otherwise(|exchange| {
        assert!(!exchange.read_body(), "a complete body");
    });
    for http in Http::BOTH {
        let (call, body) = gateway.post(http, "/public/up").streaming();
        let trickling = tokio::spawn(async move {
            while body.chunk("x").await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        call.send().await.is_denied(Reason::BodyTimeout);
        trickling.await.unwrap();
    }
}

#[tokio::test]
async fn an_upload_that_was_fast_enough_may_pause() {
    let gateway = impatient("{ body_rate: 100KiB, body_grace: 2s }").await;
    for http in Http::BOTH {
        let (call, body) = gateway.post(http, "/public/fast").streaming();
        let sending = tokio::spawn(async move {
            // Nine seconds more than the grace period, at this rate.
            assert!(body.chunk(vec![b'x'; 900 << 10]).await);
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert!(body.chunk("the end").await);
        });
        call.send().await.is_ok();
        sending.await.unwrap();
    }
}

#[tokio::test]
async fn a_slow_origin_makes_no_client_slow() {
    let gateway = Gateway::with(|config| {
        config
            .set("connections", "{ body_rate: 1GiB, body_grace: 5s }")
            .routes(r#"- { path: "/{*rest}", access: public, body: { limit: 1GiB } }"#);
    })
    .await;
    gateway.origin.otherwise(|exchange| {
        // Longer than the client could take, while more is on its way than fits into buffers.
        std::thread::sleep(Duration::from_secs(7));
        exchange.reply(&Reply::ok());
    });
    let large = vec![b'x'; 32 << 20];
    let [one, two] = Http::BOTH.map(|http| gateway.post(http, "/up").body(large.clone()).send());
    let (one, two) = tokio::join!(one, two);
    one.is_ok();
    two.is_ok();
}
