//! Owns a record while its request runs, and finishes it exactly once, by `Drop`, which also runs
//! after a panic and when a client goes away.

use std::rc::Rc;
use std::sync::Arc;

use hyper::{Method, Version};

use crate::policy::in_force::InForce;
use crate::record::Record;

/// Takes the records of finished requests.
pub trait Finish: std::fmt::Debug {
    /// Called exactly once per [`Trail`].
    fn finish(&self, record: Box<Record>);
}

/// Why a [`Trail`] always has its record.
const UNFINISHED: &str = "only `drop` takes the record of a trail";

/// Owns a record until its request is over, however it ends.
#[derive(Debug)]
pub struct Trail {
    /// `Some` until it is finished.
    record: Option<Box<Record>>,
    finish: Rc<dyn Finish>,
}

impl Trail {
    /// Opens the record of a request whose head is complete.
    pub fn begin(
        finish: Rc<dyn Finish>,
        in_force: Arc<InForce>,
        method: Method,
        version: Version,
    ) -> Self {
        Self {
            record: Some(Box::new(Record::begin(in_force, method, version))),
            finish,
        }
    }
}

impl std::ops::Deref for Trail {
    type Target = Record;

    fn deref(&self) -> &Record {
        self.record.as_deref().expect(UNFINISHED)
    }
}

impl std::ops::DerefMut for Trail {
    fn deref_mut(&mut self) -> &mut Record {
        self.record.as_deref_mut().expect(UNFINISHED)
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.total = record.started.elapsed();
            self.finish.finish(record);
        }
    }
}
