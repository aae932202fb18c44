//! Which fields pass in each direction, however they are spelled.

use super::*;

fn clean(headers: &mut HeaderMap) -> Option<GatewayCookie> {
    let scan = HeaderScan::of(headers);
    clean_request(headers, &scan, DEFAULT_COOKIE)
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    headers
}

#[test]
fn identity_and_forwarding_fields_are_removed_however_they_are_spelt() {
    for name in [
        "x-forwarded-for",
        "x_forwarded_for",
        "x.forwarded.proto",
        "forwarded",
        "x-real-ip",
        "x_real.ip",
        "x-foregate-subject",
        "x_foregate_roles",
        "x-consumer-id",
        "x-kong-request-id",
        "kong-debug",
        "kong_debug",
        "x-user-id",
        "x-user",
        "x-velro-assertion",
        "sb-forwarded-for",
        "sb_api_key",
        "sb-api-key",
        "x_api_key",
        "x.api-key",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "x_http_method",
        "content_length",
        "transfer.encoding",
        "host_",
        "x-forwarded-",
        "-forwarded",
        "x-request-id",
        "traceparent",
        "x-anonymous-consumer",
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(
            HeaderName::from_bytes(name.as_bytes()).expect("a name"),
            HeaderValue::from_static("x"),
        );
        clean(&mut headers);
        assert!(headers.is_empty(), "{name}");
    }
}

#[test]
fn ordinary_fields_stay() {
    let fields = [
        ("accept", "*/*"),
        ("authorization", "Bearer x"),
        ("apikey", "k"),
        ("x-api-key", "k"),
        ("x-client-info", "supabase-js"),
        ("prefer", "count=exact"),
        ("x-supabase-api-version", "2024-01-01"),
        ("x-upsert", "true"),
        ("content-length", "3"),
        ("tus-resumable", "1.0.0"),
        ("cookie", "a=b"),
    ];
    let mut headers = map(&fields);
    clean(&mut headers);
    assert_eq!(headers.len(), fields.len());
}

#[test]
fn every_connection_line_counts() {
    let mut headers = map(&[
        ("connection", "close, x-one"),
        ("connection", "X-Two"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-three", "3"),
    ]);
    clean(&mut headers);
    assert_eq!(headers, map(&[("x-three", "3")]));
}

#[test]
fn cookies_are_joined_and_ours_is_removed() {
    let mut headers = map(&[("cookie", "a=1; __Host-foregate=secret"), ("cookie", "b=2")]);
    clean(&mut headers);
    assert_eq!(headers, map(&[("cookie", "a=1; b=2")]));
    let mut headers = map(&[("cookie", "__host-Foregate=secret")]);
    clean(&mut headers);
    assert!(headers.is_empty());
}

#[test]
fn our_cookie_is_ambiguous_unless_it_occurs_once_in_its_exact_spelling() {
    let one = |value: &str| Some(GatewayCookie::One(value.into()));
    let ambiguous = Some(GatewayCookie::Ambiguous);
    for (cookies, taken) in [
        ("a=1", None),
        ("__Host-foregate2=x", None),
        ("__Host-foregate=x", one("x")),
        ("a=1; __Host-foregate=x=y ;b=2", one("x=y")),
        ("__Host-foregate=", one("")),
        ("__Host-foregate", ambiguous.clone()),
        ("__Host-foregate =x", ambiguous.clone()),
        ("__host-foregate=x", ambiguous.clone()),
        ("=__Host-foregate=x", ambiguous.clone()),
        ("__Host-foregate=x; __Host-foregate=x", ambiguous.clone()),
        ("__Host-foregate=x; __HOST-foregate=y", ambiguous),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_static(cookies));
        assert_eq!(clean(&mut headers), taken, "{cookies}");
    }
}

#[test]
fn an_upstream_cannot_set_our_fields_or_our_cookie() {
    let mut headers = map(&[
        ("set-cookie", "__Host-foregate=stolen"),
        ("set-cookie", "a=1"),
        ("alt-svc", "h3=\":443\""),
        ("x-foregate-decision", "x"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("server", "kong"),
    ]);
    clean_response(&mut headers, DEFAULT_COOKIE);
    assert_eq!(headers, map(&[("set-cookie", "a=1"), ("server", "kong")]));
}
