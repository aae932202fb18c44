//! A real PostgreSQL, in a folder and on a port of its own, with the tables that authorization
//! reads (`schema.sql`).
//!
//! Tests use `psql`, which comes with it: a route that shares nothing with the gateway's own
//! client.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::DEADLINE;
use super::port::ReservedPort;

/// The name of the database.
const DATABASE: &str = "velro";

/// The tables.
const SCHEMA: &str = include_str!("schema.sql");

/// A running server. Dropping it ends it with all its processes.
#[derive(Debug)]
pub struct Postgres {
    postmaster: Child,
    folder: TempDir,
    port: ReservedPort,
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

    /// The same, with files put into its data folder first, such as a key; the server's user owns
    /// them.
    pub fn prepared(settings: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        give(folder.path());
        let data = folder.path().join("data");
        copy(template(), &data);
        prepare(&data);
        for entry in std::fs::read_dir(&data).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                give(&path);
            }
        }
        let settings = settings.iter().map(|setting| (*setting).to_owned());
        Self::on(folder, settings.collect())
    }

    /// Starts one on the data in this folder.
    fn on(folder: TempDir, settings: Vec<String>) -> Self {
        let port = ReservedPort::new();
        let Some(postmaster) = spawn(&folder, port.number(), &settings) else {
            panic!("postgres does not start:\n{}", log(&folder));
        };
        Self {
            postmaster,
            folder,
            port,
            settings,
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The URL of its superuser, without TLS and password.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of a role.
    pub fn url_of(&self, role: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// Executes statements and ignores their results.
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
        // Statements and results may both be longer than a pipe holds.
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // If it did not read everything, its status shows it.
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

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        log(&self.folder)
    }

    /// Ends it at once with all its connections, and waits for that.
    pub fn kill(&mut self) {
        self.resume();
        // An immediate shutdown: no checkpoint, and the children go first.
        self.end("QUIT");
    }

    /// Asks it to shut down by a signal, and waits for its end.
    fn end(&mut self, signal: &str) {
        send(signal, &[self.postmaster.id()]);
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
            if let Some(postmaster) = spawn(&self.folder, self.port(), &self.settings) {
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

    /// Stops all its processes (SIGSTOP): connections stay open, the kernel accepts new ones, and
    /// nothing is answered.
    pub fn pause(&self) {
        // The postmaster first, so that it starts no process meanwhile.
        send("STOP", &[self.postmaster.id()]);
        let children = children(self.postmaster.id());
        assert!(!children.is_empty(), "it has processes of its own");
        send("STOP", &children);
    }

    /// Resumes it (SIGCONT).
    pub fn resume(&self) {
        self.resuming()();
    }

    /// Resumes it, for a caller that cannot keep the server itself.
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

/// A data folder with the tables and no rows. Every server starts from a copy: `initdb` takes a
/// second, copying a twentieth of one. It is kept with what cargo built, so that it is made once,
/// in however many processes the tests run.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        // What was made for another server, with other tables or in another way is not taken.
        let mut hasher = DefaultHasher::new();
        (programs(), SCHEMA, include_str!("postgres.rs")).hash(&mut hasher);
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("postgres-{:016x}", hasher.finish()));
        if !kept.exists() {
            let made = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let data = made.path().join("data");
            make(&data);
            // In one step. If another process was quicker, its folder is just as good.
            if std::fs::rename(&data, &kept).is_err() {
                assert!(kept.exists(), "the template cannot be moved");
            }
        }
        kept
    })
}

/// Makes a data folder with the tables in it.
fn make(data: &Path) {
    let folder = tempfile::tempdir().unwrap();
    give(folder.path());
    let initdb = as_server("initdb")
        .args(["--no-sync", "--auth=trust", "--username=postgres"])
        .args(["--encoding=UTF8", "--locale=C.UTF-8"])
        .args(["--wal-segsize=1", "--pgdata"])
        .arg(folder.path().join("data"))
        .output()
        .unwrap();
    assert!(initdb.status.success(), "initdb: {initdb:?}");
    let mut server = Postgres::on(folder, Vec::new());
    server.ask_in("postgres", &format!("CREATE DATABASE {DATABASE}"));
    server.sql(SCHEMA);
    // Nobody connects to these, and they are more than half of a copy.
    server.sql("UPDATE pg_database SET datistemplate = false WHERE datname = 'template0'");
    server.sql("DROP DATABASE template0");
    server.sql("DROP DATABASE postgres");
    // A fast shutdown: with a checkpoint, so that a copy has nothing to recover when it starts.
    server.end("INT");
    copy(&server.folder.path().join("data"), data);
}

/// Copies a data folder with its owner and permissions, without which the server refuses it.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.unwrap().success());
}

/// One of the server's own programs, run by a user that it accepts: it refuses to be root.
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
        // That user may not be allowed to read the current folder.
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

/// Makes the server's user the owner of a file or folder.
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
    // Nothing here must survive a crash of the machine; but what was committed survives the server.
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
        // Through the socket in its own folder: another server may answer on the port, in which
        // case this one is about to fail.
        let ready = Command::new("pg_isready")
            .args(["-q", "-p", &port.to_string(), "-h"])
            .arg(folder.path())
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
        // After the name, which may contain anything: the state, then the parent.
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_whitespace().nth(1)?.parse().ok()
    };
    let processes = std::fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| parent_of(pid) == Some(parent))
        .collect()
}

/// Sends a signal to processes that may just have ended.
fn send(signal: &str, pids: &[u32]) {
    if !pids.is_empty() {
        let _ = Command::new("kill")
            .arg(format!("-{signal}"))
            .args(pids.iter().map(u32::to_string))
            .stderr(Stdio::null())
            .status();
    }
}
