//! Origins that send invalid answers, or stop in the middle of one.

use foregate::denial::Reason;

use super::{breaks_off, with_one_pool};
use crate::support::{Exchange, Gate, Gateway, Http};

#[tokio::test]
async fn what_is_not_an_http_1_answer_is_a_502() {
    let long = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "x".repeat(1 << 20));
    let garbage: Vec<Vec<u8>> = [
        "220 mail.example ESMTP\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 99 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nname : value\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: value\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "\u{1}\u{2}\u{3}\u{4}",
        &long,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    let gateway = with_one_pool().await;
    let mut wrong = Vec::new();
    for (place, bytes) in garbage.into_iter().enumerate() {
        let path = format!("/{place}");
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        gateway.origin.on(&path, move |exchange| {
            exchange.read_body();
            exchange.raw(&bytes);
            exchange.wait_for_close();
        });
        for http in Http::BOTH {
            for method in ["GET", "POST"] {
                let answer = gateway.call(http, method, &path).send().await;
                let reason = answer.log_line()["reason"].clone();
                if reason != Reason::UpstreamProtocol.code() {
                    wrong.push(format!("{shown:?} on {http:?}: {} {reason}", answer.status));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn an_answer_with_two_framings_is_a_502() {
    let framings = [
        "content-length: 2\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 20",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: gzip",
        "transfer-encoding: chunked, identity",
        "content-length: 2\r\ncontent-length: 2",
        "content-length: 2, 2",
    ];
    let gateway = with_one_pool().await;
    for (place, framing) in framings.into_iter().enumerate() {
        gateway.origin.on(&format!("/{place}"), move |exchange| {
            exchange.raw(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes());
            exchange.raw(b"5\r\nwhole\r\n0\r\n\r\n");
            exchange.wait_for_close();
        });
    }
    for http in Http::BOTH {
        for place in 0..framings.len() {
            let answer = gateway.get(http, &format!("/{place}")).send().await;
            answer.is_denied(Reason::UpstreamProtocol);
        }
    }
}

#[tokio::test]
async fn an_answer_that_ends_before_its_head_is_a_502() {
    let gateway = with_one_pool().await;
    gateway
        .origin
        .on("/closed", Exchange::close)
        .on("/reset", Exchange::reset)
        .on("/half", |exchange| {
            exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-le");
            exchange.close();
        })
        .on("/informed", |exchange| {
            exchange.raw(b"HTTP/1.1 103 Early Hints\r\n\r\n");
            exchange.close();
        });
    for http in Http::BOTH {
        for path in ["/closed", "/reset", "/half", "/informed"] {
            for method in ["GET", "POST"] {
                let answer = gateway.call(http, method, path).send().await;
                answer.is_denied(Reason::UpstreamClosed);
                assert_eq!(gateway.origin.take().len(), 1);
            }
        }
    }
}

/// The framing of an answer, its beginning, the rest, and how the connection ends.
type Ending = (&'static str, &'static str, &'static str, fn(&mut Exchange));

#[tokio::test]
async fn an_incomplete_answer_never_looks_complete() {
    let (length, chunked) = ("content-length: 10", "transfer-encoding: chunked");
    let endings: [Ending; 7] = [
        (length, "begun", "", Exchange::reset),
        (length, "begun", "", Exchange::close),
        (chunked, "5\r\nbegun\r\n", "", Exchange::reset),
        (chunked, "5\r\nbegun\r\n", "", Exchange::close),
        (chunked, "5\r\nbegun\r\n", "0\r\n", Exchange::close),
        (
            chunked,
            "5\r\nbegun\r\n",
            "xyz\r\n",
            Exchange::wait_for_close,
        ),
        (
            chunked,
            "5\r\nbegun",
            "more\r\n0\r\n\r\n",
            Exchange::wait_for_close,
        ),
    ];
    let gateway = with_one_pool().await;
    for http in Http::BOTH {
        for (framing, begin, rest, end) in endings {
            let begun = Gate::new();
            let gate = begun.clone();
            gateway.origin.on("/broken", move |exchange| {
                exchange.raw(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{begin}").as_bytes());
                gate.pass();
                exchange.raw(rest.as_bytes());
                end(exchange);
            });
            let mut client = gateway.connect(http).await;
            let mut answer = client.get("/broken").begin().await;
            assert_eq!(answer.chunk().await.unwrap().unwrap(), "begun");
            begun.open();
            breaks_off(&gateway, http, answer).await;
            if http == Http::Two {
                // Other streams of the connection are not affected.
                client.get("/next").send().await.is_ok();
            }
        }
    }
    let failed = gateway.metrics().sum("foregate_upstream_failed_total", &[]);
    assert_eq!(failed, 14.0);
}

#[tokio::test]
async fn a_101_without_an_upgrade_request_is_a_502() {
    let gateway = with_one_pool().await;
    gateway.origin.on("/101", |exchange| {
        exchange
            .raw(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
        exchange.wait_for_close();
    });
    for http in Http::BOTH {
        for method in ["GET", "POST", "HEAD"] {
            let answer = gateway.call(http, method, "/101").send().await;
            answer.is_denied(Reason::UpstreamProtocol);
        }
    }
    closes_everything(&gateway).await;
}

async fn closes_everything(gateway: &Gateway) {
    let none = || gateway.origin.open_connections() == 0;
    crate::support::eventually("the connections are closed", none).await;
}
