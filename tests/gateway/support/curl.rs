//! curl, as a client that everybody has.

use std::process::Command;

use super::client::Door;
use super::gateway::Gateway;
use super::pki::NAME;

/// Runs curl against the TLS listener, as `https://api.test:PORT`, and returns the status and the
/// body.
pub async fn curl(gateway: &Gateway, path: &str, arguments: &[&str]) -> (u16, String) {
    let port = gateway.address(Door::Tls).rsplit_once(':').unwrap().1;
    let mut command = Command::new("curl");
    command
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "*",
        ])
        .args(["--write-out", "\n%{http_code}"])
        .arg("--cacert")
        .arg(gateway.path("ca.pem"))
        .args(["--resolve", &format!("{NAME}:{port}:127.0.0.1")])
        .args(arguments)
        .arg(format!("https://{NAME}:{port}{path}"));
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    (
        status.parse().unwrap_or_else(|_| panic!("{error}")),
        body.to_owned(),
    )
}
