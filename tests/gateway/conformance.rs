//! Suites of conformance that others wrote. Each runs only if a variable of the environment names
//! its programs, as `tests/all.sh --full` does; without them these tests prove nothing, and say so.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::sign_in::Desk;
use crate::support::client::Door;
use crate::support::pki::NAME;
use crate::support::{Answer, Gateway, Http, gateway};

/// What this variable says, or a line that tells what was not proven.
fn named(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        eprintln!("NOT PROVEN: {variable} is not set");
    }
    path
}

async fn run(mut command: Command) -> Output {
    let output = tokio::task::spawn_blocking(move || command.output());
    output.await.unwrap().unwrap()
}

fn text(output: &Output) -> String {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&all).into_owned()
}

/// `FOREGATE_H2SPEC` names the program of h2spec.
#[tokio::test]
async fn h2spec_finds_nothing() {
    let Some(h2spec) = named("FOREGATE_H2SPEC") else {
        return;
    };
    let gateway = Gateway::start().await;
    let port = gateway.address(Door::Tls).rsplit_once(':').unwrap().1;
    let mut suite = Command::new(h2spec);
    suite
        .args(["-h", "127.0.0.1", "-p", port, "-t", "-k", "-S"])
        .args(["-o", "20", "-P", "/public/x"]);
    let report = text(&run(suite).await);
    let sum = report.lines().rev().find(|line| line.contains(" tests, "));
    assert!(
        sum.is_some_and(|sum| sum.starts_with("146 ") && sum.contains(" 0 failed")),
        "{report}"
    );
}

/// The cases of gRPC's interoperability tests that need no account at a cloud, and that the suite's
/// own server passes without a gateway: it reports no load (`orca_*`), and names no server
/// (`pick_first_unary`).
const CASES: [&str; 16] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "rpc_soak",
    "channel_soak",
];

/// The server of gRPC's interoperability tests. Dropping it ends it.
struct GrpcServer {
    child: Child,
    port: String,
}

impl GrpcServer {
    fn start(program: &Path) -> Self {
        let mut child = Command::new(program)
            .args(["-port", "0"])
            .env("GRPC_GO_LOG_SEVERITY_LEVEL", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, address) = line.split_once("listening on ")?;
            Some(address.rsplit_once(':').unwrap().1.to_owned())
        });
        // It must not wait for somebody to read what it says.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            port: listening.unwrap(),
        }
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `FOREGATE_GRPC_INTEROP` names a folder with the programs `client` and `server`.
#[tokio::test]
async fn the_cases_of_grpc_interoperability_pass_over_tls_and_in_clear_text() {
    let Some(folder) = named("FOREGATE_GRPC_INTEROP") else {
        return;
    };
    let server = GrpcServer::start(&folder.join("server"));
    let url = format!("http://127.0.0.1:{}", server.port);
    let gateway = Gateway::with(|config| {
        config
            .upstream("interop", &url, ", protocol: http2")
            .routes(r#"- { path: "/{*rest}", access: public, upstream: interop, body: { limit: 8MiB } }"#);
    })
    .await;
    let mut failures = Vec::new();
    for door in [Door::Tls, Door::Plain] {
        let port = gateway.address(door).rsplit_once(':').unwrap().1;
        for case in CASES {
            let mut client = Command::new(folder.join("client"));
            client
                .args(["-server_host", "127.0.0.1", "-server_port", port])
                .args(["-test_case", case])
                // The default of each call is a second, which a busy machine needs for itself.
                .args(["-soak_overall_timeout_seconds", "60"])
                .args(["-soak_per_iteration_max_acceptable_latency_ms", "10000"]);
            if door == Door::Tls {
                client
                    .args(["-use_tls", "-use_test_ca", "-server_host_override", NAME])
                    .arg("-ca_file")
                    .arg(gateway.path("ca.pem"));
            }
            let output = run(client).await;
            if !output.status.success() {
                failures.push(format!("{door:?} {case}: {}", text(&output)));
            }
        }
    }
    let all = 2 * CASES.len();
    eprintln!("{} of {all} cases passed", all - failures.len());
    assert!(failures.is_empty(), "{failures:#?}");
}

/// `FOREGATE_CONNECT` names a folder with the programs `connectconformance` and `referenceserver`.
/// The suite starts the gateway and its own server behind it anew for every combination of
/// protocol, version and encryption, by `tests/conformance/server.py`.
#[tokio::test]
async fn the_conformance_suite_of_connect_grpc_and_grpc_web_passes() {
    let Some(folder) = named("FOREGATE_CONNECT") else {
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/server.py");
    let mut suite = Command::new(folder.join("connectconformance"));
    suite
        // More at once, and a busy machine needs longer than the suite waits.
        .args(["--mode", "server", "--max-servers", "1", "--parallel", "4"])
        .args(["--", "python3"])
        .arg(script)
        .arg(gateway::program())
        .arg(folder.join("referenceserver"));
    let output = run(suite).await;
    let report = text(&output);
    let sum = report.lines().rev().find(|line| line.contains(" passed, "));
    eprintln!("{}", sum.unwrap_or_default());
    let passed = sum.and_then(|sum| sum.split(' ').next()?.parse::<usize>().ok());
    assert!(
        output.status.success() && passed.is_some_and(|passed| passed > 3000),
        "{report}"
    );
}

/// What httplint calls an error and is none here: the note, and why.
const NOT_OURS: [(&str, &str); 0] = [];

/// Fields of a request.
type Fields<'a> = &'a [(&'a str, &'a str)];

/// One exchange, as the linter reads it.
fn exchange(method: &str, path: &str, asked: Fields<'_>, answer: &Answer) -> Value {
    let fields: Vec<_> = answer
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    json!({
        "method": method,
        "url": format!("https://{NAME}{path}"),
        "asked": asked,
        "status": answer.status.as_u16(),
        "fields": fields,
        "body": answer.text(),
    })
}

/// Every kind of answer that the gateway makes itself.
async fn own_answers() -> Vec<Value> {
    let mut all = Vec::new();
    let gateway = Gateway::with(|config| {
        config
            .set("cors", "{ origins: [\"https://app.test\"], credentials: true }")
            .set("connections", "{ refused_tokens: 1/d }")
            .set("hosts", "[api.test]")
            .upstream("closed", "http://127.0.0.1:1", "")
            .more_routes("- { path: /closed, access: public, upstream: closed }\n- { path: /grpc, access: user, errors: grpc }\n- { path: /rest, access: user, errors: postgrest }\n- { path: /auth, access: user, errors: gotrue }");
    })
    .await;
    let bearer = format!("Bearer {}", gateway.issuer.token());
    let origin = ("origin", "https://app.test");
    let cases: &[(&str, &str, u16, Fields<'_>, usize)] = &[
        ("GET", "/health", 200, &[], 0),
        ("HEAD", "/health", 200, &[], 0),
        ("GET", "/health", 200, &[origin], 0),
        ("GET", "/me", 401, &[], 0),
        ("HEAD", "/me", 401, &[], 0),
        ("GET", "/me", 401, &[origin], 0),
        ("GET", "/me", 401, &[("authorization", "Bearer a.b.c")], 0),
        ("GET", "/grpc", 200, &[], 0),
        ("GET", "/rest", 401, &[], 0),
        ("GET", "/auth", 401, &[], 0),
        ("GET", "/admin", 403, &[("authorization", &bearer)], 0),
        ("GET", "/nowhere", 404, &[], 0),
        ("POST", "/read-only", 405, &[], 0),
        ("POST", "/small", 413, &[], 9000),
        ("GET", "/closed", 502, &[], 0),
        (
            "OPTIONS",
            "/me",
            204,
            &[origin, ("access-control-request-method", "GET")],
            0,
        ),
    ];
    for http in Http::BOTH {
        for (method, path, status, asked, length) in cases {
            let call = gateway.call(http, method, path);
            let call = asked
                .iter()
                .fold(call, |call, (name, value)| call.header(name, value));
            let call = match length {
                0 => call,
                length => call.body(vec![b'x'; *length]),
            };
            let answer = call.send().await;
            assert_eq!(answer.status, *status, "{method} {path}");
            all.push(exchange(method, path, asked, &answer));
        }
        let elsewhere = gateway.get(http, "/health").host("other.test");
        let answer = elsewhere.send().await;
        assert_eq!(answer.status, 421);
        all.push(exchange("GET", "/health", &[], &answer));
    }
    // Only the first one is checked.
    for http in [Http::One, Http::One, Http::Two] {
        let call = gateway.get(http, "/me").bearer(&gateway.issuer.expired());
        let answer = call.send().await;
        all.push(exchange("GET", "/me", &[], &answer));
    }
    assert_eq!(all.last().unwrap()["status"], 429);
    // Another listener only redirects.
    let redirecting = gateway.connector(Http::One, Door::Redirect);
    for (method, status) in [("GET", 308), ("POST", 403)] {
        let answer = redirecting.call(method, "/a?b=c").send().await;
        assert_eq!(answer.status, status);
        all.push(exchange(method, "/a?b=c", &[], &answer));
    }
    all.extend(of_the_admin_listener(&gateway).await);
    all.extend(of_sign_in().await);
    all
}

/// Its probes, its metrics, and its refusals.
async fn of_the_admin_listener(gateway: &Gateway) -> Vec<Value> {
    let mut all = Vec::new();
    for (method, path) in [
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/nowhere"),
        ("POST", "/livez"),
        ("POST", "/revocations"),
    ] {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-i", "-X", method, "--noproxy", "*"])
            .args(["-H", "Content-Type: application/json"])
            .arg(format!("{}{path}", gateway.admin()));
        let output = run(curl).await;
        let answer = String::from_utf8(output.stdout).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status: u16 = lines.next().unwrap()[9..12].parse().unwrap();
        let fields: Vec<_> = lines.map(|line| line.split_once(": ").unwrap()).collect();
        all.push(json!({
            "method": method,
            "url": format!("{}{path}", gateway.admin()),
            "asked": [],
            "status": status,
            "fields": fields,
            "body": body,
        }));
    }
    all
}

/// Answers of sign-in: an account, one that is refused, and a method that it does not have.
async fn of_sign_in() -> Vec<Value> {
    let desk = Desk::open().await;
    let mut all = Vec::new();
    for http in Http::BOTH {
        for (method, path) in [
            ("GET", "/api/v1/auth/whoami"),
            ("POST", "/api/v1/auth/login"),
            ("GET", "/api/v1/auth/login"),
        ] {
            let call = desk.gateway.call(http, method, path);
            let call = call.header("content-type", "application/json");
            let answer = match method {
                "POST" => call.body("{}").send().await,
                _ => call.send().await,
            };
            all.push(exchange(method, path, &[], &answer));
        }
    }
    all
}

/// `FOREGATE_HTTPLINT` names a Python with httplint.
#[tokio::test]
async fn httplint_finds_no_error_in_what_the_gateway_answers_itself() {
    let Some(python) = named("FOREGATE_HTTPLINT") else {
        return;
    };
    let exchanges = own_answers().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/lint.py");
    let mut linter = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = linter.stdin.take().unwrap();
    for exchange in &exchanges {
        writeln!(stdin, "{exchange}").unwrap();
    }
    drop(stdin);
    let output = linter.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let notes: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // The script must have read them all.
    let read = notes.iter().filter(|note| note["read"] == true).count();
    assert_eq!(read, exchanges.len());
    let is_ours = |note: &&Value| {
        note["level"] == "bad" && NOT_OURS.iter().all(|(name, _)| note["note"] != *name)
    };
    let errors: Vec<_> = notes.iter().filter(is_ours).collect();
    let mut warnings: Vec<_> = notes
        .iter()
        .filter(|note| note["level"] == "warning")
        .map(|note| note["note"].to_string())
        .collect();
    warnings.sort();
    warnings.dedup();
    eprintln!(
        "{read} answers, {} errors; warnings: {warnings:?}",
        errors.len()
    );
    assert!(errors.is_empty(), "{errors:#?}");
}
