//! `revoke`: revokes a token, a session, a user or an issuer on a running gateway, through its
//! admin listener, which authorizes the operator and reports whether every replica knows.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;

use super::Format;
use super::run::background;

/// The deadline of connection, call and answer. The gateway itself waits three seconds for its
/// store.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub(super) struct Options {
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
    /// The reason, for the gateway's log
    #[arg(long, value_name = "TEXT", global = true)]
    reason: Option<String>,
    /// How long the revocation lasts; by default as long as what it revokes could be used
    #[arg(long, value_name = "SECONDS", global = true)]
    expires_in: Option<i64>,
    /// Output format
    #[arg(long, value_enum, default_value = "human", global = true)]
    format: Format,
    #[command(subcommand)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum Target {
    /// One token, read from a file or from standard input; its session may get another
    Token {
        /// The file; standard input by default
        file: Option<PathBuf>,
        /// Instead of the token, the SHA-256 of its text before the last dot: `printf %s
        /// "${TOKEN%.*}" | sha256sum`
        #[arg(long, value_name = "DIGEST", conflicts_with = "file")]
        sha256: Option<String>,
    },
    /// All tokens of one session (`session_id`)
    Session {
        /// The `session_id`
        session: String,
        /// Its issuer, if the gateway has several
        #[arg(long, value_name = "ISS")]
        issuer: Option<String>,
        /// Its user, which lets a full list merge it with the user's other sessions
        #[arg(long, value_name = "SUB")]
        subject: Option<String>,
    },
    /// All sign-ins of a user until now
    Subject {
        /// The `sub`
        subject: String,
        /// Its issuer, if the gateway has several
        #[arg(long, value_name = "ISS")]
        issuer: Option<String>,
        /// A session that stays; may be repeated
        #[arg(long = "except-session", value_name = "ID")]
        except_sessions: Vec<String>,
    },
    /// All sign-ins of an issuer's users until now
    Issuer {
        /// The `iss`
        issuer: String,
    },
}

pub(super) fn revoke(options: &Options) -> anyhow::Result<()> {
    let token = operator_token(options)?;
    let call = call(options)?;
    let (status, answer) = background()?.block_on(async {
        tokio::time::timeout(DEADLINE, send(&options.admin, &token, call.to_string()))
            .await
            .map_err(|_| anyhow!("no answer within {} s", DEADLINE.as_secs()))
            .flatten()
            .with_context(|| format!("{}", options.admin))
    })?;
    if options.format == Format::Json {
        println!("{answer}");
    }
    report(status, &answer, options.format)
}

fn report(status: StatusCode, answer: &Value, format: Format) -> anyhow::Result<()> {
    let expires = answer.get("expires").and_then(Value::as_i64);
    let until = expires
        .and_then(|expires| jiff::Timestamp::from_second(expires).ok())
        .map(|expires| expires.to_string())
        .unwrap_or_default();
    match (answer.get("propagated").and_then(Value::as_bool), status) {
        (Some(true), StatusCode::OK) => {
            if format == Format::Human {
                println!("revoked until {until}, on every replica");
            }
            Ok(())
        }
        (Some(false), _) => bail!(
            "revoked until {until} on this replica ONLY: its store did not accept the revocation. It is retried until it does; until then, other replicas do not refuse it"
        ),
        (Some(true) | None, _) => {
            let why = answer.get("error").and_then(Value::as_str);
            bail!(
                "nothing was revoked: {} ({status})",
                why.unwrap_or("the answer is unreadable")
            )
        }
    }
}

/// The token is never an argument: every user of the machine can read those.
fn operator_token(options: &Options) -> anyhow::Result<String> {
    let token = match &options.operator_token_file {
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

fn call(options: &Options) -> anyhow::Result<Value> {
    let mut call = match &options.target {
        Target::Token { file, sha256 } => match sha256 {
            Some(sha256) => json!({ "kind": "token", "token_sha256": sha256 }),
            None => json!({ "kind": "token", "token": read_token(file.as_ref())? }),
        },
        Target::Session {
            session,
            issuer,
            subject,
        } => json!({ "kind": "session", "session": session, "issuer": issuer, "subject": subject }),
        Target::Subject {
            subject,
            issuer,
            except_sessions,
        } => {
            json!({ "kind": "subject", "subject": subject, "issuer": issuer, "except_sessions": except_sessions })
        }
        Target::Issuer { issuer } => json!({ "kind": "issuer", "issuer": issuer }),
    };
    let more = json!({ "reason": options.reason, "expires_in": options.expires_in });
    if let (Value::Object(call), Value::Object(more)) = (&mut call, more) {
        call.extend(more);
    }
    Ok(call)
}

fn read_token(file: Option<&PathBuf>) -> anyhow::Result<String> {
    let mut text = String::new();
    match file {
        Some(file) => {
            text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
        }
        None => {
            std::io::stdin()
                .lock()
                .take(64 * 1024)
                .read_to_string(&mut text)
                .context("cannot read standard input")?;
        }
    }
    let token = text.trim();
    if token.is_empty() {
        bail!("no token to revoke");
    }
    Ok(token.to_owned())
}

async fn send(admin: &Uri, token: &str, body: String) -> anyhow::Result<(StatusCode, Value)> {
    if admin.scheme_str() != Some("http") {
        bail!("the admin listener speaks clear text; write `http://ADDRESS:PORT`");
    }
    let authority = admin.authority().context("the URL has no host")?;
    let host = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80)))
        .await
        .context("cannot connect")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post("/revocations")
        .header(HOST, authority.as_str())
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .context("the token has characters that cannot be sent")?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), 64 * 1024)
        .collect()
        .await
        .map_err(|error| anyhow!("the answer ended early: {error}"))?
        .to_bytes();
    let answer = serde_json::from_slice(&body).unwrap_or_else(|_| Value::Object(Map::new()));
    Ok((status, answer))
}
