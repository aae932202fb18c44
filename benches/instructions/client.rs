//! One connection to the gateway, over TLS as in production, and one request after the other on it.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Case;
use crate::scene::Scene;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    H1,
    H2,
}

impl Version {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::H1 => "HTTP/1.1",
            Self::H2 => "HTTP/2",
        }
    }

    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::H1 => b"http/1.1",
            Self::H2 => b"h2",
        }
    }
}

/// The connection itself is a task of the runtime, until this is dropped.
pub(crate) enum Client {
    H1(http1::SendRequest<Empty<Bytes>>),
    H2(http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    pub(crate) async fn connect(scene: &Scene, gateway: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect(gateway).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(scene.tls(version))
            .connect(name, stream)
            .await
            .unwrap();
        let stream = TokioIo::new(stream);
        match version {
            Version::H1 => {
                let (sender, connection) = http1::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                Self::H1(sender)
            }
            Version::H2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
                    .await
                    .unwrap();
                tokio::spawn(connection);
                Self::H2(sender)
            }
        }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn ask(&mut self, scene: &Scene, case: &Case) {
        let mut request = match self {
            Self::H1(_) => Request::get(case.path).header("host", "localhost"),
            Self::H2(_) => Request::get(format!("https://localhost{}", case.path)),
        };
        request = request
            .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0)")
            .header("accept", "application/json, text/plain, */*")
            .header("accept-encoding", "gzip, deflate, br, zstd")
            .header("accept-language", "en-US,en;q=0.5");
        if case.with_token {
            request = request.header("authorization", &scene.authorization);
        }
        let request = request.body(Empty::new()).unwrap();
        let response = match self {
            Self::H1(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request).await
            }
            Self::H2(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request).await
            }
        };
        let response = response.unwrap();
        assert_eq!(response.status(), case.status, "{}", case.name);
        response.into_body().collect().await.unwrap();
    }
}
