//! A double of Supabase Realtime: Phoenix channels over WebSocket in version 2, which echoes
//! broadcasts to their sender.

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::server::Server;

/// Event and token of every message that had one.
type Tokens = Arc<Mutex<Vec<(String, String)>>>;

/// A running server.
pub struct Channels {
    server: Server,
    tokens: Tokens,
}

impl Channels {
    pub fn start() -> Self {
        let tokens = Tokens::default();
        let shared = tokens.clone();
        let server = Server::start(move |stream| {
            tokio::spawn(converse(stream, shared.clone()));
        });
        Self { server, tokens }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Event and token of every message that had one, in order.
    pub fn tokens(&self) -> Vec<(String, String)> {
        self.tokens.lock().unwrap().clone()
    }
}

async fn converse(stream: TcpStream, tokens: Tokens) {
    let Ok(mut socket) = accept_async(stream).await else {
        return;
    };
    while let Some(Ok(message)) = socket.next().await {
        let answers = match message {
            Message::Text(text) => text_answers(text.as_str(), &tokens),
            Message::Binary(bytes) => binary_answers(&bytes),
            _ => Vec::new(),
        };
        for answer in answers {
            if socket.send(answer).await.is_err() {
                return;
            }
        }
    }
}

fn reply(join: &Value, reference: &Value, topic: &Value, response: &Value) -> Message {
    let payload = json!({ "status": "ok", "response": response });
    Message::text(json!([join, reference, topic, "phx_reply", payload]).to_string())
}

fn text_answers(text: &str, tokens: &Tokens) -> Vec<Message> {
    let message: Value = serde_json::from_str(text).unwrap();
    let (join, reference, topic) = (&message[0], &message[1], &message[2]);
    let event = message[3].as_str().unwrap();
    if let Some(token) = message[4]["access_token"].as_str() {
        tokens
            .lock()
            .unwrap()
            .push((event.to_owned(), token.to_owned()));
    }
    match event {
        "phx_join" => vec![reply(
            join,
            reference,
            topic,
            &json!({ "postgres_changes": [] }),
        )],
        "access_token" => Vec::new(),
        _ => vec![reply(join, reference, topic, &json!({}))],
    }
}

/// A broadcast is echoed to its sender, and acknowledged.
fn binary_answers(bytes: &[u8]) -> Vec<Message> {
    assert_eq!(bytes[0], 3, "a broadcast of a user");
    let sizes: Vec<usize> = bytes[1..6].iter().map(|size| usize::from(*size)).collect();
    let mut rest = &bytes[7..];
    let mut take = |size: usize| {
        let (part, behind) = rest.split_at(size);
        rest = behind;
        part
    };
    let parts: Vec<&[u8]> = sizes.iter().map(|size| take(*size)).collect();
    let [join, reference, topic, event, metadata] = parts[..] else {
        unreachable!("five sizes")
    };
    let text = |part: &[u8]| Value::from(String::from_utf8(part.to_vec()).unwrap());
    let mut back = vec![4, bytes[3], bytes[4], bytes[5], bytes[6]];
    for part in [topic, event, metadata, rest] {
        back.extend(part);
    }
    vec![
        Message::binary(back),
        reply(&text(join), &text(reference), &text(topic), &json!({})),
    ]
}
