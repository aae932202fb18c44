//! Header fields: those that a client may not send, those that an upstream may not return, and
//! requests that two servers would read differently.

mod smuggling;

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use crate::support::client::Door;
use crate::support::tokens::{ISSUER, subject};
use crate::support::{Gateway, Http, Reply};

/// Identity fields of a client, in every spelling that some server folds into the real name.
const LIES: &[&str] = &[
    "x-foregate-subject",
    "X_Foregate_Roles",
    "x.foregate.decision",
    "x-foregate",
    "x-forwarded-for",
    "X_FORWARDED_FOR",
    "x-forwarded-user",
    "x.forwarded.proto",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "forwarded",
    "forwarded_",
    "x-real-ip",
    "x_real.ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "sb-forwarded-for",
    "sb_api_key",
    "x-consumer-id",
    "x-consumer-username",
    "x-credential-identifier",
    "x-anonymous-consumer",
    "x-kong-proxy-latency",
    "kong-debug",
    "kong_debug",
    "x-user-id",
    "x_user_id",
    "x-user",
    "x-auth-request-user",
    "x-authenticated-userid",
    "x-velro-assertion",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-envoy-original-path",
    "x-http-method-override",
    "x-http-method",
    "x_method_override",
    "x-host",
    "remote-user",
    "Remote_User",
    "x-remote-user",
    "ssl-client-cert",
    "x-ssl-client-verify",
    "client-cert",
    "x-userinfo",
    "x-id-token",
    "x-access-token",
    "x-request-id",
    "traceparent",
    "tracestate",
    "authorization_",
    "proxy_authorization",
    "_cookie",
    "host_",
    "host-",
    "authorization-",
    "-cookie",
    "content_length",
    "transfer_encoding",
    "transfer.encoding",
    "proxy-authorization",
    "proxy-connection",
    "keep-alive",
];

#[tokio::test]
async fn identity_and_routing_fields_of_a_client_never_reach_the_origin() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        let connection_specific = |name: &&str| matches!(*name, "proxy-connection" | "keep-alive");
        // HTTP/2 has no connection-specific fields; `smuggling` sends them by hand.
        let lies = LIES
            .iter()
            .filter(|name| http == Http::One || !connection_specific(name));
        let call = lies.fold(gateway.get(http, "/public/x"), |call, name| {
            call.header(name, "a-lie")
        });
        call.send().await.is_ok();
        let seen = gateway.origin.only();
        assert!(!seen.mentions("a-lie"), "{http:?}: {:#?}", seen.headers);
    }
}

#[tokio::test]
async fn ordinary_fields_pass_unchanged_in_both_directions() {
    let gateway = Gateway::start().await;
    gateway.origin.on("/public/x", |exchange| {
        let reply = Reply::ok()
            .header("server", "origin")
            .header("etag", "\"1\"")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2");
        exchange.reply(&reply);
    });
    let fields = [
        ("accept", "*/*"),
        ("apikey", "sb_publishable_x"),
        ("x-client-info", "supabase-js/2"),
        ("prefer", "count=exact"),
        ("range", "bytes=0-1"),
        ("x-upsert", "true"),
        ("cookie", "a=b; c=\"d\""),
    ];
    for http in Http::BOTH {
        let call = fields
            .iter()
            .fold(gateway.get(http, "/public/x"), |call, (name, value)| {
                call.header(name, value)
            });
        let answer = call.header("x-bytes", b"\xff\xfe\t!").send().await;
        let seen = gateway.origin.only();
        for (name, value) in fields {
            assert_eq!(seen.header(name), Some(value), "{http:?}");
        }
        assert_eq!(seen.header("x-bytes"), Some("\u{ff}\u{fe}\t!"));
        assert_eq!(
            (answer.header("server"), answer.header("etag")),
            ("origin", "\"1\"")
        );
        assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
    }
}

#[tokio::test]
async fn the_forwarded_fields_are_set_by_the_gateway() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        for (door, proto) in [(Door::Tls, "https"), (Door::Plain, "http")] {
            let call = gateway.connector(http, door).call("GET", "/public/x");
            let answer = call
                .host("API.test:8443")
                .header("x-forwarded-for", "6.6.6.6")
                .header("x-forwarded-proto", "ftp")
                .send()
                .await;
            let seen = gateway.origin.only();
            assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
            assert_eq!(seen.header("x-forwarded-proto"), Some(proto));
            assert_eq!(seen.header("x-forwarded-host"), Some("api.test:8443"));
            assert_eq!(seen.header("host"), Some("api.test:8443"));
            assert_eq!(seen.header("x-request-id"), Some(answer.id()));
            assert_eq!(seen.header("x-foregate-decision"), Some(answer.id()));
            assert_eq!(seen.header("x-foregate-subject"), None);
            assert_eq!(seen.header("x-foregate-roles"), None);
        }
    }
}

#[tokio::test]
async fn forwarded_for_is_trusted_for_the_configured_number_of_hops() {
    for (hops, believed) in [(1, "203.0.113.9"), (2, "198.51.100.7"), (3, "6.6.6.6")] {
        let gateway = Gateway::with(|config| {
            config.set(
                "trusted_proxies",
                &format!("{{ from: [127.0.0.0/8], hops: {hops} }}"),
            );
        })
        .await;
        for http in Http::BOTH {
            let call = gateway
                .connector(http, Door::Plain)
                .call("GET", "/public/x");
            let call = call
                .header("x-forwarded-for", "6.6.6.6, 198.51.100.7")
                .header("x-forwarded-for", "203.0.113.9");
            let answer = call.header("x-forwarded-proto", "https").send().await;
            let seen = gateway.origin.only();
            assert_eq!(seen.header("x-forwarded-for"), Some(believed));
            assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
            assert_eq!(answer.log_line()["client"], believed);
        }
    }
}

#[tokio::test]
async fn invalid_bytes_do_not_hide_the_proxys_entry() {
    let gateway = Gateway::with(|config| {
        config.set("trusted_proxies", "{ from: [127.0.0.0/8] }");
    })
    .await;
    for http in Http::BOTH {
        for odd in [
            &b"\xff, 203.0.113.9"[..],
            b"\x80x,,203.0.113.9",
            b"unknown, 203.0.113.9",
        ] {
            let call = gateway
                .connector(http, Door::Plain)
                .call("GET", "/public/x");
            call.header("x-forwarded-for", "6.6.6.6")
                .header("x-forwarded-for", odd)
                .send()
                .await
                .is_ok();
            assert_eq!(
                gateway.origin.only().header("x-forwarded-for"),
                Some("203.0.113.9")
            );
        }
    }
}

#[tokio::test]
async fn the_scheme_is_the_nearest_proxys_entry_and_not_the_clients() {
    let gateway = Gateway::with(|config| {
        config.set("trusted_proxies", "{ from: [127.0.0.0/8] }");
    })
    .await;
    for http in Http::BOTH {
        for lines in [&["https", "http"][..], &["https, http"]] {
            let call = gateway
                .connector(http, Door::Plain)
                .call("GET", "/public/x");
            let call = lines
                .iter()
                .fold(call, |call, line| call.header("x-forwarded-proto", line));
            call.send().await.is_ok();
            assert_eq!(
                gateway.origin.only().header("x-forwarded-proto"),
                Some("http"),
                "{lines:?}"
            );
        }
    }
}

#[tokio::test]
async fn forwarded_fields_of_an_untrusted_peer_are_ignored() {
    let gateway = Gateway::with(|config| {
        config.set("trusted_proxies", "{ from: [10.0.0.0/8], hops: 1 }");
    })
    .await;
    for http in Http::BOTH {
        let answer = gateway
            .get(http, "/public/x")
            .header("x-forwarded-for", "203.0.113.9")
            .send()
            .await;
        assert_eq!(answer.log_line()["client"], "127.0.0.1");
        assert_eq!(
            gateway.origin.only().header("x-forwarded-for"),
            Some("127.0.0.1")
        );
    }
}

#[tokio::test]
async fn fields_named_by_connection_are_not_forwarded() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write(
        "GET /public/x HTTP/1.1\r\nHost: api.test\r\nConnection: keep-alive, x-one\r\nConnection: X-Two\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\n\r\n",
    )
    .await;
    raw.answer().await.answer().is_ok();
    let seen = gateway.origin.only();
    assert_eq!(
        (
            seen.header("x-one"),
            seen.header("x-two"),
            seen.header("x-three")
        ),
        (None, None, Some("3"))
    );
    assert_eq!(seen.header("connection"), None);
}

#[tokio::test]
async fn a_credential_named_by_connection_is_not_read() {
    let gateway = Gateway::start().await;
    let token = gateway.issuer.token();
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write(format!("GET /me HTTP/1.1\r\nHost: api.test\r\nConnection: authorization\r\nAuthorization: Bearer {token}\r\n\r\n")).await;
    raw.answer()
        .await
        .answer()
        .is_denied(foregate::denial::Reason::TokenMissing);
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn only_the_coding_trailers_of_te_passes() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.raw(Door::Tls).await;
    for (sent, seen) in [
        ("gzip, Trailers", Some("trailers")),
        ("gzip", None),
        ("chunked;q=1", None),
    ] {
        raw.write(format!(
            "GET /public/x HTTP/1.1\r\nHost: api.test\r\nTE: {sent}\r\nConnection: TE\r\n\r\n"
        ))
        .await;
        raw.answer().await.answer().is_ok();
        let request = gateway.origin.only();
        // RFC 9110 requires naming it in `Connection`.
        assert_eq!(request.header("te"), seen, "{sent}");
        assert_eq!(request.header("connection"), None, "{sent}");
        raw.write(format!(
            "GET /public/x HTTP/1.1\r\nHost: api.test\r\nTE: {sent}\r\n\r\n"
        ))
        .await;
        raw.answer().await.answer().is_ok();
        assert_eq!(gateway.origin.only().header("te"), seen, "{sent}");
    }
}

#[tokio::test]
async fn the_gateways_own_cookie_is_removed_in_both_directions() {
    let gateway = Gateway::start().await;
    gateway.origin.on("/public/x", |exchange| {
        let reply = Reply::ok()
            .header("set-cookie", "__Host-foregate=stolen; Path=/")
            .header("set-cookie", "__HOST-FOREGATE=stolen")
            .header("set-cookie", " __Host-foregate =stolen")
            // A cookie without a name, which browsers return as `__Host-foregate=stolen`.
            .header("set-cookie", "=__Host-foregate=stolen")
            .header("set-cookie", " = __Host-foregate=stolen; Path=/")
            .header("set-cookie", "mine=1; Secure");
        exchange.reply(&reply);
    });
    for http in Http::BOTH {
        let call = gateway.get(http, "/public/x");
        let answer = call
            .header("cookie", "a=1; __Host-foregate=secret; b=2")
            .header("cookie", "__host-Foregate=secret; c=3")
            .send()
            .await;
        assert_eq!(
            gateway.origin.only().header("cookie"),
            Some("a=1; b=2; c=3")
        );
        assert_eq!(answer.is_ok().all("set-cookie"), ["mine=1; Secure"]);
        gateway
            .get(http, "/public/x")
            .header("cookie", "__Host-foregate=secret")
            .send()
            .await;
        assert_eq!(gateway.origin.only().header("cookie"), None);
    }
}

#[tokio::test]
async fn cookies_that_http_2_split_arrive_as_one_field() {
    let gateway = Gateway::start().await;
    let call = gateway.get(Http::Two, "/public/x");
    call.header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("cookie", "c=3")
        .send()
        .await
        .is_ok();
    assert_eq!(
        gateway.origin.only().header("cookie"),
        Some("a=1; b=2; c=3")
    );
}

#[tokio::test]
async fn query_credentials_reach_no_origin_whatever_the_route() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        let token = gateway.issuer.token();
        for path in ["/public/x", "/files/x", "/socket", "/optional"] {
            let answer = gateway
                .get(http, &format!("{path}?a=1&access_token={token}&b=2"))
                .send()
                .await;
            let seen = gateway.origin.only();
            assert_eq!(seen.target, format!("{path}?a=1&b=2"));
            assert!(!answer.is_ok().log_line().to_string().contains(&token));
        }
        gateway
            .get(http, &format!("/socket?access_token={token}"))
            .send()
            .await
            .is_ok();
        let seen = gateway.origin.only();
        assert_eq!(seen.target, "/socket");
        assert_eq!(
            seen.header("authorization"),
            Some(format!("Bearer {token}").as_str()),
            "a verified token is kept"
        );
    }
}

#[tokio::test]
async fn trailers_that_belong_into_a_head_are_dropped_from_requests() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        let (call, body) = gateway
            .post(http, "/public/x")
            .header(
                "trailer",
                "x-sum, x-forwarded-for, authorization, x_user_id, cookie",
            )
            .streaming();
        let mut trailers = HeaderMap::new();
        for name in [
            "x-sum",
            "x-forwarded-for",
            "authorization",
            "x_user_id",
            "cookie",
            "x-foregate-subject",
        ] {
            trailers.insert(name, HeaderValue::from_static("trailer-value"));
        }
        let sending = tokio::spawn(async move {
            body.chunk("body").await;
            body.trailers(trailers).await;
        });
        call.send().await.is_ok();
        sending.await.unwrap();
        let seen = gateway.origin.only();
        assert_eq!(seen.body, b"body");
        let names: Vec<&str> = seen
            .trailers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert!(
            names.iter().all(|name| *name == "x-sum"),
            "{http:?}: {names:?}"
        );
        assert!(
            !seen
                .headers
                .iter()
                .any(|(_, value)| value == "trailer-value")
        );
    }
}

#[tokio::test]
async fn trailers_that_belong_into_a_head_are_dropped_from_responses() {
    let gateway = Gateway::start().await;
    gateway.origin.on("/public/x", |exchange| {
        exchange.begin(200, &[("trailer", "grpc-status, set-cookie")]);
        exchange.chunk("body");
        exchange.end(&[
            ("grpc-status", "0"),
            ("set-cookie", "a=1"),
            ("x-foregate-subject", "x"),
            ("content-length", "1"),
        ]);
    });
    for http in Http::BOTH {
        let answer = gateway
            .get(http, "/public/x")
            .header("te", "trailers")
            .send()
            .await;
        assert_eq!(answer.is_ok().text(), "body");
        let trailers = answer.trailers.unwrap_or_default();
        assert!(
            trailers.keys().all(|name| name == "grpc-status"),
            "{http:?}: {trailers:?}"
        );
        assert_eq!(
            trailers.is_empty(),
            http == Http::One && trailers.is_empty()
        );
    }
}

#[tokio::test]
async fn hop_by_hop_fields_and_our_own_fields_of_an_origin_are_removed() {
    let gateway = Gateway::start().await;
    gateway.origin.on("/public/x", |exchange| {
        let reply = Reply::ok()
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("keep-alive", "timeout=5")
            .header("proxy-connection", "close")
            .header("upgrade", "h2c")
            .header("te", "gzip")
            .header("alt-svc", "h3=\":443\"")
            .header("x-request-id", "00000000-0000-0000-0000-000000000000")
            .header("x-foregate-subject", "somebody")
            .header("X_Foregate_Roles", "admin")
            .header("strict-transport-security", "max-age=0");
        exchange.reply(&reply);
    });
    for http in Http::BOTH {
        let answer = gateway.get(http, "/public/x").send().await;
        assert_eq!(answer.is_ok().header("x-hop"), "");
        let own = match http {
            Http::One => ("keep-alive", "timeout=75"),
            Http::Two => ("", ""),
        };
        assert_eq!(
            (answer.header("connection"), answer.header("keep-alive")),
            own
        );
        assert_eq!(
            answer.header("strict-transport-security"),
            "max-age=31536000"
        );
    }
    let plain = gateway.connector(Http::One, Door::Plain);
    gateway
        .origin
        .on("/public/y", |exchange| exchange.reply(&Reply::ok()));
    plain.call("GET", "/public/y").send().await.is_ok();
}

#[tokio::test]
async fn only_the_gateway_sets_the_callers_fields_for_the_origin() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        let claims = gateway
            .issuer
            .claims()
            .with("sub", subject("subject-1"))
            .session("session-1")
            .roles(["admin", "unknown"]);
        let token = gateway.issuer.sign(&claims);
        let call = gateway
            .get(http, "/me")
            .bearer(&token)
            .header("x-foregate-subject", "other")
            .header("x-foregate-roles", "admin");
        let line = call.send().await.is_ok().log_line();
        let seen = gateway.origin.only();
        assert_eq!(
            seen.header("x-foregate-subject"),
            Some(subject("subject-1").as_str())
        );
        assert_eq!(seen.header("x-foregate-session"), Some("session-1"));
        assert_eq!(seen.header("x-foregate-roles"), Some("user,admin"));
        assert_eq!(
            (&line["subject"], &line["issuer"]),
            (&subject("subject-1").into(), &ISSUER.into())
        );
    }
}
