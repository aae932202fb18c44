//! Reloads while requests run: what is applied, what is refused, and what clients do not notice.

use std::os::unix::fs::symlink;
use std::time::Duration;

use foregate::denial::Reason;
use foregate::tokens::mint::Signer;
use jsonwebtoken::Algorithm;
use serde_json::Value;

use crate::support::config::OTHER_KEY;
use crate::support::load::Load;
use crate::support::log::says;
use crate::support::openssl::{certificate_file, shown_certificate};
use crate::support::pki::NAME;
use crate::support::{Gate, Gateway, Http, Origin, Reply, eventually, in_time};

const GENERATION: &str = "foregate_config_generation";
const RELOADS: &str = "foregate_config_reloads_total";

/// Several times as long as the gateway waits for a burst of file events to end.
const SEVERAL_LOOKS: Duration = Duration::from_secs(1);

// === what is applied ===

#[tokio::test]
async fn a_changed_file_is_applied_however_it_was_replaced() {
    let gateway = Gateway::start().await;
    std::fs::create_dir(gateway.path("..v1")).unwrap();
    std::fs::create_dir(gateway.path("..v2")).unwrap();
    let with_route = |path: &str| with_route(&gateway, path);
    let is_new = async |path: &str, generation: f64| {
        let before = gateway.metrics().sum(GENERATION, &[]);
        assert_eq!(before, generation - 1.0, "{path}");
        gateway.metric_becomes(GENERATION, &[], generation).await;
        for http in Http::BOTH {
            gateway.get(http, path).send().await.is_ok();
        }
    };
    for path in ["/in-place", "/renamed", "/swapped"] {
        let answer = gateway.get(Http::Two, path).send().await;
        answer.is_denied(Reason::RouteUnknown);
    }

    std::fs::write(gateway.path("foregate.yaml"), with_route("/in-place")).unwrap();
    is_new("/in-place", 2.0).await;

    gateway.write_file("new.yaml", with_route("/renamed"));
    std::fs::rename(gateway.path("new.yaml"), gateway.path("foregate.yaml")).unwrap();
    is_new("/renamed", 3.0).await;

    // As Kubernetes mounts a ConfigMap: the file is a link through a link, and only the one in the
    // middle ever changes.
    gateway.write_file("..v1/foregate.yaml", contents(&gateway));
    symlink("..v1", gateway.path("..data")).unwrap();
    symlink("..data/foregate.yaml", gateway.path("link")).unwrap();
    std::fs::rename(gateway.path("link"), gateway.path("foregate.yaml")).unwrap();
    gateway.write_file("..v2/foregate.yaml", with_route("/swapped"));
    symlink("..v2", gateway.path("..data_tmp")).unwrap();
    std::fs::rename(gateway.path("..data_tmp"), gateway.path("..data")).unwrap();
    is_new("/swapped", 4.0).await;
}

#[tokio::test]
async fn sighup_applies_a_changed_file_and_reports_when_nothing_changed() {
    let mut gateway = Gateway::start().await;
    gateway.signal("HUP");
    gateway
        .metric_becomes(RELOADS, &[("result", "unchanged")], 1.0)
        .await;
    assert_eq!(gateway.metrics().sum(GENERATION, &[]), 1.0);
    gateway
        .reload(|config| {
            config.more_routes("- { path: /new, access: public }");
        })
        .await;
    gateway.get(Http::Two, "/new").send().await.is_ok();
}

#[tokio::test]
async fn file_events_without_a_change_are_not_logged() {
    let mut gateway = Gateway::start().await;
    let before = gateway.log().text();
    gateway.write_file("foregate.yaml", contents(&gateway));
    gateway.write_file("unrelated", "something");
    tokio::time::sleep(SEVERAL_LOOKS).await;
    assert_eq!(gateway.log().text(), before);
    assert_eq!(gateway.metrics().sum(RELOADS, &[]), 0.0);
    gateway
        .reload(|config| {
            config.more_routes("- { path: /new, access: public }");
        })
        .await;
    assert_eq!(gateway.metrics().sum(GENERATION, &[]), 2.0);
}

// === what is refused ===

#[tokio::test]
async fn an_invalid_file_is_refused_once_and_the_last_good_one_stays() {
    let gateway = Gateway::start().await;
    let good = with_route(&gateway, "/new");
    let bad = with_route(&gateway, "/new").replace("/me,", "/me/../x,");
    let line = 1 + bad
        .lines()
        .position(|line| line.contains("/me/.."))
        .unwrap();
    gateway.write_file("foregate.yaml", bad);
    gateway
        .metric_becomes(RELOADS, &[("result", "refused")], 1.0)
        .await;
    // Unrelated file events do not make it log the refusal again.
    gateway.write_file("unrelated", "something");
    tokio::time::sleep(SEVERAL_LOOKS).await;
    let refusals = refusals(&gateway);
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
    assert!(
        refusals[0].contains(&format!("foregate.yaml:{line}:")),
        "{refusals:?}"
    );
    assert_eq!(gateway.metrics().sum(GENERATION, &[]), 1.0);
    gateway.get(Http::Two, "/public/x").send().await.is_ok();
    let answer = gateway.get(Http::Two, "/me").send().await;
    answer.is_denied(Reason::TokenMissing);

    gateway.signal("HUP");
    gateway
        .metric_becomes(RELOADS, &[("result", "refused")], 2.0)
        .await;
    gateway.write_file("foregate.yaml", good);
    gateway.metric_becomes(GENERATION, &[], 2.0).await;
    gateway.get(Http::Two, "/new").send().await.is_ok();
}

#[tokio::test]
async fn a_change_that_needs_a_restart_is_refused_with_these_words() {
    let mut gateway = Gateway::start().await;
    gateway.write_config(|config| {
        config.set("workers", "1").set(
            "listen",
            "[{ address: \"127.0.0.1:0\", tls: off }, { address: \"127.0.0.1:0\", tls: off }]",
        );
    });
    gateway
        .metric_becomes(RELOADS, &[("result", "refused")], 1.0)
        .await;
    let words = "`listen`, `workers` cannot change without a restart";
    assert_eq!(refusals(&gateway), [words]);
    assert_eq!(gateway.metrics().sum(GENERATION, &[]), 1.0);
    gateway.get(Http::Two, "/public/x").send().await.is_ok();
}

#[tokio::test]
async fn another_limit_of_the_database_needs_a_restart() {
    let with =
        |more: &str| format!("{{ url: \"postgres://g@127.0.0.1:1/d?sslmode=disable\"{more} }}");
    let mut gateway = Gateway::with(|config| {
        config.set("database", &with(""));
    })
    .await;
    let changes = [
        "pool: 4",
        "pool_per_caller: 1",
        "queue_per_caller: 5",
        "connect_timeout: 1s",
        "statement_timeout: 2s",
    ];
    for (number, change) in changes.into_iter().enumerate() {
        gateway.write_config(|config| {
            config.set("database", &with(&format!(", {change}")));
        });
        gateway
            .metric_becomes(RELOADS, &[("result", "refused")], number as f64 + 1.0)
            .await;
        let words = "`database` cannot change without a restart";
        assert_eq!(refusals(&gateway).last().unwrap(), words, "{change}");
    }
}

#[tokio::test]
async fn another_store_or_key_needs_a_restart() {
    let mut gateway = Gateway::with(|config| {
        config.store("redis://:one@127.0.0.1:1");
    })
    .await;
    let changes: [(&str, &str, &str); 4] = [
        (
            "store",
            "{ redis: \"redis://:two@127.0.0.1:1\" }",
            "`store`",
        ),
        (
            "store",
            "{ redis: \"redis://:one@127.0.0.1:1\", timeout: 1s }",
            "`store`",
        ),
        (
            "store",
            "{ redis: \"rediss://:one@127.0.0.1:1\" }",
            "`store`",
        ),
        ("keys", "[{ id: k2, secret: \"OTHER\" }]", "`keys`"),
    ];
    for (number, (key, value, words)) in changes.into_iter().enumerate() {
        let before = gateway.config_value(key);
        let value = value.replace("OTHER", OTHER_KEY);
        gateway.write_config(|config| {
            config.set(key, &value);
        });
        gateway
            .metric_becomes(RELOADS, &[("result", "refused")], number as f64 + 1.0)
            .await;
        let told = refusals(&gateway);
        assert_eq!(
            told.last().unwrap(),
            &format!("{words} cannot change without a restart")
        );
        assert!(!gateway.log().text().contains("two@"));
        gateway.write_config(|config| {
            config.set(key, &before);
        });
        gateway.signal("HUP");
        gateway
            .metric_becomes(RELOADS, &[("result", "unchanged")], number as f64 + 1.0)
            .await;
    }
    assert_eq!(gateway.metrics().sum(GENERATION, &[]), 1.0);
}

// === certificates ===

#[tokio::test]
async fn a_renewed_certificate_is_used_for_new_connections_and_open_ones_continue() {
    let gateway = Gateway::start().await;
    let mut clients = Vec::new();
    for http in Http::BOTH {
        let mut client = gateway.connect(http).await;
        client.get("/public/x").send().await.is_ok();
        clients.push(client);
    }
    let old = certificate_file(&gateway, "server.crt");
    assert_eq!(shown_certificate(&gateway, Some(NAME)).await, old);
    renew(&gateway, "server");
    gateway.metric_becomes(GENERATION, &[], 2.0).await;
    let new = certificate_file(&gateway, "server.crt");
    assert_ne!(new, old);
    assert_eq!(shown_certificate(&gateway, Some(NAME)).await, new);
    for client in &mut clients {
        client.get("/public/x").send().await.is_ok();
    }
    for http in Http::BOTH {
        gateway.get(http, "/public/x").send().await.is_ok();
    }
}

#[tokio::test]
async fn files_added_by_a_reload_are_watched() {
    let mut gateway = Gateway::start().await;
    std::fs::create_dir(gateway.path("tls")).unwrap();
    renew(&gateway, "tls/server");
    gateway
        .reload(|config| {
            let listen = config.get("listen").replace("server.", "tls/server.");
            config.set("listen", &listen);
        })
        .await;
    // SIGHUP applied it before the watcher knew; a renewal counts all the same, whether it comes
    // before the watch or after.
    renew(&gateway, "tls/server");
    gateway.metric_becomes(GENERATION, &[], 3.0).await;
}

// === what runs ===

#[tokio::test]
async fn a_running_request_keeps_the_old_policy_and_the_next_one_gets_the_new() {
    for http in Http::BOTH {
        let gate = Gate::new();
        let mut gateway = Gateway::before(gated(&gate), |config| {
            config.routes("- { path: /gated, access: public }");
        })
        .await;
        let mut client = gateway.connect(http).await;
        let running = tokio::spawn(async move {
            let answer = client.get("/gated").send().await;
            (client, answer)
        });
        gateway.origin.has_seen(1).await;
        gateway
            .reload(|config| {
                config.routes("- { path: /gated, access: user }");
            })
            .await;
        gate.open();
        let (mut client, answer) = in_time("the answer", running).await.unwrap();
        answer.is_ok();
        assert_eq!(answer.log_line()["generation"], 1);
        let answer = client.get("/gated").send().await;
        answer.is_denied(Reason::TokenMissing);
        assert_eq!(answer.log_line()["generation"], 2);
        assert_eq!(gateway.origin.take().len(), 1);
    }
}

#[tokio::test]
async fn upstream_connections_survive_a_reload_that_does_not_touch_the_upstream() {
    let mut gateway = Gateway::with(|config| {
        config.set("workers", "1");
    })
    .await;
    let mut client = gateway.connect(Http::Two).await;
    client.get("/public/x").send().await.is_ok();
    gateway
        .reload(|config| {
            config.more_routes("- { path: /new, access: public }");
        })
        .await;
    client.get("/new").send().await.is_ok();
    assert_eq!(gateway.origin.connections(), 1);

    let other = Origin::start();
    gateway
        .reload(|config| {
            config.upstream("origin", &other.url(), "");
        })
        .await;
    gateway.origin.take();
    client.get("/new").send().await.is_ok();
    assert_eq!(other.take().len(), 1);
    gateway.origin.saw_nothing();
    eventually("the old server's connections are closed", || {
        gateway.origin.open_connections() == 0
    })
    .await;
}

#[tokio::test]
async fn metrics_of_removed_routes_and_upstreams_disappear() {
    let other = Origin::start();
    let mut gateway = Gateway::with(|config| {
        config
            .upstream("old-upstream", &other.url(), "")
            .more_routes(&format!(
                "- {{ name: old-route, path: /old, access: user, upstream: old-upstream, action: admin, layers: {{ roles: {} }} }}",
                waiver("shadow")
            ));
    })
    .await;
    gateway.get(Http::Two, "/old").send().await;
    let token = gateway.issuer.token();
    let answer = gateway.get(Http::Two, "/old").bearer(&token).send().await;
    answer.is_ok().log_line();
    gateway.is_quiet().await;
    let text = gateway.metrics().text().to_owned();
    assert!(text.contains("old-route") && text.contains("old-upstream"));
    let old = format!("  old-upstream: {{ servers: [\"{}\"] }}", other.url());
    gateway
        .reload(|config| {
            let upstreams = config.get("upstreams").replace(&old, "");
            let routes: Vec<_> = config.get("routes").lines().collect();
            let routes = routes[..routes.len() - 1].join("\n");
            config.set("upstreams", &upstreams).set("routes", &routes);
        })
        .await;
    // The workers notice when they take an upstream connection.
    for http in [Http::One, Http::Two, Http::One, Http::Two] {
        gateway.get(http, "/public/x").send().await.is_ok();
    }
    let text = gateway.metrics().text().to_owned();
    assert!(!text.contains("old-route"), "{text}");
    assert!(!text.contains("upstream_seconds_count{upstream=\"old-upstream\""));
}

#[tokio::test]
async fn a_request_that_outlives_a_reload_is_counted_if_its_route_and_upstream_still_exist() {
    for (kept, routes) in [
        (true, "- { name: gated, path: /gated, access: public }"),
        (false, "- { name: another, path: /another, access: public }"),
    ] {
        let gate = Gate::new();
        let mut gateway = Gateway::before(gated(&gate), |config| {
            config.routes("- { name: gated, path: /gated, access: public }");
        })
        .await;
        let mut client = gateway.connect(Http::Two).await;
        let running = tokio::spawn(async move { client.get("/gated").send().await });
        gateway.origin.has_seen(1).await;
        gateway
            .reload(|config| {
                config.routes(&format!(
                    "{routes}\n- {{ name: new, path: /new, access: public }}"
                ));
            })
            .await;
        gate.open();
        in_time("the answer", running).await.unwrap().is_ok();
        gateway.is_quiet().await;
        let metrics = gateway.metrics();
        let of_route = [("route", "gated")];
        let requests = metrics.sum("foregate_requests_total", &of_route);
        let seconds = metrics.sum("foregate_request_seconds_count", &of_route);
        let expected = f64::from(u8::from(kept));
        assert_eq!((requests, seconds), (expected, expected));
        assert_eq!(metrics.text().contains("\"gated\""), kept);
        // The upstream is in the new configuration, too.
        let of_upstream = [("upstream", "origin")];
        assert_eq!(
            metrics.sum("foregate_upstream_seconds_count", &of_upstream),
            1.0
        );
    }
}

// === tokens ===

#[tokio::test]
async fn a_cached_token_is_refused_as_soon_as_its_key_or_issuer_is_removed() {
    let mut gateway = Gateway::start().await;
    let token = gateway.issuer.token();
    let legacy = gateway.issuer.sign_legacy(&gateway.issuer.claims());
    let mut clients = Vec::new();
    for http in Http::BOTH {
        clients.push(gateway.connect(http).await);
    }
    for client in &mut clients {
        client.get("/me").bearer(&token).send().await.is_ok();
        client.get("/me").bearer(&legacy).send().await.is_ok();
    }
    assert!(gateway.metrics().sum("foregate_token_cache_entries", &[]) >= 2.0);

    // Another key under the same name, then under another name, then no such issuer.
    let other = Signer::generate(Algorithm::ES256).unwrap();
    for (generation, kid, reason) in [
        (2.0, "current", Reason::TokenSignature),
        (3.0, "next", Reason::TokenKeyUnknown),
    ] {
        let set = other.public_jwks().unwrap();
        let mut set: Value = serde_json::from_str(&set).unwrap();
        set["keys"][0]["kid"] = kid.into();
        gateway.write_file("jwks.json", set.to_string());
        gateway.signal("HUP");
        gateway.metric_becomes(GENERATION, &[], generation).await;
        gateway.origin.take();
        for client in &mut clients {
            let answer = client.get("/me").bearer(&token).send().await;
            answer.is_denied(reason);
        }
        gateway.origin.saw_nothing();
        clients[0].get("/me").bearer(&legacy).send().await.is_ok();
    }
    gateway
        .reload(|config| {
            let tokens = config.get("tokens").replace("issuer.test", "other.test");
            config.set("tokens", &tokens);
        })
        .await;
    gateway.origin.take();
    for client in &mut clients {
        for token in [&token, &legacy] {
            let answer = client.get("/me").bearer(token).send().await;
            answer.is_denied(Reason::TokenIssuer);
        }
    }
    gateway.origin.saw_nothing();
}

// === waivers ===

#[tokio::test]
async fn a_waived_layer_is_logged_with_its_end_and_reason() {
    let mut gateway = Gateway::start().await;
    gateway
        .reload(|config| {
            config.set("layers", &format!("{{ roles: {} }}", waiver("shadow")));
        })
        .await;
    let told = gateway.log().all(|entry| says(entry, "waived layer"));
    let line = told
        .iter()
        .find(|line| line["route"].as_str().unwrap().ends_with("/admin"))
        .unwrap();
    assert_eq!(line["layer"], "roles");
    assert_eq!(line["reason"], "roles are being moved");
    assert_eq!(line["until"], format!("{}T00:00:00Z", in_a_week()));
    assert!(gateway.metrics().sum("foregate_waived_layers", &[]) > 0.0);
}

// === under load ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_configuration_and_certificates_change_under_load() {
    let (reloads, every) = match std::env::var_os("FOREGATE_FULL") {
        Some(_) => (50, 5),
        None => (10, 3),
    };
    let mut gateway = Gateway::start().await;
    let load = Load::start(&gateway, "/me").await;
    let mut generation = 1.0;
    for round in 1..=reloads {
        gateway
            .reload(|config| {
                config.more_routes(&format!("- {{ path: /round-{round}, access: public }}"));
            })
            .await;
        generation += 1.0;
        if round % every == 0 {
            renew(&gateway, "server");
            gateway.signal("HUP");
            gateway
                .metric_becomes(GENERATION, &[], generation + 1.0)
                .await;
            generation += 1.0;
        }
        load.goes_on(50).await;
    }
    let outcome = load.stop().await;
    assert!(outcome.failed.is_empty(), "{outcome:#?}");
    assert_eq!(outcome.closed, 0);
    println!("{} requests, none failed", outcome.answered);
}

// === helpers ===

fn contents(gateway: &Gateway) -> String {
    std::fs::read_to_string(gateway.path("foregate.yaml")).unwrap()
}

/// The present file with one more public route. The routes are its last key.
fn with_route(gateway: &Gateway, path: &str) -> String {
    format!(
        "{}  - {{ path: {path}, access: public }}\n",
        contents(gateway)
    )
}

/// The log lines about refused configurations.
fn refusals(gateway: &Gateway) -> Vec<String> {
    let refused = "configuration refused; keeping the last good one";
    let lines = gateway.log().all(|entry| says(entry, refused));
    let problem = |line: &Value| line["problem"].as_str().unwrap().to_owned();
    lines.iter().map(problem).collect()
}

/// Signs a new certificate for the names of the first.
fn renew(gateway: &Gateway, name: &str) {
    let leaf = gateway.pki.sign(&[NAME, "localhost", "127.0.0.1"]);
    leaf.write(&gateway.path(""), name);
}

/// An origin whose `/gated` answers when the gate is open.
fn gated(gate: &Gate) -> Origin {
    let (origin, gate) = (Origin::start(), gate.clone());
    origin.on("/gated", move |x| {
        gate.pass();
        x.reply(&Reply::ok());
    });
    origin
}

fn waiver(mode: &str) -> String {
    let until = in_a_week();
    format!("{{ mode: {mode}, until: {until}, reason: roles are being moved }}")
}

fn in_a_week() -> String {
    let week = jiff::SignedDuration::from_hours(7 * 24);
    let day = (jiff::Timestamp::now() + week).to_string();
    day.split('T').next().unwrap().to_owned()
}
