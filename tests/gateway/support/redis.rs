//! A real Redis, in a folder and on a port of its own, and the bare protocol to inspect it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::DEADLINE;
use super::port::ReservedPort;

/// Where servers listen.
const HOST: &str = "127.0.0.1";

/// A running server. Dropping it ends the process.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    folder: TempDir,
    host: &'static str,
    port: ReservedPort,
    options: Vec<String>,
}

/// An answer of the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Resp {
    /// Bytes, a status or a number.
    Text(Vec<u8>),
    /// Nothing.
    Nil,
    /// A list.
    List(Vec<Resp>),
    /// An error.
    Error(String),
}

impl Resp {
    /// Its bytes; empty if it has none.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(bytes) => bytes,
            _ => b"",
        }
    }

    /// Its text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// Its parts; none if it is no list.
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }
}

impl RedisServer {
    /// Starts one that keeps everything in memory.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with more options, in the syntax of the command line.
    pub fn with(options: &[&str]) -> Self {
        Self::within(tempfile::tempdir().unwrap(), options)
    }

    /// Starts one in a folder that was prepared.
    pub fn within(folder: TempDir, options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        Self::on(HOST, ReservedPort::new(), folder, options)
    }

    /// A server that is not running yet, and its future port.
    pub fn absent() -> (ReservedPort, TempDir) {
        (ReservedPort::new(), tempfile::tempdir().unwrap())
    }

    /// Starts the server that was absent.
    pub fn appear(absent: (ReservedPort, TempDir), options: &[&str]) -> Self {
        let (port, folder) = absent;
        let options = options.iter().map(|option| (*option).to_owned());
        Self::on(HOST, port, folder, options.collect())
    }

    /// Starts two on one port of two addresses of the loopback.
    pub fn two_at(hosts: [&'static str; 2]) -> [Self; 2] {
        let port = ReservedPort::new();
        let start = |host, port| Self::on(host, port, tempfile::tempdir().unwrap(), Vec::new());
        [start(hosts[0], port.shared()), start(hosts[1], port)]
    }

    fn on(host: &'static str, port: ReservedPort, folder: TempDir, options: Vec<String>) -> Self {
        let child = spawn(&folder, host, port.number(), &options);
        Self {
            child: child.unwrap_or_else(|| panic!("redis-server does not start: {options:?}")),
            folder,
            host,
            port,
            options,
        }
    }

    /// Its port for clear text.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its URL, in clear text and without a user.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it at once, and waits for that.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port: empty, unless its options make it keep something.
    pub fn start_again(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(child) = spawn(&self.folder, self.host, self.port(), &self.options) {
                self.child = child;
                return;
            }
            assert!(Instant::now() < deadline, "it does not start again");
        }
    }

    /// Stops its process (SIGSTOP): connections stay open, and nothing is answered.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Resumes it (SIGCONT).
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(status.unwrap().success());
    }

    /// A connection with every permission.
    pub fn connect(&self) -> Connection {
        Connection::at(self.host, self.port()).unwrap()
    }

    /// One command.
    pub fn call(&self, command: &[&[u8]]) -> Resp {
        self.connect().call(command).unwrap()
    }

    /// One command, in text.
    pub fn say(&self, command: &str) -> Resp {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let answer = self.call(&words);
        assert!(!matches!(answer, Resp::Error(_)), "{command}: {answer:?}");
        answer
    }

    /// Whether it is a primary. `None` if it closed the connection, as Sentinel has a server do to
    /// every client when it changes the role.
    pub fn is_primary(&self) -> Option<bool> {
        let answer = self.connect().call(&[b"ROLE"]).ok()?;
        Some(answer.list()[0].text() == "master")
    }

    /// Every byte that an attacker who may read can see: names, values, members, fields.
    pub fn everything(&self) -> Vec<Vec<u8>> {
        let mut connection = self.connect();
        let mut seen = Vec::new();
        for key in connection.call(&[b"KEYS", b"*"]).unwrap().list() {
            let key = key.bytes();
            seen.push(key.to_vec());
            let read: &[&[u8]] = match connection.call(&[b"TYPE", key]).unwrap().text().as_str() {
                "string" => &[b"GET", key],
                "hash" => &[b"HGETALL", key],
                "zset" => &[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"],
                other => panic!("an unknown kind of value: {other}"),
            };
            match connection.call(read).unwrap() {
                Resp::List(items) => seen.extend(items.iter().map(|item| item.bytes().to_vec())),
                other => seen.push(other.bytes().to_vec()),
            }
        }
        seen
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &TempDir, host: &str, port: u16, options: &[String]) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", host])
        .args([
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
            "--dir",
        ])
        .arg(folder.path())
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        // With a password, an error is an answer, too.
        let answers =
            Connection::at(host, port).and_then(|mut connection| connection.call(&[b"PING"]));
        if answers.is_ok() {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// A connection that speaks RESP2.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// Opens one to a port of the loopback.
    pub fn to(port: u16) -> std::io::Result<Self> {
        Self::at(HOST, port)
    }

    fn at(host: &str, port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect((host, port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self {
            reader: BufReader::new(stream),
        })
    }

    /// One command.
    pub fn call(&mut self, command: &[&[u8]]) -> std::io::Result<Resp> {
        let mut text = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            text.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            text.extend_from_slice(word);
            text.extend_from_slice(b"\r\n");
        }
        self.reader.get_mut().write_all(&text)?;
        self.read()
    }

    fn read(&mut self) -> std::io::Result<Resp> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        Ok(match kind {
            "+" | ":" => Resp::Text(rest.as_bytes().to_vec()),
            "-" => Resp::Error(rest.to_owned()),
            "$" => match rest.parse::<usize>() {
                Err(_) => Resp::Nil,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.reader.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Resp::Text(bytes)
                }
            },
            "*" => match rest.parse::<usize>() {
                Err(_) => Resp::Nil,
                Ok(length) => Resp::List(
                    (0..length)
                        .map(|_| self.read())
                        .collect::<std::io::Result<_>>()?,
                ),
            },
            _ => panic!("not RESP2: {line}"),
        })
    }
}
