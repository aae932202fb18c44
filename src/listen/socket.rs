//! Listening sockets and their options.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// How long a peer may be unreachable, whether data is sent to it or not. A minute is a choice:
/// long enough for a gap in radio coverage, and longer than the default limits of connections,
/// which give a more precise cause.
pub(super) const PEER_TIMEOUT: Duration = Duration::from_secs(60);

/// When and how often the kernel probes an idle peer. More than once, since a probe may get lost.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(5))
    .with_retries(6);

/// A listening socket.
#[derive(Debug)]
pub struct ListeningSocket {
    pub(super) socket: std::net::TcpListener,
    /// Its index among the configuration's listeners.
    pub(super) index: usize,
}

impl ListeningSocket {
    /// Binds a listener's address.
    ///
    /// # Errors
    ///
    /// The address is in use, or belongs to another machine.
    pub fn new(address: SocketAddr, index: usize) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // A restarted process may bind the port while old connections linger.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Accepted sockets inherit all three options, which saves the system calls for every
        // connection.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&KEEPALIVE)?;
        socket.set_tcp_user_timeout(Some(PEER_TIMEOUT))?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        Ok(Self {
            socket: socket.into(),
            index,
        })
    }

    /// The address, with the port that the kernel chose for port 0.
    ///
    /// # Errors
    ///
    /// The operating system does not report it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use socket2::SockRef;

    use super::*;

    #[test]
    fn accepted_connections_inherit_keepalive_and_timeout() {
        let bound = ListeningSocket::new((Ipv4Addr::LOCALHOST, 0).into(), 0).expect("a port");
        bound.socket.set_nonblocking(false).expect("blocking");
        let address = bound.address().expect("an address");
        let _client = TcpStream::connect(address).expect("a connection");
        let (accepted, _) = bound.socket.accept().expect("the other end");
        let socket = SockRef::from(&accepted);
        assert!(socket.keepalive().expect("an option"));
        let time = socket.tcp_keepalive_time().expect("an option");
        let interval = socket.tcp_keepalive_interval().expect("an option");
        let retries = socket.tcp_keepalive_retries().expect("an option");
        assert_eq!(time + interval * retries, PEER_TIMEOUT);
        assert_eq!(
            socket.tcp_user_timeout().expect("an option"),
            Some(PEER_TIMEOUT)
        );
        assert!(socket.tcp_nodelay().expect("an option"));
    }
}
