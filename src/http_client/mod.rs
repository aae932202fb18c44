//! HTTP calls of the gateway itself, such as for an issuer's keys.
//!
//! Decides:  whether a response is usable: status 200, within the deadline and the size, from a
//!           server with a valid certificate.
//! Trusts:   the operator's URL and the system's root certificates.
//! Not here: forwarding. A [`HttpClient`] reaches only the [`OutboundSite`] it was made for, which
//!           is never an upstream, and its requests carry nothing of a client's request. A server
//!           that is called all the time has a client that keeps its connections ([`pooled`]).

pub mod pooled;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CACHE_CONTROL, HOST, HeaderMap, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::fault::Fault;
use crate::policy::outbound_url::OutboundSite;

/// The time limit per address of a server. Longer than the second after which a lost first packet
/// is sent again.
const PER_ADDRESS: Duration = Duration::from_millis(1500);

/// The TLS configuration that all clients share.
#[derive(Clone)]
pub struct HttpClients {
    tls: TlsConnector,
}

/// Limits of one call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the whole call: look-up, connection, TLS, response.
    pub deadline: Duration,
    /// Maximum length of a response body in bytes.
    pub body: usize,
}

/// A client of one server. Every call opens its own connection; calls are minutes apart.
pub struct HttpClient {
    tls: TlsConnector,
    site: OutboundSite,
    limits: Limits,
}

/// A byte stream to a server, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A usable response.
#[derive(Debug)]
pub struct Reply {
    /// The whole body.
    pub body: Bytes,
    /// How long it may be used: `max-age` of `Cache-Control` (RFC 9111, section 5.2.2.1), unless
    /// the field also forbids caching.
    pub max_age: Option<Duration>,
}

/// Why a call failed.
#[derive(Debug, PartialEq, Eq)]
pub enum CallError {
    /// No connection, or no TLS.
    Connect(Fault),
    /// The exchange broke off, or the response was too long.
    Exchange(String),
    /// Another status than 200. Redirects are not followed: the operator names the place.
    Status(StatusCode),
    /// The response is too long.
    TooLong,
    /// No response before the deadline.
    Deadline,
}

impl HttpClients {
    /// Trusts the system's root certificates, which are read here, once.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up at all.
    pub fn new() -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some system root certificates could not be read");
        }
        roots.add_parsable_certificates(found.certs);
        Self::with_roots(roots)
    }

    /// Trusts these roots only.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up at all.
    pub fn with_roots(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    /// A client for this server, and no other.
    pub fn client(&self, site: &OutboundSite, limits: Limits) -> HttpClient {
        HttpClient {
            tls: self.tls.clone(),
            site: site.clone(),
            limits,
        }
    }
}

impl HttpClient {
    /// Fetches the document at `path`, which may have a query.
    ///
    /// # Errors
    ///
    /// There is none, or it was too slow or too long.
    pub async fn get(&self, path: &str, accept: &'static str) -> Result<Reply, CallError> {
        let call = async {
            let request = Request::get(path)
                .header(HOST, self.site.authority())
                .header(ACCEPT, accept)
                .header(USER_AGENT, concat!("foregate/", env!("CARGO_PKG_VERSION")))
                .body(Empty::new())
                .map_err(CallError::exchange)?;
            self.call(request).await
        };
        timeout(self.limits.deadline, call)
            .await
            .unwrap_or(Err(CallError::Deadline))
    }

    async fn call(&self, request: Request<Empty<Bytes>>) -> Result<Reply, CallError> {
        let stream = self.open().await?;
        self.exchange(stream, request).await
    }

    /// Opens a connection, in TLS if the site requires it.
    async fn open(&self) -> Result<Box<dyn Stream>, CallError> {
        let stream = self.connect().await?;
        if !self.site.tls {
            return Ok(Box::new(stream));
        }
        let host = self.site.host.clone();
        let name = ServerName::try_from(host)
            .map_err(|_| CallError::Connect(Fault::lasting("its name is no name of a host")))?;
        let stream = self.tls.connect(name, stream).await;
        Ok(Box::new(
            stream.map_err(|error| CallError::connect(&error))?,
        ))
    }

    /// Tries one address after the other. An address that never answers, such as IPv6 without a
    /// route, must not use up the deadline.
    async fn connect(&self) -> Result<TcpStream, CallError> {
        let address = (self.site.host.as_str(), self.site.port);
        let addresses = lookup_host(address).await;
        let addresses = addresses.map_err(|error| CallError::connect(&error))?;
        let mut refused = CallError::Connect(Fault::passing("its name has no address"));
        for address in addresses {
            match timeout(PER_ADDRESS, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => refused = CallError::connect(&error),
                Err(_) => refused = CallError::Connect(Fault::silent()),
            }
        }
        Err(refused)
    }

    /// Sends one request on a new connection and reads the response.
    async fn exchange(
        &self,
        stream: Box<dyn Stream>,
        request: Request<Empty<Bytes>>,
    ) -> Result<Reply, CallError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(CallError::exchange)?;
        let call = async {
            let response = sender.send_request(request).await;
            self.read(response.map_err(CallError::exchange)?).await
        };
        // The connection must be driven for the call to progress. When it ends first, the call
        // returns the reason.
        tokio::pin!(call);
        tokio::select! {
            outcome = &mut call => outcome,
            _ = connection => call.await,
        }
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Reply, CallError> {
        if response.status() != StatusCode::OK {
            return Err(CallError::Status(response.status()));
        }
        let max_age = max_age(response.headers());
        let body = Limited::new(response.into_body(), self.limits.body);
        let body = body.collect().await;
        Ok(Reply {
            body: body
                .map_err(|error| CallError::Exchange(error.to_string()))?
                .to_bytes(),
            max_age,
        })
    }
}

/// RFC 9111, section 4.2.1: of several `max-age` the first one counts. A response that may not be
/// cached, or not without validation, has no age.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut directives = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase());
    let mut found = None;
    if directives.any(|directive| {
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            found = found.or_else(|| seconds.trim_matches('"').parse().ok());
        }
        directive.starts_with("no-store") || directive.starts_with("no-cache")
    }) {
        return None;
    }
    found.map(Duration::from_secs)
}

impl CallError {
    fn connect(error: &io::Error) -> Self {
        let fault = Fault::of_connection(&format!("{error:?}"));
        Self::Connect(fault.unwrap_or_else(|| Fault::passing(format!("no connection: {error}"))))
    }

    fn exchange(error: impl fmt::Display) -> Self {
        Self::Exchange(error.to_string())
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(fault) => fault.fmt(f),
            Self::Exchange(error) => write!(f, "no answer: {error}"),
            Self::Status(status) => {
                write!(f, "the answer has status {}", status.as_u16())?;
                f.write_str(match status.as_u16() {
                    300..=399 => ": redirects are not followed; write the URL that it leads to",
                    401 | 403 => ": it may not be fetched without a key",
                    404 | 410 => ": check the path of the URL",
                    _ => "",
                })
            }
            Self::TooLong => f.write_str("the answer is too long"),
            Self::Deadline => f.write_str("no answer in time"),
        }
    }
}

impl CallError {
    /// The fault of the server that it shows.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Connect(fault) => fault.clone(),
            Self::Deadline => Fault::silent(),
            Self::Exchange(_) | Self::Status(_) | Self::TooLong => Fault::passing(self.to_string()),
        }
    }
}

impl std::error::Error for CallError {}

impl fmt::Debug for HttpClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClients").finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("site", &self.site)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_the_one_that_cache_control_allows() {
        let age = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(
                    CACHE_CONTROL,
                    hyper::header::HeaderValue::from_static(value),
                );
            }
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(age(&[]), None);
        assert_eq!(age(&["public, max-age=600"]), Some(600));
        assert_eq!(age(&["public", "Max-Age=\"60\""]), Some(60));
        assert_eq!(age(&["max-age=5, max-age=600"]), Some(5));
        assert_eq!(age(&["max-age=600, no-store"]), None);
        assert_eq!(age(&["no-cache", "max-age=600"]), None);
        assert_eq!(age(&["s-maxage=600"]), None);
        assert_eq!(age(&["max-age=-1"]), None);
        assert_eq!(age(&["max-age=99999999999999999999999"]), None);
    }
}
