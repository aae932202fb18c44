//! What a gateway wrote to its standard output and error.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::Value;

use super::DEADLINE;

/// Collected lines; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    /// What is JSON.
    entries: Vec<Value>,
    /// Everything, as it came.
    text: Vec<String>,
    open_ends: usize,
    /// Nothing is read at present.
    paused: bool,
}

impl Log {
    /// Collects from a pipe until it closes.
    pub fn collect(&self, pipe: impl Read + Send + 'static) {
        self.0.0.lock().unwrap().open_ends += 1;
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let lines = log.0.0.lock().unwrap();
                let mut lines = log.0.1.wait_while(lines, |lines| lines.paused).unwrap();
                lines.entries.extend(serde_json::from_str(&line).ok());
                lines.text.push(line);
                log.0.1.notify_all();
            }
            log.0.0.lock().unwrap().open_ends -= 1;
            log.0.1.notify_all();
        });
    }

    /// Waits for the first line that fits. `None` if the process ended, or the deadline passed, without one.
    pub fn wait_for(&self, fits: impl Fn(&Value) -> bool) -> Option<Value> {
        let lines = self.0.0.lock().unwrap();
        let missing = |lines: &mut Lines| lines.open_ends > 0 && !lines.entries.iter().any(&fits);
        let (lines, _) = self
            .0
            .1
            .wait_timeout_while(lines, DEADLINE, missing)
            .unwrap();
        lines.entries.iter().find(|entry| fits(entry)).cloned()
    }

    /// Stops reading, so that the pipe fills up; or reads on.
    pub fn pause(&self, paused: bool) {
        self.0.0.lock().unwrap().paused = paused;
        self.0.1.notify_all();
    }

    /// Waits until the process has closed both ends.
    pub fn wait_for_end(&self) {
        let lines = self.0.0.lock().unwrap();
        drop(
            self.0
                .1
                .wait_timeout_while(lines, DEADLINE, |lines| lines.open_ends > 0)
                .unwrap(),
        );
    }

    /// The lines so far that fit.
    pub fn all(&self, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let lines = self.0.0.lock().unwrap();
        lines
            .entries
            .iter()
            .filter(|entry| fits(entry))
            .cloned()
            .collect()
    }

    /// Everything so far, as it came.
    pub fn text(&self) -> String {
        self.0.0.lock().unwrap().text.join("\n")
    }
}

/// Whether a line has this `message`.
pub fn says(entry: &Value, message: &str) -> bool {
    entry["message"] == message
}
