//! Other traffic while something hangs: what a public route and a route for users take while the
//! identity server, Redis or PostgreSQL stands still.
//!
//! A gateway with one worker is asked two things in turn over one connection: a public route, and
//! one for users with a token that was verified before. Beside it runs a stream of fifty clients
//! that need the dependency: they sign in, come with cookies that only Redis knows, or ask for what
//! only PostgreSQL knows. The stream is the same in both states, and each of its clients asks again
//! only when it was answered: fifty wait at once for what hangs. First nothing hangs, then the
//! dependency does, then nothing, then it does again. What is told are the percentiles of the other
//! traffic in each, and how many times as long it took while the dependency hung.
//!
//! Redis and PostgreSQL are real, and stopped (SIGSTOP); the identity server reads what it is
//! asked, and does not answer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::wildcard_enum_match_arm,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark stops at the first surprise, measures, and borrows the servers of the tests"
)]

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use foregate::clock;
use foregate::config::{self, Loaded};
use foregate::log::Log;
use foregate::server::Server;
use foregate::sessions::cookie::CookieKeys;
use foregate::tokens::mint::{Claims, Signer};
use jsonwebtoken::Algorithm;
use uuid::Uuid;

#[path = "support/message.rs"]
mod message;
#[path = "../tests/gateway/support/port.rs"]
mod port;
#[path = "../tests/gateway/support/postgres.rs"]
mod postgres;
#[path = "../tests/gateway/support/redis.rs"]
mod redis;

use message::read;

/// How long a server may take to start.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Clients that need the dependency.
const STREAM: usize = 50;

/// How often each of them asks at most.
const EVERY: Duration = Duration::from_millis(500);

/// How long each state is measured. Longer than any deadline at the identity server, so that both
/// the wait for it and the breaker are in it.
const STATE: Duration = Duration::from_secs(8);

/// After a state begins, until it is measured.
const SETTLES: Duration = Duration::from_millis(500);

type Switch = Box<dyn Fn(bool)>;

fn main() {
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let signer = Signer::generate(Algorithm::ES256)
        .unwrap()
        .with_kid("bench");
    let identity = Identity::start(signer.clone());
    let (postgres, redis) = (postgres::Postgres::start(), redis::RedisServer::start());
    let folder = tempfile::tempdir().unwrap();
    let jwks = signer.public_jwks().unwrap();
    std::fs::write(folder.path().join("jwks.json"), jwks).unwrap();
    let loaded = load(&identity, &postgres, &redis, folder.path());
    let cookies = Arc::new(CookieKeys::new(&loaded.config.keys).unwrap());
    let background = tokio::runtime::Runtime::new().unwrap();
    let log = Log::start(std::io::sink()).unwrap();
    let server = background.block_on(Server::start(loaded, log)).unwrap();
    let address = server.addresses().listeners[0]
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    let token = Arc::new(identity.token());

    println!(
        "{:<16} {:<8} {:>9} {:>9} {:>9} {:>9}   answers of the stream",
        "", "", "public", "p99", "user", "p99"
    );
    let login = || {
        let body = format!(
            "{{\"email\":\"{}@example.test\",\"password\":\"correct horse\"}}",
            Uuid::now_v7()
        );
        format!(
            "POST /api/v1/auth/login HTTP/1.1\r\nhost: api.example.com\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let hang = identity.hangs.clone();
    let hung: Switch = Box::new(move |on| hang.store(on, Ordering::SeqCst));
    measure(address, &token, "identity server", &login, &hung);

    let cookie = {
        let cookies = cookies.clone();
        move || {
            let (_, value) = cookies.make().unwrap();
            let cookie = format!("cookie: __Host-foregate={value}");
            format!("GET /page HTTP/1.1\r\nhost: api.example.com\r\n{cookie}\r\n\r\n")
        }
    };
    let hung: Switch = Box::new(move |on| match on {
        true => redis.pause(),
        false => redis.resume(),
    });
    measure(address, &token, "Redis", &cookie, &hung);

    let bearer = token.clone();
    let project = move || {
        let id = Uuid::now_v7();
        get(&format!("/projects/{id}"), Some(&bearer))
    };
    let hung: Switch = Box::new(move |on| match on {
        true => postgres.pause(),
        false => postgres.resume(),
    });
    measure(address, &token, "PostgreSQL", &project, &hung);
}

fn load(
    identity: &Identity,
    postgres: &postgres::Postgres,
    redis: &redis::RedisServer,
    folder: &std::path::Path,
) -> Loaded {
    let limits = "{ address: 1000000/s, account: 1000000/s }";
    let text = format!(
        "
workers: 1
listen: [{{ address: 127.0.0.1:0, tls: off }}]
admin: {{ address: 127.0.0.1:0 }}
keys: [{{ id: k1, secret: \"q8Vb0kXo2m3WZ1nJ5cPzq4rT7yUu9aLsDfGhK6eHvMw=\" }}]
store: {{ redis: \"{redis}\" }}
database: {{ url: \"{postgres}?sslmode=disable\" }}
resources:
  project:
    query: select user_id as owner, visibility from projects where id = $1
tokens: [{{ issuer: \"{identity}/auth/v1\", audience: authenticated, algorithms: ES256, jwks_file: jwks.json }}]
identity: {{ supabase: {{ url: \"{identity}\", publishable_keys: [pk] }}, throttle: {{ login: {limits} }} }}
routes:
  - {{ path: /public, access: public, serve: health }}
  - {{ path: /user, access: user, serve: health }}
  - {{ path: /page, access: user, credentials: [cookie], serve: health }}
  - {{ path: \"/projects/{{id:uuid}}\", methods: [GET], access: user, resource: project, serve: health }}
",
        redis = redis.url(),
        postgres = postgres.url(),
        identity = identity.url,
    );
    config::load_str("bench.yaml", &text, folder, &|_| None).unwrap()
}

/// The percentiles of one state, in microseconds: of the public route and of the one for users.
struct Figures([f64; 4]);

/// Measures both states twice, in turn, under one stream.
fn measure(
    address: SocketAddr,
    token: &str,
    name: &str,
    message: &(dyn Fn() -> String + Sync),
    hung: &Switch,
) {
    let stream = Stream::default();
    let ends = AtomicBool::new(false);
    let mut figures = Vec::new();
    thread::scope(|scope| {
        for number in 0..STREAM {
            let (stream, ends) = (&stream, &ends);
            scope.spawn(move || stream.run(number, address, message, ends));
        }
        let mut client = Client::connect(address);
        for is_hung in [false, true, false, true] {
            hung(is_hung);
            if !is_hung {
                client.ask_until_served(token);
            }
            thread::sleep(SETTLES);
            stream.take();
            let measured = client.measure(token);
            let state = if is_hung { "hung" } else { "well" };
            let Figures([public, public_99, user, user_99]) = measured;
            println!(
                "{name:<16} {state:<8} {public:>6.1} µs {public_99:>6.1} µs {user:>6.1} µs {user_99:>6.1} µs   {}",
                stream.take()
            );
            figures.push(measured);
        }
        hung(false);
        ends.store(true, Ordering::SeqCst);
    });
    let both = |index: usize, states: [usize; 2]| {
        states
            .map(|state| figures[state].0[index])
            .iter()
            .sum::<f64>()
    };
    let ratio = |index| both(index, [1, 3]) / both(index, [0, 2]);
    println!(
        "{name:<16} {:<8} {:>8.2} × {:>7.2} × {:>7.2} × {:>7.2} ×",
        "ratio",
        ratio(0),
        ratio(1),
        ratio(2),
        ratio(3)
    );
}

/// One kept connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// The status of the answer.
    fn ask(&mut self, message: &str) -> u16 {
        self.0.get_mut().write_all(message.as_bytes()).unwrap();
        let (first, _) = read(&mut self.0).unwrap();
        first.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Until the gateway has heard of everything that it needs.
    fn ask_until_served(&mut self, token: &str) {
        let started = Instant::now();
        let project = get(&format!("/projects/{}", Uuid::now_v7()), Some(token));
        for (message, well) in [(get("/user", Some(token)), 200), (project, 404)] {
            while self.ask(&message) != well {
                assert!(started.elapsed() < DEADLINE, "it is not served: {message}");
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn measure(&mut self, token: &str) -> Figures {
        let messages = [get("/public", None), get("/user", Some(token))];
        let mut times = [Vec::new(), Vec::new()];
        let until = Instant::now() + STATE;
        while Instant::now() < until {
            for (message, times) in messages.iter().zip(&mut times) {
                let started = Instant::now();
                assert_eq!(self.ask(message), 200);
                times.push(started.elapsed());
            }
        }
        let [public, user] = &mut times;
        Figures([at(public, 50), at(public, 99), at(user, 50), at(user, 99)])
    }
}

fn at(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6
}

fn get(path: &str, token: Option<&str>) -> String {
    let authorization = token
        .map(|token| format!("authorization: Bearer {token}\r\n"))
        .unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nhost: api.example.com\r\n{authorization}\r\n")
}

/// What the clients of the stream were answered: by status, how often, and the longest wait.
#[derive(Default)]
struct Stream(Mutex<BTreeMap<u16, (usize, Duration)>>);

impl Stream {
    fn run(
        &self,
        number: usize,
        address: SocketAddr,
        message: &dyn Fn() -> String,
        ends: &AtomicBool,
    ) {
        // Not all at once, which would be measured instead.
        thread::sleep(EVERY * u32::try_from(number).unwrap() / u32::try_from(STREAM).unwrap());
        let mut client = Client::connect(address);
        while !ends.load(Ordering::SeqCst) {
            let started = Instant::now();
            let status = client.ask(&message());
            let took = started.elapsed();
            {
                let mut answers = self.0.lock().unwrap();
                let (count, longest) = answers.entry(status).or_default();
                *count += 1;
                *longest = took.max(*longest);
            }
            thread::sleep(EVERY.saturating_sub(took));
        }
    }

    fn take(&self) -> String {
        let answers = std::mem::take(&mut *self.0.lock().unwrap());
        let told = answers.iter().map(|(status, (count, longest))| {
            format!("{count} × {status} (at most {} ms)", longest.as_millis())
        });
        told.collect::<Vec<_>>().join(", ")
    }
}

/// One that finds every password right, or does not answer.
struct Identity {
    url: String,
    signer: Signer,
    hangs: Arc<AtomicBool>,
}

impl Identity {
    fn start(signer: Signer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let hangs = Arc::new(AtomicBool::new(false));
        let (signing, issuer, hanging) = (signer.clone(), url.clone(), hangs.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (signer, issuer, hangs) = (signing.clone(), issuer.clone(), hanging.clone());
                thread::spawn(move || {
                    let mut stream = BufReader::new(stream.unwrap());
                    stream.get_ref().set_nodelay(true).unwrap();
                    while read(&mut stream).is_some() {
                        while hangs.load(Ordering::SeqCst) {
                            thread::sleep(Duration::from_millis(50));
                        }
                        let answer = grant(&signer, &issuer);
                        let message = format!(
                            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
                            answer.len()
                        );
                        if stream.get_mut().write_all(message.as_bytes()).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { url, signer, hangs }
    }

    /// The token of a fresh user.
    fn token(&self) -> String {
        token(&self.signer, &self.url, &Uuid::now_v7().to_string())
    }
}

fn token(signer: &Signer, url: &str, subject: &str) -> String {
    let issuer = format!("{url}/auth/v1");
    let claims = Claims::new(&issuer, subject, clock::unix_now())
        .with("session_id", Uuid::now_v7().to_string());
    signer.sign(&claims).unwrap()
}

fn grant(signer: &Signer, url: &str) -> String {
    let subject = Uuid::now_v7().to_string();
    let token = token(signer, url, &subject);
    format!(
        "{{\"access_token\":\"{token}\",\"token_type\":\"bearer\",\"expires_in\":3600,\"refresh_token\":\"r\",\"user\":{{\"id\":\"{subject}\"}}}}"
    )
}
