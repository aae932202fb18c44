//! Clients that people use, whose uploads are refused before they have sent them: each must read
//! the refusal, and its next request must be answered.
//!
//! Clients that are not installed are left out, which is said on standard error.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::client::Door;
use crate::support::pki::NAME;
use crate::support::{Gateway, Http};

/// A form, a photograph on a phone, one from a camera, a video.
const LENGTHS: &str = "13,40000,200000,8388608";

/// How often each client sends each body: fifty times with `FOREGATE_FULL=1`.
fn rounds() -> &'static str {
    match std::env::var_os("FOREGATE_FULL") {
        Some(_) => "50",
        None => "3",
    }
}

async fn gateway() -> Gateway {
    Gateway::with(|config| {
        config.more_routes("- { path: /tiny, access: public, body: { limit: 1 } }");
    })
    .await
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Runs clients until they have sent everything, and returns what failed.
async fn failures_of(gateway: &Gateway, mut clients: Command) -> Vec<String> {
    clients
        .current_dir(folder())
        .env("GATEWAY", gateway.url(Door::Tls))
        .env("CA", gateway.path("ca.pem"))
        .env("NODE_EXTRA_CA_CERTS", gateway.path("ca.pem"))
        .env("ROUNDS", rounds())
        .env("LENGTHS", LENGTHS);
    let output = tokio::task::spawn_blocking(move || clients.output());
    let output = output.await.unwrap().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    let lines: Vec<serde_json::Value> = std::str::from_utf8(&output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!lines.is_empty(), "{complaints}");
    let failed = |line: &&serde_json::Value| !line["failures"].as_array().unwrap().is_empty();
    lines
        .iter()
        .filter(failed)
        .map(ToString::to_string)
        .collect()
}

#[tokio::test]
async fn clients_of_node_read_the_refusal_of_an_upload() {
    if !folder().join("node_modules").is_dir() {
        return eprintln!("NOT PROVEN: npm ci --prefix {}", folder().display());
    }
    let mut node = Command::new("node");
    node.arg("uploads.mjs");
    let failures = failures_of(&gateway().await, node).await;
    assert!(failures.is_empty(), "{failures:#?}");
}

#[tokio::test]
async fn clients_of_python_read_the_refusal_of_an_upload() {
    let python = folder().join("venv/bin/python");
    if !python.exists() {
        return eprintln!("NOT PROVEN: no clients of Python in {}", python.display());
    }
    let mut command = Command::new(python);
    command.arg("uploads.py");
    let failures = failures_of(&gateway().await, command).await;
    assert!(failures.is_empty(), "{failures:#?}");
}

#[tokio::test]
async fn the_client_of_java_reads_the_refusal_of_an_upload() {
    if Command::new("java").arg("-version").output().is_err() {
        return eprintln!("NOT PROVEN: no java");
    }
    let mut java = Command::new("java");
    java.arg("Uploads.java");
    let failures = failures_of(&gateway().await, java).await;
    assert!(failures.is_empty(), "{failures:#?}");
}

#[tokio::test]
async fn curl_reads_the_refusal_of_an_upload() {
    let gateway = gateway().await;
    let port = gateway.address(Door::Tls).rsplit_once(':').unwrap().1;
    let url = |path: &str| format!("https://{NAME}:{port}{path}");
    let scratch = tempfile::tempdir().unwrap();
    let body = scratch.path().join("body");
    let mut failures = Vec::new();
    for http in Http::BOTH {
        let version = match http {
            Http::One => "--http1.1",
            Http::Two => "--http2",
        };
        for length in LENGTHS.split(',') {
            std::fs::write(&body, vec![b'x'; length.parse().unwrap()]).unwrap();
            for _ in 0..rounds().parse::<usize>().unwrap() {
                let mut curl = Command::new("curl");
                for (path, is_upload) in [
                    ("/me", true),
                    ("/public/x", false),
                    ("/tiny", true),
                    ("/public/x", false),
                ] {
                    curl.args([version, "--silent", "--max-time", "20", "--noproxy", "*"])
                        .args(["--resolve", &format!("{NAME}:{port}:127.0.0.1")])
                        .arg("--cacert")
                        .arg(gateway.path("ca.pem"))
                        .args(["--output", "/dev/null", "--write-out", "%{http_code} "]);
                    if is_upload {
                        curl.arg("--data-binary")
                            .arg(format!("@{}", body.display()));
                    }
                    curl.arg(url(path)).arg("--next");
                }
                let output = tokio::task::spawn_blocking(move || curl.output());
                let output = output.await.unwrap().unwrap();
                let statuses = String::from_utf8_lossy(&output.stdout);
                if statuses.trim() != "401 200 413 200" {
                    failures.push(format!("{version} {length}: {statuses}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
