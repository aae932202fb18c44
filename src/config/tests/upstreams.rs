//! Upstreams and cross-origin rules.

use super::*;

#[test]
fn an_upstream_has_defaults_and_servers_without_a_path() {
    let upstream = good(&with_route("path: /a, access: public"))
        .config
        .upstreams
        .remove(0);
    assert_eq!(
        (upstream.name.as_str(), upstream.servers),
        ("kong", vec![("127.0.0.1".to_owned(), 8000)])
    );
    assert_eq!(
        (upstream.host, upstream.authorization),
        (UpstreamHost::Keep, Authorization::Keep)
    );
    let rest = with_route("path: /a, access: public");
    for (server, word) in [
        ("http://a/b", "path"),
        ("http://u:p@a", "password"),
        ("a:80", "http://"),
        ("ftp://a", "http://"),
    ] {
        each_refused(
            &rest.replace("http://127.0.0.1:8000", server),
            &[("", "upstreams.kong.servers[0]", word)],
        );
    }
    let capped = "http://127.0.0.1:8000], max_connections: 1";
    each_refused(
        &rest.replace("http://127.0.0.1:8000]", capped),
        &[(
            "workers: 2\n",
            "upstreams.kong.max_connections",
            "2 workers",
        )],
    );
    each_refused(
        &rest,
        &[
            (
                "cors: { origins: ['*'] }\n",
                "cors.origins[0]",
                "written out",
            ),
            (
                "cors: { origins: ['null'] }\n",
                "cors.origins[0]",
                "names nobody",
            ),
            (
                "cors: { origins: ['https://a/'] }\n",
                "cors.origins[0]",
                "trailing slash",
            ),
            (
                "cors: { credentials: true }\n",
                "cors.origins",
                "is missing",
            ),
        ],
    );
}

#[test]
fn an_answer_that_falls_silent_is_not_waited_for_without_end() {
    let timeouts = |route: &str| good(&with_route(route)).config.routes[0].timeouts.clone();
    let unsaid = timeouts("path: /a, access: public");
    assert_eq!(unsaid.stream_idle, Some(Duration::from_secs(300)));
    let said = timeouts("path: /a, access: public, timeouts: { stream_idle: 1h }");
    assert_eq!(said.stream_idle, Some(Duration::from_secs(3600)));
}
