//! The other TLS implementation: what a listener offers and accepts, as OpenSSL sees it.

use std::process::Command;

use super::client::Door;
use super::gateway::Gateway;

/// The output of `openssl s_client` about a handshake with the TLS listener.
pub async fn handshake(gateway: &Gateway, arguments: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-connect", gateway.address(Door::Tls)])
        .args(arguments)
        .stdin(std::process::Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

/// The certificate for a client that requests this name, in PEM without white space; compare with
/// [`certificate_file`].
pub async fn shown_certificate(gateway: &Gateway, name: Option<&str>) -> String {
    let said = match name {
        Some(name) => handshake(gateway, &["-servername", name]).await,
        None => handshake(gateway, &["-noservername"]).await,
    };
    let start = said.find("-----BEGIN").unwrap_or_else(|| panic!("{said}"));
    let end = said.find("-----END").unwrap();
    stripped(&said[start..end])
}

/// A certificate file of the gateway's folder, in the same form.
pub fn certificate_file(gateway: &Gateway, name: &str) -> String {
    let pem = std::fs::read_to_string(gateway.path(name)).unwrap();
    stripped(pem.split("-----END").next().unwrap())
}

fn stripped(pem: &str) -> String {
    pem.split_whitespace().collect()
}
