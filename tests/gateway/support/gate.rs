//! A gate between a test and a script of the origin: closed until it is opened, then open for good.

use std::sync::{Arc, Condvar, Mutex};

use super::DEADLINE;

/// Clones share one gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens it.
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Blocks the thread until it is open. For scripts of the origin, which have threads of their
    /// own.
    pub fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        let (open, _) = self
            .0
            .1
            .wait_timeout_while(open, DEADLINE, |open| !*open)
            .unwrap();
        assert!(*open, "nobody opened the gate");
    }

    /// Waits until it is open. For tests.
    pub async fn opened(&self) {
        let gate = self.clone();
        tokio::task::spawn_blocking(move || gate.pass())
            .await
            .unwrap();
    }
}
