//! Owns a record while its request runs, and finishes it exactly once.
//!
//! Decides: when a request is over. Trusts: `Drop`, which also runs after a panic and when a client goes away. Not here: what is done with
//! a finished record (`gateway`).

use std::rc::Rc;
use std::sync::Arc;

use hyper::{Method, Version};

use crate::auth::snapshot::Snapshot;
use crate::gateway::Gateway;
use crate::gateway::connection::ConnectionState;
use crate::record::Record;

/// Why a [`Trail`] has its record: only its `drop` takes it.
const UNFINISHED: &str = "a trail that lives has its record";

/// Owns a record until the request is over, whichever way that comes about.
#[derive(Debug)]
pub struct Trail {
    /// There until it is finished.
    record: Option<Box<Record>>,
    gateway: Rc<Gateway>,
    connection: Rc<ConnectionState>,
}

impl Trail {
    /// Opens the record of a request whose head is complete.
    pub fn begin(
        gateway: Rc<Gateway>,
        connection: Rc<ConnectionState>,
        snapshot: Arc<Snapshot>,
        method: Method,
        version: Version,
    ) -> Self {
        connection.request_began();
        Self {
            record: Some(Box::new(Record::begin(snapshot, method, version))),
            gateway,
            connection,
        }
    }

    /// The gateway that answers.
    pub(crate) fn gateway(&self) -> &Rc<Gateway> {
        &self.gateway
    }

    /// The connection the request came on.
    pub fn connection(&self) -> &Rc<ConnectionState> {
        &self.connection
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
        let Some(mut record) = self.record.take() else {
            return;
        };
        record.total = record.started.elapsed();
        let limit = record.snapshot.config().connections.h2_resets;
        self.connection
            .request_ended(record.status.is_some(), limit);
        self.gateway.finish(record);
    }
}
