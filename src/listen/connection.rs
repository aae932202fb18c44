//! One client connection: handshake, protocol, time limits, drain.
//!
//! A connection has no timer of its own, and hyper's are not used. The worker polls every
//! connection ten times a second ([`ConnectionState::check_limits`]), which costs a request and a
//! handshake nothing. A limit is therefore exceeded by up to 200 ms, and never cut short.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::http1::{self, Transport};
use super::metrics::ListenMetrics;
use super::protocols::h2_builder;
use super::redirect;
use super::resets::CountedResets;
use super::socket::PEER_TIMEOUT;
use crate::gateway::Gateway;
use crate::gateway::connection::{CloseCause, ConnectionState, PollClock, ShutdownRequest};
use crate::policy::listen::{Connections, ListenKind};
use crate::request;
use crate::request::client_body::ClientBody;
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
    metrics: &Arc<ListenMetrics>,
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
            // dozen times until it is in use.
            match in_time(is_clear_text(&stream), &state).await {
                Err(cause) => return Err(cause),
                Ok(Err(_)) => return Err(CloseCause::Handshake),
                Ok(Ok(true)) => {
                    state.set_protocol(false);
                    let mut refusing = Box::pin(http1::refuse_clear_text(stream, &state, &limits));
                    return supervise(refusing.as_mut(), |_| {}, |cause| cause, &state).await;
                }
                Ok(Ok(false)) => {}
            }
            let handshake = async { acceptor.accept(stream).await.map(Box::new) };
            match in_time(handshake, &state).await {
                Err(cause) => Err(cause),
                Ok(Err(_)) => Err(CloseCause::Handshake),
                Ok(Ok(stream)) => {
                    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    serve_http(&gateway, stream, is_h2, &state, &limits, metrics).await
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
                Ok(Ok(is_h2)) => {
                    serve_http(&gateway, stream, is_h2, &state, &limits, metrics).await
                }
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

/// Whether a connection to a TLS listener begins with a method of HTTP. TLS begins with a byte that
/// no text has (RFC 8446, section 5.1).
async fn is_clear_text(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first.first().is_some_and(u8::is_ascii_alphabetic)),
    }
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
    metrics: &Arc<ListenMetrics>,
) -> Result<(), CloseCause>
where
    S: Transport,
{
    state.set_protocol(is_h2);
    if is_h2 {
        let service = service_fn({
            let (gateway, state) = (gateway.clone(), state.clone());
            move |request: Request<Incoming>| {
                let (gateway, state) = (gateway.clone(), state.clone());
                let request = Box::new(request.map(ClientBody::http2));
                async move { Ok::<_, Infallible>(gateway.handle(request, state).await) }
            }
        });
        let stream = TokioIo::new(CountedResets::new(stream, metrics.clone()));
        let connection = h2_builder(limits).serve_connection(stream, service);
        supervise(
            Box::pin(connection).as_mut(),
            http2::Connection::graceful_shutdown,
            |_| CloseCause::Protocol,
            state,
        )
        .await
    } else {
        let respond = |request| gateway.clone().handle(request, state.clone());
        let mut connection = Box::pin(http1::serve(stream, state, limits, respond));
        // The tunnel's record refers to the connection: a tunnel that is never taken would keep it
        // forever.
        let awaited = AwaitedTunnel(state.clone());
        let switched = supervise(connection.as_mut(), |_| {}, |cause| cause, state).await?;
        drop(connection);
        if let (Some((stream, unread)), Some(tunnel)) = (switched, awaited.take()) {
            // Boxed, so that the task of every other connection has no room for it.
            Box::pin(tunnel.run(stream, unread)).await;
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
    let respond = |request: Box<Request<ClientBody>>| {
        std::future::ready(redirect::answer(gateway, state, *request, port))
    };
    let mut connection = Box::pin(http1::serve(stream, state, limits, respond));
    supervise(connection.as_mut(), |_| {}, |cause| cause, state).await?;
    Ok(())
}

/// Drives a connection and carries out shutdown requests; `graceful` begins one where the state
/// does not say enough. The connection is boxed, so that the task is not as large as the largest
/// protocol.
async fn supervise<C, T, E>(
    mut connection: Pin<&mut C>,
    graceful: impl Fn(Pin<&mut C>),
    cause: impl Fn(E) -> CloseCause,
    state: &ConnectionState,
) -> Result<T, CloseCause>
where
    C: Future<Output = Result<T, E>>,
{
    poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ended.map_err(&cause));
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
