//! HTTP/1.1 towards a client: one request at a time on a connection (RFC 9112).
//!
//! Decides: where a request ends; how an answer is framed; whether the connection is kept. Trusts:
//! httparse for the grammar of heads. Not here: time limits of a connection
//! (`gateway::connection`), and what is answered.
//!
//! A library that reads heads and hides them takes some for granted: which of two lengths counts,
//! what is left of `Transfer-Encoding`, an answer without id or log line where a head is refused.
//! Here the head that is judged is the one that was received, and every refusal is an answer.
//!
//! | of a request | what is done |
//! |---|---|
//! | `Transfer-Encoding` other than one `chunked`, or in HTTP/1.0 | refused (`framing_ambiguous`) |
//! | `Transfer-Encoding` with `Content-Length`, several lengths, one that is not digits | refused |
//! | folded fields, a space before the colon, a bare CR or LF | refused (`head_malformed`) |
//! | a head above `connections.max_head` | refused (`head_too_large`) |
//! | `"`, `<` and `>` in the query | encoded, once |
//! | a chunk size of more than 16 digits, a bare LF around a chunk | the request ends |
//! | another request behind it | waits until this one is answered |
//!
//! | if an answer is complete before its request | what is done |
//! |---|---|
//! | the rest is short | it is discarded, and the connection is kept |
//! | the rest is long, or waits for `100 Continue` | the answer says `Connection: close`; the rest is read until the client stops, because a closed socket with unread bytes resets, and the client loses the answer (RFC 9112, section 9.6) |

mod head;
mod outgoing;
mod wire;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body as _;
use hyper::header;
use hyper::{Method, Request, Response, StatusCode, Version};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;

use self::head::{RefusedHead, RequestHead};
use self::outgoing::{Announced, Declared, Outgoing, WrongLength};
use self::wire::Wire;
use crate::denial::Reason;
use crate::gateway::answer::Answer;
use crate::gateway::connection::{CloseCause, ConnectionState};
use crate::gateway::content;
use crate::http1::Framing;
use crate::policy::listen::Connections;
use crate::request::client_body::ClientBody;

/// How long the rest of a body is discarded before its connection is given up. Five seconds are a
/// choice.
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// How long a closed connection is read at most, and how long it may be silent. The figures are
/// those of nginx (`lingering_time`, `lingering_timeout`).
const LINGER: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(5);

/// How long a closed connection may be silent whose client has sent everything: it only has to see
/// the end, or a request that it sends at this moment would reset the answer. A choice.
const SILENCE_AFTER_REQUEST: Duration = Duration::from_secs(1);

/// What comes after an answer.
enum Next {
    /// Another request.
    Request,
    /// The connection is a tunnel now.
    Tunnel,
    /// The end of the connection. The client may still be sending.
    Close(Option<CloseCause>),
    /// The end of the connection, at once: nothing is under way.
    End,
    /// The client is gone, or its answer broke off.
    Gone,
}

/// A connection that can be reset, so that what was sent does not look complete.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Makes the end of the connection a reset.
    fn reset(&self);
}

impl Transport for TcpStream {
    fn reset(&self) {
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Transport for Box<TlsStream<TcpStream>> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}

/// A client's connection, as its task sees it.
struct ServerConnection<'a, S> {
    wire: &'a Rc<Wire<S>>,
    state: &'a Rc<ConnectionState>,
    limits: &'a Connections,
}

/// Serves one connection until it ends. Returns the stream, and the bytes that were read behind the
/// last request, if the connection became a tunnel.
///
/// # Errors
///
/// The client violated HTTP, and was told so.
pub(super) async fn serve<S, H, F>(
    stream: S,
    state: &Rc<ConnectionState>,
    limits: &Connections,
    respond: H,
) -> Result<Option<(S, Bytes)>, CloseCause>
where
    S: Transport,
    H: Fn(Box<Request<ClientBody>>) -> F,
    F: Future<Output = Response<Answer>>,
{
    let buffer = state.gateway().pools().read_buffer().clone();
    let wire = Rc::new(Wire::new(stream, state.clone(), buffer));
    loop {
        let connection = ServerConnection {
            wire: &wire,
            state,
            limits,
        };
        // Boxed, so that an idle connection has no room for a request.
        let next = match poll_fn(|context| wire.poll_head(limits, context)).await {
            Ok(None) => Next::End,
            Ok(Some(head)) => Box::pin(connection.exchange(head, &respond)).await,
            Err(refused) => Box::pin(connection.refuse(refused)).await,
        };
        match next {
            Next::Request => {}
            Next::Tunnel => return Ok(Rc::into_inner(wire).map(Wire::into_parts)),
            Next::Close(cause) => {
                Box::pin(linger(&wire)).await;
                return cause.map_or(Ok(None), Err);
            }
            Next::Gone => return Ok(None),
            Next::End => {
                let shut = poll_fn(|context| wire.with_stream(|io| io.poll_shutdown(context)));
                let _ = timeout(SILENCE, shut).await;
                return Ok(None);
            }
        }
    }
}

/// Refuses a connection that speaks HTTP where TLS is expected.
///
/// # Errors
///
/// Always: the connection failed.
pub(super) async fn refuse_clear_text<S>(
    stream: S,
    state: &Rc<ConnectionState>,
    limits: &Connections,
) -> Result<(), CloseCause>
where
    S: Transport,
{
    let buffer = state.gateway().pools().read_buffer().clone();
    let wire = Rc::new(Wire::new(stream, state.clone(), buffer));
    let connection = ServerConnection {
        wire: &wire,
        state,
        limits,
    };
    let refused = RefusedHead::new(Reason::HttpOnTlsPort, "");
    connection.refuse(refused).await;
    linger(&wire).await;
    Err(CloseCause::Handshake)
}

impl<S: Transport> ServerConnection<'_, S> {
    /// Answers one request.
    async fn exchange<H, F>(&self, head: RequestHead, respond: &H) -> Next
    where
        H: Fn(Box<Request<ClientBody>>) -> F,
        F: Future<Output = Response<Answer>>,
    {
        let RequestHead {
            parts,
            framing,
            keeps_open,
            expects_continue,
            takes_trailers,
        } = head;
        let wanted = Wanted {
            version: parts.version,
            method: parts.method.clone(),
            keeps_open,
            takes_trailers,
        };
        let body = match framing {
            Framing::Length(0) => ClientBody::empty(),
            Framing::Length(_) | Framing::Chunked | Framing::UntilClose => {
                ClientBody::http1(Rc::new(self.wire.begin_body(framing, expects_continue)))
            }
        };
        let response = {
            let mut responding = pin!(respond(Box::new(Request::from_parts(parts, body))));
            poll_fn(|context| match responding.as_mut().poll(context) {
                Poll::Ready(response) => Poll::Ready(Some(response)),
                Poll::Pending => self.wire.poll_meanwhile(context).map(|()| None),
            })
            .await
        };
        match response {
            Some(response) => self.answer(response, wanted).await,
            None => Next::Gone,
        }
    }

    /// Answers a head that was refused. What follows it cannot be read.
    async fn refuse(&self, refused: RefusedHead) -> Next {
        let RefusedHead {
            reason,
            detail,
            method,
            version,
        } = refused;
        let wanted = Wanted {
            version,
            method: method.clone().unwrap_or_default(),
            keeps_open: false,
            takes_trailers: false,
        };
        let denial = if detail.is_empty() {
            reason.into()
        } else {
            reason.because(detail)
        };
        let gateway = self.state.gateway();
        let mut response = gateway.refuse_head(denial, method, version, self.state);
        if reason == Reason::HttpOnTlsPort {
            // Not over TLS, where it must not be sent (RFC 6797, section 7.2).
            let headers = response.headers_mut();
            headers.remove(header::STRICT_TRANSPORT_SECURITY);
        }
        match self.answer(response, wanted).await {
            Next::Gone => Next::Gone,
            Next::Close(_) | Next::End | Next::Request | Next::Tunnel => {
                Next::Close(Some(CloseCause::Protocol))
            }
        }
    }

    /// Writes an answer, and says what comes after it.
    async fn answer(&self, response: Response<Answer>, wanted: Wanted) -> Next {
        let (parts, mut answer) = response.into_parts();
        let wire = self.wire;
        // What has arrived of a body that nobody wants costs nothing.
        poll_fn(|context| Poll::Ready(wire.poll_discard(context).is_ready())).await;
        let mut outgoing = Outgoing::default();
        let declared = outgoing.begin_head(wanted.version, &parts);
        let status = parts.status;
        drop(parts);
        let framing = framing(status, declared, &answer, &wanted);
        let keeps_open = wanted.keeps_open
            && framing != Some(Framing::UntilClose)
            && !self.state.is_shutting_down()
            && !self.state.is_old()
            && !self.state.gateway().process().is_draining()
            && self.may_keep(status);
        let mut announced = Announced {
            framing,
            keeps_open,
            takes_trailers: wanted.takes_trailers,
            is_over: framing.is_none(),
            is_broken: false,
        };
        let idle = self.limits.idle.as_secs();
        outgoing.end_head(status, declared, announced, idle);
        let sent = poll_fn(|context| {
            self.poll_answer(&mut answer, &mut outgoing, &mut announced, context)
        });
        // Also if the connection is ended meanwhile, which drops this.
        let mut whole = WholeOrReset {
            wire,
            is_whole: framing != Some(Framing::UntilClose),
        };
        let sent = sent.await;
        whole.is_whole |= sent != Err(BrokenOff::Answer);
        drop(whole);
        if sent.is_err() {
            answer.abandon();
            return Next::Gone;
        }
        // The request is over with its last byte.
        drop(answer);
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Next::Tunnel;
        }
        wire.end_body();
        if !keeps_open {
            return Next::Close(None);
        }
        if wire.is_body_done() {
            return Next::Request;
        }
        match timeout(DISCARD_TIME, poll_fn(|context| wire.poll_discard(context))).await {
            Ok(true) if wire.is_body_done() => Next::Request,
            Ok(true) | Err(_) => Next::Close(None),
            Ok(false) => Next::Gone,
        }
    }

    /// Whether the connection can be kept after an answer that comes before the end of its request.
    /// A success may come early because the two are streams.
    fn may_keep(&self, status: StatusCode) -> bool {
        let wire = self.wire;
        let is_stream = status.is_informational() || status.is_success();
        wire.is_body_done() || !wire.awaits_continue() && (is_stream || wire.is_body_short())
    }

    /// Writes an answer to its end.
    fn poll_answer(
        &self,
        answer: &mut Answer,
        outgoing: &mut Outgoing,
        announced: &mut Announced,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), BrokenOff>> {
        let wire = self.wire;
        if wire
            .poll_interim(context)
            .map_err(|_| BrokenOff::Client)?
            .is_pending()
        {
            return Poll::Pending;
        }
        loop {
            let body = poll_body(answer, outgoing, announced, context);
            if outgoing.is_empty() {
                let flushed = wire.with_stream(|stream| stream.poll_flush(context));
                match body {
                    // What came before the end is sent first.
                    Err(broken) if flushed.is_ready() => return Poll::Ready(Err(broken)),
                    Ok(false) if flushed.is_ready() => {
                        return flushed.map_err(|_| BrokenOff::Client);
                    }
                    Ok(_) | Err(_) => {}
                }
                // The upstream has no data, or the connection has not taken it.
                ready!(wire.poll_meanwhile(context));
                return Poll::Ready(Err(BrokenOff::Client));
            }
            match wire.with_stream(|stream| outgoing.poll_write(stream, context)) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(BrokenOff::Client)),
                // A client that reads only when it has written everything must be read from.
                Poll::Pending => {
                    ready!(wire.poll_meanwhile(context));
                    return Poll::Ready(Err(BrokenOff::Client));
                }
            }
        }
    }
}

/// Resets the connection unless the answer was sent whole, or declares its length: without one, a
/// clean end would make a part of it look complete.
struct WholeOrReset<'a, S: Transport> {
    wire: &'a Wire<S>,
    is_whole: bool,
}

impl<S: Transport> Drop for WholeOrReset<'_, S> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.wire.with_stream(|stream| stream.reset());
        }
    }
}

/// What a request wants of its answer.
struct Wanted {
    version: Version,
    method: Method,
    keeps_open: bool,
    takes_trailers: bool,
}

/// Why an answer was not sent to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum BrokenOff {
    /// The client is gone.
    Client,
    /// The answer ended before its end.
    Answer,
}

impl From<WrongLength> for BrokenOff {
    fn from(WrongLength: WrongLength) -> Self {
        Self::Answer
    }
}

/// How an answer's body is delimited; `None` if it can have none (RFC 9112, section 6.3).
fn framing(
    status: StatusCode,
    declared: Declared,
    answer: &Answer,
    wanted: &Wanted,
) -> Option<Framing> {
    if content::is_forbidden(&wanted.method, status) {
        return None;
    }
    let length = declared.length.or_else(|| answer.size_hint().exact());
    Some(match length {
        Some(length) => Framing::Length(length),
        None if wanted.version == Version::HTTP_11 => Framing::Chunked,
        None => Framing::UntilClose,
    })
}

/// Gathers what there is of a body. Whether there will be more.
fn poll_body(
    answer: &mut Answer,
    outgoing: &mut Outgoing,
    announced: &mut Announced,
    context: &mut Context<'_>,
) -> Result<bool, BrokenOff> {
    if announced.is_broken {
        return Err(BrokenOff::Answer);
    }
    let gathered = gather(answer, outgoing, announced, context);
    announced.is_broken = gathered.is_err();
    gathered
}

fn gather(
    answer: &mut Answer,
    outgoing: &mut Outgoing,
    announced: &mut Announced,
    context: &mut Context<'_>,
) -> Result<bool, BrokenOff> {
    while !announced.is_over && !outgoing.is_full() {
        let frame = match Pin::new(&mut *answer).poll_frame(context) {
            Poll::Pending => return Ok(true),
            Poll::Ready(frame) => frame.transpose().map_err(|_| BrokenOff::Answer)?,
        };
        match frame.map(hyper::body::Frame::into_data) {
            Some(Ok(data)) => outgoing.data(data, announced)?,
            Some(Err(frame)) => outgoing.end(frame.trailers_ref(), announced)?,
            None => outgoing.end(None, announced)?,
        }
    }
    Ok(!announced.is_over)
}

/// Ends a connection whose client may still be sending: it reads on until the client has seen the
/// end.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(wire: &Wire<S>) {
    let deadline = Instant::now() + LINGER;
    let silence = if wire.is_body_done() {
        SILENCE_AFTER_REQUEST
    } else {
        SILENCE
    };
    let shut = poll_fn(|context| wire.with_stream(|stream| stream.poll_shutdown(context)));
    if !matches!(timeout(silence, shut).await, Ok(Ok(()))) {
        return;
    }
    while Instant::now() < deadline {
        let read = poll_fn(|context| wire.poll_more(context));
        if !matches!(timeout(silence, read).await, Ok(true)) {
            return;
        }
    }
}
