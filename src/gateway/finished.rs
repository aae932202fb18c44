//! The records of finished requests, which are counted and written to the log in batches.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::clock;
use crate::gateway::process::Process;
use crate::record::Record;

/// A batch is processed as soon as it has this many records.
const MAX_RECORDS: usize = 64;

/// Log lines are handed over as soon as they have this many bytes.
const MAX_LINES: usize = 128 * 1024;

/// The finished records of one worker that are not counted yet, and its log lines that are not
/// handed over yet.
pub(super) struct FinishedRecords {
    process: Arc<Process>,
    #[allow(clippy::vec_box, reason = "moved as a pointer; a record is long")]
    records: RefCell<Vec<Box<Record>>>,
    lines: RefCell<Vec<u8>>,
}

impl FinishedRecords {
    pub(super) fn new(process: Arc<Process>) -> Rc<Self> {
        Rc::new(Self {
            process,
            records: RefCell::default(),
            lines: RefCell::default(),
        })
    }

    /// Adds a record to the batch. A batch is processed by a task of its own, after the requests
    /// that are ready now: its code is then loaded into the processor's cache once per batch, and
    /// not between any two requests.
    pub(super) fn add(self: &Rc<Self>, record: Box<Record>) {
        let waiting = {
            let mut records = self.records.borrow_mut();
            records.push(record);
            records.len()
        };
        if waiting >= MAX_RECORDS {
            self.process_batch();
        } else if waiting == 1 {
            let finished = self.clone();
            tokio::task::spawn_local(async move { finished.process_batch() });
        }
    }

    fn process_batch(&self) {
        let batch = self.records.take();
        if batch.is_empty() {
            return;
        }
        self.count_and_write(&batch);
        if self.lines.borrow().len() >= MAX_LINES {
            self.flush();
        }
        // The capacity is reused.
        let mut room = batch;
        room.clear();
        let mut waiting = self.records.borrow_mut();
        if waiting.is_empty() {
            *waiting = room;
        }
    }

    /// Counts each record in the metrics and writes its log line.
    fn count_and_write(&self, batch: &[Box<Record>]) {
        let timestamp = clock::timestamp();
        let snapshot = self.process.current().get();
        let requests = &self.process.shared().requests;
        for record in batch {
            let is_current = record.in_force.generation() == snapshot.generation();
            let index = record.route.filter(|_| is_current);
            let route = index.and_then(|index| snapshot.route_metrics(index));
            requests.finish(record, route, snapshot.config());
            record.write_line(&timestamp, &mut self.lines.borrow_mut());
        }
    }

    /// Hands the log lines that are written so far to the log. Apart from long batches, the worker
    /// does so at every poll.
    pub(super) fn flush(&self) {
        let length = self.lines.borrow().len();
        if length > 0 {
            // The next batch will have about this length, and should not be copied each time it has
            // grown.
            let lines = self.lines.replace(Vec::with_capacity(length + length / 8));
            self.process
                .log()
                .write(lines, self.process.metrics().log_dropped());
        }
    }
}

impl Drop for FinishedRecords {
    /// Requests that are aborted at the end of the process are counted and logged here.
    fn drop(&mut self) {
        let batch = self.records.take();
        self.count_and_write(&batch);
        self.flush();
    }
}
