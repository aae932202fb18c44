//! What happens on a connection before and around its requests: TLS, protocols, limits, floods and
//! silence.

use std::time::Duration;

use foregate::denial::Reason;
use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::client::{Connector, Door, Stream};
use crate::support::curl::curl;
use crate::support::openssl::{certificate_file, handshake, shown_certificate};
use crate::support::pki::{NAME, Pki};
use crate::support::raw_h2::{Ending, RawTwo, frame};
use crate::support::{Answer, Gate, Gateway, Http, Origin, Reply, eventually, in_time};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

const END_STREAM_AND_HEADERS: u8 = 5;
const NO_ERROR: u32 = 0;
const ENHANCE_YOUR_CALM: u32 = 11;
const REFUSED_STREAM: u32 = 7;
/// The payload of a reset by a client that wants no answer.
const CANCEL: [u8; 4] = [0, 0, 0, 8];
/// SETTINGS_INITIAL_WINDOW_SIZE of 0: no body may be sent.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// How much a flood may add to the memory of the process.
const FLAT: u64 = 48 << 20;

// === TLS ===

#[tokio::test]
async fn alpn_chooses_the_version_and_http_1_is_the_default() {
    let gateway = Gateway::start().await;
    for (offered, chosen) in [
        ("h2", "ALPN protocol: h2"),
        ("http/1.1", "ALPN protocol: http/1.1"),
        ("http/1.1,h2", "ALPN protocol: h2"),
    ] {
        let said = handshake(&gateway, &["-alpn", offered]).await;
        assert!(said.contains(chosen), "{offered}: {said}");
    }
    assert_eq!(curl(&gateway, "/public/x", &["--no-alpn"]).await.0, 200);
    let said = handshake(&gateway, &["-alpn", "spdy/3"]).await;
    assert!(said.contains("no application protocol"), "{said}");
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_accepted_and_older_versions_are_not() {
    let gateway = Gateway::start().await;
    for version in ["1.2", "1.3"] {
        let least = format!("--tlsv{version}");
        let answer = curl(&gateway, "/public/x", &[&least, "--tls-max", version]).await;
        assert_eq!(answer.0, 200);
    }
    // Without the security level, OpenSSL itself would not offer them.
    for version in ["-tls1", "-tls1_1"] {
        let said = handshake(&gateway, &[version, "-cipher", "DEFAULT@SECLEVEL=0"]).await;
        assert!(said.contains("SSL alert number"), "{said}");
    }
    gateway
        .metric_becomes(
            "foregate_connections_failed_total",
            &[("cause", "handshake")],
            2.0,
        )
        .await;
}

#[tokio::test]
async fn the_server_name_picks_an_exact_certificate_then_a_wildcard_then_the_first() {
    let mut gateway = Gateway::start().await;
    for (file, names) in [
        ("exact", ["a.wild.test", "b.test"]),
        ("wildcard", ["*.wild.test", "*.wilder.test"]),
    ] {
        gateway.pki.sign(&names).write(&gateway.path(""), file);
    }
    gateway
        .reload(|config| {
            let certificates = ["server", "exact", "wildcard"]
                .map(|name| format!("{{ cert: {name}.crt, key: {name}.key }}"));
            config.set("listen", &listeners(&certificates.join(", "), ""));
        })
        .await;
    for (name, file) in [
        (Some("a.wild.test"), "exact.crt"),
        (Some("B.test"), "exact.crt"),
        (Some("other.wild.test"), "wildcard.crt"),
        (Some("two.labels.wild.test"), "server.crt"),
        (Some("wild.test"), "server.crt"),
        (Some("unknown.test"), "server.crt"),
        (Some(NAME), "server.crt"),
        (None, "server.crt"),
    ] {
        let shown = shown_certificate(&gateway, name).await;
        assert_eq!(shown, certificate_file(&gateway, file), "{name:?}");
    }
}

#[tokio::test]
async fn required_client_certificates_must_chain_to_the_configured_authority() {
    let gateway = Gateway::with(|config| {
        config.set("listen", &listeners(SERVER, ", client_ca: ca.pem"));
    })
    .await;
    let own = gateway.pki.sign(&["client"]);
    let foreign = Pki::new().sign(&["client"]);
    for http in Http::BOTH {
        assert_eq!(status(&gateway.connector_as(http, &own)).await, Some(200));
        assert_eq!(status(&gateway.connector_as(http, &foreign)).await, None);
        assert_eq!(status(&gateway.connector(http, Door::Tls)).await, None);
    }
    own.write(&gateway.path(""), "own");
    foreign.write(&gateway.path(""), "foreign");
    for version in ["--http1.1", "--http2"] {
        assert_eq!(curl_as(&gateway, "own", version).await, 200);
        assert_eq!(curl_as(&gateway, "foreign", version).await, 0);
        assert_eq!(curl(&gateway, "/public/x", &[version]).await.0, 0);
    }
    assert_eq!(gateway.origin.take().len(), 4);
}

#[tokio::test]
async fn optional_client_certificates_may_be_missing_but_not_foreign() {
    let gateway = Gateway::with(|config| {
        let more = ", client_ca: ca.pem, client_auth: optional";
        config.set("listen", &listeners(SERVER, more));
    })
    .await;
    let own = gateway.pki.sign(&["client"]);
    let foreign = Pki::new().sign(&["client"]);
    for http in Http::BOTH {
        assert_eq!(status(&gateway.connector_as(http, &own)).await, Some(200));
        assert_eq!(status(&gateway.connector_as(http, &foreign)).await, None);
        assert_eq!(status(&gateway.connector(http, Door::Tls)).await, Some(200));
    }
}

// === clear text and redirect ===

#[tokio::test]
async fn a_clear_text_listener_detects_the_http_version() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        let connector = gateway.connector(http, Door::Plain);
        connector.call("GET", "/public/x").send().await.is_ok();
        let refused = connector.call("GET", "/me").send().await;
        refused.is_denied(Reason::TokenMissing);
    }
    // The beginning of a preface is also the beginning of a method, and may arrive byte by byte.
    let mut raw = gateway.raw(Door::Plain).await;
    for byte in b"PUT /public/x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n" {
        raw.write([*byte]).await;
    }
    raw.answer().await.answer().is_ok();
}

#[tokio::test]
async fn the_redirect_listener_redirects_get_and_head_to_https_on_the_same_host() {
    let gateway = Gateway::with(|config| {
        config.set("hosts", "[api.test, \"[::1]\"]");
    })
    .await;
    for (target, host, location) in [
        (
            "/a/b?x=1&y=%2F",
            "api.test",
            "https://api.test/a/b?x=1&y=%2F",
        ),
        ("/", "API.test:8080", "https://api.test/"),
        ("/%41", "[::1]:8080", "https://[::1]/A"),
    ] {
        let answer = gateway
            .connector(Http::One, Door::Redirect)
            .call("GET", target)
            .host(host)
            .send()
            .await;
        assert_eq!(answer.status, StatusCode::PERMANENT_REDIRECT);
        assert_eq!(answer.header("location"), location);
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    for (method, target, host, reason) in [
        ("POST", "/a", "api.test", Reason::HttpsRequired),
        ("DELETE", "/a", "api.test", Reason::HttpsRequired),
        ("GET", "/a", "evil.test", Reason::HostUnknown),
        ("GET", "/a", "api.test@evil.test", Reason::HostInvalid),
        ("GET", "//evil.test/", "api.test", Reason::PathEmptySegment),
        ("GET", "/a/../b", "api.test", Reason::PathDotSegment),
        ("GET", "/a%2Fb", "api.test", Reason::PathSlashEncoded),
        ("GET", "/a%0d%0ab", "api.test", Reason::PathControl),
    ] {
        let mut raw = gateway.raw(Door::Redirect).await;
        raw.write(format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
        raw.answer().await.answer().is_denied(reason);
    }
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn the_redirect_names_a_port_that_is_not_443() {
    let gateway = Gateway::with(|config| {
        let listen = config.get("listen").replace("https: true", "https: 8443");
        config.set("listen", &listen);
    })
    .await;
    let answer = gateway
        .connector(Http::One, Door::Redirect)
        .call("HEAD", "/a")
        .send()
        .await;
    assert_eq!(answer.header("location"), "https://api.test:8443/a");
}

#[tokio::test]
async fn only_served_hosts_are_answered() {
    let gateway = Gateway::with(|config| {
        config.set("hosts", "[api.test, other.test]");
    })
    .await;
    for http in Http::BOTH {
        for host in ["api.test", "other.test:1234", "OTHER.test"] {
            let answer = gateway.get(http, "/public/x").host(host).send().await;
            answer.is_ok();
        }
        gateway.origin.take();
        for host in ["evil.test", "sub.api.test", "127.0.0.1"] {
            let answer = gateway.get(http, "/public/x").host(host).send().await;
            answer.is_denied(Reason::HostUnknown);
        }
        gateway.origin.saw_nothing();
    }
}

// === limits ===

#[tokio::test]
async fn connections_over_the_limit_wait_until_one_closes() {
    for http in Http::BOTH {
        let gate = Gate::new();
        let gateway = Gateway::before(gated(&gate), |config| {
            config.set("connections", "{ max: 1 }");
        })
        .await;
        // A connection without a request would make room.
        let first = gateway.connector(http, Door::Tls);
        let first = tokio::spawn(first.call("GET", "/public/gated").send());
        gateway.origin.has_seen(1).await;
        let waiting = gateway.connector(http, Door::Tls);
        let mut waiting = tokio::spawn(waiting.call("GET", "/public/x").send());
        let answer = timeout(Duration::from_millis(100), &mut waiting).await;
        assert!(answer.is_err(), "{answer:?}");
        gate.open();
        in_time("the answer", first).await.unwrap().is_ok();
        in_time("the place", waiting).await.unwrap().is_ok();
    }
}

#[tokio::test]
async fn an_unused_listener_holds_no_connection_slot() {
    let gateway = limited("max: 1").await;
    for door in [Door::Plain, Door::Tls, Door::Plain] {
        let call = gateway.connector(Http::One, door).call("GET", "/public/x");
        call.send().await.is_ok();
        gateway.is_quiet().await;
    }
}

#[tokio::test]
async fn connections_are_spread_over_the_workers() {
    let gateway = Gateway::start().await;
    let mut clients = Vec::new();
    for http in Http::BOTH {
        for _ in 0..10 {
            let mut client = gateway.connect(http).await;
            client.get("/public/x").send().await.is_ok();
            clients.push(client);
        }
    }
    // One request at a time needs one upstream connection per worker, since workers share none.
    assert_eq!(gateway.origin.connections(), 2);
}

#[tokio::test]
async fn too_many_or_too_long_header_fields_are_refused() {
    let gateway = limited("max_headers: 20, max_head: 8KiB").await;
    for http in Http::BOTH {
        let mut call = gateway.get(http, "/public/x");
        for _ in 0..30 {
            call = call.header("a", "b");
        }
        call.send().await.is_denied(Reason::HeadersTooMany);
    }
    let lines = "a: b\r\n".repeat(200);
    refused_head(&gateway, &lines)
        .await
        .is_denied(Reason::HeadersTooMany);

    let long = "b".repeat(9 << 10);
    let line = format!("a: {long}\r\n");
    refused_head(&gateway, &line)
        .await
        .is_denied(Reason::HeadTooLarge);
    let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    let mut fields = RawTwo::get("/public/x");
    fields.push(("a", &long));
    let stream = two.request(&fields).await;
    assert!(matches!(two.ending(stream).await, Ending::Answered(body) if body.is_empty()));
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_head_may_be_exactly_as_long_as_the_limit_in_pieces_of_any_size() {
    let gateway = limited("max_head: 8KiB").await;
    for door in [Door::Tls, Door::Plain] {
        for (excess, piece) in [(0, 8192), (1, 8193), (0, 100), (1, 100)] {
            let empty = "GET /public/x HTTP/1.1\r\nHost: api.test\r\na: \r\n\r\n";
            let filling = "b".repeat(8192 + excess - empty.len());
            let head = empty.replace("a: ", &format!("a: {filling}"));
            let mut raw = gateway.raw(door).await;
            for piece in head.as_bytes().chunks(piece) {
                raw.write(piece).await;
            }
            let answer = raw.answer().await.answer();
            match excess {
                0 => answer.is_ok(),
                _ => answer.is_denied(Reason::HeadTooLarge),
            };
            assert_eq!(gateway.origin.take().len(), 1 - excess);
        }
    }
}

#[tokio::test]
async fn an_answer_does_not_wait_for_the_rest_of_the_next_request() {
    let gateway = Gateway::start().await;
    for door in [Door::Tls, Door::Plain] {
        let mut raw = gateway.raw(door).await;
        raw.write("GET /public/x HTTP/1.1\r\nHost: api.test\r\n\r\nGET /public/y HT")
            .await;
        raw.answer().await.answer().is_ok();
        raw.write("TP/1.1\r\nHost: api.test\r\n\r\n").await;
        raw.answer().await.answer().is_ok();
    }
}

#[tokio::test]
async fn a_target_that_is_too_long_is_refused() {
    let gateway = limited("max_uri: 300").await;
    for http in Http::BOTH {
        let path = format!("/public/{}", "x".repeat(280));
        gateway.get(http, &path).send().await.is_ok();
        gateway.origin.take();
        let path = format!("/public/x?{}", "x".repeat(300));
        let answer = gateway.get(http, &path).send().await;
        answer.is_denied(Reason::UriTooLong);
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn streams_over_the_limit_are_refused_and_the_others_continue() {
    let gate = Gate::new();
    let gateway = Gateway::before(gated(&gate), |config| {
        config.set("connections", "{ h2_streams: 2 }");
    })
    .await;
    let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    let first = two.request(&RawTwo::get("/public/gated")).await;
    two.request(&RawTwo::get("/public/gated")).await;
    gateway.origin.has_seen(2).await;
    let third = two.request(&RawTwo::get("/public/gated")).await;
    assert_eq!(two.ending(third).await, Ending::Reset(REFUSED_STREAM));
    gate.open();
    assert_eq!(two.ending(first).await, Ending::Answered(b"ok".to_vec()));
    assert_eq!(gateway.origin.take().len(), 2);
}

#[tokio::test]
async fn a_panic_fails_only_its_own_request() {
    let gate = Gate::new();
    let gateway = Gateway::before(gated(&gate), |_| {}).await;
    gateway.may_panic();
    let mut two = gateway.connect(Http::Two).await;
    let mut beside = two.another();
    let running = tokio::spawn(async move { beside.get("/public/gated").send().await });
    gateway.origin.has_seen(1).await;
    let answer = two.get("/panic").send().await;
    answer.is_denied(Reason::Internal);
    two.get("/public/x").send().await.is_ok();
    gate.open();
    in_time("the request beside it", running)
        .await
        .unwrap()
        .is_ok();

    let mut one = gateway.connect(Http::One).await;
    let answer = one.get("/panic").send().await;
    answer.is_denied(Reason::Internal);
    one.get("/public/x").send().await.is_ok();
    assert!(!gateway.log().text().contains("`serve: panic`"));
}

#[tokio::test]
async fn an_old_connection_takes_no_new_requests_and_finishes_those_it_has() {
    let gate = Gate::new();
    let gateway = Gateway::before(gated(&gate), |config| {
        config.set("connections", "{ max_age: 2s }");
    })
    .await;
    // On HTTP/1.1 the next answer says it, so that no request on its way is lost.
    let mut one = gateway.connect(Http::One).await;
    let young = one.get("/public/x").send().await;
    assert_eq!(young.is_ok().header("connection"), "keep-alive");
    tokio::time::sleep(Duration::from_millis(2300)).await;
    let old = one.get("/public/x").send().await;
    assert_eq!(old.is_ok().header("connection"), "close");
    eventually("it is closed", || one.is_closed()).await;

    let mut two = gateway.connect(Http::Two).await;
    let grows_old = async {
        tokio::time::sleep(Duration::from_millis(2300)).await;
        gate.open();
    };
    let (running, ()) = tokio::join!(two.get("/public/gated").send(), grows_old);
    running.is_ok();
    eventually("it is closed", || two.is_closed()).await;
    let mut raw = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    assert_eq!(raw.going().await, Some(NO_ERROR), "also without a request");
}

// === floods ===

#[tokio::test]
async fn a_rapid_reset_ends_only_its_connection() {
    let gateway = Gateway::start().await;
    let mut witness = gateway.connect(Http::Two).await;
    witness.get("/public/x").send().await.is_ok();
    let before = gateway.rss();
    for door in [Door::Tls, Door::Plain] {
        // Few enough that the client can read the answers before its socket is closed.
        let mut two = gateway.connector(Http::Two, door).raw_h2().await;
        two.send_all(&resets(200)).await;
        assert_eq!(
            two.ending(1).await,
            Ending::GoneAway(Some(ENHANCE_YOUR_CALM))
        );
        for _ in 0..20 {
            let mut two = gateway.connector(Http::Two, door).raw_h2().await;
            two.send_all(&resets(5000)).await;
            assert!(matches!(two.ending(1).await, Ending::GoneAway(_)));
        }
    }
    witness.get("/public/x").send().await.is_ok();
    assert!(gateway.rss() < before + FLAT);
    gateway
        .metric_becomes("foregate_connections", &[], 1.0)
        .await;
}

#[tokio::test]
async fn requests_reset_while_the_origin_works_end_only_their_connection() {
    let gate = Gate::new();
    let gateway = Gateway::before(gated(&gate), |config| {
        config.set("connections", "{ h2_resets: 3 }");
    })
    .await;
    let mut witness = gateway.connect(Http::Two).await;
    let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    let mut gone: u32 = 0;
    for in_a_row in [3_u32, 3, 4] {
        for count in 1..=in_a_row {
            let stream = two.request(&RawTwo::get("/public/gated")).await;
            gateway.origin.has_seen(count as usize).await;
            two.send(RST_STREAM, 0, stream, &CANCEL).await;
        }
        gone += in_a_row;
        gateway
            .metric_becomes("foregate_client_gone_total", &[], f64::from(gone))
            .await;
        gateway.origin.take();
        if in_a_row == 3 {
            // An answer in between is what an ordinary client waits for.
            let stream = two.request(&RawTwo::get("/public/x")).await;
            assert_eq!(two.ending(stream).await, Ending::Answered(b"ok".to_vec()));
            gateway.origin.take();
        }
    }
    assert_eq!(two.going().await, Some(NO_ERROR));
    assert_eq!(two.ending(u32::MAX).await, Ending::GoneAway(None));
    witness.get("/public/x").send().await.is_ok();
    gate.open();
    gateway
        .metric_becomes("foregate_connections", &[], 1.0)
        .await;
}

#[tokio::test]
async fn a_field_block_without_an_end_ends_its_connection() {
    let gateway = Gateway::start().await;
    let mut witness = gateway.connect(Http::Two).await;
    let before = gateway.rss();
    for _ in 0..20 {
        let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
        let mut bytes = frame(HEADERS, 0, 1, &[0x82, 0x87, 0x84]);
        for _ in 0..200 {
            bytes.extend(frame(CONTINUATION, 0, 1, &field_of(15_000)));
        }
        two.send_all(&bytes).await;
        assert!(matches!(two.ending(1).await, Ending::GoneAway(_)));
    }
    witness.get("/public/x").send().await.is_ok();
    assert!(gateway.rss() < before + FLAT);
    gateway
        .metric_becomes("foregate_connections", &[], 1.0)
        .await;
}

#[tokio::test]
async fn floods_of_pings_and_settings_use_no_memory_and_end_by_the_idle_time() {
    let gateway = limited("head: 2s, idle: 1s, body_idle: 1s").await;
    let before = gateway.rss();
    for noise in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        let connector = gateway.connector(Http::Two, Door::Tls);
        let mut stream = connector.open().await.unwrap();
        stream.write_all(&opening()).await.unwrap();
        let flood = tokio::spawn(async move {
            let noise = noise.repeat(1000);
            while stream.write_all(&noise).await.is_ok() {}
        });
        gateway.get(Http::Two, "/public/x").send().await.is_ok();
        in_time("the end of the flood", flood).await.unwrap();
        gateway.is_quiet().await;
    }
    assert!(gateway.rss() < before + FLAT);
}

// === silence ===

#[tokio::test]
async fn a_silent_connection_is_closed_after_the_handshake_timeout() {
    let gateway = limited("handshake: 200ms").await;
    for (door, begun) in [(Door::Tls, ""), (Door::Plain, ""), (Door::Plain, "P")] {
        let mut socket = TcpStream::connect(gateway.address(door)).await.unwrap();
        socket.write_all(begun.as_bytes()).await.unwrap();
        is_closed(&mut socket).await;
    }
    failed(&gateway, "handshake_timeout", 3).await;
}

#[tokio::test]
async fn a_connection_without_a_complete_head_is_closed_after_the_head_timeout() {
    let gateway = limited("head: 200ms").await;
    let mut failures = 0;
    for door in [Door::Tls, Door::Plain, Door::Redirect] {
        let mut raw = gateway.raw(door).await;
        raw.write("GET /public/x HTTP/1.1\r\nHost: api").await;
        assert_eq!(raw.read().await, b"");
        // The second head of a connection has the same time limit.
        let mut raw = gateway.raw(door).await;
        raw.write("GET /health HTTP/1.1\r\nHost: api.test\r\n\r\n")
            .await;
        raw.answer().await.answer();
        raw.write("GET /public/x HTTP/1.1\r\nHost: api").await;
        assert_eq!(raw.read().await, b"");
        failures += 2;
    }
    for door in [Door::Tls, Door::Plain] {
        let mut two = gateway.connector(Http::Two, door).raw_h2().await;
        assert!(matches!(two.ending(1).await, Ending::GoneAway(_)));
        failures += 1;
    }
    let mut tls = gateway
        .connector(Http::One, Door::Tls)
        .open()
        .await
        .unwrap();
    is_closed(&mut tls).await;
    failed(&gateway, "head_timeout", failures + 1).await;
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_slow_trickle_of_bytes_does_not_prolong_the_head_timeout() {
    let gateway = limited("head: 300ms").await;
    let cause = [("cause", "head_timeout")];
    for (ended, door) in [(1.0, Door::Tls), (2.0, Door::Plain)] {
        let mut raw = gateway.raw(door).await;
        raw.write("GET /public/x HTTP/1.1\r\nHost: api.test\r\nx: ")
            .await;
        let mut pace = tokio::time::interval(std::time::Duration::from_millis(20));
        let failed = "foregate_connections_failed_total";
        let loris = async {
            while gateway.metrics().sum(failed, &cause) < ended {
                pace.tick().await;
                raw.write("x").await;
            }
        };
        in_time("the end of the slow client", loris).await;
    }
    failed(&gateway, "head_timeout", 2).await;
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_after_the_idle_timeout() {
    let gateway = limited("idle: 200ms").await;
    for door in [Door::Tls, Door::Plain] {
        let mut raw = gateway.raw(door).await;
        raw.write("GET /public/x HTTP/1.1\r\nHost: api.test\r\n\r\n")
            .await;
        raw.answer().await.answer().is_ok();
        assert_eq!(raw.read().await, b"");
        let mut two = gateway.connector(Http::Two, door).raw_h2().await;
        let stream = two.request(&RawTwo::get("/public/x")).await;
        // Over clear text the scheme is wrong, which is answered, too.
        assert!(matches!(two.ending(stream).await, Ending::Answered(_)));
        assert_eq!(two.ending(stream + 2).await, Ending::GoneAway(None));
    }
    failed(&gateway, "head_timeout", 0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_a_refusal_is_closed_after_the_body_timeout() {
    let gateway = limited("head: 1s, idle: 1s, body_idle: 1s").await;
    for door in [Door::Tls, Door::Plain] {
        let mut two = gateway.connector(Http::Two, door).raw_h2().await;
        two.send(SETTINGS, 0, 0, &NO_WINDOW).await;
        let mut fields = RawTwo::get("/nowhere");
        if door == Door::Plain {
            fields[1].1 = "http";
        }
        let stream = two.request(&fields).await;
        assert_eq!(two.ending(stream).await, Ending::GoneAway(None));
    }
    failed(&gateway, "stalled", 2).await;
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn an_open_request_keeps_its_connection_beyond_the_idle_timeout() {
    let gate = Gate::new();
    let gateway = Gateway::before(gated(&gate), |config| {
        config.set("connections", "{ idle: 100ms, head: 100ms }");
    })
    .await;
    for http in Http::BOTH {
        let mut idle = gateway.connect(http).await;
        idle.get("/public/x").send().await.is_ok();
    }
    let running: Vec<_> = Http::BOTH
        .map(|http| gateway.connector(http, Door::Tls))
        .map(|connector| tokio::spawn(connector.call("GET", "/public/gated").send()))
        .into();
    gateway.origin.has_seen(4).await;
    // Both idle connections are closed before the gate opens.
    gateway
        .metric_becomes("foregate_connections", &[], 2.0)
        .await;
    gate.open();
    for answer in running {
        in_time("the answer", answer).await.unwrap().is_ok();
    }
}

// === helpers ===

const SERVER: &str = "{ cert: server.crt, key: server.key }";

/// The default listeners, with other certificates and more keys under `tls`.
fn listeners(certificates: &str, more: &str) -> String {
    let address = "address: \"127.0.0.1:0\"";
    format!(
        "
  - {{ {address}, tls: {{ certificates: [{certificates}]{more} }} }}
  - {{ {address}, tls: off }}
  - {{ {address}, redirect_to_https: true }}"
    )
}

async fn limited(connections: &str) -> Gateway {
    Gateway::with(|config| {
        config.set("connections", &format!("{{ {connections} }}"));
    })
    .await
}

/// An origin that answers `/public/gated` when the gate is open.
fn gated(gate: &Gate) -> Origin {
    let (origin, gate) = (Origin::start(), gate.clone());
    origin.on("/public/gated", move |x| {
        gate.pass();
        x.reply(&Reply::ok());
    });
    origin
}

/// The status of a request; `None` if the connection is refused.
async fn status(connector: &Connector) -> Option<u16> {
    let mut client = connector.try_connect().await.ok()?;
    let answer = client.get("/public/x").try_send().await.ok()?;
    Some(answer.finish().await.status.as_u16())
}

async fn curl_as(gateway: &Gateway, leaf: &str, version: &str) -> u16 {
    let [cert, key] = ["crt", "key"].map(|kind| gateway.path(&format!("{leaf}.{kind}")));
    let arguments = [
        version,
        "--cert",
        cert.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    curl(gateway, "/public/x", &arguments).await.0
}

/// The answer to a head with these lines, which is refused.
async fn refused_head(gateway: &Gateway, lines: &str) -> Answer {
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write(format!(
        "GET /public/x HTTP/1.1\r\nHost: api.test\r\n{lines}\r\n"
    ))
    .await;
    let answer = raw.answer().await.answer();
    assert_eq!(answer.header("connection"), "close");
    answer
}

/// Client preface and settings.
fn opening() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes
}

/// Streams that are opened and reset at once.
fn resets(count: u32) -> Vec<u8> {
    // GET https /, by their numbers in the static table, and an authority.
    let mut fields = vec![0x82, 0x87, 0x84, 0x41, 8];
    fields.extend(NAME.as_bytes());
    (0..count)
        .map(|number| 2 * number + 1)
        .flat_map(|stream| {
            let opened = frame(HEADERS, END_STREAM_AND_HEADERS, stream, &fields);
            [opened, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
        })
        .collect()
}

/// A literal field `a` with a value of up to 16383 bytes and seven more (RFC 7541, section 5.1).
fn field_of(length: usize) -> Vec<u8> {
    let rest = length - 127;
    let mut block = vec![0, 1, b'a', 127];
    block.push(u8::try_from(rest % 128).unwrap() | 128);
    block.push(u8::try_from(rest / 128).unwrap());
    block.extend(vec![b'b'; length]);
    block
}

async fn is_closed(stream: &mut (impl Stream + ?Sized)) {
    let mut rest = Vec::new();
    let _ = in_time("the end of the connection", stream.read_to_end(&mut rest)).await;
}

async fn failed(gateway: &Gateway, cause: &str, count: u32) {
    eventually("the connections are closed", || {
        gateway.metrics().sum("foregate_connections", &[]) == 0.0
    })
    .await;
    let name = "foregate_connections_failed_total";
    let found = gateway.metrics().sum(name, &[("cause", cause)]);
    assert_eq!(found, f64::from(count), "{cause}");
}
