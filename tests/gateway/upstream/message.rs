//! What is forwarded, and how it arrives on the other side.

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use super::{echo_target, one_pool, with_one_pool};
use crate::support::client::Door;
use crate::support::raw_h2::{Ending, RawTwo};
use crate::support::{Gateway, Http, Origin, Reply};

#[tokio::test]
async fn the_request_line_is_forwarded_exactly() {
    let gateway = with_one_pool().await;
    let targets = [
        "/a/b-c_d~e.f",
        "/a?b=c&d=%2F&e=?/:@!$'()*,;",
        "/caf%C3%A9",
        "/a%20b/c",
        "/a?",
        "/a/",
    ];
    for http in Http::BOTH {
        for target in targets {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
                gateway.call(http, method, target).send().await.is_ok();
                let seen = gateway.origin.only();
                let line = format!("{method} {target} HTTP/1.1\r\n");
                assert!(
                    seen.head.starts_with(line.as_bytes()),
                    "{http:?}: {seen:#?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn an_answer_to_head_has_the_fields_and_no_body() {
    let gateway = with_one_pool().await;
    gateway.origin.otherwise(echo_target);
    for http in Http::BOTH {
        let mut client = gateway.connect(http).await;
        for _ in 0..3 {
            let answer = client.call("HEAD", "/abc").send().await;
            assert_eq!(answer.is_ok().header("content-length"), "4");
            assert!(answer.body.is_empty());
            assert_eq!(answer.log_line()["end"], "complete");
            assert_eq!(client.get("/abc").send().await.text(), "/abc");
        }
    }
    assert_eq!(gateway.origin.connections(), 1);
}

#[tokio::test]
async fn every_final_status_passes() {
    let gateway = with_one_pool().await;
    gateway.origin.otherwise(|exchange| {
        let status = exchange.request().target[1..].parse().unwrap();
        exchange.reply(&Reply::new(status));
    });
    for http in Http::BOTH {
        for status in [
            200, 201, 202, 204, 206, 301, 304, 400, 401, 404, 407, 429, 500, 503, 599, 999,
        ] {
            let answer = gateway.get(http, &format!("/{status}")).send().await;
            assert_eq!(answer.status.as_u16(), status);
            let line = answer.log_line();
            assert_eq!(
                (&line["status"], &line["reason"]),
                (&status.into(), &().into())
            );
        }
    }
}

#[tokio::test]
async fn informational_answers_of_an_origin_are_not_forwarded() {
    let gateway = with_one_pool().await;
    gateway.origin.otherwise(|exchange| {
        exchange.read_body();
        for head in ["100 Continue", "102 Processing", "103 Early Hints"] {
            exchange.raw(format!("HTTP/1.1 {head}\r\nlink: </a>\r\n\r\n").as_bytes());
        }
        echo_target(exchange);
    });
    for http in Http::BOTH {
        let answer = gateway.get(http, "/a").send().await;
        assert_eq!(answer.is_ok().text(), "/a");
        assert_eq!(answer.header("link"), "");
        let answer = gateway.post(http, "/a").body("body").send().await;
        assert_eq!(answer.is_ok().text(), "/a");
    }
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write("GET /a HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
    assert!(raw.read().await.starts_with(b"HTTP/1.1 200 "));
    assert_eq!(gateway.origin.connections(), 1);
}

#[tokio::test]
async fn an_upstream_sees_its_configured_host() {
    let (keeping, fixed) = (Origin::start(), Origin::start());
    let gateway = Gateway::with(|config| {
        config
            .upstream("keeping", &keeping.url(), ", host: keep")
            .upstream("fixed", &fixed.url(), ", host: internal.example")
            .routes(
                r#"
- { path: /keep, access: public, upstream: keeping }
- { path: /fixed, access: public, upstream: fixed }
"#,
            );
    })
    .await;
    for http in Http::BOTH {
        gateway.get(http, "/keep").send().await.is_ok();
        gateway.get(http, "/fixed").send().await.is_ok();
        let hosts = [keeping.only(), fixed.only()].map(|seen| {
            let of = |name| seen.header(name).unwrap_or_default().to_owned();
            (of("host"), of("x-forwarded-host"))
        });
        let pair = |host: &str| (host.to_owned(), "api.test".to_owned());
        assert_eq!(hosts, [pair("api.test"), pair("internal.example")]);
    }
}

#[tokio::test]
async fn an_upstream_sees_a_verified_token_or_none() {
    let (keeping, dropping) = (Origin::start(), Origin::start());
    let gateway = Gateway::with(|config| {
        config
            .upstream("keeping", &keeping.url(), ", authorization: keep")
            .upstream("dropping", &dropping.url(), ", authorization: drop")
            .routes(
                r#"
- { path: /keep, access: user, upstream: keeping }
- { path: /drop, access: user, upstream: dropping }
- { path: /public, access: public, upstream: keeping }
"#,
            );
    })
    .await;
    for http in Http::BOTH {
        let token = gateway.issuer.token();
        for path in ["/keep", "/drop", "/public"] {
            gateway.get(http, path).bearer(&token).send().await.is_ok();
        }
        let bearer = format!("Bearer {token}");
        let kept: Vec<_> = keeping.take();
        assert_eq!(kept[0].header("authorization"), Some(bearer.as_str()));
        assert_eq!(kept[1].header("authorization"), None, "nobody verified it");
        let dropped = dropping.only();
        assert_eq!(dropped.header("authorization"), None);
        assert!(!dropped.mentions(&token));
        assert!(dropped.header("x-foregate-subject").is_some());
    }
}

#[tokio::test]
async fn an_upstream_gets_the_forwarded_headers_and_the_request_id() {
    let gateway = Gateway::with(one_pool).await;
    for http in Http::BOTH {
        for (door, scheme) in [(Door::Tls, "https"), (Door::Plain, "http")] {
            let call = gateway.connector(http, door).call("GET", "/a");
            let answer = call.header("x-forwarded-for", "10.9.8.7").send().await;
            let seen = gateway.origin.only();
            assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
            assert_eq!(seen.header("x-forwarded-proto"), Some(scheme));
            assert_eq!(seen.header("x-forwarded-host"), Some("api.test"));
            assert_eq!(seen.header("x-request-id"), Some(answer.id()));
        }
    }
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    let gateway = with_one_pool().await;
    gateway.origin.on("/a", |exchange| {
        assert!(exchange.read_body());
        exchange.begin(200, &[("trailer", "x-sum")]);
        exchange.chunk("body");
        exchange.end(&[("x-sum", "42")]);
    });
    for http in Http::BOTH {
        let (call, body) = gateway
            .post(http, "/a")
            .header("te", "trailers")
            .header("trailer", "x-check")
            .streaming();
        let sending = tokio::spawn(async move {
            body.chunk("body").await;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-check", HeaderValue::from_static("7"));
            body.trailers(trailers).await;
        });
        let answer = call.send().await;
        sending.await.unwrap();
        assert_eq!(answer.is_ok().text(), "body");
        let trailers = answer.trailers.unwrap_or_default();
        assert_eq!(trailers.get("x-sum").unwrap(), "42", "{http:?}");
        let seen = gateway.origin.only();
        assert_eq!(seen.trailers, [("x-check".to_owned(), "7".to_owned())]);
        assert_eq!(seen.body, b"body");
    }
    assert_eq!(gateway.origin.connections(), 1);
}

#[tokio::test]
async fn a_body_of_a_get_arrives_with_either_framing() {
    let gateway = with_one_pool().await;
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write("GET /a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    raw.answer().await.answer().is_ok();
    let seen = gateway.origin.only();
    assert_eq!((seen.method.as_str(), &seen.body[..]), ("GET", &b"abc"[..]));

    let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    let stream = two.request_with_body(&RawTwo::get("/a"), b"abc").await;
    assert_eq!(two.ending(stream).await, Ending::Answered(b"ok".to_vec()));
    let seen = gateway.origin.only();
    assert_eq!((seen.method.as_str(), &seen.body[..]), ("GET", &b"abc"[..]));
    assert_eq!(gateway.origin.connections(), 1);
}

#[tokio::test]
async fn an_http_1_0_answer_of_an_origin_is_an_http_1_1_answer_to_its_client() {
    let gateway = with_one_pool().await;
    gateway.origin.otherwise(|exchange| {
        exchange.read_body();
        exchange.raw(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok");
        exchange.close();
    });
    let mut raw = gateway.raw(Door::Tls).await;
    for _ in 0..2 {
        raw.write("GET /a HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
        let mut came = raw.read().await;
        while !came.ends_with(b"ok") {
            let more = raw.read().await;
            assert!(!more.is_empty(), "{came:?}");
            came.extend(more);
        }
        assert!(came.starts_with(b"HTTP/1.1 200 "), "{came:?}");
    }
    let answer = gateway.get(Http::Two, "/a").send().await;
    assert_eq!(answer.is_ok().text(), "ok");
}

#[tokio::test]
async fn equal_lengths_arrive_as_one() {
    let gateway = with_one_pool().await;
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write(
        "POST /a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    )
    .await;
    raw.answer().await.answer().is_ok();
    let seen = gateway.origin.only();
    assert_eq!(
        (seen.all("content-length").len(), &seen.body[..]),
        (1, &b"abc"[..])
    );

    let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    let mut fields = RawTwo::get("/a");
    fields[0].1 = "POST";
    fields.extend([("content-length", "3"), ("content-length", "3")]);
    let stream = two.request_with_body(&fields, b"abc").await;
    assert_eq!(two.ending(stream).await, Ending::Answered(b"ok".to_vec()));
    let seen = gateway.origin.only();
    assert_eq!(
        (seen.all("content-length").len(), &seen.body[..]),
        (1, &b"abc"[..])
    );
}
