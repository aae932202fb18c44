//! Logs and metrics: what an operator reads, and the secrets that must never appear there.

use std::collections::BTreeSet;

use foregate::denial::Reason;

use crate::support::client::{Call, Door};
use crate::support::log::says;
use crate::support::metrics::Metrics;
use crate::support::{Gateway, Http, Origin, eventually};

/// A marker that is sent in place of every secret.
const MARKER: &str = "Mark3r-of-a-Secret";

#[tokio::test]
async fn every_request_has_one_line_with_its_decision() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        let id = uuid::Uuid::now_v7().to_string();
        let token = gateway.issuer.token_of(&id);
        let call = gateway.get(http, "/me?a=1").host("API.test:8443");
        let answer = call.bearer(&token).send().await;
        let line = answer.log_line();
        for (key, value) in [
            ("level", "INFO"),
            ("request_id", answer.id()),
            ("decision", "permit"),
            ("method", "GET"),
            ("host", "api.test:8443"),
            ("path", "/me"),
            ("subject", &id),
            ("client", "127.0.0.1"),
            ("http", if http == Http::One { "1.1" } else { "2" }),
            ("end", "complete"),
        ] {
            assert_eq!(line[key], value, "{line}");
        }
        assert_eq!(line["status"], 200);
        assert_eq!(line["sent"], 2);
        assert!(line["route"].as_str().unwrap().ends_with("/me"));
        assert!(line["layers"].as_str().unwrap().contains("identity:"));
        assert!(line.get("reason").is_none());
        for time in ["upstream_us", "answered_us", "total_us"] {
            assert!(line[time].is_u64(), "{time}: {line}");
        }

        let answer = gateway.get(http, "/me").send().await;
        let line = answer.log_line();
        assert_eq!(line["decision"], "deny");
        assert_eq!(line["reason"], "token_missing");
        assert_eq!(line["status"], 401);
        assert!(line["layers"].as_str().unwrap().contains("denied"));
    }
    gateway.is_quiet().await;
    assert_eq!(gateway.log().all(|entry| says(entry, "request")).len(), 4);
}

#[tokio::test]
async fn no_secret_of_a_client_is_ever_logged() {
    for environment in [&[][..], &[("RUST_LOG", "trace")]] {
        let origin = Origin::start();
        origin.on("/public/broken", |x| {
            x.read_body();
            x.close();
        });
        origin.on("/public/nonsense", |x| {
            x.read_body();
            x.raw(format!("{MARKER}: no HTTP\r\n\r\n").as_bytes());
            x.close();
        });
        let gateway = Gateway::within(environment, origin, |config| {
            config.set("connections", "{ max_uri: 1KiB }");
        })
        .await;
        gateway.may_panic();
        for http in Http::BOTH {
            for token in tokens(&gateway) {
                for path in PATHS {
                    let _ = secretive(gateway.post(http, path), &token).send().await;
                }
                let socket = format!("/socket?access_token={token}&b={MARKER}");
                let _ = gateway.get(http, &socket).send().await;
            }
            let long = format!("/public/x?{}", MARKER.repeat(80));
            let answer = gateway.get(http, &long).send().await;
            answer.is_denied(Reason::UriTooLong);
        }
        for door in [Door::Tls, Door::Plain, Door::Redirect] {
            for head in MALFORMED {
                let mut raw = gateway.raw(door).await;
                raw.write(head.replace("MARKER", MARKER)).await;
                raw.finish_writing().await;
                raw.answers().await;
            }
        }
        gateway.is_quiet().await;
        let text = gateway.log().text();
        assert!(text.contains("token_signature") && text.contains("upstream_protocol"));
        assert_eq!(!environment.is_empty(), text.contains("\"TRACE\""));
        for secret in secrets(&gateway) {
            if let Some(place) = text.find(&secret) {
                let start = text[..place].rfind('\n').unwrap_or(0);
                let end = text[place..]
                    .find('\n')
                    .map_or(text.len(), |end| place + end);
                panic!("{secret} was written:\n{}", &text[start..end]);
            }
        }
    }
}

#[tokio::test]
async fn metrics_keep_their_names_and_no_request_adds_a_series() {
    let gateway = Gateway::start().await;
    let token = gateway.issuer.token();
    let ask = async |number: usize| {
        for http in Http::BOTH {
            for path in ["/me", "/public/x", "/unknown", "/hidden", "/a/../b"] {
                let path = format!("{path}?{number}");
                let mut call = gateway.call(http, METHODS[number % METHODS.len()], &path);
                call = call.host(&format!("host-{number}.test")).bearer(&token);
                call.header("user-agent", format!("agent {number}"))
                    .send()
                    .await;
            }
        }
    };
    for number in 0..METHODS.len() {
        ask(number).await;
    }
    gateway.is_quiet().await;
    let before = series(&gateway.metrics());
    for name in NAMES {
        let full = format!("foregate_{name}");
        assert!(
            before.iter().any(|series| series.starts_with(&full)),
            "{name} is missing"
        );
    }
    let text = gateway.metrics().text().to_owned();
    for name in [
        "cpu_seconds_total",
        "open_fds",
        "resident_memory_bytes",
        "start_time_seconds",
    ] {
        assert!(
            text.contains(&format!("\nprocess_{name} ")),
            "{name} is missing"
        );
    }
    for number in METHODS.len()..4 * METHODS.len() {
        ask(number).await;
    }
    gateway.is_quiet().await;
    let after = series(&gateway.metrics());
    assert_eq!(
        after.difference(&before).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
    let text = gateway.metrics().text().to_owned();
    for word in ["host-", "agent", "127.0.0.1", &token] {
        assert!(!text.contains(word), "{word}");
    }
}

#[tokio::test]
async fn a_blocked_log_reader_loses_lines_and_delays_no_request() {
    let mut gateway = Gateway::with(|config| {
        config.set("connections", "{ max_uri: 64KiB, max_head: 128KiB }");
    })
    .await;
    gateway.log().pause(true);
    let path = format!("/unknown/{}", "x".repeat(60 << 10));
    let dropped = || gateway.metrics().sum("foregate_log_dropped_total", &[]);
    let mut client = gateway.connect(Http::One).await;
    let mut requests = 0;
    while dropped() == 0.0 {
        for _ in 0..50 {
            let answer = client.get(&path).try_send().await.unwrap();
            assert_eq!(answer.try_finish().await.unwrap().status, 404);
        }
        requests += 50;
        assert!(requests < 5000, "everything fits into the pipe");
    }
    // It does not keep the process alive either.
    drop(client);
    gateway.signal("TERM");
    let stat = format!("/proc/{}/stat", gateway.pid());
    eventually("the process has ended", || {
        std::fs::read_to_string(&stat).unwrap().contains(") Z ")
    })
    .await;
    gateway.log().pause(false);
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

// === helpers ===

const METHODS: [&str; 4] = ["GET", "POST", "PATCH", "BREW"];

const NAMES: [&str; 13] = [
    "requests_total",
    "request_seconds",
    "upstream_seconds",
    "layer_seconds",
    "client_gone_total",
    "upstream_failed_total",
    "connections",
    "upstream_connections",
    "token_cache_entries",
    "token_cache_lookups_total",
    "config_generation",
    "waived_layers",
    "log_dropped_total",
];

/// Success, every kind of refusal that a path can cause, and upstreams that fail.
const PATHS: [&str; 13] = [
    "/me",
    "/public/x",
    "/optional",
    "/admin",
    "/second-factor",
    "/guests",
    "/unknown",
    "/hidden",
    "/small",
    "/numbers/x",
    "/panic",
    "/public/broken",
    "/public/nonsense",
];

/// Heads that never become a request, or that are refused before their fields are read.
const MALFORMED: [&str; 9] = [
    "MARKER /public/x HTTP/1.1\r\nHost: api.test\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer MARKER\r\nbad header: MARKER\r\n\r\n",
    "GET /x HTTP/1.1\r\nAuthorization: Bearer MARKER\r\nCookie: MARKER\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a@MARKER\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: api.test\r\nAuthorization: MARKER\r\nAuthorization: MARKER\r\n\r\n",
    "MARKER /x HTTP/9.9\r\nHost: api.test\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: MARKER\r\n\r\nMARKER",
    "GET /x?MARKER HTTP/1.1\r\nHost: api.test\r\nUpgrade: MARKER\r\n\r\n",
    "GET /a//b?MARKER HTTP/1.1\r\nHost: api.test\r\nReferer: MARKER\r\n\r\n",
];

/// Good and bad tokens.
fn tokens(gateway: &Gateway) -> Vec<String> {
    let claims = gateway.issuer.claims().email(MARKER);
    let good = gateway.issuer.sign(&claims);
    let (signed, _) = good.rsplit_once('.').unwrap();
    let other = gateway.issuer.sign_legacy(&claims);
    vec![
        format!("{signed}.{}", other.rsplit_once('.').unwrap().1),
        gateway.issuer.expired(),
        gateway
            .issuer
            .sign_legacy(&claims.clone().with("iss", MARKER)),
        gateway.issuer.sign(&claims.with("aud", MARKER)),
        MARKER.to_owned(),
        format!("{MARKER}.{MARKER}.{MARKER}"),
        format!("{good}.{MARKER}"),
        MARKER.repeat(600),
        good,
    ]
}

/// Texts that must not be found: the marker, plain and as it is encoded in tokens and in bytes, and
/// the gateway's own secrets.
fn secrets(gateway: &Gateway) -> Vec<String> {
    let file = |name: &str| std::fs::read_to_string(gateway.path(name)).unwrap();
    let key = file("server.key");
    let mut secrets = vec![
        MARKER.to_owned(),
        MARKER.to_ascii_lowercase(),
        // The prefixes of every token and of the bytes of the marker.
        "eyJ".to_owned(),
        "77, 97, 114, 107, 51".to_owned(),
        file("secret"),
        "PRIVATE KEY".to_owned(),
    ];
    secrets.push(key.lines().nth(1).unwrap().to_owned());
    secrets
}

/// A request with the marker wherever a client may put a secret.
fn secretive<'c>(call: Call<'c>, token: &str) -> Call<'c> {
    call.bearer(token)
        .header("cookie", format!("session={MARKER}"))
        .header("x-api-key", MARKER)
        .header("apikey", MARKER)
        .header("referer", format!("https://x.test/?{MARKER}"))
        .header("origin", format!("https://{MARKER}.test"))
        .header("user-agent", MARKER)
        .header("x-forwarded-for", MARKER)
        .body(MARKER.repeat(100))
}

/// Every series, without its value.
fn series(metrics: &Metrics) -> BTreeSet<String> {
    let lines = metrics.text().lines().filter(|line| !line.starts_with('#'));
    lines
        // How connections end depends on timing; there is one series for each cause.
        .filter(|line| !line.starts_with("foregate_connections_failed_total"))
        .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
        .collect()
}
