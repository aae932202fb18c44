//! A real PostgreSQL, in a folder and on a port of its own, with the tables that authorization reads (`schema.sql`).
//!
//! It is spoken to through `psql`, which comes with it: a route that shares nothing with the gateway's own client.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::DEADLINE;

/// The name of the database.
const DATABASE: &str = "velro";

/// The tables.
const SCHEMA: &str = include_str!("schema.sql");

/// A running server. Dropping it ends it with all its processes.
#[derive(Debug)]
pub struct Postgres {
    postmaster: Child,
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
}

impl Postgres {
    /// Starts one with the tables and no rows.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with more settings, such as `max_connections=4`.
    pub fn with(settings: &[&str]) -> Self {
        Self::prepared(settings, |_| {})
    }

    /// The same, with files put into its data folder before, such as a key; they are given to the server's user.
    pub fn prepared(settings: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        give(folder.path());
        let initdb = as_server("initdb")
            .args(["--no-sync", "--auth=trust", "--username=postgres"])
            .args(["--encoding=UTF8", "--locale=C.UTF-8", "--pgdata"])
            .arg(folder.path().join("data"))
            .output()
            .unwrap();
        assert!(initdb.status.success(), "initdb: {initdb:?}");
        prepare(&folder.path().join("data"));
        for entry in std::fs::read_dir(folder.path().join("data")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                give(&path);
            }
        }
        let settings: Vec<String> = settings
            .iter()
            .map(|setting| (*setting).to_owned())
            .collect();
        // The port is free when it is asked for; whoever takes it meanwhile makes us ask for another.
        for _ in 0..20 {
            let port = free_port();
            if let Some(postmaster) = spawn(&folder, port, &settings) {
                let server = Self {
                    postmaster,
                    folder,
                    port,
                    settings,
                };
                server.ask_in("postgres", &format!("CREATE DATABASE {DATABASE}"));
                server.sql(SCHEMA);
                return server;
            }
        }
        panic!("postgres does not start:\n{}", log(&folder));
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of its superuser, without TLS and password.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of a role.
    pub fn url_of(&self, role: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// Executes statements, whose answers do not matter.
    #[track_caller]
    pub fn sql(&self, statements: &str) {
        self.ask_in(DATABASE, statements);
    }

    /// The rows of a query, each value as text; NULL is empty.
    #[track_caller]
    pub fn rows(&self, query: &str) -> Vec<Vec<String>> {
        self.ask_in(DATABASE, query)
            .lines()
            .map(|line| line.split('\u{1f}').map(str::to_owned).collect())
            .collect()
    }

    /// The one value of a query.
    #[track_caller]
    pub fn value(&self, query: &str) -> String {
        let rows = self.rows(query);
        assert!(
            matches!(&rows[..], [row] if row.len() == 1),
            "{query}: {rows:?}"
        );
        rows.concat().concat()
    }

    /// Loads lines in the format of `COPY`: columns by tabs, NULL as `\N`.
    #[track_caller]
    pub fn copy(&self, table: &str, columns: &str, lines: &str) {
        assert!(
            lines.is_empty() || lines.ends_with('\n'),
            "a line without end"
        );
        let mut text = format!("COPY {table} ({columns}) FROM STDIN;\n");
        text.push_str(lines);
        text.push_str("\\.\n");
        self.ask_in(DATABASE, &text);
    }

    #[track_caller]
    fn ask_in(&self, database: &str, text: &str) -> String {
        let mut psql = Command::new("psql")
            .args(["-X", "-q", "-A", "-t", "-F", "\u{1f}"])
            .args(["-v", "ON_ERROR_STOP=1", "-f", "-"])
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-U", "postgres", "-d", database])
            .env("PGCONNECT_TIMEOUT", "20")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = psql.stdin.take().unwrap();
        // Statements and answers may both be longer than a pipe holds.
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // What it did not read is in its status.
                let _ = stdin.write_all(text.as_bytes());
            });
            psql.wait_with_output().unwrap()
        });
        assert!(
            output.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            text.get(..2000).unwrap_or(text),
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ends it at once with all its connections, and waits for that.
    pub fn kill(&mut self) {
        self.resume();
        // An immediate shutdown: no checkpoint, and the children go first.
        send("QUIT", &[self.postmaster.id()]);
        let deadline = Instant::now() + DEADLINE;
        while self.postmaster.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let _ = self.postmaster.kill();
                let _ = self.postmaster.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again on the same port with what it had stored.
    pub fn start_again(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(postmaster) = spawn(&self.folder, self.port, &self.settings) {
                self.postmaster = postmaster;
                return;
            }
            assert!(
                Instant::now() < deadline,
                "it does not start again:\n{}",
                log(&self.folder)
            );
        }
    }

    /// Stops every one of its processes where it stands (SIGSTOP): connections stay, new ones are taken by the kernel, and nothing is answered.
    pub fn pause(&self) {
        // The one that makes the others first, so that no one is made behind our back.
        send("STOP", &[self.postmaster.id()]);
        let children = children(self.postmaster.id());
        assert!(!children.is_empty(), "it has processes of its own");
        send("STOP", &children);
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.resuming()();
    }

    /// What lets it go on, for whoever cannot keep the server itself.
    pub fn resuming(&self) -> impl FnOnce() + use<> {
        let postmaster = self.postmaster.id();
        move || {
            send("CONT", &children(postmaster));
            send("CONT", &[postmaster]);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// One of the server's own programs, run by the user it may run as: it refuses to be root.
fn as_server(program: &str) -> Command {
    let program = programs().join(program);
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--",
        ])
        .arg(program)
        // Whoever it is may not be allowed to be where we are.
        .current_dir("/");
    command
}

/// The folder of the newest version that is installed; Debian puts only the clients into the path.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
            let programs = path.join("bin");
            programs
                .join("initdb")
                .exists()
                .then_some((version, programs))
        })
        .max()
        .map_or_else(PathBuf::new, |(_, programs)| programs)
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Makes a file or folder the server's.
fn give(path: &Path) {
    if is_root() {
        let status = Command::new("chown").arg("postgres:").arg(path).status();
        assert!(status.unwrap().success());
    }
}

fn spawn(folder: &TempDir, port: u16, settings: &[String]) -> Option<Child> {
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let sockets = format!("unix_socket_directories={}", folder.path().display());
    let port_setting = format!("port={port}");
    let mut own = vec!["listen_addresses=127.0.0.1", &port_setting, &sockets];
    // Nothing here must outlive the machine; but what was committed outlives the server.
    own.extend(["fsync=off", "full_page_writes=off"]);
    let mut postmaster = as_server("postgres")
        .arg("-D")
        .arg(folder.path().join("data"))
        .args(own.iter().flat_map(|setting| ["-c", setting]))
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if postmaster.try_wait().unwrap().is_some() {
            return None;
        }
        let ready = Command::new("pg_isready")
            .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
            .status();
        if ready.unwrap().success() {
            return Some(postmaster);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = postmaster.kill();
    let _ = postmaster.wait();
    None
}

fn log(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
}

/// The processes that one started itself.
fn children(parent: u32) -> Vec<u32> {
    let parent_of = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may hold anything: the state, then the parent.
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_whitespace().nth(1)?.parse().ok()
    };
    let processes = std::fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| parent_of(pid) == Some(parent))
        .collect()
}

/// A signal to processes that may just have ended.
fn send(signal: &str, pids: &[u32]) {
    if !pids.is_empty() {
        let _ = Command::new("kill")
            .arg(format!("-{signal}"))
            .args(pids.iter().map(u32::to_string))
            .stderr(Stdio::null())
            .status();
    }
}
