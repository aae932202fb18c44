//! `revocations`: lists the revocations of a running gateway, and undoes one, through its admin
//! listener.

use std::fmt::Write as _;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::admin_call::{Admin, time, why};
use super::{Format, output};
use crate::secrets::hex;

/// Hexadecimal digits of an id that the list shows: enough to name an entry among millions.
const SHOWN_ID: usize = 16;

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    admin: Admin,
    /// Output format
    #[arg(long, value_enum, default_value = "human", global = true)]
    format: Format,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List revocations that have not expired, newest first
    List {
        /// Those of logouts and webhooks, too, not only those of operators
        #[arg(long)]
        all: bool,
        /// Only those of one kind
        #[arg(long, value_enum)]
        kind: Option<Kind>,
        /// Only those that name this user, session or issuer
        #[arg(long, value_name = "ID")]
        of: Option<String>,
        /// At most this many, up to 1000
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: usize,
    },
    /// Undo a revocation on every replica
    ///
    /// Exit status 0 means that within a second no replica refuses anything because of it; another
    /// revocation may still refuse the same token.
    Undo {
        /// The id that `list` and `foregate revoke` print, or the beginning of it
        id: String,
        /// The reason, for the list and the gateway's log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Token,
    Session,
    Subject,
    Issuer,
    Bucket,
}

const NONE: &str = "no revocation matches";
const NONE_OF_OPERATORS: &str = "no operator's revocation matches; with --all also those of logouts and webhooks, and the users and buckets into which a full list merged others";

pub(super) fn revocations(options: &Options) -> anyhow::Result<()> {
    let (status, answer) = match &options.action {
        Action::List {
            all,
            kind,
            of,
            limit,
        } => {
            let mut path = format!("/revocations/entries?all={all}&limit={limit}");
            if let Some(kind) = kind.and_then(|kind| kind.to_possible_value()) {
                let _ = write!(path, "&kind={}", kind.get_name());
            }
            if let Some(of) = of {
                let _ = write!(path, "&of={}", escaped(of));
            }
            options.admin.get(&path)?
        }
        Action::Undo { id, reason } => {
            let call = json!({ "id": id, "reason": reason });
            options.admin.post("/revocations/undo", &call)?
        }
    };
    if options.format == Format::Json {
        output::line(&answer);
    }
    let is_human = options.format == Format::Human;
    match &options.action {
        Action::List { all, .. } => {
            report_list(status, &answer, is_human)?;
            let is_empty = answer.get("count").and_then(Value::as_u64) == Some(0);
            if is_human && is_empty {
                output::line(if *all { NONE } else { NONE_OF_OPERATORS });
            }
            Ok(())
        }
        Action::Undo { .. } => report_undo(status, &answer, is_human),
    }
}

fn report_list(status: StatusCode, answer: &Value, is_human: bool) -> anyhow::Result<()> {
    let entries = answer.get("entries").and_then(Value::as_array);
    let (StatusCode::OK, Some(entries)) = (status, entries) else {
        bail!("{} ({status})", why(answer));
    };
    if is_human {
        entries.iter().for_each(|entry| output::line(line(entry)));
        let count = answer.get("count").and_then(Value::as_u64).unwrap_or(0);
        if count > entries.len() as u64 {
            output::line(format_args!("{} of {count} shown", entries.len()));
        }
    }
    if answer.get("complete") != Some(&Value::Bool(true)) {
        bail!("this replica has not read the whole list yet; there may be more");
    }
    Ok(())
}

fn report_undo(status: StatusCode, answer: &Value, is_human: bool) -> anyhow::Result<()> {
    match (answer.get("propagated").and_then(Value::as_bool), status) {
        (Some(true), StatusCode::OK) => {
            if is_human {
                let what = answer.get("undone").map(described).unwrap_or_default();
                output::line(format_args!("undone on every replica: {what}"));
            }
            Ok(())
        }
        (Some(false), _) => bail!(
            "undone on this replica ONLY: its store did not accept that. It is retried until it does; until then, other replicas go on refusing"
        ),
        (Some(true) | None, _) => bail!("{} ({status})", why(answer)),
    }
}

/// An entry on one line.
fn line(entry: &Value) -> String {
    let text = |value: &Value, key: &str| -> String {
        let found = value.get(key).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let seconds = |value: &Value, key: &str| time(value.get(key).and_then(Value::as_i64));
    let (id, what) = (text(entry, "id"), entry.get("revoked").map(described));
    let mut line = format!(
        "{}  {}  at {}, until {}",
        id.get(..SHOWN_ID).unwrap_or(&id),
        what.unwrap_or_default(),
        seconds(entry, "at"),
        seconds(entry, "expires"),
    );
    let by = |line: &mut String, value: &Value| {
        let (by, reason) = (text(value, "by"), text(value, "reason"));
        if !by.is_empty() {
            let _ = write!(line, " by {by}");
        }
        if !reason.is_empty() {
            let _ = write!(line, " ({reason})");
        }
    };
    by(&mut line, entry);
    if entry.get("merged") == Some(&Value::Bool(true)) {
        line.push_str(", merged from several in a full list");
    }
    if let Some(undone) = entry.get("undone").filter(|undone| !undone.is_null()) {
        let _ = write!(line, ", UNDONE at {}", seconds(undone, "at"));
        by(&mut line, undone);
    }
    line
}

/// What was revoked, such as `session ID`.
fn described(revoked: &Value) -> String {
    let text = |key: &str| revoked.get(key).and_then(Value::as_str);
    let kind = text("kind").unwrap_or_default();
    let id = match kind {
        "token" => text("token_sha256"),
        "bucket" => text("issuer"),
        kind => text(kind),
    };
    format!("{kind} {}", id.unwrap_or_default())
}

/// Escapes a value of a query (RFC 3986, section 2.1).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(byte.into());
            }
            _ => {
                let _ = write!(escaped, "%{}", hex::encode(&[byte]));
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_revoked_what_and_who_undid_it() {
        let entry = json!({
            "id": "0123456789abcdef0123456789abcdef",
            "revoked": { "kind": "session", "session": "s", "issuer": "i" },
            "at": 0, "expires": 60, "by": "alice", "reason": "lost", "merged": false,
            "undone": { "by": "bob", "reason": "found", "at": 30 },
        });
        assert_eq!(
            line(&entry),
            "0123456789abcdef  session s  at 1970-01-01T00:00:00Z, until 1970-01-01T00:01:00Z by alice (lost), UNDONE at 1970-01-01T00:00:30Z by bob (found)"
        );
        assert_eq!(escaped("a b&ü"), "a%20b%26%c3%bc");
    }
}
