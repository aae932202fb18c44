//! A connection that one request uses exclusively, and whether it can be reused afterwards.

use std::rc::Rc;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::http1::Connection;
use super::occupancy::{Occupancy, Occupant};
use super::server::Server;
use crate::denial::Reason;

/// A connection in use. Dropping it closes it at once, which cancels the upstream's work.
#[derive(Debug)]
pub struct Lease {
    /// Boxed, because it moves from the pool to the answer's body and back with every request.
    connection: Box<Connection>,
    /// It has served a request before.
    pub reused: bool,
    slot: ServerSlot,
    /// The seat of the request or stream that uses it, once its answer has begun.
    pub(super) occupant: Option<Occupant>,
}

/// A connection that does not speak HTTP any more. It counts as a live stream of its server.
#[derive(Debug)]
pub(crate) struct UpgradedConnection {
    pub(crate) stream: TcpStream,
    /// Bytes that were read after the head of the answer.
    pub(crate) unread: Bytes,
    slot: ServerSlot,
    occupant: Option<Occupant>,
}

impl UpgradedConnection {
    /// The address of the server, for messages.
    pub(crate) fn server(&self) -> String {
        self.slot.server.to_string()
    }

    /// It is a live stream: another request may take the slot of its connection.
    pub(super) fn become_stream(&mut self, streams: &Rc<Occupancy>) -> Result<(), Reason> {
        if let Some(occupant) = &mut self.occupant {
            occupant.move_to(streams)?;
        }
        self.slot.slot = None;
        Ok(())
    }
}

/// A slot among the connections to a server that requests use.
#[derive(Debug)]
struct ServerSlot {
    server: Rc<Server>,
    /// `None` once the request is a live stream.
    slot: Option<OwnedSemaphorePermit>,
}

impl Lease {
    pub(super) fn new(
        connection: Box<Connection>,
        reused: bool,
        server: Rc<Server>,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        server.lease_began();
        Self {
            connection,
            reused,
            slot: ServerSlot {
                server,
                slot: Some(slot),
            },
            occupant: None,
        }
    }

    /// The answer is a live stream: another request may take the slot.
    pub(super) fn become_stream(&mut self, streams: &Rc<Occupancy>) -> Result<(), Reason> {
        if let Some(occupant) = &mut self.occupant {
            occupant.move_to(streams)?;
        }
        self.slot.slot = None;
        Ok(())
    }

    /// The server, for the record.
    pub fn server(&self) -> &Server {
        &self.slot.server
    }

    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// How much of the answer's body is missing, if its head declared it.
    pub(super) fn body_left(&self) -> Option<u64> {
        self.connection.body_left()
    }

    /// Gives up the connection after a 101.
    pub(super) fn upgrade(self) -> UpgradedConnection {
        let (stream, unread) = self.connection.upgrade();
        UpgradedConnection {
            stream,
            unread,
            slot: self.slot,
            occupant: self.occupant,
        }
    }

    /// Returns the connection to the pool if it can serve another request: the answer was read to
    /// its end, nothing follows it, and the server does not want to close. Otherwise closes it.
    pub fn give_back(self) {
        if self.connection.is_reusable() {
            self.slot.server.keep(self.connection);
        }
    }
}

impl Drop for ServerSlot {
    fn drop(&mut self) {
        self.server.lease_ended();
    }
}
