//! Calls to the admin listener, as made by an operator, by the identity server or by an
//! unauthenticated client.

use std::io::{Read, Write};
use std::net::TcpStream;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Gateway;
use super::tokens::now;

/// The token of `alice`, an operator of every test's gateway.
pub const OPERATOR: &str = "alice-0123456789abcdef0123456789abcdef";

/// The secret of the webhook, where a test configures one.
pub const WEBHOOK: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A POST to a path of the admin listener, in clear text.
#[derive(Clone, Debug)]
pub struct Post {
    admin: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A document that only operators may read.
pub fn get(gateway: &Gateway, path: &str) -> Value {
    let address = gateway.admin().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: Bearer {OPERATOR}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

impl Post {
    /// A request with nothing but a length and a known host.
    pub fn new(admin: &str, path: &str) -> Self {
        Self {
            admin: admin.to_owned(),
            path: path.to_owned(),
            headers: vec![
                ("Host".to_owned(), "127.0.0.1".to_owned()),
                ("Connection".to_owned(), "close".to_owned()),
            ],
            body: Vec::new(),
        }
    }

    /// A valid call to revoke something.
    pub fn revoke(admin: &str, what: &Value) -> Self {
        Self::new(admin, "/revocations")
            .header("Authorization", &format!("Bearer {OPERATOR}"))
            .json(what)
    }

    /// A valid message of the identity server, sent a number of seconds ago.
    pub fn webhook(admin: &str, message: &Value, ago: i64) -> Self {
        let (id, timestamp) = ("msg_1", (now() - ago).to_string());
        let body = message.to_string();
        let secret = STANDARD.decode(&WEBHOOK["whsec_".len()..]).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let tag = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
        Self::new(admin, "/webhooks/identity")
            .header("webhook-id", id)
            .header("webhook-timestamp", &timestamp)
            .header("webhook-signature", &format!("v1,{}", STANDARD.encode(tag)))
            .json(message)
    }

    /// Adds a field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes a field.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// With this body and its type.
    pub fn json(self, value: &Value) -> Self {
        self.header("Content-Type", "application/json")
            .body(value.to_string())
    }

    /// With this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The fields of a message and its body, without those of the connection.
    pub fn signed_fields(&self) -> Vec<(String, String)> {
        let of_message = |name: &str| name.starts_with("webhook-") || name == "Content-Type";
        let fields = self.headers.iter();
        fields
            .filter(|(name, _)| of_message(name))
            .map(|(name, value)| (name.to_lowercase(), value.clone()))
            .collect()
    }

    /// Sends it, and returns the connection on which the answer will arrive.
    pub fn begin(&self) -> TcpStream {
        let address = self.admin.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let mut head = format!("POST {} HTTP/1.1\r\n", self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        stream.write_all(head.as_bytes()).unwrap();
        // A gateway that has refused may have closed before it read everything.
        let _ = stream.write_all(&self.body);
        stream
    }

    /// Sends it: status and body, which is always JSON.
    pub fn send(&self) -> (u16, Value) {
        let mut stream = self.begin();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.get(9..12).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let body = serde_json::from_str(body).unwrap_or(Value::Null);
        (status.unwrap_or(0), body)
    }
}
