//! Real clients: hyper over rustls or in clear text, HTTP/1.1 or HTTP/2.

use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::answer::{Answer, check_head};
use super::in_time;
use super::log::Log;
use super::pki::NAME;
use super::raw::Raw;
use super::raw_h2::RawTwo;

/// A version of HTTP, spoken by a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    One,
    Two,
}

impl Http {
    /// Both: `for http in Http::BOTH`.
    pub const BOTH: [Self; 2] = [Self::One, Self::Two];

    /// Its name in TLS.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::One => b"http/1.1",
            Self::Two => b"h2",
        }
    }
}

/// A listener of the default configuration, by its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Tls = 0,
    Plain = 1,
    Redirect = 2,
}

/// The body of a request.
pub type Body = BoxBody<Bytes, io::Error>;

/// A byte stream to the gateway.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How to connect to one listener. Owns all it needs, so that it can be moved into other tasks.
#[derive(Clone, Debug)]
pub struct Connector {
    address: String,
    tls: Option<Arc<ClientConfig>>,
    http: Http,
    log: Log,
    /// Where it connects from.
    source: IpAddr,
}

impl Connector {
    pub fn new(address: &str, tls: Option<Arc<ClientConfig>>, http: Http, log: Log) -> Self {
        Self {
            address: address.to_owned(),
            tls,
            http,
            log,
            source: Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// The same, from another address of the loopback.
    pub fn coming_from(mut self, source: &str) -> Self {
        self.source = source.parse().unwrap();
        self
    }

    /// A socket, with TLS if the listener has it.
    pub async fn open(&self) -> io::Result<Box<dyn Stream>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.source, 0).into())?;
        let socket = socket.connect(self.address.parse().unwrap()).await?;
        socket.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(socket));
        };
        let name = ServerName::try_from(NAME).unwrap();
        let stream = TlsConnector::from(tls.clone())
            .connect(name, socket)
            .await?;
        Ok(Box::new(stream))
    }

    /// A kept connection.
    pub async fn connect(&self) -> Client {
        in_time("connecting", self.try_connect()).await.unwrap()
    }

    /// A kept connection, if the gateway wants one.
    pub async fn try_connect(&self) -> io::Result<Client> {
        let stream = TokioIo::new(self.open().await?);
        let sender = match self.http {
            Http::One => {
                let (sender, driver) = http1::handshake(stream).await.map_err(io::Error::other)?;
                tokio::spawn(driver);
                Sender::One(sender)
            }
            Http::Two => {
                let (sender, driver) = http2::handshake(TokioExecutor::new(), stream)
                    .await
                    .map_err(io::Error::other)?;
                tokio::spawn(driver);
                Sender::Two(sender)
            }
        };
        Ok(Client {
            sender,
            over_tls: self.tls.is_some(),
            log: self.log.clone(),
        })
    }

    /// A connection for hand-written HTTP/1.1.
    pub async fn raw(&self) -> Raw {
        let stream = in_time("connecting", self.open()).await.unwrap();
        Raw::new(stream, self.tls.is_some(), self.log.clone())
    }

    /// A connection for hand-written HTTP/2 frames; prefaces are exchanged.
    pub async fn raw_h2(&self) -> RawTwo {
        let stream = in_time("connecting", self.open()).await.unwrap();
        RawTwo::begin(stream, self.log.clone()).await
    }

    /// A request on a connection of its own.
    pub fn call<'c>(&self, method: &str, path: &str) -> Call<'c> {
        Call::new(Via::Fresh(self.clone()), method, path)
    }
}

/// A kept connection.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    over_tls: bool,
    log: Log,
}

#[derive(Debug)]
enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

impl Client {
    /// A request on this connection.
    pub fn call(&mut self, method: &str, path: &str) -> Call<'_> {
        Call::new(Via::Kept(self), method, path)
    }

    /// A GET on this connection.
    pub fn get(&mut self, path: &str) -> Call<'_> {
        self.call("GET", path)
    }

    /// A POST on this connection.
    pub fn post(&mut self, path: &str) -> Call<'_> {
        self.call("POST", path)
    }

    /// Another handle on the same HTTP/2 connection, for requests side by side.
    pub fn another(&self) -> Self {
        let Sender::Two(sender) = &self.sender else {
            panic!("HTTP/1.1 has one request at a time");
        };
        Self {
            sender: Sender::Two(sender.clone()),
            over_tls: self.over_tls,
            log: self.log.clone(),
        }
    }

    /// Whether the gateway has closed the connection, or said that it will.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed(),
        }
    }

    async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Two(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

#[derive(Debug)]
enum Via<'c> {
    Fresh(Connector),
    Kept(&'c mut Client),
}

/// A request that is being written.
#[derive(Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct Call<'c> {
    via: Via<'c>,
    method: String,
    path: String,
    authority: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Body,
    kept: PhantomData<&'c ()>,
}

impl<'c> Call<'c> {
    fn new(via: Via<'c>, method: &str, path: &str) -> Self {
        Self {
            via,
            method: method.to_owned(),
            path: path.to_owned(),
            authority: NAME.to_owned(),
            headers: Vec::new(),
            body: Empty::new().map_err(|never| match never {}).boxed(),
            kept: PhantomData,
        }
    }

    /// Adds a field; twice is two fields.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Adds `Authorization: Bearer …`.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Asks for another host: `Host`, or `:authority`.
    pub fn host(mut self, authority: &str) -> Self {
        authority.clone_into(&mut self.authority);
        self
    }

    /// Sends these bytes, with their length.
    pub fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body = Full::new(bytes.into())
            .map_err(|never| match never {})
            .boxed();
        self
    }

    /// Sends what comes through the returned sender: chunks, and perhaps trailers, until it is
    /// dropped. An error breaks the body off.
    pub fn streaming(mut self) -> (Self, BodySender) {
        let (sender, frames) = mpsc::channel(1);
        self.body = BodyExt::boxed(ChannelBody(frames));
        (self, BodySender(sender))
    }

    fn into_request(self) -> (Via<'c>, Request<Body>) {
        let two = match &self.via {
            Via::Fresh(connector) => connector.http == Http::Two,
            Via::Kept(client) => matches!(client.sender, Sender::Two(_)),
        };
        let over_tls = match &self.via {
            Via::Fresh(connector) => connector.tls.is_some(),
            Via::Kept(client) => client.over_tls,
        };
        let scheme = if over_tls { "https" } else { "http" };
        let uri = match two {
            true => format!("{scheme}://{}{}", self.authority, self.path),
            false => self.path,
        };
        let mut builder = Request::builder()
            .method(self.method.as_str())
            .uri(uri.parse::<Uri>().unwrap());
        if !two {
            builder = builder.header("host", &self.authority);
        }
        for (name, value) in &self.headers {
            builder = builder.header(name.as_str(), value.as_slice());
        }
        (self.via, builder.body(self.body).unwrap())
    }

    /// Sends it and reads the whole answer.
    pub async fn send(self) -> Answer {
        in_time("an answer", async {
            self.try_send().await.expect("an answer").finish().await
        })
        .await
    }

    /// Sends it and returns as soon as the head of the answer is there.
    pub async fn begin(self) -> Streaming {
        in_time("the head of an answer", self.try_send())
            .await
            .expect("an answer")
    }

    /// Sends it; an error if the connection ends without a head.
    pub async fn try_send(self) -> hyper::Result<Streaming> {
        let (via, request) = self.into_request();
        match via {
            Via::Fresh(connector) => {
                let mut client = connector.connect().await;
                let response = client.send(request).await?;
                Ok(Streaming::new(
                    response,
                    client.over_tls,
                    client.log.clone(),
                    Some(client),
                ))
            }
            Via::Kept(client) => {
                let response = client.send(request).await?;
                Ok(Streaming::new(
                    response,
                    client.over_tls,
                    client.log.clone(),
                    None,
                ))
            }
        }
    }
}

/// An answer whose head is there. Its head has passed the checks.
#[derive(Debug)]
pub struct Streaming {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub version: hyper::Version,
    body: Incoming,
    over_tls: bool,
    log: Log,
    /// Keeps the connection of a single request open while its body is read.
    _client: Option<Client>,
}

impl Streaming {
    fn new(response: Response<Incoming>, over_tls: bool, log: Log, client: Option<Client>) -> Self {
        let (head, body) = response.into_parts();
        check_head(head.status, &head.headers, over_tls);
        Self {
            status: head.status,
            headers: head.headers,
            version: head.version,
            body,
            over_tls,
            log,
            _client: client,
        }
    }

    /// The next bytes of the body; `None` at a proper end, an error if it was broken off. Trailers
    /// are skipped.
    pub async fn chunk(&mut self) -> Option<hyper::Result<Bytes>> {
        loop {
            match in_time("a chunk", self.body.frame()).await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Some(Ok(data)),
                    Err(_) => {}
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Reads the rest; panics if it is broken off.
    pub async fn finish(self) -> Answer {
        self.try_finish().await.expect("a complete body")
    }

    /// Reads the rest; an error if it is broken off.
    pub async fn try_finish(self) -> hyper::Result<Answer> {
        let collected = in_time("the rest of a body", self.body.collect()).await?;
        let trailers = collected.trailers().cloned();
        Ok(Answer::checked(
            self.status,
            self.headers,
            collected.to_bytes(),
            trailers,
            self.over_tls,
            self.log,
        ))
    }

    /// The decision id.
    pub fn id(&self) -> &str {
        self.headers["x-request-id"].to_str().unwrap()
    }
}

/// The other end of a streamed request body.
#[derive(Clone, Debug)]
pub struct BodySender(mpsc::Sender<io::Result<Frame<Bytes>>>);

impl BodySender {
    /// Hands over a chunk; `false` if nobody takes it any more. Waits while the one before has not
    /// been taken.
    pub async fn chunk(&self, bytes: impl Into<Bytes>) -> bool {
        self.0.send(Ok(Frame::data(bytes.into()))).await.is_ok()
    }

    /// Ends the body with trailers.
    pub async fn trailers(self, trailers: HeaderMap) {
        let _ = self.0.send(Ok(Frame::trailers(trailers))).await;
    }

    /// Breaks the body off.
    pub async fn break_off(self) {
        let _ = self
            .0
            .send(Err(io::ErrorKind::ConnectionReset.into()))
            .await;
    }
}

#[derive(Debug)]
struct ChannelBody(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl hyper::body::Body for ChannelBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context)
    }
}
