//! The admin listener: whoever holds connections to it takes nothing from probes, operators and the
//! identity server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::support::admin::{Post, WEBHOOK};
use crate::support::metrics;
use crate::support::raw::Raw;
use crate::support::tokens::ISSUER;
use crate::support::{DEADLINE, Door, Gateway, Http};

const ENDED: &str = "foregate_clients_ended_total";

async fn gateway() -> Gateway {
    Gateway::with(|config| {
        let webhook = format!("{{ webhook: {{ issuer: \"{ISSUER}\", secret: {WEBHOOK} }} }}");
        config.set("revocations", &webhook);
    })
    .await
}

fn connect(gateway: &Gateway) -> TcpStream {
    let address = gateway.admin().strip_prefix("http://").unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A connection with these bytes sent.
fn begun(gateway: &Gateway, bytes: &str) -> TcpStream {
    let mut stream = connect(gateway);
    stream.write_all(bytes.as_bytes()).unwrap();
    stream
}

/// The head of a message that could be signed, and the beginning of its body.
fn slow_message() -> String {
    let message = Post::webhook("", &json!({}), 0);
    let mut head =
        "POST /webhooks/identity HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
            .to_owned();
    for (name, value) in message.signed_fields() {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n{"
}

/// Everything that the listener is for is answered.
#[track_caller]
fn serves_everybody(gateway: &Gateway) {
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(gateway.admin_status(path), 200, "{path}");
    }
    gateway.revoke(&json!({ "kind": "session", "session": "s" }));
    let message = json!({ "type": "user.banned", "data": { "id": "u" } });
    let (status, answer) = Post::webhook(gateway.admin(), &message, 0).send();
    assert_eq!(status, 200, "{answer}");
}

fn ended(gateway: &Gateway, cause: &str) -> f64 {
    gateway.metrics().sum(ENDED, &[("cause", cause)])
}

#[tokio::test]
async fn silent_connections_take_nothing_from_probes_operators_and_the_webhook() {
    let gateway = gateway().await;
    for bytes in ["", "GET /metrics HTTP/1.1\r\nHost: x\r\n"] {
        let _silent: Vec<_> = (0..600).map(|_| begun(&gateway, bytes)).collect();
        serves_everybody(&gateway);
    }
    assert!(ended(&gateway, "admin_full") > 100.0);
}

#[tokio::test]
async fn slow_messages_take_nothing_from_probes_operators_and_the_webhook() {
    let gateway = gateway().await;
    let _slow: Vec<_> = (0..300).map(|_| begun(&gateway, &slow_message())).collect();
    serves_everybody(&gateway);
    assert!(ended(&gateway, "admin_full") > 100.0);
}

#[tokio::test]
async fn answers_that_nobody_reads_take_nothing_from_others() {
    let gateway = gateway().await;
    let requests = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    let _unread: Vec<_> = (0..150)
        .map(|_| {
            let stream = connect(&gateway);
            stream.set_nonblocking(true).unwrap();
            let _ = (&stream).write(requests.as_bytes());
            stream
        })
        .collect();
    serves_everybody(&gateway);
}

#[tokio::test]
async fn connections_without_a_request_end_after_two_seconds() {
    let gateway = gateway().await;
    let mut answer = Vec::new();
    for bytes in ["", "GET /livez HTTP/1.1\r\nHost: x\r\n"] {
        let read = begun(&gateway, bytes).read_to_end(&mut answer);
        assert_eq!((read.unwrap(), answer.len()), (0, 0), "{bytes}");
    }
    assert_eq!(ended(&gateway, "admin_slow"), 2.0);
}

#[tokio::test]
async fn a_kept_connection_stays_open_for_the_next_probe() {
    let gateway = gateway().await;
    let mut stream = connect(&gateway);
    for _ in 0..2 {
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        while !answer.ends_with("ok\n") {
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer).unwrap();
            assert_ne!(read, 0, "{answer}");
            answer.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        // Longer than a head may take.
        tokio::time::sleep(Duration::from_millis(2500)).await;
    }
}

#[tokio::test]
async fn a_message_is_refused_by_its_head_before_its_body_arrives() {
    let gateway = gateway().await;
    let good = slow_message();
    let unsigned = good.replace("webhook-signature: v1,", "webhook-signature: v2,");
    for (request, status) in [
        (
            good.replace("Content-Length: 1000", "Content-Length: 70000"),
            413,
        ),
        (good.replace("webhook-id:", "x-id:"), 401),
        (
            good.replace("webhook-timestamp: 1", "webhook-timestamp: 2"),
            401,
        ),
        (unsigned, 401),
        (good.replace("v1,", "v1,abcd"), 401),
        (good.replace("application/json", "text/plain"), 415),
        (good.replace("/webhooks/identity", "/revocations"), 401),
    ] {
        let mut stream = begun(&gateway, &request);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let name = if status == 413 {
            "Content Too Large"
        } else {
            ""
        };
        let expected = format!("HTTP/1.1 {status} {name}");
        assert!(answer.starts_with(&expected), "{request}\n{answer}");
    }
}

#[tokio::test]
async fn a_message_that_drips_is_ended_by_its_total_time() {
    let gateway = gateway().await;
    let mut stream = begun(&gateway, &slow_message());
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut answer = Vec::new();
    let begun = std::time::Instant::now();
    while stream.read_to_end(&mut answer).is_err() && begun.elapsed() < DEADLINE {
        let _ = stream.write_all(b" ");
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn no_answer_may_be_stored_and_refused_methods_name_the_allowed_ones() {
    let gateway = gateway().await;
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
        for path in [
            "/livez",
            "/readyz",
            "/metrics",
            "/revocations",
            "/webhooks/identity",
            "/nowhere",
        ] {
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let mut answer = String::new();
            begun(&gateway, &request)
                .read_to_string(&mut answer)
                .unwrap();
            assert_eq!(
                answer
                    .to_lowercase()
                    .matches("cache-control: no-store\r\n")
                    .count(),
                1,
                "{request}{answer}"
            );
            let is_refused = answer.starts_with("HTTP/1.1 405 ");
            assert_eq!(is_refused, answer.contains("allow: "), "{request}{answer}");
        }
    }
}

#[tokio::test]
async fn slow_messages_through_a_public_route_take_nothing_from_others() {
    let mut gateway = gateway().await;
    let admin = gateway.admin().to_owned();
    gateway
        .reload(|config| {
            config.upstream("admin", &admin, "").more_routes(
                "- { path: /webhooks/identity, methods: [POST], access: public, upstream: admin }",
            );
        })
        .await;
    let slow = slow_message().replace("Host: 127.0.0.1", "Host: api.test");
    let mut strangers: Vec<Raw> = Vec::new();
    for _ in 0..150 {
        let mut raw = gateway.raw(Door::Plain).await;
        raw.write(&slow).await;
        strangers.push(raw);
    }
    serves_everybody(&gateway);
    let message = json!({ "type": "user.banned", "data": { "id": "u" } });
    for http in Http::BOTH {
        let mut call = gateway.post(http, "/webhooks/identity");
        for (name, value) in Post::webhook(&admin, &message, 0).signed_fields() {
            call = call.header(&name, value);
        }
        let answer = call.body(message.to_string()).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(metrics::get(&admin, "/livez").0, 200);
}
