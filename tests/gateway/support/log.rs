//! What a gateway wrote to its standard output and error.

use std::collections::HashMap;
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
    /// The lines that are JSON.
    entries: Vec<Value>,
    /// The positions of request records among them, by decision id.
    requests: HashMap<String, usize>,
    /// All lines, as they were received.
    text: Vec<String>,
    open_ends: usize,
    /// Reading is paused.
    paused: bool,
}

impl Lines {
    fn note(&mut self, line: String) {
        if let Ok(entry) = serde_json::from_str::<Value>(&line) {
            if let (true, Some(id)) = (says(&entry, "request"), entry["request_id"].as_str()) {
                let place = self.entries.len();
                self.requests.entry(id.to_owned()).or_insert(place);
            }
            self.entries.push(entry);
        }
        self.text.push(line);
    }
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
                lines.note(line);
                log.0.1.notify_all();
            }
            log.0.0.lock().unwrap().open_ends -= 1;
            log.0.1.notify_all();
        });
    }

    /// Waits for the first line that matches. `None` if the process ended, or the deadline passed,
    /// without one.
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

    /// Waits for the record of the request with this decision id.
    pub fn wait_for_request(&self, id: &str) -> Option<Value> {
        let lines = self.0.0.lock().unwrap();
        let missing = |lines: &mut Lines| lines.open_ends > 0 && !lines.requests.contains_key(id);
        let (lines, _) = self
            .0
            .1
            .wait_timeout_while(lines, DEADLINE, missing)
            .unwrap();
        let place = lines.requests.get(id)?;
        Some(lines.entries[*place].clone())
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

    /// The lines so far that match.
    pub fn all(&self, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let lines = self.0.0.lock().unwrap();
        lines
            .entries
            .iter()
            .filter(|entry| fits(entry))
            .cloned()
            .collect()
    }

    /// All lines so far, as they were received.
    pub fn text(&self) -> String {
        self.0.0.lock().unwrap().text.join("\n")
    }
}

/// Whether a line has this `message`.
pub fn says(entry: &Value, message: &str) -> bool {
    entry["message"] == message
}
