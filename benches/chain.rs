//! What the way of a request costs before anything is sent on: canonical form, route, headers,
//! layers.
//!
//! The first group calls one function at a time. The second cannot: an `Inbound` needs hyper's
//! request body, which only a connection makes, and a record, which only a worker opens. So it asks
//! a gateway with one worker over one kept connection, many requests at a time so that waking
//! threads does not drown the rest. What counts is the difference between routes that the gateway
//! answers itself: hyper, the socket and the log line are in every one. The time is that of a whole
//! burst; the rate is per request.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark stops at the first surprise"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use foregate::auth::when::caller_fields;
use foregate::clock;
use foregate::config::{self, Loaded};
use foregate::gateway::metrics::Metrics;
use foregate::log::Log;
use foregate::policy::condition::{Condition, Scope};
use foregate::policy::path::{canonicalise, fold};
use foregate::policy::router::RouteTable;
use foregate::request::headers::{DEFAULT_COOKIE, HeaderScan, clean_request};
use foregate::request::host::{Host, LastHost};
use foregate::request::query::Query;
use foregate::server::Server;
use foregate::tokens::mint::{Claims, Signer};
use foregate::tokens::{KeySources, Presented, Tokens, VerifiedCache};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use jsonwebtoken::Algorithm;

const PLAIN: &str = "/api/v1/projects/018f5b5e-0000-7000-8000-000000000001/files";
const ENCODED: &str = "/api/v1/projects/018f5b5e%2D0000-7000-8000-000000000001/caf%c3%a9";

fn canonical_form(criterion: &mut Criterion) {
    criterion.bench_function("path: canonicalise, plain", |bencher| {
        bencher.iter(|| canonicalise(black_box(PLAIN)).unwrap());
    });
    criterion.bench_function("path: canonicalise, encoded", |bencher| {
        bencher.iter(|| canonicalise(black_box(ENCODED)).unwrap());
    });
    criterion.bench_function("path: fold, nothing to do", |bencher| {
        bencher.iter(|| fold(black_box(PLAIN)));
    });
    criterion.bench_function("path: fold, a near miss", |bencher| {
        bencher.iter(|| fold(black_box("/Api/V1/Projects/x/")).unwrap());
    });
    criterion.bench_function("host", |bencher| {
        let (parts, _) = Request::get("/")
            .header("host", "api.example.com:8443")
            .body(())
            .unwrap()
            .into_parts();
        bencher.iter(|| Host::of(black_box(&parts), true, &LastHost::default()).unwrap());
    });
    criterion.bench_function("query: a token among three keys", |bencher| {
        let names = ["access_token".to_owned()];
        bencher.iter(|| Query::read(black_box(Some("a=1&access_token=x&b=2")), &names).unwrap());
    });
}

/// What a browser sends through one proxy.
fn browser_headers() -> HeaderMap {
    [
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-GB,en;q=0.9"),
        ("authorization", "Bearer x"),
        ("cookie", "theme=dark; consent=1"),
        ("origin", "https://app.example.com"),
        ("referer", "https://app.example.com/"),
        ("sec-fetch-dest", "empty"),
        ("sec-fetch-mode", "cors"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0)"),
        ("x-client-info", "supabase-js-web/2.50.0"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("connection", "keep-alive"),
    ]
    .into_iter()
    .map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    })
    .collect()
}

fn headers(criterion: &mut Criterion) {
    let headers = browser_headers();
    criterion.bench_function("headers: clean 14 fields", |bencher| {
        bencher.iter_batched_ref(
            || headers.clone(),
            |headers| {
                let scan = HeaderScan::of(headers);
                clean_request(black_box(headers), &scan, DEFAULT_COOKIE)
            },
            BatchSize::SmallInput,
        );
    });
}

fn load(text: &str) -> Loaded {
    config::load_str("bench.yaml", text, Path::new(""), &|_| None).unwrap()
}

/// A map of `count` routes: half of them end in a literal, half in a parameter.
fn route_map(count: usize) -> Loaded {
    let mut text = "
listen: [{ address: 127.0.0.1:0, tls: off }]
upstreams: { backend: { servers: [http://127.0.0.1:1] } }
defaults: { upstream: backend }
routes:
"
    .to_owned();
    for number in 0..count / 2 {
        writeln!(
            text,
            "  - {{ path: /api/v1/kind{number}, access: public }}
  - {{ path: \"/api/v1/kind{number}/{{id}}/files\", access: public, resource: none }}"
        )
        .unwrap();
    }
    load(&text)
}

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for count in [10, 2000] {
        let table = RouteTable::new(&route_map(count).config).unwrap();
        let last = count / 2 - 1;
        let select = |path: &str| table.select("api.example.com", black_box(path), &Method::GET);
        let literal = format!("/api/v1/kind{last}");
        group.bench_function(BenchmarkId::new("literal", count), |bencher| {
            bencher.iter(|| select(&literal).unwrap());
        });
        let parameter = format!("/api/v1/kind{last}/018f5b5e-0000-7000-8000-000000000001/files");
        group.bench_function(BenchmarkId::new("parameter", count), |bencher| {
            bencher.iter(|| select(&parameter).unwrap());
        });
        group.bench_function(BenchmarkId::new("unknown", count), |bencher| {
            bencher.iter(|| select("/api/v1/nothing").unwrap_err());
        });
    }
}

/// Requests that are sent before their answers are read.
const BURST: u64 = 64;

const ISSUER: &str = "https://project.supabase.co/auth/v1";
const SECRET: &str = "a secret of the length that HS256 asks for";

/// Computing a condition that reads the request, and one that reads a claim, for a caller that an
/// entry of `tokens` verified.
fn conditions(criterion: &mut Criterion) {
    let metrics = Metrics::new().unwrap();
    let keys = KeySources::new(metrics.keys().clone());
    let config = load(ANSWERED_HERE).config;
    let cache = Arc::new(VerifiedCache::new(config.token_cache));
    let tokens = Tokens::new(&config.tokens, cache, &keys).unwrap();
    let Presented::User(verified) = tokens.verify(&token(), clock::unix_now()).unwrap() else {
        unreachable!("it is a user's token");
    };
    let roles = ["user".into(), "editor".into()];
    let scope = Scope {
        method: "POST",
        path: PLAIN,
        host: "api.example.com",
        address: "203.0.113.9",
        caller: Some(caller_fields(&verified)),
        roles: &roles,
    };
    for (name, source) in [
        (
            "condition: method or second factor",
            "request.method == 'GET' || caller.aal == 'aal1'",
        ),
        ("condition: a role", "'editor' in caller.roles"),
        (
            "condition: a claim",
            "caller.claims.app_metadata.plan == 'pro'",
        ),
    ] {
        let condition = Condition::parse(source).unwrap();
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| assert!(condition.holds(black_box(&scope)).unwrap()));
        });
    }
}

/// A good token of an issuer that [`ANSWERED_HERE`] names.
fn token() -> String {
    let claims = Claims::new(
        ISSUER,
        "0198b5b0-7d6a-7c3e-9a55-3f1d2c4b5a69",
        clock::unix_now(),
    )
    .with("app_metadata", serde_json::json!({ "plan": "pro" }));
    Signer::secret(SECRET.as_bytes(), Algorithm::HS256)
        .and_then(|signer| signer.sign(&claims))
        .unwrap()
}

const ANSWERED_HERE: &str = r#"
workers: 1
listen: [{ address: 127.0.0.1:0, tls: off }]
admin: { address: 127.0.0.1:0 }
tokens:
  - { issuer: https://project.supabase.co/auth/v1, audience: authenticated, algorithms: HS256, secret: a secret of the length that HS256 asks for }
routes:
  - { path: /public, access: public, serve: health }
  - { path: /user, access: user, serve: health }
  - { path: /when, access: user, serve: health, when: "request.method == 'POST' || caller.aal == 'aal1'" }
  - { path: "/things/{thing_id:uuid}/files", access: user, resource: none, serve: health }
"#;

fn whole_chain(criterion: &mut Criterion) {
    let background = tokio::runtime::Runtime::new().unwrap();
    let log = Log::start(std::io::sink()).unwrap();
    let server = background
        .block_on(Server::start(load(ANSWERED_HERE), log))
        .unwrap();
    let address = server.addresses().listeners[0]
        .strip_prefix("http://")
        .unwrap();
    let token = token();

    let mut group = criterion.benchmark_group("whole, over one connection");
    group.throughput(Throughput::Elements(BURST));
    for (name, path, status) in [
        ("no route", "/nothing", 404),
        ("public", "/public", 200),
        ("user, token known", "/user", 200),
        ("user, token known, condition", "/when", 200),
        (
            "user, token known, identifier",
            "/things/018f5b5e-0000-7000-8000-000000000001/files",
            200,
        ),
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: api.example.com\r\naccept: */*\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        // Answers this short come in one piece, and all of one kind have the same length.
        let mut answer = [0; 4096];
        stream.write_all(request.as_bytes()).unwrap();
        let length = stream.read(&mut answer).unwrap();
        let start = format!("HTTP/1.1 {status} ");
        let is_right =
            |answer: &[u8]| answer.starts_with(start.as_bytes()) && answer.ends_with(b"}");
        assert!(is_right(&answer[..length]));

        let requests = request.repeat(usize::try_from(BURST).unwrap());
        let mut answers = vec![0; length * usize::try_from(BURST).unwrap()];
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                stream.write_all(requests.as_bytes()).unwrap();
                stream.read_exact(&mut answers).unwrap();
            });
        });
        assert!(answers.chunks(length).all(is_right));
    }
}

criterion_group!(
    benches,
    canonical_form,
    headers,
    routes,
    conditions,
    whole_chain
);
criterion_main!(benches);
