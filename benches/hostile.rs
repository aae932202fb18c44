//! Honest traffic beside attacks: what a forwarded public request and one of a user take while
//! strangers do their worst, against the same while as many requests come from clients that mean
//! well.
//!
//! One client asks in turn over one connection. Beside it, from another address and in a process of
//! its own at the lowest priority, runs one kind of attack over many connections. First it is
//! watched how many requests it makes; its harmless twin then makes as many in the same time, over
//! as many connections, as many at once, and takes every answer. The twin and the attack run in
//! turn, several times. What is told are the percentiles of the honest client in each, the medians
//! of all turns, how many times as long it took beside the attack, and the longest that it ever
//! waited.
//!
//! `cargo bench --bench hostile -- NAME` measures only attacks whose name has NAME in it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark stops at the first surprise, measures, and borrows from the tests"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use foregate::clock;
use foregate::config::{self, Loaded};
use foregate::log::Log;
use foregate::server::Server;
use foregate::tokens::mint::{Claims, Signer};
use jsonwebtoken::Algorithm;
use tokio::net::TcpSocket;

#[path = "../tests/gateway/support/attacks.rs"]
mod attacks;
#[path = "support/message.rs"]
mod message;

use attacks::{Attack, attacks};
use message::read;

/// The honest user.
const USER: &str = "0198b5b0-7d6a-7c3e-9a55-3f1d2c4b5a69";

/// Connections of strangers.
const STRANGERS: usize = 120;

/// Requests that each of them makes at once on HTTP/2.
const STREAMS: u32 = 30;

/// Where strangers come from.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// How often each state is measured. An odd number, which has a median.
const TURNS: usize = 3;

/// How long each state is measured.
const STATE: Duration = Duration::from_secs(3);

/// After a state begins, until it is measured, at least.
const SETTLES: Duration = Duration::from_secs(1);

/// So many requests are not measured, either.
const UNMEASURED: usize = 100;

/// The argument before which the others are those of a stranger.
const STRANGER: &str = "--stranger";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == STRANGER) {
        return stranger(&arguments[at + 1..]);
    }
    if arguments
        .iter()
        .any(|one| one == "--test" || one == "--list")
    {
        return;
    }
    let signer = Signer::generate(Algorithm::ES256)
        .unwrap()
        .with_kid("bench");
    let folder = tempfile::tempdir().unwrap();
    let jwks = signer.public_jwks().unwrap();
    std::fs::write(folder.path().join("jwks.json"), jwks).unwrap();
    let loaded = load(&origin(), folder.path());
    let background = tokio::runtime::Runtime::new().unwrap();
    let log = Log::start(std::io::sink()).unwrap();
    let server = background.block_on(Server::start(loaded, log)).unwrap();
    let address = server.addresses().listeners[0]
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    let claims = Claims::new("https://issuer.test", USER, clock::unix_now());
    let token = signer.sign(&claims).unwrap();

    println!(
        "{:<26} {:<9} {:>10} {:>10} {:>10} {:>10} {:>11}",
        "", "", "public", "p99", "user", "p99", "longest"
    );
    let wanted = |attack: &Attack| {
        let mut names = arguments.iter().filter(|one| !one.starts_with("--"));
        let first = names.next();
        first.is_none_or(|name| attack.name.contains(name.as_str()))
    };
    let mut worst: f64 = 0.0;
    for (number, attack) in attacks(STREAMS).iter().enumerate() {
        if wanted(attack) {
            worst = worst.max(measure(&address, &token, number, attack));
        }
    }
    println!("at most {worst:.2} times as long beside an attack");
}

fn load(origin: &str, folder: &std::path::Path) -> Loaded {
    let text = format!(
        "
workers: 1
listen: [{{ address: 127.0.0.1:0, tls: off }}]
admin: {{ address: 127.0.0.1:0 }}
tokens: [{{ issuer: \"https://issuer.test\", audience: authenticated, algorithms: ES256, jwks_file: jwks.json }}]
upstreams: {{ origin: {{ servers: [\"{origin}\"] }} }}
defaults: {{ upstream: origin }}
routes:
  - {{ path: \"/public/{{*rest}}\", access: public }}
  - {{ path: /me, access: user }}
"
    );
    config::load_str("bench.yaml", &text, folder, &|_| None).unwrap()
}

/// A server that reads every request to its end, and answers a long one at length.
fn origin() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = |length: usize| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        [head.into_bytes(), vec![b'x'; length]].concat()
    };
    let answers = Arc::new([answer(2), answer(60_000)]);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answers = answers.clone();
            thread::spawn(move || {
                let mut stream = BufReader::new(stream.unwrap());
                stream.get_ref().set_nodelay(true).unwrap();
                while let Some((first, _)) = read(&mut stream) {
                    let answer = &answers[usize::from(first.contains("/long"))];
                    if stream.get_mut().write_all(answer).is_err() {
                        break;
                    }
                }
            });
        }
    });
    url
}

/// Measures beside the twin and beside the attack, in turn; returns the largest ratio.
fn measure(address: &str, token: &str, number: usize, attack: &Attack) -> f64 {
    let rate = {
        let strangers = Strangers::start(address, number, "watched", 0);
        thread::sleep(SETTLES + STATE);
        strangers.end() / u64::try_from(STRANGERS).unwrap()
    };
    let states = ["harmless", "attack"];
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (state, figures) in states.iter().zip(&mut figures) {
            let strangers = Strangers::start(address, number, state, rate);
            figures.push(Client::connect(address).measure(token));
            strangers.end();
        }
    }
    let medians = figures.map(|turns: Vec<[f64; 5]>| {
        [0, 1, 2, 3, 4].map(|index| {
            let mut all: Vec<f64> = turns.iter().map(|turn| turn[index]).collect();
            all.sort_unstable_by(f64::total_cmp);
            all[TURNS / 2]
        })
    });
    for (state, [public, public_99, user, user_99, longest]) in states.iter().zip(medians) {
        println!(
            "{:<26} {state:<9} {public:>7.0} µs {public_99:>7.0} µs {user:>7.0} µs {user_99:>7.0} µs {:>8.1} ms",
            attack.name,
            longest / 1e3
        );
    }
    let [harmless, attacked] = medians;
    let ratios = [0, 1, 2, 3].map(|index| attacked[index] / harmless[index]);
    let [public, public_99, user, user_99] = ratios;
    println!(
        "{:<26} {:<9} {public:>8.2} × {public_99:>8.2} × {user:>8.2} × {user_99:>8.2} ×",
        attack.name, "ratio"
    );
    ratios.into_iter().fold(0.0, f64::max)
}

/// The process of the strangers.
struct Strangers(Child);

impl Strangers {
    /// Starts them; `rate` is how many requests each makes in one turn.
    fn start(address: &str, number: usize, state: &str, rate: u64) -> Self {
        let program = std::env::current_exe().unwrap();
        let child = Command::new("nice")
            .args(["-n", "19"])
            .arg(program)
            .args([STRANGER, address, &number.to_string(), state])
            .arg(rate.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Ends them, and returns how many requests they made.
    fn end(mut self) -> u64 {
        drop(self.0.stdin.take());
        let mut made = String::new();
        let mut output = BufReader::new(self.0.stdout.take().unwrap());
        output.read_line(&mut made).unwrap();
        self.0.wait().unwrap();
        made.trim().parse().unwrap()
    }
}

/// The strangers' process: attacks, or its harmless twin, until standard input ends.
fn stranger(arguments: &[String]) {
    let [address, number, state, rate, ..] = arguments else {
        panic!("{arguments:?}");
    };
    let attack = attacks(STREAMS).swap_remove(number.parse().unwrap());
    let (attack, made) = (Arc::new(attack), Arc::new(AtomicU64::new(0)));
    let is_over = Arc::new(AtomicBool::new(false));
    let address: SocketAddr = address.parse().unwrap();
    let at_once = attack.requests.max(1);
    let batches = rate.parse::<u64>().unwrap().div_ceil(at_once).max(1);
    let pause = (SETTLES + STATE) / u32::try_from(batches).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for _ in 0..STRANGERS {
        let (attack, made, is_over) = (attack.clone(), made.clone(), is_over.clone());
        match state.as_str() {
            "harmless" => {
                thread::spawn(move || harmless(address, &attack, pause));
            }
            _ => {
                runtime.spawn(async move {
                    while !is_over.load(Ordering::Relaxed) {
                        if let Ok(stream) = connect(address).await {
                            let _ = attack.once(stream, &is_over, &made).await;
                        }
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                });
            }
        }
    }
    let mut end = String::new();
    std::io::stdin().read_line(&mut end).unwrap();
    println!("{}", made.load(Ordering::Relaxed));
    std::process::exit(0);
}

async fn connect(address: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((SOURCE, 0).into())?;
    socket.connect(address).await
}

/// Asks now and then over one connection, as often at once as the attack does, and takes every
/// answer.
fn harmless(address: SocketAddr, attack: &Attack, pause: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let stream = runtime.block_on(connect(address)).unwrap();
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    let mut stream = BufReader::new(stream);
    let requests = usize::try_from(attack.requests.max(1)).unwrap();
    let batch = attack.harmless.repeat(requests);
    loop {
        let began = Instant::now();
        stream.get_mut().write_all(&batch).unwrap();
        for _ in 0..requests {
            let (first, _) = read(&mut stream).unwrap();
            assert!(first.contains(" 200 "), "{first}");
        }
        thread::sleep(pause.saturating_sub(began.elapsed()));
    }
}

/// The honest one: one kept connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// In microseconds: the percentiles of the public route and of the one for users, and the
    /// longest wait, from the beginning on.
    fn measure(&mut self, token: &str) -> [f64; 5] {
        let get = |path: &str, field: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n{field}\r\n").into_bytes()
        };
        let bearer = format!("Authorization: Bearer {token}\r\n");
        let messages = [get("/public/x", ""), get("/me", &bearer)];
        let (began, mut asked, mut longest) = (Instant::now(), 0, Duration::ZERO);
        while began.elapsed() < SETTLES || asked < UNMEASURED && began.elapsed() < 5 * SETTLES {
            longest = longest.max(self.ask(&messages[asked % 2]));
            asked += 1;
        }
        let mut times = [Vec::new(), Vec::new()];
        let until = Instant::now() + STATE;
        while Instant::now() < until {
            for (message, times) in messages.iter().zip(&mut times) {
                times.push(self.ask(message));
            }
        }
        let [public, user] = &mut times;
        let figures = [at(public, 50), at(public, 99), at(user, 50), at(user, 99)];
        let all = public.iter().chain(user.iter());
        let longest = all.fold(longest, |longest, time| longest.max(*time));
        let [a, b, c, d] = figures;
        [a, b, c, d, longest.as_secs_f64() * 1e6]
    }

    /// How long an answer takes.
    fn ask(&mut self, message: &[u8]) -> Duration {
        let began = Instant::now();
        self.0.get_mut().write_all(message).unwrap();
        let (first, _) = read(&mut self.0).unwrap();
        assert!(first.contains(" 200 "), "{first}");
        began.elapsed()
    }
}

fn at(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6
}
