//! File descriptors: idle clients do not take those of probes, upstreams and reloads.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

use crate::support::client::Client;
use crate::support::log::says;
use crate::support::raw::Raw;
use crate::support::{Door, Gateway, Http};

/// The files that the process may have open, by its own metric.
fn limit(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("process_max_fds", &[])
}

/// Connections from the address of this number.
async fn from(gateway: &Gateway, number: usize) -> Client {
    let connector = gateway.connector(Http::One, Door::Plain);
    let source = format!("127.0.1.{number}");
    connector.coming_from(&source).connect().await
}

async fn idle_clients(gateway: &Gateway, count: usize) -> Vec<Raw> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(gateway.raw(Door::Plain).await);
    }
    clients
}

#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let gateway = Gateway::limited("-Sn 256", |config| {
        config.set("connections", "{ max: 100 }");
    })
    .await;
    assert!(limit(&gateway) > 256.0);
}

#[tokio::test]
async fn idle_clients_take_no_descriptors_from_probes_upstreams_and_reloads() {
    let mut gateway = Gateway::limited("-n 256", |config| {
        config.set("workers", "2");
    })
    .await;
    assert_eq!(limit(&gateway), 256.0);
    let warned = gateway
        .log()
        .wait_for(|entry| {
            entry["message"]
                .as_str()
                .is_some_and(|text| text.contains("LimitNOFILE="))
        })
        .unwrap();
    let clients = warned["client_connections"].as_u64().unwrap();
    assert!((16..256).contains(&clients), "{warned}");

    let mut kept = gateway.connect(Http::One).await;
    kept.get("/public/a").send().await.is_ok();
    let _idle = idle_clients(&gateway, 600).await;
    kept.get("/public/a").send().await.is_ok();
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(gateway.admin_status(path), 200, "{path}");
    }
    gateway.revoke(&json!({ "kind": "session", "session": "s" }));
    gateway
        .reload(|config| {
            config.more_routes("- { path: /new, access: public }");
        })
        .await;
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("foregate_accept_failures_total", &[]), 0.0);
    assert!(metrics.sum("process_open_fds", &[]) < 256.0);
    let lines = gateway.log().text().lines().count();
    assert!(lines < 60, "{lines} lines:\n{}", gateway.log().text());
}

#[tokio::test]
async fn idle_clients_of_many_addresses_leave_room_for_new_ones() {
    let gateway = Gateway::limited("-n 256", |_| {}).await;
    let mut idle = Vec::new();
    for number in 1..=200 {
        let mut client = from(&gateway, number).await;
        client.get("/public/a").send().await.is_ok();
        idle.push(client);
    }
    assert_eq!(gateway.admin_status("/livez"), 200);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("foregate_accept_failures_total", &[]), 0.0);
    let shed = metrics.sum("foregate_clients_ended_total", &[("cause", "idle_shed")]);
    assert!(shed > 50.0, "{shed}");
}

#[tokio::test]
async fn accepting_goes_on_after_a_lack_of_descriptors_with_few_log_lines() {
    let gateway = Gateway::start().await;
    let before = gateway.log().text().lines().count();
    let set_limit = |current| {
        let pid = Pid::from_raw(i32::try_from(gateway.pid()).unwrap());
        let limit = Rlimit {
            current: Some(current),
            maximum: Some(4096),
        };
        prlimit(pid, Resource::Nofile, limit).unwrap();
    };
    set_limit(8);
    let waiting = idle_clients(&gateway, 50).await;
    let says_so = |entry: &serde_json::Value| {
        entry["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("cannot accept connections"))
    };
    assert!(gateway.log().wait_for(says_so).is_some());
    // Attempts go on meanwhile.
    tokio::time::sleep(Duration::from_secs(2)).await;
    set_limit(4096);
    gateway
        .metric_becomes("foregate_connections", &[], 50.0)
        .await;
    gateway.get(Http::One, "/public/a").send().await.is_ok();
    let failures = gateway.metrics().sum("foregate_accept_failures_total", &[]);
    assert!(failures > 10.0, "{failures}");
    let lines = gateway.log().text().lines().count() - before;
    assert!(lines < 10, "{lines} lines");
    drop(waiting);
}

#[tokio::test]
async fn a_limit_too_low_for_any_client_is_refused_at_start() {
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$0\" demo"])
        .arg(crate::support::gateway::program())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("LimitNOFILE="), "{text}");
}

#[tokio::test]
async fn enough_descriptors_are_divided_silently() {
    let gateway = Gateway::start().await;
    if limit(&gateway) >= 16_384.0 {
        assert!(!gateway.log().text().contains("LimitNOFILE="));
    }
    assert!(
        gateway
            .log()
            .wait_for(|entry| says(entry, "listening"))
            .is_some()
    );
}
