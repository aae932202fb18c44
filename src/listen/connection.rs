//! One client connection: handshake, protocol, time limits, drain.
//!
//! hyper's own timers are not used: it does not time the first bytes of a connection, and on
//! HTTP/1.1 its head timer is also its idle timer. A connection has no timer of its own either. The
//! worker polls every connection ten times a second ([`ConnectionState::check_limits`]), which
//! costs a request and a handshake nothing. A limit is therefore exceeded by up to 200 ms, and
//! never cut short.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::observed::ObservedStream;
use super::protocols::{h1_builder, h2_builder};
use super::redirect;
use super::socket::PEER_TIMEOUT;
use crate::gateway::Gateway;
use crate::gateway::connection::{CloseCause, ConnectionState, PollClock, ShutdownRequest};
use crate::policy::listen::{Connections, ListenKind};
use crate::request;
use crate::streams::Tunnel;

/// Serves one connection to its end; the error says why it ended early. It is one long function
/// because a function for each protocol would be one more future, and a future contains its
/// arguments twice.
pub(super) async fn serve(
    gateway: Rc<Gateway>,
    stream: TcpStream,
    peer: SocketAddr,
    listener: usize,
    clock: PollClock,
    register: impl FnOnce(&Rc<ConnectionState>),
) -> Result<(), CloseCause> {
    let snapshot = gateway.process().snapshot();
    let limits = snapshot.config().connections.clone();
    if limits.body_idle >= PEER_TIMEOUT {
        // A client that may pause for longer than that is not gone.
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(limits.body_idle + PEER_TIMEOUT));
    }
    let over_tls = snapshot.tls(listener).is_some();
    let facts = request::Connection::new(peer, over_tls, gateway.worker_cache().clone());
    let state = ConnectionState::new(gateway.clone(), facts, &limits, clock);
    register(&state);
    match (
        snapshot.tls(listener),
        snapshot
            .config()
            .listen
            .get(listener)
            .map(|listen| &listen.kind),
    ) {
        (Some(tls), _) => {
            let acceptor = TlsAcceptor::from(tls.clone());
            drop(snapshot);
            // Boxed: the state that rustls keeps for a connection is large, and would be moved a
            // dozen times until hyper has it.
            let handshake = async { acceptor.accept(stream).await.map(Box::new) };
            match in_time(handshake, &state).await {
                Err(cause) => Err(cause),
                Ok(Err(_)) => Err(CloseCause::Handshake),
                Ok(Ok(stream)) => {
                    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    serve_http(&gateway, stream, is_h2, &state, &limits).await
                }
            }
        }
        (None, Some(ListenKind::RedirectToHttps { port })) => {
            let port = *port;
            drop(snapshot);
            serve_redirects(&gateway, stream, port, &state, &limits).await
        }
        (None, _) => {
            drop(snapshot);
            match in_time(is_h2_preface(&stream), &state).await {
                Err(cause) => Err(cause),
                Ok(Err(_)) => Ok(()),
                Ok(Ok(is_h2)) => serve_http(&gateway, stream, is_h2, &state, &limits).await,
            }
        }
    }
}

/// Runs a handshake unless it takes too long. Boxed, so that the connection's task has no room for
/// a handshake all its life.
async fn in_time<F: Future>(
    handshake: F,
    state: &ConnectionState,
) -> Result<F::Output, CloseCause> {
    let mut handshake = Box::pin(handshake);
    poll_fn(|context| {
        if let Poll::Ready(output) = handshake.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        match state.poll_shutdown_request(context) {
            Some(ShutdownRequest::Now(cause)) => Poll::Ready(Err(cause)),
            // Requested again once the protocol is known.
            Some(ShutdownRequest::Graceful) | None => Poll::Pending,
        }
    })
    .await
}

/// Whether a clear-text connection begins with the HTTP/2 preface (RFC 9113, section 3.4). Three
/// bytes are enough: no method begins with `PRI`.
async fn is_h2_preface(stream: &TcpStream) -> std::io::Result<bool> {
    let mut start = [0; 3];
    let mut pause = Duration::from_millis(1);
    loop {
        match stream.peek(&mut start).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            3 => return Ok(&start == b"PRI"),
            read if !b"PRI".starts_with(start.get(..read).unwrap_or_default()) => return Ok(false),
            // The socket stays readable, so a peek would return at once; the rest needs a moment to
            // arrive.
            _ => {
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(250));
            }
        }
    }
}

async fn serve_http<S>(
    gateway: &Rc<Gateway>,
    stream: S,
    is_h2: bool,
    state: &Rc<ConnectionState>,
    limits: &Connections,
) -> Result<(), CloseCause>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    state.set_protocol(is_h2);
    let stream = TokioIo::new(ObservedStream {
        stream,
        state: state.clone(),
    });
    let service = service_fn({
        let (gateway, state) = (gateway.clone(), state.clone());
        move |request| {
            let (gateway, state) = (gateway.clone(), state.clone());
            let request = Box::new(request);
            async move { Ok::<_, Infallible>(gateway.handle(request, state).await) }
        }
    });
    if is_h2 {
        let connection = h2_builder(limits).serve_connection(stream, service);
        supervise(
            Box::pin(connection).as_mut(),
            http2::Connection::graceful_shutdown,
            state,
        )
        .await
    } else {
        let connection = h1_builder(limits).serve_connection(stream, service);
        let mut connection = Box::pin(connection);
        // The tunnel's record refers to the connection: a tunnel that is never taken would keep it
        // forever.
        let awaited = AwaitedTunnel(state.clone());
        supervise(
            connection.as_mut(),
            http1::Connection::graceful_shutdown,
            state,
        )
        .await?;
        if let Some(tunnel) = awaited.take() {
            let parts = Pin::into_inner(connection).into_parts();
            // Boxed, so that the task of every other connection has no room for it.
            let stream = parts.io.into_inner().stream;
            Box::pin(tunnel.run(stream, parts.read_buf)).await;
        }
        Ok(())
    }
}

/// Takes the tunnel that the connection's state keeps, or drops it.
struct AwaitedTunnel(Rc<ConnectionState>);

impl AwaitedTunnel {
    fn take(&self) -> Option<Box<Tunnel>> {
        self.0.take_tunnel()
    }
}

impl Drop for AwaitedTunnel {
    fn drop(&mut self) {
        drop(self.take());
    }
}

async fn serve_redirects(
    gateway: &Rc<Gateway>,
    stream: TcpStream,
    port: u16,
    state: &Rc<ConnectionState>,
    limits: &Connections,
) -> Result<(), CloseCause> {
    state.set_protocol(false);
    let stream = TokioIo::new(ObservedStream {
        stream,
        state: state.clone(),
    });
    let service = service_fn(|request| {
        let response = redirect::answer(gateway, state, request, port);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = h1_builder(limits).serve_connection(stream, service);
    supervise(
        Box::pin(connection).as_mut(),
        http1::Connection::graceful_shutdown,
        state,
    )
    .await
}

/// Drives a connection and carries out shutdown requests. The connection is boxed, so that the task
/// is not as large as the largest protocol.
async fn supervise<C, E>(
    mut connection: Pin<&mut C>,
    graceful: impl Fn(Pin<&mut C>),
    state: &ConnectionState,
) -> Result<(), CloseCause>
where
    C: Future<Output = Result<(), E>>,
{
    poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ended.map_err(|_| CloseCause::Protocol));
            }
            match state.poll_shutdown_request(context) {
                None => return Poll::Pending,
                Some(ShutdownRequest::Now(cause)) => return Poll::Ready(Err(cause)),
                Some(ShutdownRequest::Graceful) if state.is_shutting_down() => {}
                Some(ShutdownRequest::Graceful) => {
                    state.shutdown_began();
                    graceful(connection.as_mut());
                }
            }
        }
    })
    .await
}
