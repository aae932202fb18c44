//! The program under test: the real binary, in a folder of its own, on ports of its own.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use foregate::denial::Reason;
use serde_json::Value;
use tempfile::TempDir;

use super::admin::Post;
use super::client::{Call, Client, Connector, Door, Http};
use super::log::{Log, says};
use super::metrics::{self, Metrics};
use super::pki::{Leaf, NAME, Pki};
use super::raw::Raw;
use super::{Answer, Config, DEADLINE, Issuer, Origin, eventually, in_time};

/// A running gateway with everything around it. Dropping it ends the process, and fails the test if
/// the process panicked.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    log: Log,
    listeners: Vec<String>,
    admin: String,
    folder: TempDir,
    config: Config,
    may_panic: AtomicBool,
    /// The authority that signed the listener's certificate.
    pub pki: Pki,
    /// The issuer of tokens that this gateway accepts.
    pub issuer: Issuer,
    /// The server behind it, upstream `origin` of the configuration.
    pub origin: Origin,
}

impl Gateway {
    /// Starts with the default configuration.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts with a changed configuration.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let origin = Origin::start();
        Self::before(origin, change).await
    }

    /// Starts with these routes in place of the default ones.
    pub async fn with_routes(items: &str) -> Self {
        Self::with(|config| {
            config.routes(items);
        })
        .await
    }

    /// Starts in front of an origin that is already scripted.
    pub async fn before(origin: Origin, change: impl FnOnce(&mut Config)) -> Self {
        Self::within(&[], origin, change).await
    }

    /// Starts with these environment variables, in front of an origin that is already scripted.
    pub async fn within(
        environment: &[(&str, &str)],
        origin: Origin,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut command = command(program());
        command.envs(environment.iter().copied());
        Self::trusting(Issuer::new(), command, origin, change).await
    }

    /// Starts another replica: with the tokens of this one, in front of an origin of its own.
    pub async fn replica(&self, change: impl FnOnce(&mut Config)) -> Self {
        let command = command(program());
        Self::trusting(self.issuer.clone(), command, Origin::start(), change).await
    }

    /// Starts with these arguments of the shell's `ulimit`, such as `-Sn 1024`.
    pub async fn limited(ulimit: &str, change: impl FnOnce(&mut Config)) -> Self {
        let mut command = command("sh");
        command
            .args(["-c", &format!("ulimit {ulimit} && exec \"$0\" \"$@\"")])
            .arg(program());
        Self::trusting(Issuer::new(), command, Origin::start(), change).await
    }

    async fn trusting(
        issuer: Issuer,
        mut command: Command,
        origin: Origin,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::new();
        pki.sign(&[NAME, "localhost", "127.0.0.1"])
            .write(folder.path(), "server");
        std::fs::write(folder.path().join("ca.pem"), pki.root_pem()).unwrap();
        issuer.write(folder.path());
        let mut config = Config::new(&origin.url());
        change(&mut config);
        let file = folder.path().join("foregate.yaml");
        std::fs::write(&file, config.to_yaml()).unwrap();

        let mut child = command
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::default();
        log.collect(child.stdout.take().unwrap());
        log.collect(child.stderr.take().unwrap());
        let Some(line) = log.wait_for(|entry| says(entry, "listening")) else {
            let _ = child.kill();
            panic!(
                "the gateway did not start:\n{}\n{}",
                log.text(),
                config.to_yaml()
            );
        };
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        Self {
            child,
            log,
            listeners: text("listeners").split(' ').map(str::to_owned).collect(),
            admin: text("admin"),
            folder,
            config,
            may_panic: AtomicBool::new(false),
            pki,
            issuer,
            origin,
        }
    }

    // Addresses.

    /// The URL of a listener.
    pub fn url(&self, door: Door) -> &str {
        &self.listeners[door as usize]
    }

    /// The address of a listener, `127.0.0.1:PORT`.
    pub fn address(&self, door: Door) -> &str {
        self.url(door).split_once("://").unwrap().1
    }

    /// The URL of the admin listener.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A path in the gateway's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    // Sending requests.

    /// How to connect to a listener, for many connections or from other tasks.
    pub fn connector(&self, http: Http, door: Door) -> Connector {
        Connector::new(
            self.address(door),
            (door == Door::Tls).then(|| self.pki.client(&[http.alpn()], None)),
            http,
            self.log.clone(),
        )
    }

    /// A connector without TLS to the listener with TLS.
    pub fn clear_text_to_tls(&self) -> Connector {
        Connector::new(self.address(Door::Tls), None, Http::One, self.log.clone())
    }

    /// The same, with a client certificate. Only over TLS.
    pub fn connector_as(&self, http: Http, leaf: &Leaf) -> Connector {
        let tls = self.pki.client(&[http.alpn()], Some(leaf));
        Connector::new(self.address(Door::Tls), Some(tls), http, self.log.clone())
    }

    /// A kept connection over TLS.
    pub async fn connect(&self, http: Http) -> Client {
        self.connector(http, Door::Tls).connect().await
    }

    /// A request on a connection of its own, over TLS.
    pub fn call(&self, http: Http, method: &str, path: &str) -> Call<'_> {
        self.connector(http, Door::Tls).call(method, path)
    }

    /// A GET on a connection of its own, over TLS.
    pub fn get(&self, http: Http, path: &str) -> Call<'_> {
        self.call(http, "GET", path)
    }

    /// GET `/me`, until it is known whether the issuer publishes the token's key. A request that
    /// comes while keys are being fetched may find that the next fetch ends just after it has
    /// waited long enough; then it is asked to retry, and never told that its token is invalid.
    pub async fn judged(&self, http: Http, token: &str) -> Answer {
        let judged = async {
            loop {
                let answer = self.get(http, "/me").bearer(token).send().await;
                if answer.status != 503 {
                    return answer;
                }
                answer.is_denied(Reason::KeysUnavailable);
            }
        };
        in_time("a judgement", judged).await
    }

    /// A POST on a connection of its own, over TLS.
    pub fn post(&self, http: Http, path: &str) -> Call<'_> {
        self.call(http, "POST", path)
    }

    /// A connection for hand-written bytes.
    pub async fn raw(&self, door: Door) -> Raw {
        self.connector(Http::One, door).raw().await
    }

    // Observing.

    /// Waits for the request record of a decision id.
    pub fn log_line(&self, id: &str) -> Value {
        request_line(&self.log, id)
    }

    /// Everything it wrote.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// A scrape of its metrics.
    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(&self.admin)
    }

    /// Waits until a sum of samples has this value.
    pub async fn metric_becomes(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{name} {labels:?} becomes {value}");
        eventually(&what, || self.metrics().sum(name, labels) == value).await;
    }

    /// Status of `/readyz` or `/livez`.
    pub fn admin_status(&self, path: &str) -> u16 {
        metrics::get(&self.admin, path).0
    }

    /// Revokes something, as an operator, and expects that every replica refuses it.
    #[track_caller]
    pub fn revoke(&self, what: &Value) -> Value {
        let (status, answer) = Post::revoke(&self.admin, what).send();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["propagated"], true);
        answer
    }

    /// Bytes of memory it has resident.
    pub fn rss(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap();
        kib * 1024
    }

    /// Waits until no client is connected any more: nothing that was sent can still be in flight.
    pub async fn is_quiet(&self) {
        self.metric_becomes("foregate_connections", &[], 0.0).await;
    }

    // Changing.

    /// Writes a file into its folder.
    pub fn write_file(&self, name: &str, contents: impl AsRef<[u8]>) {
        // In one step, as a careful editor does: the gateway may read it at any time.
        let beside = self.path(&format!("{name}.new"));
        std::fs::write(&beside, contents).unwrap();
        std::fs::rename(beside, self.path(name)).unwrap();
    }

    /// The value of a key of the configuration file.
    pub fn config_value(&self, key: &str) -> String {
        self.config.get(key).to_owned()
    }

    /// Changes the configuration file; the gateway watches it, so the change may be applied at any
    /// time.
    pub fn write_config(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.write_file("foregate.yaml", self.config.to_yaml());
    }

    /// Changes the configuration and waits until it is in force.
    pub async fn reload(&mut self, change: impl FnOnce(&mut Config)) {
        let generation = || self.metrics().sum("foregate_config_generation", &[]);
        let before = generation();
        change(&mut self.config);
        self.write_file("foregate.yaml", self.config.to_yaml());
        self.signal("HUP");
        let deadline = Instant::now() + DEADLINE;
        while self.metrics().sum("foregate_config_generation", &[]) <= before {
            assert!(
                Instant::now() < deadline,
                "not applied:\n{}",
                self.log.text()
            );
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Sends it a signal, such as `TERM` or `HUP`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits until the process has ended.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.log.wait_for_end();
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end:\n{}",
                self.log.text()
            );
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Declares that this test makes the gateway panic.
    pub fn may_panic(&self) {
        self.may_panic.store(true, Ordering::Relaxed);
    }
}

/// A command whose log has the default level.
fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_remove("RUST_LOG");
    command
}

/// The program as cargo built it for the tests, or another build of it: `FOREGATE_BIN`.
pub fn program() -> OsString {
    std::env::var_os("FOREGATE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_foregate").into())
}

/// Waits for the request record of a decision id.
pub fn request_line(log: &Log, id: &str) -> Value {
    log.wait_for_request(id)
        .unwrap_or_else(|| panic!("no log line for {id}:\n{}", log.text()))
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.log.wait_for_end();
        let text = self.log.text();
        if std::thread::panicking() {
            eprintln!(
                "--- configuration\n{}--- log\n{text}",
                self.config.to_yaml()
            );
            return;
        }
        let panicked = text.contains("\"message\":\"panic\"") || text.contains("panicked at");
        if panicked && !self.may_panic.load(Ordering::Relaxed) {
            panic!("the gateway panicked:\n{text}");
        }
    }
}
