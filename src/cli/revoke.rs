//! `revoke`: revokes a token, a session, a user or an issuer on a running gateway, through its
//! admin listener, which authorizes the operator and reports whether every replica knows.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::admin_call::{Admin, time, why};
use super::{Format, output};

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    admin: Admin,
    /// The reason, for `foregate revocations list` and the gateway's log
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
    let (status, answer) = options.admin.post("/revocations", &call(options)?)?;
    if options.format == Format::Json {
        output::line(&answer);
    }
    report(status, &answer, options.format)
}

fn report(status: StatusCode, answer: &Value, format: Format) -> anyhow::Result<()> {
    let until = time(answer.get("expires").and_then(Value::as_i64));
    match (answer.get("propagated").and_then(Value::as_bool), status) {
        (Some(true), StatusCode::OK) => {
            if format == Format::Human {
                let id = answer.get("id").and_then(Value::as_str);
                let id = id.unwrap_or_default();
                output::line(format_args!(
                    "revoked until {until} with id {id}, on every replica"
                ));
            }
            Ok(())
        }
        (Some(false), _) => bail!(
            "revoked until {until} on this replica ONLY: its store did not accept the revocation. It is retried until it does; until then, other replicas do not refuse it"
        ),
        (Some(true) | None, _) => {
            bail!("nothing was revoked: {} ({status})", why(answer))
        }
    }
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
