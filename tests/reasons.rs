//! Invariants of the table of reasons and of the failure matrix, and the lists for operators, which
//! are written from them and from the table of the identity server's operations:
//! `config/reasons.md`, `config/outages.md` and `config/identity-server.md`.
//!
//! `FOREGATE_BLESS=1 cargo test --test reasons` rewrites the files.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use foregate::config;
use foregate::denial::Reason;
use foregate::log::Log;
use foregate::policy::outage::{AccessClass, State};
use foregate::server::Server;
use foregate::sign_in::operation;
use serde_json::Value;

const INTRODUCTION: &str = "\
# Reasons

Why a request was refused. A refusal carries a decision id: `request_id` in its body, `X-Request-Id` in its
head. The log has one line with this `request_id`. Its `reason` is the operator's code below; its `detail`, if
there is one, is for the operator only. The client gets the second code, as `code` of an
`application/problem+json` document. The two codes differ where the difference would tell a client what
exists, or what runs behind the gateway.

*Fault* is the party that caused the refusal; every fault but `client` is worth an alert. *Wire* is the
protocol that can produce the reason: HTTP/2 cannot express some malformed requests.

This file is written by `tests/reasons.rs` from the table in `src/denial/reason.rs`; change it there.
";

const MATRIX_INTRODUCTION: &str = "\
# Outages

How a request is answered while a dependency of the gateway is unavailable. An outage never looks like a bad
token: it is a 503 with a reason of its own, never a 401 or a 403. A bad token stays a 401. A gateway that was
ready stays ready.

*allow*: all layers run as usual, on the state in memory. *degrade*: only callers whose token was accepted
here before the outage. A status is a refusal, with its reason from `reasons.md`. *read* and *write* follow
the action of the route, or its method; *admin* is an action that only a role with `\"*\"` grants. *sign-in*
is for the routes that `identity` creates. *signed* is for signed URLs, which are not implemented yet.

`foregate check` prints this table, too. This file is written by `tests/reasons.rs` from
`src/policy/outage.rs`; change it there.
";

fn matrix() -> String {
    let mut text = format!("{MATRIX_INTRODUCTION}\n| state |");
    for class in AccessClass::ALL {
        write!(text, " {} |", class.as_str()).unwrap();
    }
    writeln!(text, "\n|---|{}", "---|".repeat(AccessClass::ALL.len())).unwrap();
    for state in State::ALL {
        write!(text, "| {} |", state.meaning()).unwrap();
        for cell in state.row() {
            let but = match cell.but {
                "" => String::new(),
                but => format!("; {but}"),
            };
            write!(text, " {}{but} |", cell.effect.as_text()).unwrap();
        }
        text.push('\n');
    }
    text
}

fn document() -> String {
    let mut text = format!(
        "{INTRODUCTION}
| operator's code | client's code | status | fault | wire | meaning | what to do |
|---|---|---|---|---|---|---|
"
    );
    for reason in Reason::ALL {
        writeln!(
            text,
            "| `{}` | `{}` | {} | {} | {} | {} | {} |",
            reason.code(),
            reason.public_code(),
            reason.status().as_u16(),
            reason.fault().as_str(),
            reason.wire().as_str(),
            reason.meaning().replace('|', "\\|"),
            reason.remedy().replace('|', "\\|"),
        )
        .unwrap();
    }
    text
}

#[test]
fn the_lists_for_operators_are_the_tables() {
    for (name, document) in [
        ("reasons.md", document()),
        ("outages.md", matrix()),
        ("identity-server.md", operation::document()),
    ] {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("config")
            .join(name);
        if std::env::var_os("FOREGATE_BLESS").is_some_and(|value| value == "1") {
            std::fs::write(&file, &document).unwrap();
        }
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            written == document,
            "config/{name} is not what the table says; FOREGATE_BLESS=1 cargo test --test reasons writes it"
        );
    }
}

#[test]
fn every_reason_has_a_code_of_its_own() {
    let mut seen = HashMap::new();
    for reason in Reason::ALL {
        let code = reason.code();
        assert_eq!(seen.insert(code, reason), None, "`{code}` occurs twice");
        for word in [code, reason.public_code()] {
            assert!(
                word.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
                "`{word}` is not snake case"
            );
        }
        for sentence in [reason.meaning(), reason.remedy()] {
            assert!(sentence.ends_with('.'), "{code}: `{sentence}`");
        }
    }
}

#[test]
fn a_refusal_is_a_client_or_a_server_error() {
    for reason in Reason::ALL {
        let status = reason.status();
        assert!(
            status.is_client_error() || status.is_server_error(),
            "{reason:?}"
        );
        // An outage is not a bad token, and a bad token is not an outage.
        assert_eq!(
            status.is_client_error(),
            reason.fault().as_str() == "client",
            "{reason:?}"
        );
    }
}

#[test]
fn reasons_with_one_public_code_cannot_be_told_apart_by_status() {
    let mut statuses = HashMap::new();
    for reason in Reason::ALL {
        let status = *statuses
            .entry(reason.public_code())
            .or_insert(reason.status());
        assert_eq!(status, reason.status(), "{reason:?}");
    }
}

#[test]
fn a_hidden_route_has_the_code_of_one_that_does_not_exist() {
    for reason in [Reason::RouteUnknown, Reason::RouteDenied] {
        assert_eq!(reason.public_code(), "not_found");
    }
}

const ROUTE_MAP: &str = "
workers: 1
listen: [{ address: 127.0.0.1:0, tls: off }]
admin: { address: 127.0.0.1:0 }
routes:
  - { path: /hidden, access: deny }
  - { path: /health, methods: [GET], access: public, serve: health }
";

#[test]
fn a_hidden_route_answers_like_one_that_does_not_exist() {
    let loaded = config::load_str("test.yaml", ROUTE_MAP, Path::new(""), &|_| None).unwrap();
    let background = tokio::runtime::Runtime::new().unwrap();
    let log = Log::start(std::io::sink()).unwrap();
    let server = background.block_on(Server::start(loaded, log)).unwrap();
    let address = server
        .addresses()
        .listeners
        .first()
        .and_then(|url| url.strip_prefix("http://"))
        .unwrap();

    let hidden = without_ids(&get(address, "/hidden"));
    let unknown = without_ids(&get(address, "/unknown"));

    assert!(
        hidden.0.starts_with("HTTP/1.1 404 Not Found\r\n"),
        "{hidden:?}"
    );
    assert_eq!(hidden, unknown);
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Head and body, without what differs between any two requests.
fn without_ids(answer: &str) -> (String, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("x-request-id:") && !line.starts_with("date:"))
        .collect();
    let mut body: Value = serde_json::from_str(body).unwrap();
    assert!(body.as_object_mut().unwrap().remove("request_id").is_some());
    (head, body)
}
