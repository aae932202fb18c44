//! Real WebSockets: a server behind the gateway, and clients in front of it.

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message, http};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::client::{Door, Http, Stream};
use crate::support::pki::NAME;
use crate::support::server::Server;
use crate::support::{Gateway, in_time};

/// How a connection ended for the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Parting {
    /// With a close frame, or without one.
    Closed(Option<u16>),
    /// In the middle of a message or frame.
    Broken,
}

/// A server that echoes every message. `please close` makes it send a close frame, `please vanish`
/// makes it close the socket at once.
pub struct Sockets {
    server: Server,
    partings: Arc<Mutex<Vec<Parting>>>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Sockets {
    pub fn start() -> Self {
        let partings = Arc::new(Mutex::new(Vec::new()));
        let shared = partings.clone();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let texts = heard.clone();
        let server = Server::start(move |stream| {
            let (partings, texts) = (shared.clone(), texts.clone());
            tokio::spawn(async move {
                if let Ok(socket) = accept_async(stream).await {
                    let parting = converse(socket, &texts).await;
                    partings.lock().unwrap().push(parting);
                }
            });
        });
        Self {
            server,
            partings,
            heard,
        }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Every text that was received so far.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// How connections ended so far, in order.
    pub fn partings(&self) -> Vec<Parting> {
        self.partings.lock().unwrap().clone()
    }
}

async fn converse(
    mut socket: WebSocketStream<tokio::net::TcpStream>,
    heard: &Mutex<Vec<String>>,
) -> Parting {
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map(|frame| frame.code.into());
                // Answers the close frame.
                while let Some(Ok(_)) = socket.next().await {}
                return Parting::Closed(code);
            }
            Some(Ok(Message::Text(text))) if text == "please close" => {
                let frame = CloseFrame {
                    code: 4000.into(),
                    reason: "as you please".into(),
                };
                socket.close(Some(frame)).await.unwrap();
            }
            Some(Ok(Message::Text(text))) if text == "please vanish" => return Parting::Broken,
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if let Message::Text(text) = &message {
                    heard.lock().unwrap().push(text.to_string());
                }
                if socket.send(message).await.is_err() {
                    return Parting::Broken;
                }
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Parting::Broken,
        }
    }
}

/// A client's end of a WebSocket.
pub struct Socket {
    stream: WebSocketStream<Box<dyn Stream>>,
    /// The decision id.
    pub id: String,
}

/// How a connection ended for the client.
#[derive(Debug, PartialEq)]
pub enum End {
    /// With this close frame.
    Told(u16, String),
    /// Without a close frame.
    Untold,
}

impl Socket {
    /// Opens a WebSocket over TLS.
    pub async fn open(gateway: &Gateway, path: &str, token: &str) -> Self {
        Self::open_at(gateway, Door::Tls, path, token).await
    }

    pub async fn open_at(gateway: &Gateway, door: Door, path: &str, token: &str) -> Self {
        let fields = [("authorization", format!("Bearer {token}"))];
        Self::open_with(gateway, door, path, &fields).await
    }

    /// Opens a WebSocket as a browser does: without a token.
    pub async fn open_silently(gateway: &Gateway, path: &str) -> Self {
        let deflate = ("sec-websocket-extensions", "permessage-deflate".to_owned());
        Self::open_with(gateway, Door::Tls, path, &[deflate]).await
    }

    /// Opens one with these header fields.
    pub async fn open_with(
        gateway: &Gateway,
        door: Door,
        path: &str,
        fields: &[(&'static str, String)],
    ) -> Self {
        let stream = gateway.connector(Http::One, door).open().await.unwrap();
        let mut request = format!("ws://{NAME}{path}").into_client_request().unwrap();
        for (name, value) in fields {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let opening = client_async(request, stream);
        let (stream, response) = in_time("opening", opening).await.unwrap();
        assert_eq!(response.status(), http::StatusCode::SWITCHING_PROTOCOLS);
        let hsts = response.headers().contains_key("strict-transport-security");
        assert_eq!(hsts, door == Door::Tls);
        assert_eq!(response.headers()["connection"], "Upgrade");
        let id = response.headers()["x-request-id"].to_str().unwrap();
        Self {
            stream,
            id: id.to_owned(),
        }
    }

    pub async fn say(&mut self, text: &str) {
        let said = self.stream.send(Message::text(text));
        in_time("saying", said).await.unwrap();
    }

    /// Sends bytes that are framed already, or are no frame at all.
    pub async fn say_raw(&mut self, bytes: &[u8]) {
        let stream = self.stream.get_mut();
        in_time("saying", async {
            stream.write_all(bytes).await.unwrap();
            stream.flush().await.unwrap();
        })
        .await;
    }

    pub async fn hear(&mut self) -> Message {
        in_time("hearing", self.stream.next())
            .await
            .expect("a message")
            .unwrap()
    }

    /// Sends a text and receives it again.
    pub async fn echo(&mut self, text: &str) {
        self.say(text).await;
        assert_eq!(self.hear().await, Message::text(text));
    }

    pub async fn echo_bytes(&mut self, bytes: Vec<u8>) {
        self.echo_message(Message::binary(bytes)).await;
    }

    pub async fn echo_message(&mut self, message: Message) {
        let said = self.stream.feed(message.clone());
        in_time("saying", said).await.unwrap();
        // Receives while it sends: neither side buffers that much.
        let (mut sink, mut source) = (&mut self.stream).split();
        let (flushed, heard) = in_time("an echo", async {
            tokio::join!(sink.flush(), source.next())
        })
        .await;
        flushed.unwrap();
        assert!(heard.unwrap().unwrap() == message, "another message");
    }

    /// Sends a close frame and waits for the answer.
    pub async fn close(mut self, code: u16) -> End {
        let frame = CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        in_time("closing", self.stream.close(Some(frame)))
            .await
            .unwrap();
        self.end().await
    }

    /// Waits for the end, answering pings and close frames.
    pub async fn end(&mut self) -> End {
        let mut end = End::Untold;
        loop {
            match in_time("the end", self.stream.next()).await {
                Some(Ok(Message::Close(frame))) => {
                    let frame = frame.expect("a code");
                    end = End::Told(frame.code.into(), frame.reason.as_str().to_owned());
                }
                Some(Ok(_)) => {}
                None | Some(Err(Error::ConnectionClosed)) => return end,
                Some(Err(_)) => return end,
            }
        }
    }
}
