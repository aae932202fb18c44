//! A gateway in this process that answers by itself, and one connection to it.

use std::io::{Read as _, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use foregate::clock;
use foregate::config;
use foregate::log::Log;
use foregate::server::Server;
use foregate::tokens::mint::{Claims, Signer};
use jsonwebtoken::Algorithm;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::lines::Lines;

const ISSUER: &str = "https://issuer.test/auth/v1";

/// What is asked, with the queries that stand in README.
pub const FACTS: &str = "
facts:
  caller: select is_active as active from users where id = $1
  memberships: select m.team_id as team, m.role from team_members m join teams t on t.id = m.team_id where m.user_id = $1 and m.is_active and t.is_active
resources:
  project:
    query: select user_id as owner, visibility, (select jsonb_agg(jsonb_build_object('team', team_id, 'access', access_level)) from project_teams where project_id = $1) as teams from projects where id = $1
  generation:
    query: select user_id as owner, project_id as within, parent_generation_id as parent from generations where id = $1
    within: project
    parent: generation
";

pub struct Gate {
    address: String,
    signer: Signer,
    lines: Lines,
    server: Server,
    _folder: tempfile::TempDir,
    _runtime: Runtime,
}

/// What a gateway is made of.
#[derive(Clone)]
pub struct Parts {
    pub postgres: u16,
    pub redis: Option<u16>,
    pub signer: Signer,
    pub budget: &'static str,
}

impl Parts {
    pub fn new(postgres: u16, redis: Option<u16>) -> Self {
        let signer = Signer::generate(Algorithm::ES256).unwrap().with_kid("k");
        Self {
            postgres,
            redis,
            signer,
            budget: "50ms",
        }
    }
}

impl Gate {
    pub fn start(parts: &Parts) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let jwks = parts.signer.public_jwks().unwrap();
        std::fs::write(folder.path().join("jwks.json"), jwks).unwrap();
        let store = parts.redis.map_or(String::new(), |port| {
            format!("keys: [{{ id: k1, secret: \"q8Vb0kXo2m3WZ1nJ5cPzq4rT7yUu9aLsDfGhK6eHvMw=\" }}]\nstore: {{ redis: \"redis://127.0.0.1:{port}\" }}\n")
        });
        let text = format!(
            "
workers: 1
listen: [{{ address: 127.0.0.1:0, tls: off }}]
admin: {{ address: 127.0.0.1:0 }}
budget: {}
{store}database: {{ url: \"postgres://postgres@127.0.0.1:{}/velro?sslmode=disable\" }}
tokens: [{{ issuer: {ISSUER}, audience: authenticated, algorithms: ES256, jwks_file: jwks.json }}]
{FACTS}
routes:
  - {{ path: /health, access: public, serve: health }}
  - {{ path: \"/projects/{{project_id:uuid}}\", methods: [GET, PUT], access: user, resource: project, serve: health }}
  - {{ path: \"/generations/{{generation_id:uuid}}\", methods: [GET], access: user, resource: generation, serve: health }}
",
            parts.budget, parts.postgres
        );
        let loaded = config::load_str("bench.yaml", &text, Path::new(folder.path()), &|_| None);
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
        let lines = Lines::default();
        let runtime = Runtime::new().unwrap();
        let log = Log::start(lines.clone()).unwrap();
        let server = runtime.block_on(Server::start(loaded, log)).unwrap();
        let address = server.addresses().listeners[0].replace("http://", "");
        Self {
            address,
            signer: parts.signer.clone(),
            lines,
            server,
            _folder: folder,
            _runtime: runtime,
        }
    }

    pub fn token(&self, subject: &str) -> String {
        let claims = Claims::new(ISSUER, subject, clock::unix_now());
        self.signer.sign(&claims).unwrap()
    }

    pub fn connect(&self) -> Connection {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection(stream)
    }

    /// Asks until it has found its database and its store.
    pub fn is_ready(&self, token: &str, path: &str) {
        let mut connection = self.connect();
        let deadline = Instant::now() + crate::DEADLINE;
        while connection.ask("GET", path, token).0 == 503 {
            assert!(Instant::now() < deadline, "it is never ready");
            sleep(Duration::from_millis(5));
        }
    }

    /// A sample of its metrics.
    pub fn sample(&self, name: &str) -> f64 {
        let admin = self.server.addresses().admin.replace("http://", "");
        let mut stream = TcpStream::connect(admin).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let value = |line: &str| line.strip_prefix(name)?.trim().parse::<f64>().ok();
        text.lines().filter_map(value).sum()
    }

    /// How long the layers of so many requests took since this was asked last, and how long it was
    /// from the whole head to the head of the answer, as the log says.
    pub fn verdicts(&self, count: usize) -> (Vec<Duration>, Vec<Duration>) {
        let (mut layers, mut times) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let deadline = Instant::now() + crate::DEADLINE;
        while times.len() < count {
            assert!(Instant::now() < deadline, "lines are missing");
            for line in self.lines.take().split(|&byte| byte == b'\n') {
                let Ok(line) = serde_json::from_slice::<Value>(line) else {
                    continue;
                };
                let Some(answered) = line["answered_us"].as_u64() else {
                    continue;
                };
                times.push(Duration::from_micros(answered));
                let steps = line["layers"].as_str().unwrap().split(' ');
                let micros = steps.filter_map(|step| step.split(':').nth(1)?.parse::<u64>().ok());
                layers.push(Duration::from_micros(micros.sum()));
            }
        }
        (layers, times)
    }

    /// Forgets what the log said.
    pub fn forget(&self) {
        self.lines.take();
    }
}

/// One connection, on which one request follows the other.
pub struct Connection(TcpStream);

impl Connection {
    /// The status, and how long it took to come.
    pub fn ask(&mut self, method: &str, path: &str, token: &str) -> (u16, Duration) {
        let length = if method == "GET" {
            ""
        } else {
            "content-length: 0\r\n"
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: api.example.com\r\nauthorization: Bearer {token}\r\n{length}\r\n"
        );
        let mut answer = [0; 4096];
        let started = Instant::now();
        self.0.write_all(request.as_bytes()).unwrap();
        // Answers this short come in one piece.
        let length = self.0.read(&mut answer).unwrap();
        let took = started.elapsed();
        let text = std::str::from_utf8(&answer[..length]).unwrap();
        assert!(text.ends_with('}'), "{text}");
        (text[9..12].parse().unwrap(), took)
    }
}
