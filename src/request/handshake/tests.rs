//! Handshakes of clients, and the responses of upstreams to them.

use super::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn read(change: impl FnOnce(&mut hyper::Request<()>)) -> Option<Handshake> {
    let mut request = hyper::Request::get("/")
        .header("upgrade", "WebSocket")
        .header("connection", "keep-alive, Upgrade")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", KEY)
        .header("sec-websocket-protocol", "chat, phoenix")
        .header(
            "sec-websocket-extensions",
            "permessage-deflate; client_max_window_bits",
        )
        .body(())
        .expect("a request");
    change(&mut request);
    Handshake::read(&request.into_parts().0)
}

fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut hyper::Request<()>) {
    move |request| {
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
}

fn answer(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [("upgrade", "websocket"), ("connection", "upgrade")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in fields {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn the_example_of_the_standard_is_a_handshake() {
    let handshake = read(|_| {}).expect("a handshake");
    assert_eq!(handshake.accept, ACCEPT);
    let fields: HeaderMap = handshake.fields().collect();
    assert_eq!(fields.len(), 6);
    assert_eq!(fields.get("sec-websocket-key").expect("a key"), KEY);
    let protocols = fields.get("sec-websocket-protocol");
    assert_eq!(protocols.expect("protocols"), "chat, phoenix");
}

#[test]
fn a_subprotocol_that_carries_a_token_is_not_offered_where_tokens_are_authorized() {
    let offered = "phoenix, base64url.bearer.phx.eyJh, Base64URL.Bearer.phx.x, base64url.bearer";
    let mut handshake = read(set("sec-websocket-protocol", offered)).expect("a handshake");
    handshake.refuse_bearer_protocols();
    assert_eq!(handshake.protocols, ["phoenix", "base64url.bearer"]);
}

#[test]
fn another_upgrade_or_a_malformed_handshake_is_refused() {
    assert!(read(set("upgrade", "h2c")).is_none());
    assert!(read(set("upgrade", "websocket, h2c")).is_none());
    assert!(read(set("connection", "keep-alive")).is_none());
    assert!(read(set("sec-websocket-version", "8")).is_none());
    assert!(read(set("sec-websocket-key", "c2hvcnQ=")).is_none());
    assert!(read(set("sec-websocket-key", "not base64, but 24 chars")).is_none());
    assert!(read(set("sec-websocket-protocol", "a b")).is_none());
    assert!(read(set("sec-websocket-extensions", "=;")).is_none());
    assert!(read(set("sec-websocket-accept", ACCEPT)).is_none());
    assert!(read(set("content-length", "3")).is_none());
    assert!(read(set("transfer-encoding", "chunked")).is_none());
    assert!(read(|request| *request.method_mut() = Method::POST).is_none());
    assert!(read(|request| *request.version_mut() = Version::HTTP_10).is_none());
    let twice = |request: &mut hyper::Request<()>| {
        let key = HeaderValue::from_static(KEY);
        request.headers_mut().append("sec-websocket-key", key);
    };
    assert!(read(twice).is_none());
}

#[test]
fn only_a_101_that_matches_the_handshake_opens_the_tunnel() {
    let handshake = read(|_| {}).expect("a handshake");
    let good = ("sec-websocket-accept", ACCEPT);
    let finish = |fields: &[_]| handshake.finish(&mut answer(fields), "own").is_ok();
    assert!(finish(&[good]));
    assert!(finish(&[good, ("sec-websocket-protocol", "phoenix")]));
    assert!(finish(&[
        good,
        ("sec-websocket-extensions", "permessage-deflate; a=b")
    ]));
    assert!(!finish(&[]));
    assert!(!finish(&[("sec-websocket-accept", KEY)]));
    assert!(!finish(&[good, ("upgrade", "h2c")]));
    assert!(!finish(&[good, ("connection", "close")]));
    assert!(!finish(&[good, ("sec-websocket-protocol", "other")]));
    assert!(!finish(&[
        good,
        ("sec-websocket-protocol", "chat, phoenix")
    ]));
    assert!(!finish(&[good, ("sec-websocket-extensions", "x-other")]));
    let mut headers = answer(&[good, ("server", "s"), ("content-length", "3")]);
    handshake.finish(&mut headers, "own").expect("good");
    let mut expected = answer(&[good, ("server", "s")]);
    expected.insert("connection", HeaderValue::from_static("Upgrade"));
    assert_eq!(headers, expected);
}
