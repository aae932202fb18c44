//! Kept connections that the origin has closed: which requests are retried, and which never.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foregate::denial::Reason;

use super::with_one_pool;
use crate::support::{Answer, Gateway, Http, Reply, eventually};

#[tokio::test]
async fn a_connection_closed_while_idle_fails_no_request() {
    let gateway = with_one_pool().await;
    gateway.origin.otherwise(|exchange| {
        exchange.reply(&Reply::ok());
        exchange.close();
    });
    for http in Http::BOTH {
        for round in 0..20 {
            for method in ["GET", "POST", "PATCH"] {
                gateway.call(http, method, "/a").send().await.is_ok();
                eventually("closed", || gateway.origin.open_connections() == 0).await;
                let call = gateway.call(http, method, "/b").body(format!("{round}"));
                call.send().await.is_ok();
                eventually("closed", || gateway.origin.open_connections() == 0).await;
            }
        }
        assert_eq!(gateway.origin.take().len(), 120, "each came once");
    }
}

/// A gateway with one kept connection, whose origin reads so many requests to `/flaky` and closes
/// without an answer.
async fn flaky(closes: usize) -> (Gateway, Arc<AtomicUsize>) {
    let gateway = with_one_pool().await;
    let left = Arc::new(AtomicUsize::new(closes));
    let count = left.clone();
    gateway.origin.on("/flaky", move |exchange| {
        let closes = |left: usize| left.checked_sub(1);
        exchange.read_body();
        match count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, closes) {
            Ok(_) => exchange.close(),
            Err(_) => exchange.reply(&Reply::ok()),
        }
    });
    (gateway, left)
}

/// Sends a request on a kept connection, and returns the connections on which the origin saw it.
async fn on_a_kept_connection(
    gateway: &Gateway,
    http: Http,
    method: &str,
    body: &'static str,
) -> (Answer, Vec<usize>) {
    gateway.get(http, "/warm").send().await.is_ok();
    let warm = gateway.origin.only().connection;
    let mut call = gateway.call(http, method, "/flaky");
    if !body.is_empty() {
        call = call.body(body);
    }
    let answer = call.send().await;
    let seen = gateway.origin.take();
    assert_eq!(
        seen[0].connection, warm,
        "the kept connection is tried first"
    );
    (answer, seen.iter().map(|seen| seen.connection).collect())
}

#[tokio::test]
async fn an_idempotent_request_without_a_body_is_retried_once() {
    for http in Http::BOTH {
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
            let (gateway, _) = flaky(1).await;
            let (answer, connections) = on_a_kept_connection(&gateway, http, method, "").await;
            answer.is_ok();
            assert_eq!(connections.len(), 2, "{method} on {http:?}");
            assert_ne!(connections[0], connections[1]);
            let retries = gateway
                .metrics()
                .sum("foregate_upstream_retries_total", &[]);
            assert_eq!(retries, 1.0);
        }
    }
}

#[tokio::test]
async fn a_request_is_not_retried_twice() {
    for http in Http::BOTH {
        for method in ["GET", "PUT"] {
            let (gateway, left) = flaky(9).await;
            let (answer, connections) = on_a_kept_connection(&gateway, http, method, "").await;
            answer.is_denied(Reason::UpstreamClosed);
            assert_eq!(connections.len(), 2, "{method} on {http:?}");
            assert_eq!(left.load(Ordering::Relaxed), 7);
        }
    }
}

#[tokio::test]
async fn a_request_that_an_origin_may_have_acted_on_is_not_retried() {
    let cases = [
        ("POST", ""),
        ("POST", "body"),
        ("PATCH", ""),
        ("GET", "body"),
        ("PUT", "body"),
        ("DELETE", "body"),
    ];
    for http in Http::BOTH {
        for (method, body) in cases {
            let (gateway, _) = flaky(1).await;
            let (answer, connections) = on_a_kept_connection(&gateway, http, method, body).await;
            answer.is_denied(Reason::UpstreamClosed);
            assert_eq!(connections.len(), 1, "{method} {body:?} on {http:?}");
        }
    }
}

#[tokio::test]
async fn no_request_is_retried_after_a_fresh_connection_failed() {
    for http in Http::BOTH {
        for method in ["GET", "POST", "DELETE"] {
            let (gateway, _) = flaky(1).await;
            let answer = gateway.call(http, method, "/flaky").send().await;
            answer.is_denied(Reason::UpstreamClosed);
            assert_eq!(gateway.origin.take().len(), 1, "{method} on {http:?}");
        }
    }
}

#[tokio::test]
async fn no_request_is_retried_after_a_byte_of_the_answer() {
    let gateway = with_one_pool().await;
    gateway.origin.on("/flaky", |exchange| {
        exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        exchange.close();
    });
    for http in Http::BOTH {
        gateway.get(http, "/warm").send().await.is_ok();
        // The head may be lost with the rest; a complete answer must not arrive.
        if let Ok(answer) = gateway.get(http, "/flaky").try_send().await {
            super::breaks_off(&gateway, http, answer).await;
        }
        let targets: Vec<_> = gateway
            .origin
            .take()
            .into_iter()
            .map(|seen| seen.target)
            .collect();
        assert_eq!(targets, ["/warm", "/flaky"]);
    }
}
