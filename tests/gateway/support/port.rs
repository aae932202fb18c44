//! A port for a server that another program is told to listen on.

use std::fmt;
use std::sync::Arc;

use tokio::net::TcpSocket;

/// A port of the loopback that no other process is given, neither to listen on nor for a connection
/// of its own, while this exists. A server that is told to listen on it may: like almost all, it
/// sets `SO_REUSEADDR`, and nothing listens here. Until then, connections are refused.
#[derive(Debug)]
pub struct ReservedPort {
    number: u16,
    socket: Arc<TcpSocket>,
}

impl ReservedPort {
    /// Reserves one.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        // On every address, since some tests use two.
        socket.bind("0.0.0.0:0".parse().unwrap()).unwrap();
        Self {
            number: socket.local_addr().unwrap().port(),
            socket: socket.into(),
        }
    }

    /// The same port, for a second server at another address.
    pub fn shared(&self) -> Self {
        Self {
            number: self.number,
            socket: self.socket.clone(),
        }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl fmt::Display for ReservedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}
