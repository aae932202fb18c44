//! Answers whose status or method forbids content, from upstreams that send or declare some all the
//! same.

use bytes::Bytes;
use h2::server::SendResponse;
use hyper::{HeaderMap, Request, Response};
use tokio::net::TcpStream;

use super::reuse::is_not_reused;
use super::{echo_target, with_one_pool};
use crate::support::client::Door;
use crate::support::server::Server;
use crate::support::{Answer, Gateway, Http, Origin};

/// Statuses without content, and the `Content-Length` that an answer may have.
const STATUSES: [(u16, &str); 3] = [(204, ""), (205, "0"), (304, "24")];

/// What an upstream wrongly does: declares a length, sends content, sends it in chunks with
/// trailers.
const FAULTS: [&str; 3] = ["declared", "sent", "chunked"];

/// A server of HTTP/2 in clear text. The path ends with what it answers: `/STATUS/FAULT`.
fn start_http2() -> Server {
    Server::start(|stream| {
        tokio::spawn(serve(stream));
    })
}

async fn serve(stream: TcpStream) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        answer(&request, respond);
    }
}

fn answer<B>(request: &Request<B>, mut respond: SendResponse<Bytes>) {
    let (status, fault) = asked(request.uri().path());
    let head = Response::builder().status(status);
    let head = match fault {
        // A length beside no content is malformed with a status that may have some (RFC 9113,
        // section 8.1.1), and 205 is such a status to HTTP/2 clients.
        _ if status == 205 => head,
        "chunked" => head,
        _ => head.header("content-length", "24"),
    };
    let head = head.body(()).unwrap();
    if fault == "declared" {
        let _ = respond.send_response(head, true);
        return;
    }
    let Ok(mut send) = respond.send_response(head, false) else {
        return;
    };
    // The gateway may have reset the stream already.
    let _ = send.send_data(Bytes::from_static(&[b'x'; 24]), fault == "sent");
    let _ = send.send_trailers(HeaderMap::from_iter([(
        "x-sum".parse().unwrap(),
        "1".parse().unwrap(),
    )]));
}

fn asked(path: &str) -> (u16, &str) {
    let mut segments = path.rsplit('/');
    let (fault, status) = (segments.next().unwrap(), segments.next().unwrap());
    (status.parse().unwrap(), fault)
}

/// The same answers over HTTP/1.1.
fn script(origin: &Origin) {
    origin.otherwise(|exchange| {
        exchange.read_body();
        let target = exchange.request().target.clone();
        let (status, fault) = asked(&target);
        let (fields, content) = match fault {
            "declared" => ("content-length: 24", ""),
            "sent" => ("content-length: 24", "xxxxxxxxxxxxxxxxxxxxxxxx"),
            _ => (
                "transfer-encoding: chunked\r\ntrailer: x-sum",
                "18\r\nxxxxxxxxxxxxxxxxxxxxxxxx\r\n0\r\nx-sum: 1\r\n\r\n",
            ),
        };
        exchange.raw(format!("HTTP/1.1 {status} Scripted\r\n{fields}\r\n\r\n{content}").as_bytes());
        // What is declared and not sent cannot be waited for on a kept connection.
        exchange.close();
    });
}

/// The gateway, and its second upstream.
async fn gateway() -> (Gateway, Server) {
    let origin = Origin::start();
    script(&origin);
    let http2 = start_http2();
    let gateway = Gateway::before(origin, |config| {
        config
            .set("workers", "1")
            .upstream("http2", &http2.url(), ", protocol: http2")
            .routes(
                r#"
- { path: "/one/{*rest}", access: public }
- { path: "/two/{*rest}", access: public, upstream: http2 }
- { path: /me, access: public, body: { limit: 1KiB } }
"#,
            );
    });
    (gateway.await, http2)
}

#[track_caller]
fn has_no_content(answer: &Answer, length: &str) {
    assert!(answer.body.is_empty(), "{answer:?}");
    assert!(answer.trailers.is_none(), "{answer:?}");
    assert!(answer.all("transfer-encoding").is_empty(), "{answer:?}");
    assert!(
        [length, ""].contains(&answer.header("content-length")),
        "{answer:?}"
    );
    let line = answer.log_line();
    assert_eq!(
        (&line["end"], &line["sent"]),
        (&"complete".into(), &0.into()),
        "{line}"
    );
}

#[tokio::test]
async fn an_answer_whose_status_forbids_content_has_and_declares_none() {
    let (gateway, _http2) = gateway().await;
    for http in Http::BOTH {
        for upstream in ["one", "two"] {
            for (status, length) in STATUSES {
                for fault in FAULTS {
                    // On one connection: what follows the answer would be read as the next one.
                    let mut client = gateway.connect(http).await;
                    for _ in 0..2 {
                        let path = format!("/{upstream}/{status}/{fault}");
                        let answer = client.get(&path).send().await;
                        assert_eq!(answer.status, status, "{http:?} {path}");
                        has_no_content(&answer, length);
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn an_answer_to_head_has_no_content_even_if_the_upstream_sends_some() {
    let (gateway, _http2) = gateway().await;
    for http in Http::BOTH {
        for upstream in ["one", "two"] {
            for fault in FAULTS {
                let mut client = gateway.connect(http).await;
                for _ in 0..2 {
                    let path = format!("/{upstream}/200/{fault}");
                    let answer = client.call("HEAD", &path).send().await;
                    assert_eq!(answer.status, 200, "{http:?} {path}");
                    has_no_content(&answer, "24");
                }
            }
        }
    }
}

#[tokio::test]
async fn http1_clients_read_no_byte_behind_an_answer_without_content() {
    let (gateway, _http2) = gateway().await;
    for upstream in ["one", "two"] {
        for (status, _) in STATUSES {
            let mut raw = gateway.raw(Door::Plain).await;
            for fault in FAULTS {
                let path = format!("/{upstream}/{status}/{fault}");
                raw.write(format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n\r\n"))
                    .await;
                let bytes = raw.read().await;
                let text = String::from_utf8(bytes).unwrap().to_ascii_lowercase();
                assert!(text.starts_with(&format!("http/1.1 {status} ")), "{text}");
                assert!(text.ends_with("\r\n\r\n"), "{text}");
                assert!(!text.contains("transfer-encoding"), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn a_connection_on_which_impossible_content_was_declared_is_not_reused() {
    for fields in ["content-length: 24", "transfer-encoding: chunked"] {
        let gateway = with_one_pool().await;
        gateway.origin.otherwise(echo_target);
        gateway.origin.on("/spoilt", move |exchange| {
            exchange.read_body();
            exchange.raw(format!("HTTP/1.1 204 No Content\r\n{fields}\r\n\r\n").as_bytes());
            exchange.wait_for_close();
        });
        for http in Http::BOTH {
            is_not_reused(&gateway, http, "GET").await;
        }
    }
}

#[tokio::test]
async fn a_status_has_the_name_of_the_current_standard() {
    let (gateway, _http2) = gateway().await;
    let mut raw = gateway.raw(Door::Plain).await;
    raw.write("POST /me HTTP/1.1\r\nHost: api.test\r\nContent-Length: 2000\r\n\r\n")
        .await;
    let text = String::from_utf8(raw.read().await).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 413 Content Too Large\r\n"),
        "{text}"
    );
    for http in Http::BOTH {
        let answer = gateway
            .post(http, "/me")
            .body("x".repeat(2000))
            .send()
            .await;
        assert_eq!(answer.json()["title"], "Content Too Large");
    }
    gateway.origin.saw_nothing();
}
