//! CSRF protection: a request with a cookie must come from a page of an allowed origin.

use foregate::denial::Reason;

use super::Place;
use crate::support::client::Door;
use crate::support::{Gateway, Http, SignedIn};

const ALLOWED: &str = "https://app.example.com";

async fn place() -> Place {
    Place::with("{}", |config| {
        config.set(
            "cors",
            &format!("{{ origins: [{ALLOWED}, \"http://localhost:3000\"], credentials: true }}"),
        );
    })
    .await
}

/// A POST from this origin, with this token.
async fn post(
    gateway: &Gateway,
    http: Http,
    somebody: &SignedIn,
    fields: &[(&str, &str)],
) -> Result<(), Reason> {
    for (method, path) in [
        ("POST", "/page"),
        ("DELETE", "/either"),
        ("PATCH", "/optional"),
    ] {
        let mut call = gateway.call(http, method, path).cookie_of(somebody);
        for (name, value) in fields {
            call = call.header(name, value);
        }
        let answer = call.send().await;
        match answer.status.as_u16() {
            200 => drop(gateway.origin.only()),
            403 => {
                let code = answer.json()["code"].as_str().unwrap().to_owned();
                let reason = match code.as_str() {
                    "csrf_origin" => Reason::CsrfOrigin,
                    _ => Reason::CsrfToken,
                };
                answer.is_denied(reason);
                assert!(!answer.headers.contains_key("set-cookie"));
                gateway.origin.saw_nothing();
                return Err(reason);
            }
            status => panic!("{status}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_change_needs_an_allowed_origin_and_the_sessions_token() {
    let place = place().await;
    let gateway = &place.gateway;
    let (somebody, other) = (place.sign_in().await, place.sign_in().await);
    let token = somebody.csrf.as_str();
    let again = format!("{token} ");
    let longer = format!("{token}A");
    for http in Http::BOTH {
        for good in [ALLOWED, "http://localhost:3000", "https://api.test"] {
            let fields = [("origin", good), ("x-csrf-token", token)];
            assert_eq!(
                post(gateway, http, &somebody, &fields).await,
                Ok(()),
                "{good}"
            );
            // As a browser reports it, which is more specific.
            let fields = [fields[0], fields[1], ("sec-fetch-site", "cross-site")];
            assert_eq!(
                post(gateway, http, &somebody, &fields).await,
                Ok(()),
                "{good}"
            );
        }
        for bad in [
            "null",
            "https://evil.example",
            "http://app.example.com",
            "https://App.example.com",
            "https://app.example.com:443",
            "https://app.example.com:8443",
            "https://app.example.com.evil.example",
            "https://app.example.com/",
            "https://sub.app.example.com",
            "http://api.test",
            "https://api.test:8443",
            "",
        ] {
            let fields = [("origin", bad), ("x-csrf-token", token)];
            let refused = post(gateway, http, &somebody, &fields).await;
            assert_eq!(refused, Err(Reason::CsrfOrigin), "{bad}");
        }
        for fields in [
            vec![("x-csrf-token", token)],
            vec![
                ("x-csrf-token", token),
                ("referer", "https://app.example.com/"),
            ],
            vec![
                ("origin", ALLOWED),
                ("origin", ALLOWED),
                ("x-csrf-token", token),
            ],
        ] {
            let refused = post(gateway, http, &somebody, &fields).await;
            assert_eq!(refused, Err(Reason::CsrfOrigin), "{fields:?}");
        }
        for bad in [
            vec![],
            vec![("x-csrf-token", "")],
            vec![("x-csrf-token", other.csrf.as_str())],
            vec![("x-csrf-token", longer.as_str())],
            vec![("x-csrf-token", &token[1..])],
            vec![("x-csrf-token", somebody.cookie.as_str())],
            vec![("x-csrf-token", token), ("x-csrf-token", token)],
        ] {
            let fields = [vec![("origin", ALLOWED)], bad].concat();
            let refused = post(gateway, http, &somebody, &fields).await;
            assert_eq!(refused, Err(Reason::CsrfToken), "{fields:?}");
        }
        // White space around a value is no part of it (RFC 9110, section 5.5); HTTP/2 forbids it.
        if http == Http::One {
            let fields = [("origin", ALLOWED), ("x-csrf-token", again.as_str())];
            assert_eq!(post(gateway, http, &somebody, &fields).await, Ok(()));
        }
    }
}

#[tokio::test]
async fn a_read_needs_neither_unless_another_site_sends_it() {
    let place = place().await;
    let (gateway, somebody) = (&place.gateway, place.sign_in().await);
    for http in Http::BOTH {
        for method in ["GET", "HEAD", "OPTIONS"] {
            for fields in [
                vec![],
                vec![("origin", "https://evil.example")],
                vec![("sec-fetch-site", "same-site")],
                vec![("sec-fetch-site", "cross-site"), ("origin", ALLOWED)],
            ] {
                let mut call = gateway.call(http, method, "/page").cookie_of(&somebody);
                for (name, value) in &fields {
                    call = call.header(name, value);
                }
                call.send().await.is_ok();
                gateway.origin.only();
            }
            for fields in [
                vec![("sec-fetch-site", "cross-site")],
                vec![("sec-fetch-site", "Cross-Site"), ("origin", "null")],
                vec![("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
            ] {
                let mut call = gateway.call(http, method, "/page").cookie_of(&somebody);
                for (name, value) in &fields {
                    call = call.header(name, value);
                }
                call.send().await.is_denied(Reason::CsrfOrigin);
                gateway.origin.saw_nothing();
            }
        }
    }
}

#[tokio::test]
async fn a_caller_with_a_token_needs_neither() {
    let place = place().await;
    let (gateway, token) = (&place.gateway, place.gateway.issuer.token());
    for http in Http::BOTH {
        for path in ["/either", "/token"] {
            let call = gateway.post(http, path).bearer(&token);
            let call = call.header("origin", "https://evil.example");
            call.header("sec-fetch-site", "cross-site")
                .send()
                .await
                .is_ok();
            gateway.origin.only();
        }
    }
}

#[tokio::test]
async fn behind_an_edge_that_terminates_tls_the_own_origin_is_the_browsers() {
    let place = Place::with("{}", |config| {
        config.set("trusted_proxies", "{ from: [127.0.0.1/32] }");
    })
    .await;
    let (gateway, somebody) = (&place.gateway, place.sign_in().await);
    for http in Http::BOTH {
        for (forwarded, origin, status) in [
            ("https", "https://api.test", 200),
            ("https", "http://api.test", 403),
            ("http", "http://api.test", 200),
            ("http", "https://api.test", 403),
        ] {
            let call = gateway.connector(http, Door::Plain).call("POST", "/page");
            let call = call
                .cookie_of(&somebody)
                .header("x-forwarded-proto", forwarded);
            let call = call
                .header("origin", origin)
                .header("x-csrf-token", &somebody.csrf);
            let answer = call.send().await;
            assert_eq!(answer.status, status, "{forwarded} {origin}");
        }
        gateway.origin.take();
    }
}

#[tokio::test]
async fn only_a_page_of_an_allowed_origin_opens_a_websocket() {
    let place = place().await;
    let (gateway, somebody) = (&place.gateway, place.sign_in().await);
    let handshake = |origin: &str| {
        format!(
            "GET /socket HTTP/1.1\r\nHost: api.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: __Host-foregate={}\r\n{origin}\r\n",
            somebody.cookie
        )
    };
    for bad in ["", "Origin: null\r\n", "Origin: https://evil.example\r\n"] {
        let mut raw = gateway.raw(Door::Tls).await;
        raw.write(&handshake(bad)).await;
        raw.answer().await.answer().is_denied(Reason::CsrfOrigin);
        gateway.origin.saw_nothing();
    }
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write(&handshake(&format!("Origin: {ALLOWED}\r\n")))
        .await;
    // The request passes; the origin does not speak WebSocket.
    raw.answer().await.answer().is_ok();
    let seen = gateway.origin.only();
    assert_eq!(seen.header("cookie"), None);
    assert!(seen.header("authorization").is_some());
}
