//! How long the gateway waits for an origin.

use std::time::Duration;

use foregate::denial::Reason;

use super::{broken_off, one_pool};
use crate::support::{Gate, Gateway, Http, Origin, Reply, in_time};

/// Routes with limits of their own, in front of an upstream that has a short one.
async fn limited() -> Gateway {
    let origin = Origin::start();
    let url = origin.url();
    Gateway::before(origin, |config| {
        config
            .routes(
                r#"
- { path: "/{*rest}", access: public }
- { path: "/patient", access: public, timeouts: { first_byte: 20s } }
- { path: "/hasty", access: public, timeouts: { first_byte: 100ms }, upstream: patient }
- { path: "/moving", access: public, timeouts: { first_byte: 1s } }
- { path: "/total/{*rest}", access: public, timeouts: { total: 400ms }, upstream: patient }
- { path: "/idle/{*rest}", access: public, timeouts: { stream_idle: 200ms } }
"#,
            )
            .set("workers", "1")
            .upstream("origin", &url, ", first_byte_timeout: 200ms")
            .upstream("patient", &url, "");
    })
    .await
}

#[tokio::test]
async fn a_late_answer_head_is_a_504() {
    let gateway = limited().await;
    gateway
        .origin
        .otherwise(|exchange| exchange.wait_for_close());
    for http in Http::BOTH {
        for path in ["/by-upstream", "/hasty"] {
            for method in ["GET", "POST"] {
                gateway
                    .call(http, method, path)
                    .send()
                    .await
                    .is_denied(Reason::UpstreamFirstByteTimeout);
            }
        }
        gateway
            .get(http, "/total/a")
            .send()
            .await
            .is_denied(Reason::UpstreamTotalTimeout);
        assert_eq!(gateway.origin.take().len(), 5, "nothing was sent again");
    }
    let none = || gateway.origin.open_connections() == 0;
    crate::support::eventually("abandoned connections are closed", none).await;
}

#[tokio::test]
async fn a_route_overrides_the_timeout_of_its_upstream() {
    let gateway = limited().await;
    gateway.origin.on("/patient", |exchange| {
        // Longer than the upstream's limit.
        std::thread::sleep(Duration::from_millis(600));
        exchange.reply(&Reply::ok());
    });
    for http in Http::BOTH {
        gateway.get(http, "/patient").send().await.is_ok();
    }
}

#[tokio::test]
async fn an_upload_in_progress_does_not_count_as_a_slow_origin() {
    let gateway = limited().await;
    for http in Http::BOTH {
        let (call, body) = gateway.post(http, "/moving").streaming();
        let sending = tokio::spawn(async move {
            // Together longer than the limit, each shorter.
            for _ in 0..8 {
                assert!(body.chunk("piece").await);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        call.send().await.is_ok();
        sending.await.unwrap();
        assert_eq!(gateway.origin.only().length, 40);
    }
}

#[tokio::test]
async fn a_pausing_client_does_not_count_as_a_slow_origin() {
    let gateway = limited().await;
    for http in Http::BOTH {
        let (call, body) = gateway.post(http, "/hasty").streaming();
        let sending = tokio::spawn(async move {
            assert!(body.chunk("piece").await);
            // Longer than the origin may take, but within what a client may.
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(body.chunk("piece").await);
        });
        call.send().await.is_ok();
        sending.await.unwrap();
        assert_eq!(gateway.origin.only().length, 10);
    }
}

#[tokio::test]
async fn the_total_timeout_counts_even_while_bytes_flow() {
    let gateway = limited().await;
    gateway.origin.on("/total/flood", |exchange| {
        exchange.begin(200, &[]);
        while exchange.chunk([b'x'; 16 * 1024]) {}
    });
    for (http, reads_at_once) in [
        (Http::One, true),
        (Http::Two, true),
        (Http::One, false),
        (Http::Two, false),
    ] {
        let mut answer = gateway.get(http, "/total/flood").begin().await;
        let id = answer.id().to_owned();
        if !reads_at_once {
            // Longer than the limit.
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        let error = in_time("the end", async {
            loop {
                if let Err(error) = answer.chunk().await.expect("no proper end") {
                    return error;
                }
            }
        })
        .await;
        super::is_broken(&error, http);
        assert_eq!(gateway.log_line(&id)["end"], "ended");
    }
}

#[tokio::test]
async fn an_idle_answer_is_aborted() {
    let gateway = limited().await;
    gateway.origin.otherwise(|exchange| {
        exchange.begin(200, &[]);
        exchange.chunk("begun");
        exchange.wait_for_close();
    });
    for http in Http::BOTH {
        for (path, end, limit) in [
            ("/total/silent", "ended", "timeouts.total"),
            ("/idle/silent", "upstream_failed", "timeouts.stream_idle"),
        ] {
            let mut answer = gateway.get(http, path).begin().await;
            assert_eq!(answer.chunk().await.unwrap().unwrap(), "begun");
            let line = broken_off(&gateway, http, answer).await;
            assert_eq!(line["end"], end);
            assert!(line["detail"].as_str().unwrap().contains(limit), "{line}");
        }
    }
    // A total limit is ours alone, and a pause is the origin's.
    let failed = gateway.metrics().sum("foregate_upstream_failed_total", &[]);
    assert_eq!(failed, 2.0);
}

#[tokio::test]
async fn a_long_answer_is_not_aborted_while_bytes_flow() {
    let gateway = limited().await;
    gateway.origin.on("/idle/moving", |exchange| {
        exchange.begin(200, &[]);
        // Together longer than the limit, each shorter.
        for _ in 0..8 {
            exchange.chunk("piece");
            std::thread::sleep(Duration::from_millis(50));
        }
        exchange.end(&[]);
    });
    for http in Http::BOTH {
        let answer = gateway.get(http, "/idle/moving").send().await;
        assert_eq!(answer.is_ok().body.len(), 40);
    }
}

#[tokio::test]
async fn the_total_timeout_includes_the_wait_for_a_connection() {
    let origin = Origin::start();
    let url = origin.url();
    let gateway = Gateway::before(origin, |config| {
        one_pool(config);
        config
            .upstream("origin", &url, ", max_connections: 1, connect_timeout: 20s")
            .more_routes("- { path: /total, access: public, timeouts: { total: 200ms } }");
    })
    .await;
    for http in Http::BOTH {
        let gate = Gate::new();
        let closed = gate.clone();
        gateway.origin.on("/held", move |exchange| {
            closed.pass();
            exchange.reply(&Reply::ok());
        });
        let held = tokio::spawn(
            gateway
                .connector(http, crate::support::client::Door::Tls)
                .call("GET", "/held")
                .send(),
        );
        gateway.origin.has_seen(1).await;
        gateway
            .get(http, "/total")
            .send()
            .await
            .is_denied(Reason::UpstreamTotalTimeout);
        gate.open();
        held.await.unwrap().is_ok();
        assert_eq!(gateway.origin.only().target, "/held");
    }
}
