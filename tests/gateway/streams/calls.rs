//! A real HTTP/2 server in clear text, which answers as gRPC servers do.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use hyper::{HeaderMap, Request, Response};
use tokio::net::TcpStream;

use crate::support::server::Server;

/// What the server saw and did.
#[derive(Default)]
struct Seen {
    requests: Vec<Request<()>>,
    trailers: Vec<HeaderMap>,
    /// Streams that the gateway reset, by path.
    resets: Vec<String>,
    connections: usize,
    /// How many bytes of bodies arrived that were read before the answer.
    received: usize,
}

/// The server. The last segment of the path selects its behaviour.
pub struct Calls {
    server: Server,
    seen: Arc<Mutex<Seen>>,
}

impl Calls {
    pub fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = seen.clone();
        let server = Server::start(move |stream| {
            shared.lock().unwrap().connections += 1;
            tokio::spawn(serve(stream, shared.clone()));
        });
        Self { server, seen }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Takes the requests so far.
    pub fn take(&self) -> Vec<Request<()>> {
        std::mem::take(&mut self.seen.lock().unwrap().requests)
    }

    /// Trailers of requests so far.
    pub fn trailers(&self) -> Vec<HeaderMap> {
        self.seen.lock().unwrap().trailers.clone()
    }

    /// Paths of streams that the gateway reset.
    pub fn resets(&self) -> Vec<String> {
        self.seen.lock().unwrap().resets.clone()
    }

    /// How many bytes arrived of bodies that are read before the answer.
    pub fn received(&self) -> usize {
        self.seen.lock().unwrap().received
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }
}

async fn serve(stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        seen.lock()
            .unwrap()
            .requests
            .push(Request::from_parts(head, ()));
        if path.ends_with("/goodbye") {
            // Answers this request, and takes no more.
            connection.graceful_shutdown();
        }
        tokio::spawn(answer(path, body, respond, seen.clone()));
    }
}

fn head() -> Response<()> {
    let head = Response::builder().header("content-type", "application/grpc+proto");
    head.body(()).unwrap()
}

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([
        ("grpc-status".parse().unwrap(), code.parse().unwrap()),
        (
            "x-foregate-subject".parse().unwrap(),
            "somebody".parse().unwrap(),
        ),
    ])
}

async fn answer(
    path: String,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    seen: Arc<Mutex<Seen>>,
) {
    let kind = path.rsplit('/').next().unwrap();
    let mut head = head();
    match kind {
        // Only trailers.
        "absent" => {
            head.headers_mut()
                .insert("grpc-status", "5".parse().unwrap());
            respond.send_response(head, true).unwrap();
        }
        "silent" => {
            let _ = std::future::poll_fn(|context| respond.poll_reset(context)).await;
            seen.lock().unwrap().resets.push(path.clone());
        }
        // As a server that answers once the client has sent everything.
        "late" => {
            let mut all = Vec::new();
            while let Some(data) = body.data().await {
                let Ok(data) = data else { return };
                seen.lock().unwrap().received += data.len();
                let _ = body.flow_control().release_capacity(data.len());
                all.extend_from_slice(&data);
            }
            let mut send = respond.send_response(head, false).unwrap();
            send.send_data(all.into(), false).unwrap();
            send.send_trailers(status("0")).unwrap();
        }
        "reset" => {
            let mut send = respond.send_response(head, false).unwrap();
            send.send_data("begun".into(), false).unwrap();
            // After what was sent, not in its place.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            send.send_reset(Reason::INTERNAL_ERROR);
        }
        _ => {
            let send = respond.send_response(head, false).unwrap();
            echo(&path, &mut body, send, &seen).await;
        }
    }
}

/// Sends back every piece as it arrives, and at the end the status.
async fn echo(
    path: &str,
    body: &mut RecvStream,
    mut send: SendStream<Bytes>,
    seen: &Arc<Mutex<Seen>>,
) {
    loop {
        match body.data().await {
            Some(Ok(data)) => {
                let _ = body.flow_control().release_capacity(data.len());
                send.send_data(data, false).unwrap();
            }
            Some(Err(error)) => {
                assert_eq!(error.reason(), Some(Reason::CANCEL));
                seen.lock().unwrap().resets.push(path.to_owned());
                return;
            }
            None => break,
        }
    }
    if let Ok(Some(trailers)) = body.trailers().await {
        seen.lock().unwrap().trailers.push(trailers);
    }
    send.send_trailers(status("0")).unwrap();
}
