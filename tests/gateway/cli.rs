//! The commands, as a person or a script uses them.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use foregate::policy::outage::State;
use serde_json::Value;

use crate::support::config::KEY;
use crate::support::gateway::program;
use crate::support::{DEADLINE, Gateway, Http};

// === demo ===

#[test]
fn the_demo_prints_json_for_scripts_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(folder.path(), &["--format", "json"]);
    let scene: Value = serde_json::from_str(&demo.line()).unwrap();
    let keys: Vec<_> = scene.as_object().unwrap().keys().collect();
    let mut expected = [
        "url",
        "admin_url",
        "upstream_url",
        "ca",
        "public_path",
        "protected_path",
        "token",
        "expired_token",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    let text = |key: &str| scene[key].as_str().unwrap();
    for version in ["--http1.1", "--http2"] {
        for (path, token, status) in [
            ("public_path", None, "200"),
            ("protected_path", None, "401"),
            ("protected_path", Some("token"), "200"),
            ("protected_path", Some("expired_token"), "401"),
        ] {
            let url = format!("{}{}", text("url"), text(path));
            let header = token.map(|token| format!("Authorization: Bearer {}", text(token)));
            let mut curl = Command::new("curl");
            curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", version])
                .args(["--cacert", text("ca"), &url]);
            if let Some(header) = &header {
                curl.args(["-H", header]);
            }
            assert_eq!(said(curl), status, "{path} {token:?} {version}");
        }
    }
    for (base, path) in [("admin_url", "/readyz"), ("upstream_url", "/x")] {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"])
            .arg(format!("{}{path}", text(base)));
        assert_eq!(said(curl), "200", "{base}");
    }
    assert!(folder.path().read_dir().unwrap().next().is_some());
    demo.ends_without_leftovers(folder.path());
}

#[test]
fn the_demo_prints_four_commands_that_a_shell_can_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(folder.path(), &[]);
    let mut statuses = Vec::new();
    while statuses.len() < 4 {
        let line = demo.line();
        let line = line.trim();
        if line.starts_with("curl ") {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{line} -s -o /dev/null -w '%{{http_code}}'")]);
            statuses.push(said(shell));
        }
    }
    assert_eq!(statuses, ["200", "401", "200", "401"]);
    demo.ends_without_leftovers(folder.path());
}

#[test]
fn the_demo_can_be_stopped_once_it_prints() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(folder.path(), &["--format", "json"]);
    demo.line();
    demo.ends_without_leftovers(folder.path());
}

#[test]
fn the_demo_reports_a_port_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = foregate(&["demo", "--port", &port]);
    let output = command.env("TMPDIR", folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(
        error.contains(&port) && error.contains("--port 0"),
        "{error}"
    );
    assert!(error.contains("in use"), "{error}");
    assert!(folder.path().read_dir().unwrap().next().is_none());
}

// === check and run ===

#[test]
fn a_valid_configuration_is_reported_valid() {
    let file = Written::new(GOOD);
    let output = file.foregate("check", &[]);
    assert_eq!(output.status.code(), Some(0));
    let summary = text(&output.stdout);
    assert!(summary.starts_with("valid: 2 routes, 1 upstreams, 0 issuers"));
    assert!(summary.contains("public    "), "{summary}");
    assert!(
        summary.contains("store     this process (one replica)"),
        "{summary}"
    );
    for state in State::ALL {
        assert!(summary.contains(state.meaning()), "{summary}");
    }
    assert!(
        summary.contains("read: degrade; write: 503 store_unavailable"),
        "{summary}"
    );
    let output = file.foregate("check", &["--format", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["valid"], true);
    assert_eq!(verdict["problems"].as_array().unwrap().len(), 0);
    let outages = verdict["outages"].as_array().unwrap();
    assert_eq!(outages.len(), State::ALL.len());
    for (state, class, answer) in [
        ("store_left", "write", "allow"),
        ("store_gone", "write", "503 store_unavailable"),
        ("keys_missing", "read", "503 keys_unavailable"),
        ("facts_away", "read", "degrade"),
        ("facts_away", "write", "503 facts_unavailable"),
        ("budget_spent", "public", "503 budget_spent"),
    ] {
        let row = outages.iter().find(|row| row["state"] == state).unwrap();
        assert_eq!(row["answers"][class], answer, "{state} {class}");
    }
}

#[test]
fn a_reader_that_closes_the_pipe_early_changes_no_exit_status() {
    for (text, code) in [(GOOD, 0), ("version: 2\n", 1)] {
        let written = Written::new(text);
        let file = written.folder.path().join("foregate.yaml");
        for format in ["human", "json"] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let arguments = ["check", "--config", file.to_str().unwrap()];
            let mut command = foregate(&arguments);
            command.env("KNOWN_SECRET", SECRET);
            command.args(["--format", format]);
            command.stdout(writer.try_clone().unwrap()).stderr(writer);
            assert_eq!(command.status().unwrap().code(), Some(code), "{format}");
        }
    }
}

#[test]
fn a_store_is_shown_without_its_password() {
    let file = Written::new(&format!(
        "{GOOD}keys: [{{ id: k1, secret: {KEY} }}]\nstore: {{ redis: \"rediss://gate:sw0rdf1sh@h:7000/2\" }}\n"
    ));
    let output = file.foregate("check", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let summary = text(&output.stdout);
    assert!(
        summary.contains("store     rediss://h:7000/2\n"),
        "{summary}"
    );
    for (from, to) in [
        ("id: k1,", "id: k1, bogus: 1,"),
        ("/2", "/x"),
        ("h:7000", "h h"),
        (" redis:", " redsi:"),
    ] {
        let file = Written::new(&file.text.replace(from, to));
        for format in ["human", "json"] {
            let output = file.foregate("check", &["--format", format]);
            assert_eq!(output.status.code(), Some(1), "{to}");
            let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
            assert!(!all.contains("sw0rdf1sh") && !all.contains(KEY), "{all}");
        }
    }
}

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    let bad = GOOD
        .replacen("access: public", "access: pubic", 1)
        .replace("drain: 1s", "drain: 1 parsec")
        .replace("workers: 1", "wrokers: 1");
    let lines: Vec<_> = ["wrokers", "parsec", "pubic"]
        .map(|word| 1 + bad.lines().position(|line| line.contains(word)).unwrap())
        .into();
    let file = Written::new(&bad);

    let output = file.foregate("check", &["--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["valid"], false);
    let problems = verdict["problems"].as_array().unwrap();
    let mut told: Vec<_> = problems
        .iter()
        .map(|problem| usize::try_from(problem["line"].as_u64().unwrap()).unwrap())
        .collect();
    told.sort_unstable();
    assert_eq!(told, lines, "{verdict:#}");

    // In the human format, and by `run`, the same is printed to standard error.
    for command in ["check", "run"] {
        let output = file.foregate(command, &[]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(text(&output.stdout), "");
        let error = text(&output.stderr);
        for line in &lines {
            assert!(error.contains(&format!("foregate.yaml:{line}:")), "{error}");
        }
        assert!(
            error.contains("workers") && error.contains("public"),
            "{error}"
        );
    }
}

#[test]
fn a_missing_file_is_reported() {
    for command in ["check", "run", "token"] {
        let output = foregate(&[command, "--config", "/nowhere/foregate.yaml"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = text(&output.stderr);
        assert!(error.contains("/nowhere/foregate.yaml"), "{error}");
    }
}

#[test]
fn run_names_the_address_that_cannot_be_bound() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for free in [
        "listen: [{ address: \"127.0.0.1:0\"",
        "admin: { address: \"127.0.0.1:0\"",
    ] {
        let used = free.replace("127.0.0.1:0", &address);
        let output = Written::new(&GOOD.replace(free, &used)).foregate("run", &[]);
        assert_eq!(output.status.code(), Some(1));
        let error = text(&output.stderr);
        assert!(
            error.contains(&address) && error.contains("in use"),
            "{error}"
        );
    }
}

// === token ===

#[tokio::test]
async fn a_token_minted_for_development_is_accepted_by_the_gateway() {
    let gateway = Gateway::start().await;
    let file = gateway.path("foregate.yaml");
    let mint = |more: &[&str]| {
        let mut command = foregate(&["token", "--config", file.to_str().unwrap()]);
        let output = command.args(more).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    };
    let subject = uuid::Uuid::now_v7().to_string();
    for (more, path, status) in [
        (&[][..], "/me", 200),
        (&["--subject", &subject], "/me", 200),
        (&["--expires", "-60"], "/me", 401),
        (&["--anonymous"], "/me", 403),
        (&["--anonymous"], "/guests", 200),
        (&[], "/admin", 403),
        (&["--role", "admin"], "/admin", 200),
        (&[], "/second-factor", 403),
        (&["--aal", "2"], "/second-factor", 200),
    ] {
        let token = mint(more);
        for http in Http::BOTH {
            let answer = gateway.get(http, path).bearer(&token).send().await;
            assert_eq!(answer.status, status, "{more:?} {path}");
        }
    }
}

#[test]
fn no_token_is_minted_for_production() {
    let file = Written::new(&with_secret("secret: \"0123456789abcdef0123456789abcdef\""));
    assert!(file.foregate("token", &[]).status.success());
    let production = file.text.replace("development", "production");
    let output = Written::new(&production).foregate("token", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    assert!(text(&output.stderr).contains("environment: development"));
}

#[test]
fn a_key_signs_with_an_algorithm_of_its_entry() {
    for (algorithms, algorithm) in [
        ("RS256", "RS256"),
        ("PS256", "PS256"),
        ("ES256, RS512", "RS512"),
    ] {
        let entry = format!(
            "issuer: \"https://a.test\", audience: [a], algorithms: [{algorithms}], jwks_url: \"http://127.0.0.1:1/keys\""
        );
        let over = format!("{entry}, until: 2020-01-01").replace(algorithms, "ES384");
        let file = Written::new(&format!(
            "{GOOD}tokens:\n  - {{ {over} }}\n  - {{ {entry} }}\n"
        ));
        let key = file.folder.path().join("key.pem");
        let made = Command::new("openssl")
            .args(["genpkey", "-quiet", "-algorithm", "RSA", "-out"])
            .arg(&key)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        let output = file.foregate("token", &["--key", key.to_str().unwrap(), "--kid", "k1"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let head = jsonwebtoken::decode_header(text(&output.stdout).trim()).unwrap();
        assert_eq!(
            (format!("{:?}", head.alg), head.kid.as_deref()),
            (algorithm.to_owned(), Some("k1"))
        );
    }
}

// === help ===

#[test]
fn help_names_every_option() {
    for (command, options) in [
        ("run", &["--config"][..]),
        ("check", &["--config", "--format"]),
        ("demo", &["--port", "--format"]),
        (
            "token",
            &[
                "--config",
                "--subject",
                "--issuer",
                "--role",
                "--expires",
                "--aal",
                "--anonymous",
                "--key",
                "--kid",
            ],
        ),
    ] {
        let output = foregate(&[command, "--help"]).output().unwrap();
        assert!(output.status.success());
        let help = text(&output.stdout);
        for option in options {
            assert!(help.contains(option), "{command}: {option}\n{help}");
        }
        let all = foregate(&["--help"]).output().unwrap();
        assert!(text(&all.stdout).contains(command));
    }
    for wrong in [&[][..], &["dance"], &["run"], &["demo", "--port", "x"]] {
        assert_eq!(foregate(wrong).output().unwrap().status.code(), Some(2));
    }
}

// === secrets ===

/// A secret unlike anything else in a configuration.
const SECRET: &str = "sw0rdf1sh-sw0rdf1sh-sw0rdf1sh-sw0rdf1sh";

#[test]
fn no_command_prints_a_secret_of_the_configuration() {
    for (name, config) in [
        ("good", with_secret(&format!("secret: \"{SECRET}\""))),
        ("variable", with_secret("secret: ${KNOWN_SECRET}")),
        ("in a file", with_secret("secret_file: secret")),
        ("too short", with_secret("secret: \"sw0rdf1sh\"")),
        (
            "problem beside it",
            with_secret(&format!("secret: \"{SECRET}\", bogus: 1")),
        ),
        (
            "twice",
            with_secret(&format!("secret: \"{SECRET}\", secret: \"{SECRET}\"")),
        ),
        (
            "and a file",
            with_secret(&format!("secret: \"{SECRET}\", secret_file: x")),
        ),
        ("a list", with_secret(&format!("secret: [\"{SECRET}\"]"))),
        (
            "a mapping",
            with_secret(&format!("secret: {{ a: \"{SECRET}\" }}")),
        ),
        ("misspelt", with_secret(&format!("secrt: \"{SECRET}\""))),
        ("unclosed", with_secret(&format!("secret: \"{SECRET}"))),
        (
            "bad escape",
            with_secret(&format!("secret: \"\\q{SECRET}\"")),
        ),
        (
            "wrong family",
            with_secret(&format!("secret: \"{SECRET}\"")).replace("HS256", "ES256"),
        ),
        (
            "tab",
            with_secret(&format!("secret: \"{SECRET}\"")).replace("drain: 1s", "drain:\t\t{"),
        ),
        (
            "as an issuer's neighbour",
            with_secret(&format!("secret: {SECRET}")).replace("[a]", "["),
        ),
    ] {
        let file = Written::new(&config);
        std::fs::write(file.folder.path().join("secret"), SECRET).unwrap();
        for (command, more) in [
            ("check", &[][..]),
            ("check", &["--format", "json"]),
            ("token", &["--issuer", "nobody"]),
        ] {
            let output = file.foregate(command, more);
            let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
            assert!(!all.is_empty());
            assert!(!all.contains("sw0rdf1sh"), "{name}: {command}: {all}");
        }
    }
}

#[tokio::test]
async fn a_running_gateway_prints_no_secret_of_its_configuration() {
    for level in ["info", "trace"] {
        let environment = [("RUST_LOG", level), ("KNOWN_SECRET", SECRET)];
        let change = |config: &mut crate::support::Config| {
            let entry = format!("{{ {ENTRY}, secret: \"${{KNOWN_SECRET}}\" }}");
            config.set("tokens", &format!("[{entry}]"));
            config.store("redis://gate:sw0rdf1sh@127.0.0.1:1");
        };
        let origin = crate::support::Origin::start();
        let mut gateway = Gateway::within(&environment, origin, change).await;
        gateway.get(Http::Two, "/me").send().await;
        gateway
            .reload(|config| {
                config.more_routes("- { path: /new, access: public }");
            })
            .await;
        gateway.write_config(|config| {
            let entry = format!("{{ {ENTRY}, secret: {SECRET}, bogus: 1 }}");
            config.set("tokens", &format!("[{entry}]"));
        });
        // The line, not the metric: it is counted before it is written.
        let tells_problem = |entry: &serde_json::Value| entry.to_string().contains("bogus");
        assert!(gateway.log().wait_for(tells_problem).is_some());
        let log = gateway.log().text();
        assert!(!log.contains("sw0rdf1sh"), "{log}");
        assert!(!log.contains(KEY), "{log}");
        assert!(!gateway.metrics().text().contains("sw0rdf1sh"));
    }
}

#[test]
fn debug_output_shows_no_secret() {
    let config = with_secret(&format!("secret: \"{SECRET}\""));
    let loaded = foregate::config::load_str("x", &config, Path::new("."), &|_| None).unwrap();
    let shown = format!("{loaded:?}\n{loaded:#?}");
    assert!(shown.contains("Secret(…)") && !shown.contains("sw0rdf1sh"));
}

// === helpers ===

const GOOD: &str = r#"environment: development
workers: 1
drain: 1s
listen: [{ address: "127.0.0.1:0", tls: off }]
admin: { address: "127.0.0.1:0" }
upstreams:
  one: { servers: ["http://127.0.0.1:1"] }
routes:
  - { path: /health, methods: [GET], access: public, serve: health }
  - { path: /x, access: public, upstream: one }
"#;

const ENTRY: &str = "issuer: \"https://a.test\", audience: [a], algorithms: [HS256]";

/// A valid configuration with an issuer whose keys are given like this.
fn with_secret(keys: &str) -> String {
    format!("{GOOD}tokens:\n  - {{ {ENTRY}, {keys} }}\n")
}

/// A configuration in a folder of its own.
struct Written {
    folder: tempfile::TempDir,
    text: String,
}

impl Written {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("foregate.yaml"), text).unwrap();
        Self {
            folder,
            text: text.to_owned(),
        }
    }

    fn foregate(&self, command: &str, more: &[&str]) -> Output {
        let file = self.folder.path().join("foregate.yaml");
        let mut command = foregate(&[command, "--config", file.to_str().unwrap()]);
        command.env("KNOWN_SECRET", SECRET).args(more);
        command.output().unwrap()
    }
}

fn foregate(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null());
    command
}

fn said(mut command: Command) -> String {
    text(&command.output().unwrap().stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running demo.
struct Demo {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Demo {
    fn start(temporary: &Path, more: &[&str]) -> Self {
        let mut child = foregate(&["demo", "--port", "0"])
            .args(more)
            .env("TMPDIR", temporary)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("another line").unwrap()
    }

    /// Sends SIGINT, as Ctrl-C does.
    fn ends_without_leftovers(mut self, temporary: &Path) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(sent.success());
        let deadline = std::time::Instant::now() + 2 * DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(std::time::Instant::now() < deadline, "it does not end");
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0));
        assert!(temporary.read_dir().unwrap().next().is_none());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
