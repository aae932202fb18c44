//! A client for a server that is called all the time: any method, any status is a response, and
//! connections are kept. It says whether a failed call was sent at all ([`Failure`]).

#![allow(
    clippy::disallowed_types,
    reason = "the lock is held for a push or a pop and never across an await, and only the background runtime takes it"
)]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use super::{CallError, HttpClient};
use crate::clock;

/// How long an unused connection is kept. Servers and proxies close theirs after a minute or more;
/// a request on a connection that is being closed has an unknown outcome, so it is better to be
/// early.
const IDLE: Duration = Duration::from_secs(15);

/// A request.
#[derive(Clone)]
pub struct FullRequest {
    /// The method.
    pub method: Method,
    /// Path and query, from the root of the server.
    pub path: String,
    /// All fields but `Host` and those that frame the body.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A complete response.
#[derive(Clone)]
pub struct FullResponse {
    /// Any status.
    pub status: StatusCode,
    /// All fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Why there is no complete response.
#[derive(Debug)]
pub enum Failure {
    /// The server did not receive the request.
    Unsent(CallError),
    /// The server may have received the request, and may have acted on it.
    Unknown(CallError),
}

/// Connections to one server, for any number of concurrent calls.
pub struct PooledClient {
    client: HttpClient,
    idle: Mutex<Vec<Connection>>,
}

/// A connection without a call.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    used: Instant,
}

/// A call that is given up ends with its connection, so that the server notices.
impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl PooledClient {
    /// Calls the site of this client. Its limit for bodies applies, its deadline does not.
    pub fn new(client: HttpClient) -> Self {
        Self {
            client,
            idle: Mutex::default(),
        }
    }

    /// Sends a request and reads the whole response, until `deadline`. Call it inside a runtime
    /// that outlives the connection.
    ///
    /// # Errors
    ///
    /// No complete response; the kind says whether the request was sent. A request that may have
    /// been sent is not repeated, except GET.
    pub async fn send(
        &self,
        request: &FullRequest,
        deadline: Instant,
    ) -> Result<FullResponse, Failure> {
        let mut sent = false;
        let exchange = self.exchange(request, &mut sent);
        match timeout_at(deadline.into(), exchange).await {
            Ok(outcome) => outcome,
            Err(_) if sent => Err(Failure::Unknown(CallError::Deadline)),
            Err(_) => Err(Failure::Unsent(CallError::Deadline)),
        }
    }

    async fn exchange(
        &self,
        request: &FullRequest,
        sent: &mut bool,
    ) -> Result<FullResponse, Failure> {
        while let Some(mut connection) = self.kept() {
            if connection.sender.ready().await.is_err() {
                continue;
            }
            match self.on(connection, request, sent).await {
                // The server had closed it.
                Err(Failure::Unsent(_)) => {}
                // Whether the server read the request before it closed the connection is unknown.
                // Reading twice does no harm.
                Err(Failure::Unknown(_)) if request.method == Method::GET => {}
                outcome => return outcome,
            }
        }
        let connection = self.connect().await.map_err(Failure::Unsent)?;
        self.on(connection, request, sent).await
    }

    /// The most recently used connection that is not too old; older ones are closed.
    fn kept(&self) -> Option<Connection> {
        let now = clock::now();
        let mut idle = self.idle();
        idle.retain(|one| now.saturating_duration_since(one.used) < IDLE);
        idle.pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        // A panic under the lock leaves the list consistent: each operation on it is one call.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Connection, CallError> {
        let stream = self.client.open().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(CallError::exchange)?;
        let driver = tokio::spawn(async move {
            // The waiting call gets the error.
            let _ = connection.await;
        });
        Ok(Connection {
            sender,
            driver,
            used: clock::now(),
        })
    }

    async fn on(
        &self,
        mut connection: Connection,
        request: &FullRequest,
        sent: &mut bool,
    ) -> Result<FullResponse, Failure> {
        let request = self.build(request).map_err(Failure::Unsent)?;
        *sent = true;
        let response = match connection.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                *sent = !unsent;
                let error = CallError::exchange(error.into_error());
                return Err(match unsent {
                    true => Failure::Unsent(error),
                    false => Failure::Unknown(error),
                });
            }
        };
        let response = self.read(response).await.map_err(Failure::Unknown)?;
        connection.used = clock::now();
        self.idle().push(connection);
        Ok(response)
    }

    fn build(&self, request: &FullRequest) -> Result<Request<Full<Bytes>>, CallError> {
        let mut built = Request::builder()
            .method(&request.method)
            .uri(&request.path)
            .body(Full::new(request.body.clone()))
            .map_err(CallError::exchange)?;
        *built.headers_mut() = request.headers.clone();
        let host =
            HeaderValue::try_from(self.client.site.authority()).map_err(CallError::exchange)?;
        built.headers_mut().insert(HOST, host);
        Ok(built)
    }

    async fn read(&self, response: Response<Incoming>) -> Result<FullResponse, CallError> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, self.client.limits.body);
        let body = body.collect().await;
        Ok(FullResponse {
            status: head.status,
            headers: head.headers,
            body: body
                .map_err(|error| match error.is::<LengthLimitError>() {
                    true => CallError::TooLong,
                    false => CallError::Exchange(error.to_string()),
                })?
                .to_bytes(),
        })
    }
}

/// Bodies and fields hold passwords and tokens.
impl std::fmt::Debug for FullRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FullRequest")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for FullResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FullResponse")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PooledClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PooledClient")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}
