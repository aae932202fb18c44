//! Calls the gateway makes for itself: GET of an issuer's key set, and nothing else.
//!
//! Decides:  whether an answer counts: status 200, within the deadline and the size, from a server whose certificate is good.
//! Trusts:   the operator's URL and the system's root certificates.
//! Not here: forwarding. A call goes to a checked [`JwksUrl`] only, never to an upstream, and carries nothing of any request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::checked::JwksUrl;
use crate::tokens::MAX_DOCUMENT;

/// For everything together: look-up, connection, TLS, answer. A choice, not a measurement.
const DEADLINE: Duration = Duration::from_secs(5);

/// The client. Every call opens a connection of its own; calls are minutes apart.
pub struct SideCalls {
    tls: TlsConnector,
    deadline: Duration,
}

/// Why a call gave no document.
#[derive(Debug, PartialEq, Eq)]
pub enum SideCallError {
    /// No connection, or not in TLS.
    Connect(String),
    /// The exchange broke off, or the answer was longer than 256 KiB.
    Exchange(String),
    /// Another status than 200. Redirects are not followed: the operator names the place.
    Status(StatusCode),
    /// Not done in time.
    Deadline,
}

impl SideCalls {
    /// A client that trusts the system's root certificates, which are read here, once.
    pub fn new() -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some system root certificates could not be read");
        }
        roots.add_parsable_certificates(found.certs);
        Self::with_roots(roots)
    }

    /// A client that trusts these roots only.
    pub fn with_roots(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: TlsConnector::from(Arc::new(tls)),
            deadline: DEADLINE,
        })
    }

    /// With another deadline, so that tests need not wait.
    #[cfg(test)]
    pub(crate) fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Fetches the document at `url`.
    pub async fn get(&self, url: &JwksUrl) -> Result<Bytes, SideCallError> {
        tokio::time::timeout(self.deadline, self.call(url))
            .await
            .unwrap_or(Err(SideCallError::Deadline))
    }

    async fn call(&self, url: &JwksUrl) -> Result<Bytes, SideCallError> {
        let stream = TcpStream::connect((url.host.trim_matches(['[', ']']), url.port))
            .await
            .map_err(connect)?;
        if !url.tls {
            return exchange(stream, url).await;
        }
        let name =
            ServerName::try_from(url.host.trim_matches(['[', ']']).to_owned()).map_err(connect)?;
        exchange(self.tls.connect(name, stream).await.map_err(connect)?, url).await
    }
}

/// One request and its answer on a fresh connection.
async fn exchange<S>(stream: S, url: &JwksUrl) -> Result<Bytes, SideCallError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(SideCallError::exchange)?;
    let call = async {
        let response = sender
            .send_request(request(url)?)
            .await
            .map_err(SideCallError::exchange)?;
        if response.status() != StatusCode::OK {
            return Err(SideCallError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_DOCUMENT)
            .collect()
            .await;
        body.map(|body| body.to_bytes())
            .map_err(|error| SideCallError::Exchange(error.to_string()))
    };
    // The connection must be driven for the call to move. When it ends first, the call has the reason.
    tokio::pin!(call);
    tokio::select! {
        outcome = &mut call => outcome,
        _ = connection => call.await,
    }
}

fn request(url: &JwksUrl) -> Result<Request<Empty<Bytes>>, SideCallError> {
    let default_port = if url.tls { 443 } else { 80 };
    let host = if url.port == default_port {
        url.host.clone()
    } else {
        format!("{}:{}", url.host, url.port)
    };
    Request::get(&url.path)
        .header(HOST, host)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, concat!("foregate/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(SideCallError::exchange)
}

fn connect(error: impl fmt::Display) -> SideCallError {
    SideCallError::Connect(error.to_string())
}

impl SideCallError {
    fn exchange(error: impl fmt::Display) -> Self {
        Self::Exchange(error.to_string())
    }
}

impl fmt::Display for SideCallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::Exchange(error) => write!(f, "no answer: {error}"),
            Self::Status(status) => write!(f, "the answer has status {}", status.as_u16()),
            Self::Deadline => f.write_str("no answer in time"),
        }
    }
}

impl std::error::Error for SideCallError {}

impl fmt::Debug for SideCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideCalls").finish_non_exhaustive()
    }
}
