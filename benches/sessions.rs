//! What a cookie costs: its session in memory, and its session in Redis.
//!
//! The first part calls one function at a time. The second asks a gateway with one worker over one
//! connection, one request at a time, on a route that it answers itself; what counts is what its
//! log says of each request: how long the identity layer took, and how long it was from the whole
//! head to the verdict and the head of the answer. Sessions begin on another replica, so that the
//! first request of each finds nothing in memory. Needs `redis-server`; it is given a port and a
//! folder of its own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    missing_docs,
    reason = "a benchmark stops at the first surprise, and measures the time"
)]

use std::hint::black_box;
use std::io::{Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use criterion::Criterion;
use foregate::breaker::Outage;
use foregate::clock;
use foregate::config::{self, Loaded};
use foregate::gateway::metrics::Metrics;
use foregate::log::Log;
use foregate::revocation::Revocations;
use foregate::secrets::secret::Secret;
use foregate::server::Server;
use foregate::sessions::Sessions;
use foregate::sessions::cookie::CookieKeys;
use foregate::sessions::record::{Carrier, ClientInfo, InnerTokens};
use foregate::sessions::sign_in::SignedInUser;
use foregate::store::{self, Store};
use foregate::tokens::mint::{Claims, Signer};
use jsonwebtoken::Algorithm;
use serde_json::Value;
use tokio::runtime::Runtime;

#[path = "support/lines.rs"]
mod lines;

use lines::Lines;

/// Sessions that are asked for once.
const COLD: usize = 2000;

/// Requests with one cookie.
const WARM: usize = 20_000;

const ISSUER: &str = "https://project.supabase.co/auth/v1";

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    pieces(&mut criterion);
    criterion.final_summary();
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let Some(redis) = Redis::start() else {
        println!("no figures of whole requests: `redis-server` is not installed");
        return;
    };
    requests(&redis);
}

fn pieces(criterion: &mut Criterion) {
    let keys = CookieKeys::new(&[]).unwrap();
    let (cookie, value) = keys.make().unwrap();
    criterion.bench_function("cookie: read and name", |bencher| {
        bencher.iter(|| keys.read(black_box(&value)).unwrap().name());
    });
    let made_up = "A".repeat(value.len());
    criterion.bench_function("cookie: one that nobody gave", |bencher| {
        bencher.iter(|| keys.read(black_box(&made_up)).is_none());
    });
    criterion.bench_function("cookie: CSRF token", |bencher| {
        bencher.iter(|| keys.csrf_token(black_box(&cookie)));
    });
}

fn requests(redis: &Redis) {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::generate(Algorithm::ES256).unwrap().with_kid("one");
    std::fs::write(
        folder.path().join("jwks.json"),
        signer.public_jwks().unwrap(),
    )
    .unwrap();
    let lines = Lines::default();
    let background = Runtime::new().unwrap();
    let server = background
        .block_on(Server::start(
            load(folder.path(), redis),
            Log::start(lines.clone()).unwrap(),
        ))
        .unwrap();
    let address = server.addresses().listeners[0].clone();
    let mut client = Client::connect(address.strip_prefix("http://").unwrap());
    let cookies = background.block_on(sign_in(load(folder.path(), redis), &signer));
    let first = &cookies[0];
    client.asks_until_served(first);

    println!(
        "{:<28} {:>12} {:>12} {:>12} {:>12}",
        "", "identity p50", "p99", "verdict p50", "p99"
    );
    for (name, asked) in [
        ("session from Redis", cookies[1..].to_vec()),
        ("session in memory", vec![first.clone(); WARM]),
    ] {
        lines.take();
        for cookie in &asked {
            client.ask(cookie);
        }
        let (identity, verdict) = times(&lines, asked.len());
        println!(
            "{name:<28} {:>9} µs {:>9} µs {:>9} µs {:>9} µs",
            at(&identity, 50),
            at(&identity, 99),
            at(&verdict, 50),
            at(&verdict, 99),
        );
    }
}

fn at(sorted: &[u64], percent: usize) -> u64 {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn load(folder: &Path, redis: &Redis) -> Loaded {
    let text = format!(
        "
workers: 1
listen: [{{ address: 127.0.0.1:0, tls: off }}]
admin: {{ address: 127.0.0.1:0 }}
keys: [{{ id: k1, secret: q8Vb0kXo2m3WZ1nJ5cPzq4rT7yUu9aLsDfGhK6eHvMw= }}]
store: {{ redis: \"redis://127.0.0.1:{}\" }}
tokens: [{{ issuer: {ISSUER}, audience: authenticated, algorithms: ES256, jwks_file: jwks.json }}]
routes: [{{ path: /page, access: user, credentials: [cookie], serve: health }}]
",
        redis.port
    );
    config::load_str("bench.yaml", &text, folder, &|_| None).unwrap()
}

/// Begins sessions on a replica of its own, of as many users; the values of their cookies.
async fn sign_in(loaded: Loaded, signer: &Signer) -> Vec<String> {
    let metrics = Metrics::new().unwrap();
    let store: Arc<dyn Store> = store::open(&loaded.config, &metrics.store).unwrap();
    while store.outage() != Outage::Reachable {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (revocations, _follower) =
        Revocations::new(store.clone(), 1000, metrics.revocations.clone());
    let clock = clock::unix_millis;
    let counts = metrics.sessions.clone();
    let sessions = Sessions::new(&loaded.config, store, revocations, None, counts, clock).unwrap();
    let mut cookies = Vec::with_capacity(COLD + 1);
    for number in 0..=COLD {
        let subject = format!("0198b5b0-7d6a-7c3e-9a55-{number:012x}");
        let session = format!("0198b5b0-7d6a-7c3e-9a56-{number:012x}");
        let claims = Claims::new(ISSUER, &subject, clock::unix_now()).session(&session);
        let granted = SignedInUser {
            issuer: ISSUER.to_owned(),
            subject,
            session: Some(session),
            tokens: InnerTokens {
                access: Secret::new(signer.sign(&claims).unwrap()),
                refresh: Secret::new("refresh"),
            },
            asked_at: clock::unix_millis(),
        };
        let seen = ClientInfo {
            address: [203, 0, 113, 9].into(),
            user_agent: None,
        };
        let begun = sessions.begin(granted, Carrier::Cookie, seen, None).await;
        let cookie = begun.unwrap().set_cookie.unwrap();
        let cookie = cookie
            .to_str()
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        cookies.push(cookie);
    }
    cookies
}

/// One connection.
struct Client(TcpStream);

impl Client {
    fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// The status of the answer.
    fn status(&mut self, cookie: &str) -> u16 {
        let request =
            format!("GET /page HTTP/1.1\r\nhost: api.example.com\r\ncookie: {cookie}\r\n\r\n");
        self.0.write_all(request.as_bytes()).unwrap();
        // Answers this short come in one piece.
        let mut answer = [0; 4096];
        let length = self.0.read(&mut answer).unwrap();
        let text = std::str::from_utf8(&answer[..length]).unwrap();
        assert!(text.ends_with('}'), "{text}");
        text[9..12].parse().unwrap()
    }

    fn ask(&mut self, cookie: &str) {
        assert_eq!(self.status(cookie), 200);
    }

    /// Asks until the gateway has seen its store.
    fn asks_until_served(&mut self, cookie: &str) {
        while self.status(cookie) != 200 {
            sleep(Duration::from_millis(5));
        }
    }
}

/// How long the identity layer and the whole verdict took in so many requests, in microseconds and
/// sorted.
fn times(lines: &Lines, requests: usize) -> (Vec<u64>, Vec<u64>) {
    let (mut identity, mut verdict) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + Duration::from_secs(10);
    while verdict.len() < requests {
        assert!(Instant::now() < deadline, "lines are missing");
        for line in lines.take().split(|&byte| byte == b'\n') {
            let Ok(line) = serde_json::from_slice::<Value>(line) else {
                continue;
            };
            let Some(answered) = line["answered_us"].as_u64() else {
                continue;
            };
            verdict.push(answered);
            let layers = line["layers"].as_str().unwrap();
            let of_identity = layers
                .split(' ')
                .find_map(|step| step.strip_prefix("identity:"));
            identity.push(of_identity.unwrap().parse().unwrap());
        }
    }
    identity.sort_unstable();
    verdict.sort_unstable();
    (identity, verdict)
}

/// A server of its own, ended with the benchmark.
struct Redis {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Redis {
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ])
            .arg("--dir")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        Some(Self {
            process,
            port,
            _folder: folder,
        })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
