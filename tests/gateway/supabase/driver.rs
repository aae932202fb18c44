//! Node, which drives the Supabase clients.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::Gateway;
use crate::support::client::Door;

/// How long the driver may take to reach the next point where it waits. A whole day of a client is
/// a few seconds; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running driver. Dropping it ends it.
pub struct Driver {
    child: Child,
    lines: Receiver<String>,
    complaints: Receiver<String>,
}

impl Driver {
    /// Starts the driver against this gateway.
    pub fn start(gateway: &Gateway, key: &str, mode: &str) -> Self {
        Self::start_with(gateway, key, mode, "")
    }

    /// The same with an input for this mode.
    pub fn start_with(gateway: &Gateway, key: &str, mode: &str, input: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/supabase-js");
        assert!(
            folder.join("node_modules").is_dir(),
            "the clients are not installed: npm ci in {}",
            folder.display()
        );
        let mut child = Command::new("node")
            .args(["--no-warnings", "drive.mjs", mode])
            .current_dir(folder)
            .env("GATEWAY", gateway.url(Door::Tls))
            .env("APIKEY", key)
            .env("INPUT", input)
            .env("NODE_EXTRA_CA_CERTS", gateway.path("ca.pem"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (told, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = told.send(line);
            }
        });
        let (told, complaints) = channel();
        let mut errors = child.stderr.take().unwrap();
        thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            let _ = told.send(text);
        });
        Self {
            child,
            lines,
            complaints,
        }
    }

    /// Waits until the driver waits at this point.
    pub fn waits(&mut self, name: &str) {
        assert_eq!(self.next()["waits"], name);
    }

    /// Lets the driver continue.
    pub fn resume(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Waits until the driver ends successfully.
    pub fn finishes(&mut self) {
        assert!(self.next()["done"].is_string());
        assert!(self.child.wait().unwrap().success());
    }

    fn next(&mut self) -> Value {
        let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
            let _ = self.child.kill();
            let complaint = self.complaints.recv_timeout(PATIENCE).unwrap_or_default();
            panic!("the driver said nothing more: {complaint}");
        };
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the driver says `{line}`"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
