//! A call of an operator to the admin listener of a running gateway.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value};
use tokio::net::TcpStream;

use super::run::background;

/// The deadline of connection, call and answer. The gateway itself waits three seconds for its
/// store.
const DEADLINE: Duration = Duration::from_secs(10);

/// The longest answer in bytes: a thousand entries are less.
const LONGEST_ANSWER: usize = 4 << 20;

#[derive(Args, Debug)]
pub(super) struct Admin {
    /// The admin address of one replica; it informs the others
    #[arg(
        long,
        value_name = "URL",
        global = true,
        env = "FOREGATE_ADMIN_URL",
        default_value = "http://127.0.0.1:9901"
    )]
    admin: Uri,
    /// A file with your operator token, one of `admin.operators`; by default the token is read from
    /// the variable `FOREGATE_OPERATOR_TOKEN`
    #[arg(long, value_name = "FILE", global = true)]
    operator_token_file: Option<PathBuf>,
}

impl Admin {
    /// Posts a JSON document to a path.
    pub(super) fn post(&self, path: &str, body: &Value) -> anyhow::Result<(StatusCode, Value)> {
        self.call(Method::POST, path, body.to_string())
    }

    /// Reads a path.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<(StatusCode, Value)> {
        self.call(Method::GET, path, String::new())
    }

    fn call(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let token = self.operator_token()?;
        background()?.block_on(async {
            tokio::time::timeout(DEADLINE, self.send(method, path, &token, body))
                .await
                .map_err(|_| anyhow!("no answer within {} s", DEADLINE.as_secs()))
                .flatten()
                .with_context(|| format!("{}", self.admin))
        })
    }

    /// The token is never an argument: every user of the machine can read those.
    fn operator_token(&self) -> anyhow::Result<String> {
        let token = match &self.operator_token_file {
            Some(file) => std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?,
            None => std::env::var("FOREGATE_OPERATOR_TOKEN").map_err(|_| {
                anyhow!(
                    "no operator token: give --operator-token-file FILE, or set FOREGATE_OPERATOR_TOKEN"
                )
            })?,
        };
        Ok(token.trim_end_matches(['\r', '\n']).to_owned())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: String,
    ) -> anyhow::Result<(StatusCode, Value)> {
        if self.admin.scheme_str() != Some("http") {
            bail!("the admin listener speaks clear text; write `http://ADDRESS:PORT`");
        }
        let authority = self.admin.authority().context("the URL has no host")?;
        let host = authority.host().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80)))
            .await
            .context("cannot connect")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header(HOST, authority.as_str())
            .header(AUTHORIZATION, format!("Bearer {token}"));
        if method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .context("the token has characters that cannot be sent")?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER)
            .collect()
            .await
            .map_err(|error| anyhow!("the answer ended early: {error}"))?
            .to_bytes();
        let answer = serde_json::from_slice(&body).unwrap_or_else(|_| Value::Object(Map::new()));
        Ok((status, answer))
    }
}

/// The explanation in an answer.
pub(super) fn why(answer: &Value) -> &str {
    let why = answer.get("error").and_then(Value::as_str);
    why.unwrap_or("the answer is unreadable")
}

/// A time in Unix seconds, for people.
pub(super) fn time(seconds: Option<i64>) -> String {
    seconds
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map(|time| time.to_string())
        .unwrap_or_default()
}
