//! The command `foregate revoke`.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use foregate::denial::Reason;

use super::{People, is_good, is_refused, uuid};
use crate::support::Gateway;
use crate::support::admin::OPERATOR;
use crate::support::gateway::program;

fn revoke(gateway: &Gateway, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program())
        .arg("revoke")
        .args(arguments)
        .env("FOREGATE_ADMIN_URL", gateway.admin())
        .env("FOREGATE_OPERATOR_TOKEN", OPERATOR)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[track_caller]
fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(
        said.starts_with("revoked until 20") && said.ends_with("on every replica\n"),
        "{said}"
    );
}

#[tokio::test]
async fn the_command_revokes_its_argument() {
    let gateway = Gateway::start().await;
    let people = People::new(&gateway);
    succeeds(&revoke(
        &gateway,
        &["token"],
        &format!("{}\n", people.first),
    ));
    is_refused(&gateway, &people.first, Reason::TokenRevoked).await;
    is_good(&gateway, &people.second).await;
    let except = [
        "subject",
        &people.subject,
        "--except-session",
        &people.first_session,
    ];
    succeeds(&revoke(&gateway, &except, ""));
    is_refused(&gateway, &people.second, Reason::SubjectRevoked).await;
    let session = uuid();
    let token = gateway
        .issuer
        .sign(&gateway.issuer.claims().session(&session));
    succeeds(&revoke(
        &gateway,
        &[
            "session",
            &session,
            "--expires-in",
            "600",
            "--reason",
            "lost",
        ],
        "",
    ));
    is_refused(&gateway, &token, Reason::SessionRevoked).await;
    is_good(&gateway, &people.other).await;
    succeeds(&revoke(
        &gateway,
        &["issuer", crate::support::tokens::ISSUER],
        "",
    ));
    is_refused(&gateway, &people.other, Reason::IssuerRevoked).await;
}

#[tokio::test]
async fn the_command_reports_that_nothing_was_revoked() {
    let gateway = Gateway::start().await;
    gateway.write_file("token", "bob-0123456789abcdef0123456789abcdef\n");
    let file = gateway.path("token");
    let wrong = revoke(
        &gateway,
        &[
            "session",
            "s",
            "--operator-token-file",
            file.to_str().unwrap(),
        ],
        "",
    );
    assert_eq!(wrong.status.code(), Some(1));
    let said = text(&wrong.stderr);
    assert!(
        said.contains("nothing was revoked: no operator has this token"),
        "{said}"
    );
    let nowhere = revoke(
        &gateway,
        &["session", "s", "--admin", "http://127.0.0.1:1"],
        "",
    );
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(text(&nowhere.stderr).contains("cannot connect"));
    let json = revoke(&gateway, &["session", "", "--format", "json"], "");
    assert_eq!(json.status.code(), Some(1));
    let answer: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(answer["error"].is_string());
    assert_eq!(revoke(&gateway, &["token"], " \n").status.code(), Some(1));
    assert_eq!(revoke(&gateway, &["everything"], "").status.code(), Some(2));
}
