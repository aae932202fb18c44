//! Routes: what they default to, what is refused, and who owns a request.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use crate::config::tests::*;

#[test]
fn a_route_has_defaults_and_a_name() {
    let route = good(&with_route("path: /a/{*rest}, access: optional"))
        .config
        .routes
        .remove(0);
    assert_eq!(
        (route.name.as_str(), route.methods, route.access),
        ("ANY /a/{*rest}", Methods::ALL, Access::Optional)
    );
    assert_eq!(
        (route.target, route.aal, route.body_limit, route.line),
        (Some(Target::Upstream(0)), 1, 1 << 20, 6)
    );
    assert_eq!(route.credentials, [CredentialSource::Bearer]);
    let route = good(&with_route(
        "path: /a, methods: [POST, GET], access: user, credentials: [query.t], aal: aal2",
    ))
    .config
    .routes
    .remove(0);
    assert_eq!((route.name.as_str(), route.aal), ("POST,GET /a", 2));
    assert_eq!(route.credentials, [CredentialSource::Query("t".to_owned())]);
}

#[test]
fn an_upgrade_is_offered_only_where_it_can_work() {
    let route = |text: &str| good(&with_route(text)).config.routes.remove(0);
    assert!(!route("path: /a, access: public").websocket);
    assert!(route("path: /a, access: public, upgrade: [websocket]").websocket);
    for (route, word) in [
        (
            "path: /a, access: public, upgrade: [h2c]",
            "not one of `websocket`",
        ),
        ("path: /a, access: public, upgrade: []", "is an empty list"),
        (
            "path: /a, access: public, upgrade: websocket",
            "needs a list",
        ),
        (
            "path: /a, access: public, upgrade: [websocket, websocket]",
            "written twice",
        ),
        (
            "path: /a, access: public, methods: [POST], upgrade: [websocket]",
            "begins with a GET",
        ),
        (
            "path: /a, access: public, serve: health, upgrade: [websocket]",
            "the gateway answers itself",
        ),
        (
            "path: /a, access: deny, upgrade: [websocket]",
            "goes nowhere",
        ),
    ] {
        let reported = reported(&with_route(route));
        assert_eq!(reported.len(), 1, "{reported:#?}");
        assert!(
            reported[0].contains(word) && reported[0].contains("upgrade"),
            "{reported:#?}"
        );
    }
    let http2 = with_route("path: /a, access: public, upgrade: [websocket]")
        .replace("8000] }", "8000], protocol: http2 }");
    assert!(
        reported(&http2)[0].contains("goes over HTTP/1.1"),
        "{http2}"
    );
}

#[test]
fn a_route_has_a_format_for_its_refusals() {
    let errors = |text: &str| good(&with_route(text)).config.routes.remove(0).errors;
    assert_eq!(errors("path: /a, access: public"), ErrorsSetting::Problem);
    for (word, meant) in [
        ("grpc", ErrorsSetting::Grpc),
        ("gotrue", ErrorsSetting::Gotrue),
        ("postgrest", ErrorsSetting::Postgrest),
    ] {
        let route = format!("path: /a, access: public, errors: {word}");
        assert_eq!(errors(&route), meant);
    }
}

#[test]
fn a_route_with_a_missing_or_ineffective_key_is_refused() {
    for (route, key, word) in [
        ("path: /a", ".access", "is missing"),
        ("access: public", ".path", "is missing"),
        ("path: a, access: public", ".path", "begins with `/`"),
        (
            "path: '/a/{id}', access: public",
            ".resource",
            "resource: none",
        ),
        (
            "path: [/a, '/b/{id}'], access: user",
            ".resource",
            "is missing",
        ),
        (
            "path: /a, access: public, credentials: [bearer]",
            ".credentials",
            "no effect",
        ),
        ("path: /a, access: public, aal: aal2", ".aal", "no effect"),
        (
            "path: /a, access: public, clients: [some-app]",
            ".clients",
            "no effect",
        ),
        (
            "path: /a, access: public, action: admin",
            ".action",
            "no effect",
        ),
        (
            "path: /a, access: optional, aal: aal2",
            ".aal",
            "lets anonymous requests in",
        ),
        (
            "path: /a, access: optional, action: admin",
            ".action",
            "lets anonymous requests in",
        ),
        (
            "path: /a, access: optional, anonymous: true",
            ".anonymous",
            "lets anonymous requests in",
        ),
        (
            "path: /a, access: user, pass_credentials: true",
            ".pass_credentials",
            "`access: public` only",
        ),
        (
            "path: /a, access: deny, serve: health",
            ".serve",
            "goes nowhere",
        ),
        (
            "path: /a, access: public, serve: health, upstream: kong",
            ".serve",
            "combined with `upstream`",
        ),
        (
            "path: /a, access: public, serve: panic",
            ".serve",
            "development",
        ),
        (
            "path: /a, access: public, upstream: king",
            ".upstream",
            "did you mean `kong`?",
        ),
        (
            "path: /a, access: public, methods: [TRACE]",
            ".methods[0]",
            "never served",
        ),
        (
            "path: /a, access: public, methods: get",
            ".methods",
            "in capitals",
        ),
        ("path: /a, access: public, tail: opaque", ".tail", "{*rest}"),
        (
            "path: /a, access: user, credentials: []",
            ".credentials",
            "empty list",
        ),
        (
            "path: /a, access: user, credentials: [bearer, bearer]",
            ".credentials[1]",
            "twice",
        ),
        (
            "path: /a, access: user, credentials: [header.x]",
            ".credentials[0]",
            "query.NAME",
        ),
        (
            "path: /a, access: public, timeouts: { total: 0s }",
            ".timeouts.total",
            "from 1ms",
        ),
        ("path: [/a, /a], access: public", ".path[1]", "same shape"),
    ] {
        let reported = reported(&with_route(route));
        assert_eq!(reported.len(), 1, "{route} {reported:#?}");
        assert!(
            reported[0].starts_with(&format!("routes[0]{key}: ")) && reported[0].contains(word),
            "{route} {reported:#?}"
        );
    }
    let deny = good(&with_route("path: '/a/{id}', access: deny"))
        .config
        .routes
        .remove(0);
    assert_eq!(deny.target, None);
    let no_tokens: String = with_route("path: /a, access: user")
        .lines()
        .filter(|line| !line.starts_with("tokens"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(reported(&no_tokens)[0].contains("there are no `tokens`"));
    let hosts = reported(&(with_route("path: /a, access: public, hosts: [b]") + "hosts: [a]\n"));
    assert!(
        hosts[0].contains("not one of the gateway's `hosts`"),
        "{hosts:#?}"
    );
}

#[test]
fn two_routes_never_own_the_same_request() {
    let two = |one: &str, other: &str| {
        format!(
            "{BASE}routes:\n  - {{ {one}, access: public, resource: none }}\n  - {{ {other}, access: public, resource: none }}\n"
        )
    };
    for (one, other) in [
        ("path: /a", "path: /a"),
        ("path: '/a/{x}'", "path: '/a/{y:uuid}'"),
        ("path: '/a/{*x}'", "path: '/a/{*y}'"),
        (
            "path: /a, methods: GET",
            "path: [/b, /a], methods: [POST, HEAD]",
        ),
        ("path: /a, hosts: [h]", "path: /a"),
    ] {
        let reported = reported(&two(one, other));
        assert_eq!(reported.len(), 1, "{reported:#?}");
        assert!(
            reported[0].contains("line 6") && reported[0].contains("line 7"),
            "{reported:#?}"
        );
    }
    for (one, other) in [
        ("path: /a", "path: '/{x}'"),
        ("path: /a, methods: GET", "path: /a, methods: POST"),
        ("path: /a, hosts: [h]", "path: /a, hosts: [i], name: b"),
        ("path: '/a/{x}'", "path: '/a/{*x}'"),
    ] {
        good(&two(one, other));
    }
    let names = reported(&two("path: /a, name: n", "path: /b, name: n"));
    assert!(
        names.len() == 1 && names[0].contains("also the name of the route at line 6"),
        "{names:#?}"
    );
}

#[test]
fn a_table_is_granted_by_columns_and_what_is_not_written_is_not_granted() {
    let route = "path: [/rest/v1, '/rest/v1/{table}', '/rest/v1/rpc/{function}'], access: public, resource: none, rest: { tables: { projects: { read: [id, name], write: true } }, rpc: [search] }";
    let rest = good(&with_route(route)).config.routes.remove(0).rest;
    let rest = rest.expect("rules");
    let projects = rest.tables.get("projects").expect("a table");
    assert!(projects.read.has("id") && !projects.read.has("secret"));
    assert!(projects.write.has("anything") && !projects.delete);
    assert!(rest.rpc.contains("search") && !rest.openapi);
    assert_eq!(rest.embeds, crate::policy::rest::Embeds::Deny);
    assert_eq!(rest.schemas, ["public"]);
    for (path, more, word) in [
        (
            "'/rest/{*rest}'",
            "rest: { tables: { 'a b': { read: true } } }",
            "letters, digits",
        ),
        (
            "'/rest/{*rest}'",
            "rest: { tables: { a: { read: [] } } }",
            "empty list",
        ),
        (
            "'/rest/{*rest}'",
            "rest: { tables: { a: { read: yes please } } }",
            "a list of columns",
        ),
        (
            "'/rest/{*rest}'",
            "rest: { tabels: {} }",
            "did you mean `tables`",
        ),
        (
            "'/rest/{*rest}'",
            "rest: { embeds: allow }",
            "is not one of",
        ),
        ("'/rest/{*rest}'", "rest: { schemas: [] }", "empty list"),
        ("'/rest/{*rest}'", "rest: {}, tail: opaque", "remove `tail`"),
        (
            "'/rest/{a}/{b}', resource: none",
            "rest: {}",
            "each path must be",
        ),
        ("/rest", "rest: {}, serve: health", "no PostgREST behind"),
        ("/rest", "apikey: required", "there is no `identity`"),
        ("/rest", "apikey: maybe", "is not one of"),
    ] {
        let reported = reported(&with_route(&format!(
            "path: {path}, access: public, {more}"
        )));
        assert_eq!(reported.len(), 1, "{reported:#?}");
        assert!(reported[0].contains(word), "{reported:#?}");
    }
}

#[test]
fn a_pass_through_route_requires_api_keys_itself() {
    let door =
        "path: '/auth/v1/{*rest}', access: optional, serve: identity_server, apikey: required";
    let server = "identity: { supabase: { url: https://p.test, publishable_keys: [pk] } }\n";
    let reported = reported(&format!("{server}{}", with_route(door)));
    let word = "requires a key itself";
    assert!(
        reported.iter().any(|reported| reported.contains(word)),
        "{reported:#?}"
    );
}

#[test]
fn realtime_needs_a_websocket_and_an_access_that_reads_tokens() {
    let route = "path: /a, methods: [GET], access: optional, upgrade: [websocket]";
    let realtime = |more: &str| {
        good(&with_route(&format!("{route}{more}")))
            .config
            .routes
            .remove(0)
            .realtime
    };
    assert!(realtime(", realtime: true") && !realtime("") && !realtime(", realtime: false"));
    for (route, word) in [
        (
            "path: /a, access: user, realtime: true",
            "add `upgrade: [websocket]`",
        ),
        (
            "path: /a, access: public, upgrade: [websocket], realtime: true",
            "write `optional` or `user`",
        ),
    ] {
        let reported = reported(&with_route(route));
        assert_eq!(reported.len(), 1, "{reported:#?}");
        assert!(
            reported[0].contains(word) && reported[0].contains("realtime"),
            "{reported:#?}"
        );
    }
}

#[test]
fn stream_idle_has_a_default() {
    let timeouts = |route: &str| good(&with_route(route)).config.routes[0].timeouts.clone();
    let unsaid = timeouts("path: /a, access: public");
    assert_eq!(unsaid.stream_idle, Some(Duration::from_secs(300)));
    let said = timeouts("path: /a, access: public, timeouts: { stream_idle: 1h }");
    assert_eq!(said.stream_idle, Some(Duration::from_secs(3600)));
}
