//! The gateway's own time in a login: from the first byte of the request to the last of the answer,
//! without the identity server's part.
//!
//! The identity server here answers at once, with a fresh token each time, and measures itself:
//! from the complete request to its answer, before that is sent. One user signs in after the other,
//! each with an account of their own, over one kept connection. What is left is the chain, the
//! throttle, the call, the check of the new token's signature, and the session, with the store in
//! this process and with it in a Redis next door.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark stops at the first surprise, and measures"
)]

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use foregate::clock;
use foregate::config;
use foregate::log::Log;
use foregate::server::Server;
use foregate::tokens::mint::{Claims, Signer};
use jsonwebtoken::Algorithm;
use uuid::Uuid;

#[path = "support/message.rs"]
mod message;

use message::read;

const WARM: usize = 200;
const LOGINS: usize = 5000;

/// Time that the identity server took since it was asked last, in nanoseconds.
type Elsewhere = Arc<AtomicU64>;

fn main() {
    let signer = Signer::generate(Algorithm::ES256)
        .unwrap()
        .with_kid("bench");
    let (identity, elsewhere) = identity_server(signer.clone());
    let folder = tempfile::tempdir().unwrap();
    let jwks = signer.public_jwks().unwrap();
    std::fs::write(folder.path().join("jwks.json"), jwks).unwrap();
    measure(
        "store in this process",
        &identity,
        "",
        folder.path(),
        &elsewhere,
    );
    match RedisServer::start(folder.path()) {
        Some(redis) => {
            let store = format!(
                "keys: [{{ id: k1, secret: \"q8Vb0kXo2m3WZ1nJ5cPzq4rT7yUu9aLsDfGhK6eHvMw=\" }}]\nstore: {{ redis: \"redis://127.0.0.1:{}\" }}\n",
                redis.port
            );
            measure(
                "store in Redis",
                &identity,
                &store,
                folder.path(),
                &elsewhere,
            );
        }
        None => println!("store in Redis: skipped, there is no redis-server"),
    }
}

fn measure(
    name: &str,
    identity: &str,
    store: &str,
    folder: &std::path::Path,
    elsewhere: &Elsewhere,
) {
    let limits = "{ address: 1000000/s, account: 1000000/s }";
    let text = format!(
        "workers: 1
listen: [{{ address: 127.0.0.1:0, tls: off }}]
admin: {{ address: 127.0.0.1:0 }}
{store}tokens: [{{ issuer: \"http://{identity}/auth/v1\", audience: authenticated, algorithms: ES256, jwks_file: jwks.json }}]
identity: {{ supabase: {{ url: \"http://{identity}\", publishable_keys: [pk] }}, throttle: {{ login: {limits} }} }}
routes: [{{ path: /health, access: public, serve: health }}]
"
    );
    let loaded = config::load_str("bench.yaml", &text, folder, &|_| None).unwrap();
    let background = tokio::runtime::Runtime::new().unwrap();
    let log = Log::start(std::io::sink()).unwrap();
    let server = background.block_on(Server::start(loaded, log)).unwrap();
    let address = server.addresses().listeners[0]
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    let mut client = BufReader::new(TcpStream::connect(address).unwrap());
    client.get_ref().set_nodelay(true).unwrap();
    // Until the list of revocations is there.
    while login(&mut client, "first@example.test") != 200 {
        thread::sleep(Duration::from_millis(20));
    }
    let mut times: Vec<Duration> = (0..WARM + LOGINS)
        .map(|number| {
            let email = format!("{number}@example.test");
            elsewhere.store(0, Ordering::SeqCst);
            let started = Instant::now();
            assert_eq!(login(&mut client, &email), 200);
            let whole = started.elapsed();
            whole.saturating_sub(Duration::from_nanos(elsewhere.load(Ordering::SeqCst)))
        })
        .skip(WARM)
        .collect();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "login, {name}: p50 {:?}, p90 {:?}, p99 {:?}, p99.9 {:?}, most {:?} ({LOGINS} logins)",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// Signs in, and gives the status of the answer.
fn login(client: &mut BufReader<TcpStream>, email: &str) -> u16 {
    let body = format!("{{\"email\":\"{email}\",\"password\":\"correct horse\"}}");
    let request = format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nhost: api.example.com\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.get_mut().write_all(request.as_bytes()).unwrap();
    let (first, _) = read(client).unwrap();
    first.split(' ').nth(1).unwrap().parse().unwrap()
}

/// One that finds every password right: `HOST:PORT`.
fn identity_server(signer: Signer) -> (String, Elsewhere) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let issuer = format!("http://{address}/auth/v1");
    let elsewhere = Elsewhere::default();
    let measured = elsewhere.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (signer, issuer, measured) = (signer.clone(), issuer.clone(), measured.clone());
            thread::spawn(move || {
                let mut stream = BufReader::new(stream.unwrap());
                stream.get_ref().set_nodelay(true).unwrap();
                while read(&mut stream).is_some() {
                    let started = Instant::now();
                    let answer = grant(&signer, &issuer);
                    let message = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
                        answer.len()
                    );
                    let took = started.elapsed();
                    let nanos = u64::try_from(took.as_nanos()).unwrap();
                    measured.fetch_add(nanos, Ordering::SeqCst);
                    stream.get_mut().write_all(message.as_bytes()).unwrap();
                }
            });
        }
    });
    (address, elsewhere)
}

fn grant(signer: &Signer, issuer: &str) -> String {
    let subject = Uuid::now_v7().to_string();
    let claims = Claims::new(issuer, &subject, clock::unix_now())
        .with("session_id", Uuid::now_v7().to_string());
    let token = signer.sign(&claims).unwrap();
    format!(
        "{{\"access_token\":\"{token}\",\"token_type\":\"bearer\",\"expires_in\":3600,\"refresh_token\":\"r\",\"user\":{{\"id\":\"{subject}\"}}}}"
    )
}

struct RedisServer {
    child: Child,
    port: u16,
}

impl RedisServer {
    fn start(folder: &std::path::Path) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap()
            .port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--dir"])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        Some(Self { child, port })
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
