//! Answers that are complete before their request is.

use foregate::denial::Reason;
use hyper::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::client::Door;
use crate::support::raw_h2::{DATA, END_STREAM, Ending, RawTwo};
use crate::support::{Gateway, Http, Reply, in_time};

/// A token that is over, a line of text, a form, a photograph, a video.
const LENGTHS: [usize; 5] = [1, 13, 40_000, 200_000, 8 << 20];

fn head(length: usize) -> String {
    format!("POST /me HTTP/1.1\r\nHost: api.test\r\nContent-Length: {length}\r\n\r\n")
}

#[tokio::test]
async fn a_client_that_writes_its_whole_body_first_still_reads_the_refusal() {
    let gateway = Gateway::start().await;
    for door in [Door::Tls, Door::Plain] {
        for length in LENGTHS {
            let mut raw = gateway.raw(door).await;
            raw.write(head(length)).await;
            raw.write(vec![b'x'; length]).await;
            let answer = raw.answer().await.answer();
            answer.is_denied(Reason::TokenMissing);
            let is_kept = answer.header("connection") == "keep-alive";
            assert_eq!(is_kept, length < 1 << 20, "{length}");
            if is_kept {
                raw.write("GET /public/x HTTP/1.1\r\nHost: api.test\r\n\r\n")
                    .await;
                raw.answer().await.answer().is_ok();
                assert_eq!(gateway.origin.take().len(), 1);
            }
            gateway.origin.saw_nothing();
        }
    }
}

#[tokio::test]
async fn chunks_that_nobody_wants_are_not_the_next_request() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.raw(Door::Tls).await;
    let hidden = "GET /public/hidden HTTP/1.1\r\nHost: api.test\r\n\r\n";
    raw.write(format!(
        "POST /me HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\nGET /public/next HTTP/1.1\r\nHost: api.test\r\n\r\n",
        hidden.len()
    ))
    .await;
    raw.answer().await.answer().is_denied(Reason::TokenMissing);
    raw.answer().await.answer().is_ok();
    assert_eq!(gateway.origin.only().target, "/public/next");
}

#[tokio::test]
async fn a_refusal_says_close_if_the_client_waits_for_100_continue() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write(
        "POST /me HTTP/1.1\r\nHost: api.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    )
    .await;
    let answer = raw.answer().await.answer();
    answer.is_denied(Reason::TokenMissing);
    assert_eq!(answer.header("connection"), "close");
    // A client that sends the body nevertheless is not reset.
    raw.write("12345").await;
    assert_eq!(raw.read().await, b"");
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn an_early_answer_of_the_origin_reaches_a_client_that_is_still_sending() {
    let gateway =
        Gateway::with_routes("- { path: /early, access: public, body: { limit: 20MiB } }").await;
    gateway.origin.on("/early", |exchange| {
        exchange.reply(&Reply::new(413).header("connection", "close").body("no"));
    });
    for http in Http::BOTH {
        for length in LENGTHS {
            let call = gateway.post(http, "/early");
            let answer = call.body(vec![b'x'; length]).send().await;
            assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{length}");
            assert_eq!(answer.text(), "no");
        }
    }
}

#[tokio::test]
async fn refused_uploads_do_not_end_the_other_streams_of_their_connection() {
    let gateway = Gateway::start().await;
    let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    let mut fields = RawTwo::get("/me");
    fields[0].1 = "POST";
    // More would exceed the window of a client that opens none.
    for _ in 0..200 {
        let stream = two.request_with_body(&fields, &[b'x'; 4000]).await;
        assert!(matches!(two.ending(stream).await, Ending::Answered(_)));
    }
    let stream = two.request(&RawTwo::get("/public/x")).await;
    assert_eq!(two.ending(stream).await, Ending::Answered(b"ok".to_vec()));
    assert_eq!(gateway.origin.only().target, "/public/x");
}

#[tokio::test]
async fn an_http_2_body_that_exceeds_its_length_is_never_a_complete_request() {
    let gateway = Gateway::start().await;
    for (length, first) in [("0", ""), ("1", "x"), ("4", "abcd")] {
        let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
        let mut fields = RawTwo::get("/public/longer");
        fields[0].1 = "POST";
        fields.push(("content-length", length));
        let stream = two.open(&fields, 0).await;
        if !first.is_empty() {
            two.send(DATA, 0, stream, first.as_bytes()).await;
        }
        // Once another request is answered, whatever could be forwarded was.
        for _ in 0..3 {
            let other = two.request(&RawTwo::get("/public/x")).await;
            assert_eq!(two.ending(other).await, Ending::Answered(b"ok".to_vec()));
        }
        two.send(DATA, END_STREAM, stream, b"y").await;
        assert_eq!(two.ending(stream).await, Ending::Reset(1), "{length}");
        drop(two);
        gateway.is_quiet().await;
        for seen in gateway.origin.take() {
            let is_whole = length == "0" || seen.sha256.is_some();
            let is_whole = seen.target == "/public/longer" && is_whole;
            assert!(!is_whole, "{length}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn characters_that_every_server_takes_in_a_query_are_encoded_once() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.raw(Door::Tls).await;
    for (sent, forwarded) in [
        ("/public/x?select=a->>b", "/public/x?select=a-%3E%3Eb"),
        (
            "/public/x?a=<\"b\">&c=%3E",
            "/public/x?a=%3C%22b%22%3E&c=%3E",
        ),
        ("/public/x?a={b}|`c`^\\", "/public/x?a={b}|`c`^\\"),
    ] {
        raw.write(format!("GET {sent} HTTP/1.1\r\nHost: api.test\r\n\r\n"))
            .await;
        raw.answer().await.answer().is_ok();
        assert_eq!(gateway.origin.only().target, forwarded);
    }
}

#[tokio::test]
async fn an_http_1_0_answer_without_a_length_says_that_it_closes() {
    let gateway = Gateway::start().await;
    gateway.origin.on("/public/chunks", |exchange| {
        exchange.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    });
    for (path, connection) in [("/public/chunks", "close"), ("/public/x", "keep-alive")] {
        let mut raw = gateway.raw(Door::Tls).await;
        raw.write(format!(
            "GET {path} HTTP/1.0\r\nHost: api.test\r\nConnection: keep-alive\r\n\r\n"
        ))
        .await;
        let answer = raw.answer().await.answer();
        assert_eq!(answer.is_ok().text(), "ok");
        assert_eq!(answer.header("connection"), connection);
    }
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write("GET /public/x HTTP/1.0\r\nHost: api.test\r\n\r\n")
        .await;
    let answer = raw.answer().await.answer();
    assert_eq!(answer.is_ok().header("connection"), "close");
    assert_eq!(raw.read().await, b"");
}

#[tokio::test]
async fn an_answer_without_a_length_that_breaks_off_does_not_look_complete() {
    let gateway = Gateway::start().await;
    gateway.origin.on("/public/broken", |exchange| {
        exchange.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n");
        exchange.close();
    });
    let mut socket = TcpStream::connect(gateway.address(Door::Plain))
        .await
        .unwrap();
    let request = b"GET /public/broken HTTP/1.0\r\nHost: api.test\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let read = in_time("the end", socket.read_to_end(&mut Vec::new())).await;
    assert_eq!(
        read.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn a_connection_that_is_kept_has_room_for_what_is_left_of_its_body() {
    let gateway = Gateway::start().await;
    for length in [300_000, 900_000, 1_200_000, 2_500_000] {
        let mut raw = gateway.raw(Door::Plain).await;
        raw.write([head(length).into_bytes(), vec![b'x'; length / 3]].concat())
            .await;
        let answer = raw.answer().await.answer();
        answer.is_denied(Reason::TokenMissing);
        raw.write(vec![b'x'; length - length / 3]).await;
        if answer.header("connection") == "keep-alive" {
            raw.write("GET /health HTTP/1.1\r\nHost: api.test\r\n\r\n")
                .await;
            raw.answer().await.answer().is_ok();
        } else {
            assert_eq!(raw.read().await, b"", "{length}");
        }
    }
}

#[tokio::test]
async fn a_line_end_behind_a_body_is_not_the_beginning_of_a_head() {
    let gateway = Gateway::with(|config| {
        config.set("connections", "{ head: 1s, idle: 1h }");
    })
    .await;
    let mut raw = gateway.raw(Door::Plain).await;
    let request = "POST /public/x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 2\r\n\r\nok\r\n";
    raw.write(request).await;
    raw.answer().await.answer().is_ok();
    // Another connection, whose head does not end, shows that the limit has passed.
    let mut slow = gateway.raw(Door::Plain).await;
    slow.write("GET").await;
    assert_eq!(slow.read().await, b"");
    raw.write(request).await;
    raw.answer().await.answer().is_ok();
}

#[tokio::test]
async fn what_came_of_an_answer_before_it_broke_off_is_sent() {
    let gateway = Gateway::start().await;
    gateway.origin.on("/public/broken", |exchange| {
        exchange.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nxyz\r\n");
        exchange.wait_for_close();
    });
    let mut raw = gateway.raw(Door::Plain).await;
    raw.write("GET /public/broken HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    let mut came = Vec::new();
    loop {
        match raw.read().await {
            more if more.is_empty() => break,
            more => came.extend(more),
        }
    }
    let came = String::from_utf8(came).unwrap();
    assert!(came.starts_with("HTTP/1.1 200 OK\r\n"), "{came}");
    assert!(came.ends_with("2\r\nok\r\n"), "{came}");
}

#[tokio::test]
async fn malformed_streams_do_not_end_the_others_of_their_connection() {
    let gateway = Gateway::start().await;
    let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    for _ in 0..200 {
        let stream = two.request(&RawTwo::get("/public/x?select=a->>b")).await;
        assert_eq!(two.ending(stream).await, Ending::Reset(1));
    }
    let stream = two.request(&RawTwo::get("/public/x")).await;
    assert_eq!(two.ending(stream).await, Ending::Answered(b"ok".to_vec()));
}
