//! Requests that two servers would read differently: the origin gets one well-formed request, or
//! nothing.
//!
//! The origin reads strictly and fails the test at anything malformed. Every vector has a path of
//! its own, so they run side by side.

use foregate::denial::Reason;

use crate::support::client::Door;
use crate::support::raw::Outcome;
use crate::support::raw_h2::{Ending, RawTwo};
use crate::support::{Gateway, Http};

/// The expected result of a framing attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It has only one reading, which the origin gets.
    Arrives,
    /// The origin gets nothing.
    Refused,
}
use Fate::{Arrives, Refused};

/// Framing attacks: what follows `POST PATH HTTP/1.1` and `Host`. `SMUGGLED` becomes a request that
/// only a second reading would find.
const FRAMING: &[(&str, Fate, &str)] = &[
    (
        "CL.TE",
        Refused,
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    ),
    (
        "CL.TE with a request behind",
        Refused,
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE.CL",
        Refused,
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n",
    ),
    (
        "TE in a list with an empty member",
        Refused,
        "Transfer-Encoding: , chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE in a list that ends empty",
        Refused,
        "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE with a coding before it",
        Refused,
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE gzip and then chunked",
        Refused,
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE with a parameter",
        Refused,
        "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE identity",
        Refused,
        "Transfer-Encoding: identity\r\nContent-Length: 4\r\n\r\nabcdSMUGGLED",
    ),
    (
        "TE empty",
        Refused,
        "Transfer-Encoding:\r\nContent-Length: 4\r\n\r\nabcdSMUGGLED",
    ),
    (
        "a bare line feed at the end of the head",
        Refused,
        "Content-Length: 0\r\n\nSMUGGLED",
    ),
    (
        "TE.TE, unknown coding",
        Refused,
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE.TE, chunked not last",
        Refused,
        "Transfer-Encoding: chunked, identity\r\nContent-Length: 4\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE twice",
        Refused,
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE xchunked",
        Refused,
        "Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n\r\nabcdSMUGGLED",
    ),
    (
        "TE with a space before the colon",
        Refused,
        "Transfer-Encoding : chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE behind a vertical tab",
        Refused,
        "Transfer-Encoding:\x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE behind a tab",
        Arrives,
        "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE folded",
        Refused,
        "Transfer-Encoding:\r\n chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE in quotes",
        Refused,
        "Transfer-Encoding: \"chunked\"\r\nContent-Length: 4\r\n\r\nabcdSMUGGLED",
    ),
    (
        "TE with an underscore",
        Arrives,
        "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE in another case",
        Arrives,
        "tRANSFER-eNCODING: cHuNkEd\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE behind a bare CR",
        Refused,
        "X: a\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "TE hidden by Connection",
        Arrives,
        "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "CL hidden by Connection",
        Arrives,
        "Connection: content-length\r\nContent-Length: 4\r\n\r\nabcdSMUGGLED",
    ),
    (
        "CL twice, different",
        Refused,
        "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcdSMUGGLED",
    ),
    (
        "CL twice, equal",
        Arrives,
        "Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcdSMUGGLED",
    ),
    (
        "CL list",
        Refused,
        "Content-Length: 4, 4\r\n\r\nabcdSMUGGLED",
    ),
    (
        "CL with a sign",
        Refused,
        "Content-Length: +4\r\n\r\nabcdSMUGGLED",
    ),
    ("CL negative", Refused, "Content-Length: -1\r\n\r\nSMUGGLED"),
    (
        "CL in hexadecimal",
        Refused,
        "Content-Length: 0x4\r\n\r\nabcdSMUGGLED",
    ),
    (
        "CL with a space inside",
        Refused,
        "Content-Length: 4 4\r\n\r\nabcdSMUGGLED",
    ),
    ("CL empty", Refused, "Content-Length: \r\n\r\nSMUGGLED"),
    (
        "CL with zeros in front",
        Arrives,
        "Content-Length: 0004\r\n\r\nabcdSMUGGLED",
    ),
    (
        "CL over 64 bits",
        Refused,
        "Content-Length: 18446744073709551620\r\n\r\nabcdSMUGGLED",
    ),
    (
        "CL with a space before the colon",
        Refused,
        "Content-Length : 4\r\n\r\nabcdSMUGGLED",
    ),
    (
        "chunk extension",
        Arrives,
        "Transfer-Encoding: chunked\r\n\r\n4;a=\"b\"\r\nabcd\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "chunk extension with a line feed",
        Refused,
        "Transfer-Encoding: chunked\r\n\r\n4;a\nabcd\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "chunk size with a sign",
        Refused,
        "Transfer-Encoding: chunked\r\n\r\n+4\r\nabcd\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "chunk size 0x",
        Refused,
        "Transfer-Encoding: chunked\r\n\r\n0x4\r\nabcd\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "chunk size over 64 bits",
        Refused,
        "Transfer-Encoding: chunked\r\n\r\n10000000000000004\r\nabcd\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "chunk longer than it says",
        Arrives,
        "Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "chunks with bare line feeds",
        Refused,
        "Transfer-Encoding: chunked\n\n4\nabcd\n0\n\nSMUGGLED",
    ),
    (
        "folded field",
        Refused,
        "X-A: 1\r\n  SMUGGLED: 2\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "NUL in a value",
        Refused,
        "X-A: 1\x002\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "NUL in a name",
        Refused,
        "X\x00A: 1\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "a line without a colon",
        Refused,
        "X-A\r\nContent-Length: 0\r\n\r\n",
    ),
    ("an empty name", Refused, ": 1\r\nContent-Length: 0\r\n\r\n"),
    (
        "a bare line feed before a field",
        Refused,
        "X-A: 1\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED",
    ),
    (
        "two hosts",
        Refused,
        "Host: other.test\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "a body that never comes",
        Arrives,
        "Content-Length: 400\r\n\r\nabcd",
    ),
];

#[tokio::test]
async fn framing_attacks_reach_the_origin_as_one_well_formed_request_or_not_at_all() {
    let gateway = short_lived().await;
    let mut running = tokio::task::JoinSet::new();
    for (number, (_, _, rest)) in FRAMING.iter().enumerate() {
        let connector = gateway.connector(Http::One, Door::Plain);
        running.spawn(async move {
            let smuggled =
                format!("GET /public/smuggled-{number} HTTP/1.1\r\nHost: api.test\r\n\r\n");
            // As a chunk, the smuggled request has its exact size.
            let rest = rest.replace(
                "8\r\nSMUGGLED",
                &format!("{:x}\r\nSMUGGLED", smuggled.len()),
            );
            let rest = rest.replace("SMUGGLED", &smuggled);
            let mut raw = connector.raw().await;
            raw.write(format!(
                "POST /public/{number} HTTP/1.1\r\nHost: api.test\r\n{rest}"
            ))
            .await;
            raw.answers().await
        });
    }
    running.join_all().await;
    gateway.is_quiet().await;
    let seen = gateway.origin.take();
    let arrived = |path: String| seen.iter().filter(|request| request.target == path).count();
    let mut broken = Vec::new();
    for (number, (name, fate, rest)) in FRAMING.iter().enumerate() {
        if arrived(format!("/public/{number}")) != usize::from(*fate == Arrives) {
            broken.push(format!("{name}: not {fate:?}"));
        }
        let both = rest.contains("Content-Length")
            && rest.to_ascii_lowercase().contains("transfer-encoding:");
        // A client may pipeline requests, but not behind one with two framings, whose end is
        // ambiguous.
        if arrived(format!("/public/smuggled-{number}")) > usize::from(!both) {
            broken.push(format!("{name}: a smuggled request arrived"));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[tokio::test]
async fn a_refused_request_line_has_an_answer_with_an_id_and_a_log_line() {
    let gateway = short_lived().await;
    for (line, reason) in [
        ("GET /public/x", Reason::HeadMalformed),
        ("GET /public/x HTTP/1.2", Reason::VersionUnsupported),
        ("GET /public/x HTTP/2.0", Reason::VersionUnsupported),
        ("GET  /public/x HTTP/1.1", Reason::HeadMalformed),
        ("GET\t/public/x HTTP/1.1", Reason::HeadMalformed),
        ("GET /public/x HTTP/1.1 HTTP/1.1", Reason::HeadMalformed),
        ("GET /public/x\u{0} HTTP/1.1", Reason::HeadMalformed),
        ("GE\u{0}T /public/x HTTP/1.1", Reason::HeadMalformed),
        ("(GET) /public/x HTTP/1.1", Reason::HeadMalformed),
        ("GET public/x HTTP/1.1", Reason::TargetForm),
        ("GET /public/<x HTTP/1.1", Reason::TargetForm),
        (" GET /public/x HTTP/1.1", Reason::HeadMalformed),
    ] {
        let mut raw = gateway.raw(Door::Plain).await;
        raw.write(format!("{line}\r\nHost: api.test\r\n\r\n")).await;
        let answer = raw.answer().await.answer();
        answer.is_denied(reason);
        assert_eq!(answer.header("connection"), "close", "{line:?}");
        assert_eq!(answer.log_line()["client"], "127.0.0.1", "{line:?}");
        gateway.origin.saw_nothing();
    }
    gateway.is_quiet().await;
    let malformed = gateway
        .metrics()
        .sum("foregate_requests_total", &[("reason", "head_malformed")]);
    assert_eq!(malformed, 8.0);
}

#[tokio::test]
async fn chunks_in_http_1_0_are_no_request() {
    let gateway = short_lived().await;
    let mut raw = gateway.raw(Door::Plain).await;
    raw.write(
        "POST /public/x HTTP/1.0\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    )
    .await;
    raw.answer()
        .await
        .answer()
        .is_denied(Reason::FramingAmbiguous);
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_tunnel_is_refused_on_both_versions_and_what_follows_is_not_tunnelled() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        .await;
    raw.answer().await.answer().is_denied(Reason::MethodRefused);
    raw.write("GET /me HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    if let Outcome::Answer(answer) = raw.answer().await {
        answer.is_denied(Reason::TokenMissing);
    }
    let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    let plain = [(":method", "CONNECT"), (":authority", "api.test:443")];
    assert_eq!(two.reason(&plain).await, Reason::MethodRefused.code());
    let websocket = [RawTwo::get("/public/x"), vec![(":protocol", "websocket")]].concat();
    let websocket: Vec<_> = websocket
        .into_iter()
        .map(|(name, value)| (name, if name == ":method" { "CONNECT" } else { value }))
        .collect();
    let stream = two.request(&websocket).await;
    assert_ne!(two.ending(stream).await, Ending::Answered(b"ok".to_vec()));
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_target_that_begins_with_its_query_is_authorized_and_forwarded_as_the_root() {
    let gateway = Gateway::with_routes("- { path: /, access: public }").await;
    let mut raw = gateway.raw(Door::Plain).await;
    raw.write("GET http://api.test?x=1 HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    raw.answer().await.answer().is_ok();
    assert_eq!(gateway.origin.only().target, "/?x=1");
    let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    let stream = two.request(&RawTwo::get("?x=1")).await;
    // Refused, or forwarded with exactly the authorized target.
    if let Ending::Answered(_) = two.ending(stream).await {
        for seen in gateway.origin.take() {
            assert_eq!(seen.target, "/?x=1");
        }
    }
}

/// Fields that an HTTP/2 request may not have, or not with this value.
fn malformed() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    let with = |name, value| [RawTwo::get("/public/x"), vec![(name, value)]].concat();
    let instead = |name: &'static str, value: &'static str| {
        let mut fields = RawTwo::get("/public/x");
        fields
            .iter_mut()
            .filter(|(known, _)| *known == name)
            .for_each(|field| field.1 = value);
        fields
    };
    vec![
        ("transfer-encoding", with("transfer-encoding", "chunked")),
        ("connection", with("connection", "close")),
        ("keep-alive", with("keep-alive", "1")),
        ("proxy-connection", with("proxy-connection", "keep-alive")),
        ("upgrade", with("upgrade", "websocket")),
        ("te", with("te", "gzip")),
        ("an upper-case name", with("X-Upper", "1")),
        ("a name with a colon", with("x:y", "1")),
        ("a name with a space", with("x y", "1")),
        ("a name with a line end", with("x\r\ny", "1")),
        ("an empty name", with("", "1")),
        ("a value with a line end", with("x", "1\r\nx-user-id: 2")),
        ("a value with a line feed", with("x", "1\nx-user-id: 2")),
        ("a value with NUL", with("x", "1\u{0}2")),
        (
            ":path with a line end",
            instead(":path", "/public/x HTTP/1.1\r\nx-user-id: 2\r\nx: "),
        ),
        (":path with a space", instead(":path", "/public/x y")),
        (":path without a slash", instead(":path", "public/x")),
        (":path empty", instead(":path", "")),
        (
            ":path absolute",
            instead(":path", "https://other.test/public/x"),
        ),
        (
            ":method with a space",
            instead(":method", "GET /x HTTP/1.1"),
        ),
        (":method with a line end", instead(":method", "GET\r\n")),
        (":method empty", instead(":method", "")),
        (
            ":authority with a line end",
            instead(":authority", "api.test\r\nx-user-id: 2"),
        ),
        (
            ":authority with user information",
            instead(":authority", "user@api.test"),
        ),
        (
            ":authority with a path",
            instead(":authority", "api.test/x"),
        ),
        (
            ":scheme with a line end",
            instead(":scheme", "https\r\nx: "),
        ),
        (":scheme http over TLS", instead(":scheme", "http")),
        (":path twice", with(":path", "/public/y")),
        (":status in a request", with(":status", "200")),
        (":unknown", with(":unknown", "1")),
        (
            "a pseudo-field behind a field",
            [vec![("x", "1")], RawTwo::get("/public/x")].concat(),
        ),
        (
            "no :path",
            RawTwo::get("/x")
                .into_iter()
                .filter(|field| field.0 != ":path")
                .collect(),
        ),
        (
            "no :method",
            RawTwo::get("/public/x")
                .into_iter()
                .filter(|field| field.0 != ":method")
                .collect(),
        ),
        ("host and :authority differ", with("host", "other.test")),
        ("content-length without a body", with("content-length", "5")),
        (
            "content-length twice",
            [with("content-length", "0"), vec![("content-length", "5")]].concat(),
        ),
        ("content-length with a sign", with("content-length", "+0")),
    ]
}

#[tokio::test]
async fn malformed_http_2_requests_never_reach_the_origin() {
    let gateway = Gateway::start().await;
    let mut arrived = Vec::new();
    for (name, fields) in malformed() {
        let mut raw = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
        let stream = raw.request(&fields).await;
        let ending = raw.ending(stream).await;
        let seen = gateway.origin.take();
        if !seen.is_empty() || ending == Ending::Answered(b"ok".to_vec()) {
            arrived.push(format!("{name}: {ending:?} {seen:#?}"));
        }
    }
    assert!(arrived.is_empty(), "{arrived:#?}");
}

#[tokio::test]
async fn a_request_that_is_reset_before_it_is_one_is_counted() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    let stream = raw.request(&RawTwo::get("/public/x?select=a->>b")).await;
    assert_eq!(raw.ending(stream).await, Ending::Reset(1));
    let resets = gateway.metrics();
    let resets = resets.sum("foregate_h2_resets_total", &[("code", "protocol_error")]);
    assert_eq!(resets, 1.0);
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_body_of_another_length_than_declared_is_never_a_complete_request_at_the_origin() {
    let gateway = short_lived().await;
    for (declared, body) in [("10", &b"abc"[..]), ("2", b"abc"), ("0", b"abc")] {
        let mut raw = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
        let mut fields = RawTwo::get("/public/x");
        fields[0].1 = "POST";
        fields.push(("content-length", declared));
        let stream = raw.request_with_body(&fields, body).await;
        let ending = raw.ending(stream).await;
        assert_ne!(ending, Ending::Answered(b"ok".to_vec()), "{declared}");
        drop(raw);
        gateway.is_quiet().await;
        for seen in gateway.origin.take() {
            assert!(seen.sha256.is_none(), "{declared}: {seen:?}");
        }
    }
}

/// A gateway with short timeouts for incomplete heads and idle connections.
async fn short_lived() -> Gateway {
    Gateway::with(|config| {
        config.set(
            "connections",
            "{ head: 800ms, idle: 800ms, body_idle: 800ms }",
        );
    })
    .await
}
