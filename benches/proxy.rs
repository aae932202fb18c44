//! End to end on the loopback: a client, the gateway as a process of its own, and an origin that
//! answers at once.
//!
//! Client and origin share the machine with the gateway, so requests per second say what this
//! machine can do, not what the gateway can. The number to compare is the CPU time the gateway
//! itself spends per request, as the kernel counts it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark stops at the first surprise, and measures the time"
)]

use std::convert::Infallible;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foregate::clock;
use foregate::tokens::mint::{Claims, Signer};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jsonwebtoken::Algorithm;
use tokio::net::{TcpListener, TcpStream};

const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(3);

/// Connections, or streams over [`H2_CONNECTIONS`].
const AT_ONCE: usize = 32;
const H2_CONNECTIONS: usize = 4;

const ISSUER: &str = "https://project.supabase.co/auth/v1";
const SECRET: &str = "a secret of the length that HS256 asks for";
const BODY: &str = "{\"name\":\"a project\",\"visibility\":\"private\"}";

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let origin = runtime.block_on(origin());
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), origin);
    let known = format!("Bearer {}", token());

    println!(
        "{AT_ONCE} requests at once, {MEASURED:?} each, GET with an answer of {} bytes",
        BODY.len()
    );
    println!(
        "{:<28} {:>11} {:>14} {:>9} {:>9}",
        "", "requests/s", "gateway CPU", "p50", "p99"
    );
    for (name, version, authorization, status) in [
        (
            "HTTP/1.1, token known",
            Version::H1,
            Some(&known),
            StatusCode::OK,
        ),
        (
            "HTTP/2, token known",
            Version::H2,
            Some(&known),
            StatusCode::OK,
        ),
        (
            "HTTP/1.1, refused",
            Version::H1,
            None,
            StatusCode::UNAUTHORIZED,
        ),
    ] {
        let load = Load {
            gateway: gateway.address,
            version,
            authorization: authorization.cloned(),
            status,
        };
        runtime.block_on(load.run(WARM_UP));
        let (cpu, started) = (gateway.cpu(), Instant::now());
        let mut took = runtime.block_on(load.run(MEASURED));
        let (cpu, wall) = (gateway.cpu() - cpu, started.elapsed());
        took.sort_unstable();
        let count = u32::try_from(took.len()).unwrap();
        println!(
            "{name:<28} {:>11.0} {:>11.1} µs {:>6.0} µs {:>6.0} µs",
            f64::from(count) / wall.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / f64::from(count),
            took[took.len() / 2].as_secs_f64() * 1e6,
            took[took.len() * 99 / 100].as_secs_f64() * 1e6,
        );
    }
}

fn token() -> String {
    let claims = Claims::new(
        ISSUER,
        "0198b5b0-7d6a-7c3e-9a55-3f1d2c4b5a69",
        clock::unix_now(),
    );
    Signer::secret(SECRET.as_bytes(), Algorithm::HS256)
        .and_then(|signer| signer.sign(&claims))
        .unwrap()
}

/// The gateway, ended with the benchmark.
struct Gateway {
    process: Child,
    address: SocketAddr,
}

impl Gateway {
    fn start(folder: &Path, origin: SocketAddr) -> Self {
        let (map, log) = (folder.join("foregate.yaml"), folder.join("log"));
        let text = format!(
            "
listen: [{{ address: 127.0.0.1:0, tls: off }}]
admin: {{ address: 127.0.0.1:0 }}
tokens: [{{ issuer: {ISSUER}, audience: authenticated, algorithms: HS256, secret: {SECRET} }}]
upstreams: {{ origin: {{ servers: [http://{origin}] }} }}
defaults: {{ upstream: origin }}
routes: [{{ path: \"/projects/{{project_id:uuid}}\", methods: [GET], access: user, resource: none }}]
"
        );
        fs::write(&map, text).unwrap();
        // As in production, every request writes its line.
        let process = Command::new(env!("CARGO_BIN_EXE_foregate"))
            .args(["run", "--config"])
            .arg(map)
            .stdout(File::create(&log).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process,
            address: wait_for_address(&log),
        }
    }

    /// User and system time since the start (proc_pid_stat(5), fields 14 and 15, in hundredths of a
    /// second).
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        // The second field, the name in parentheses, may hold spaces.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(10 * ticks)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Port 0 takes a free port; the log says which.
fn wait_for_address(log: &Path) -> SocketAddr {
    for _ in 0..500 {
        let text = fs::read_to_string(log).unwrap();
        if let Some((_, rest)) = text.split_once("\"listeners\":\"http://") {
            return rest.split_once('"').unwrap().0.parse().unwrap();
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!(
        "the gateway does not start: {}",
        fs::read_to_string(log).unwrap()
    );
}

async fn origin() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let service = service_fn(|_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(
                    BODY.as_bytes(),
                ))))
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

#[derive(Clone, Copy)]
enum Version {
    H1,
    H2,
}

/// One kind of request, sent by [`AT_ONCE`] clients that each wait for an answer before they ask
/// again.
#[derive(Clone)]
struct Load {
    gateway: SocketAddr,
    version: Version,
    authorization: Option<String>,
    status: StatusCode,
}

impl Load {
    async fn run(&self, duration: Duration) -> Vec<Duration> {
        let end = Instant::now() + duration;
        let mut clients = tokio::task::JoinSet::new();
        match self.version {
            Version::H1 => {
                for _ in 0..AT_ONCE {
                    let (mut sender, connection) =
                        http1::handshake(self.connect().await).await.unwrap();
                    tokio::spawn(connection);
                    let load = self.clone();
                    clients.spawn(async move {
                        let mut took = Vec::new();
                        while Instant::now() < end {
                            let started = Instant::now();
                            load.judge(sender.send_request(load.request("/")).await.unwrap())
                                .await;
                            took.push(started.elapsed());
                        }
                        took
                    });
                }
            }
            Version::H2 => {
                for _ in 0..H2_CONNECTIONS {
                    let (sender, connection) =
                        http2::handshake(TokioExecutor::new(), self.connect().await)
                            .await
                            .unwrap();
                    tokio::spawn(connection);
                    for _ in 0..AT_ONCE / H2_CONNECTIONS {
                        let (load, mut sender) = (self.clone(), sender.clone());
                        clients.spawn(async move {
                            let mut took = Vec::new();
                            while Instant::now() < end {
                                let started = Instant::now();
                                let request = load.request("http://api.example.com/");
                                load.judge(sender.send_request(request).await.unwrap())
                                    .await;
                                took.push(started.elapsed());
                            }
                            took
                        });
                    }
                }
            }
        }
        clients.join_all().await.concat()
    }

    async fn connect(&self) -> TokioIo<TcpStream> {
        let stream = TcpStream::connect(self.gateway).await.unwrap();
        stream.set_nodelay(true).unwrap();
        TokioIo::new(stream)
    }

    fn request(&self, base: &str) -> Request<Empty<Bytes>> {
        let mut request = Request::get(format!(
            "{base}projects/018f5b5e-0000-7000-8000-000000000001"
        ));
        if matches!(self.version, Version::H1) {
            request = request.header("host", "api.example.com");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        request.body(Empty::new()).unwrap()
    }

    async fn judge(&self, response: Response<Incoming>) {
        assert_eq!(response.status(), self.status);
        response.into_body().collect().await.unwrap();
    }
}
