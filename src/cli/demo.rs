//! `demo`: a complete setup to try, on this machine, until Ctrl-C.
//!
//! It has a certificate, a small upstream that answers with what it received, the same gateway that
//! `run` starts, with `config/demo.yaml`, two tokens, and four commands to copy. Everything listens
//! on loopback addresses, and nothing is left behind.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::run::background;
use super::{Format, output};
use crate::clock;
use crate::config;
use crate::log::Log;
use crate::panics::log_panics;
use crate::server::Server;
use crate::tokens::mint::{Claims, Signer};

/// The route map in the repository.
const ROUTE_MAP: &str = include_str!("../../config/demo.yaml");

/// `iss` of the route map.
const ISSUER: &str = "https://demo.foregate.local";

const PUBLIC: &str = "/hello";
const PROTECTED: &str = "/api/notes";

#[derive(Args, Debug)]
pub(super) struct Options {
    /// The port of the gateway; 0 picks a free one
    #[arg(long, default_value_t = 8443)]
    port: u16,
    /// Output format; `json` prints one line for scripts: addresses, the CA file, paths and tokens
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

pub(super) fn demo(options: &Options) -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let secret = write_secrets(&folder.0)?;
    let log = Log::start(io::stderr())?;
    log.subscribe();
    log_panics();
    background()?.block_on(async {
        let upstream = TcpListener::bind(("127.0.0.1", 0)).await?;
        let upstream_address = upstream.local_addr()?;
        tokio::spawn(echo(upstream));
        let loaded = load(&folder.0, options.port, upstream_address)?;
        let server = Server::start(loaded, log)
            .await
            .map_err(|error| explain_port(error, options.port))?;
        let info = DemoInfo {
            url: server
                .addresses()
                .listeners
                .first()
                .context("the demo has a listener")?
                .clone(),
            admin_url: server.addresses().admin.clone(),
            upstream_url: format!("http://{upstream_address}"),
            ca: folder.0.join("ca.pem"),
            token: mint(&secret, 3600)?,
            expired_token: mint(&secret, -3600)?,
        };
        match options.format {
            Format::Human => output::line(info.to_text()),
            Format::Json => output::line(info.to_json()),
        }
        server.run().await
    })
}

fn explain_port(error: anyhow::Error, port: u16) -> anyhow::Error {
    error.context(format!(
        "the demo cannot start on port {port}; `--port 0` picks a free one"
    ))
}

fn load(folder: &Path, port: u16, upstream: SocketAddr) -> anyhow::Result<config::Loaded> {
    let variable = |name: &str| match name {
        "DEMO_DIR" => Some(folder.display().to_string()),
        "DEMO_PORT" => Some(port.to_string()),
        "DEMO_ADMIN_PORT" => Some("0".to_owned()),
        "DEMO_UPSTREAM_PORT" => Some(upstream.port().to_string()),
        _ => None,
    };
    config::load_str("config/demo.yaml", ROUTE_MAP, folder, &variable)
        .map_err(|problems| anyhow!("{problems}"))
}

/// What runs, for the printed instructions.
struct DemoInfo {
    url: String,
    admin_url: String,
    upstream_url: String,
    ca: PathBuf,
    token: String,
    expired_token: String,
}

impl DemoInfo {
    fn to_text(&self) -> String {
        let Self {
            url,
            admin_url,
            upstream_url,
            token,
            expired_token,
            ..
        } = self;
        let ca = self.ca.display();
        format!(
            "Foregate runs at {url}, in front of an upstream at {upstream_url} that answers with what it received.
Its route map is config/demo.yaml; metrics are at {admin_url}/metrics. The lines below on this terminal are its log. Ctrl-C ends it.

A public route (200):
  curl --cacert {ca} {url}{PUBLIC}

A protected route without a token (401):
  curl --cacert {ca} {url}{PROTECTED}

With a good token (200):
  curl --cacert {ca} -H 'Authorization: Bearer {token}' {url}{PROTECTED}

With an expired token (401):
  curl --cacert {ca} -H 'Authorization: Bearer {expired_token}' {url}{PROTECTED}
"
        )
    }

    fn to_json(&self) -> Value {
        json!({
            "url": self.url,
            "admin_url": self.admin_url,
            "upstream_url": self.upstream_url,
            "ca": self.ca,
            "public_path": PUBLIC,
            "protected_path": PROTECTED,
            "token": self.token,
            "expired_token": self.expired_token,
        })
    }
}

fn mint(secret: &[u8], lifetime: i64) -> anyhow::Result<String> {
    let now = clock::unix_now();
    let claims = Claims::new(ISSUER, &Uuid::now_v7().to_string(), now - 7200)
        .lasting(Duration::from_secs(3600))
        .expiring(now + lifetime);
    Signer::secret(secret, Algorithm::HS256)
        .and_then(|signer| signer.sign(&claims))
        .map_err(|problem| anyhow!(problem))
}

/// A folder for the certificate and the secret, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("foregate-demo-{}", Uuid::now_v7()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes a CA, a certificate for `localhost` and the loopback addresses, and the secret that signs
/// tokens. Returns the secret.
fn write_secrets(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let mut authority = rcgen::CertificateParams::new(Vec::new())?;
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    authority
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Foregate demo CA");
    let authority_key = rcgen::KeyPair::generate()?;
    let authority_cert = authority.self_signed(&authority_key)?;
    let issuer = rcgen::Issuer::new(authority, authority_key);

    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let key = rcgen::KeyPair::generate()?;
    let cert = rcgen::CertificateParams::new(names)?.signed_by(&key, &issuer)?;

    let mut random = [0; 48];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| anyhow!("the operating system has no randomness"))?;
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .encode(random)
        .into_bytes();

    write(folder, "ca.pem", authority_cert.pem().as_bytes())?;
    write(folder, "cert.pem", cert.pem().as_bytes())?;
    write(folder, "key.pem", key.serialize_pem().as_bytes())?;
    write(folder, "secret", &secret)?;
    Ok(secret)
}

fn write(folder: &Path, name: &str, contents: &[u8]) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(folder.join(name))?;
    Ok(io::Write::write_all(&mut file, contents)?)
}

/// The upstream: answers every request with what it received.
async fn echo(listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        tokio::spawn(async move {
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(describe))
                .await;
        });
    }
}

async fn describe(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    const LIMIT: usize = 64 * 1024;
    let (head, body) = request.into_parts();
    let mut headers = Map::new();
    for (name, value) in &head.headers {
        headers.insert(
            name.to_string(),
            Value::from(String::from_utf8_lossy(value.as_bytes())),
        );
    }
    let body = Limited::new(body, LIMIT)
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let answer = json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    let text = serde_json::to_vec_pretty(&answer).unwrap_or_default();
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(response)
}
