//! Listing revocations and undoing one: the calls of operators, and the command
//! `foregate revocations`.

use std::process::{Command, Output};

use foregate::denial::Reason;
use serde_json::{Value, json};

use super::replicas::{Pair, becomes_ready};
use super::{People, is_good, is_refused, uuid};
use crate::support::admin::{OPERATOR, Post};
use crate::support::gateway::program;
use crate::support::log::says;
use crate::support::tokens::now;
use crate::support::{Gateway, Http, eventually};

fn revocations(gateway: &Gateway, arguments: &[&str]) -> Output {
    Command::new(program())
        .arg("revocations")
        .args(arguments)
        .env("FOREGATE_ADMIN_URL", gateway.admin())
        .env("FOREGATE_OPERATOR_TOKEN", OPERATOR)
        .output()
        .unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn listed(gateway: &Gateway, arguments: &[&str]) -> Value {
    let arguments = [&["list", "--format", "json"], arguments].concat();
    serde_json::from_str(&printed(&revocations(gateway, &arguments))).unwrap()
}

fn undo(gateway: &Gateway, body: &Value) -> (u16, Value) {
    Post::new(gateway.admin(), "/revocations/undo")
        .header("Authorization", &format!("Bearer {OPERATOR}"))
        .json(body)
        .send()
}

fn id_of(answer: &Value) -> String {
    answer["id"].as_str().unwrap().to_owned()
}

async fn becomes_good(gateway: &Gateway, token: &str) {
    let mut client = gateway.connect(Http::Two).await;
    let until = std::time::Instant::now() + crate::support::DEADLINE;
    while client.get("/me").bearer(token).send().await.status != 200 {
        assert!(std::time::Instant::now() < until, "refused for ever");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    gateway.origin.take();
    is_good(gateway, token).await;
}

#[tokio::test]
async fn an_operator_lists_a_revocation_and_undoes_it_on_every_replica_for_good() {
    let mut pair = Pair::start().await;
    let (session, token) = pair.session();
    let (other_session, other) = pair.session();
    let what = json!({ "kind": "session", "session": session, "reason": "laptop stolen" });
    let id = id_of(&pair.first.revoke(&what));
    pair.first
        .revoke(&json!({ "kind": "session", "session": other_session }));
    eventually("the other replica has them", || {
        listed(&pair.second, &[])["count"] == 2
    })
    .await;
    is_refused(&pair.second, &token, Reason::SessionRevoked).await;

    let lines = printed(&revocations(&pair.second, &["list", "--of", &session]));
    assert_eq!(lines.lines().count(), 1, "{lines}");
    for part in [&id[..16], &session, "by alice (laptop stolen)", "until 20"] {
        assert!(lines.contains(part), "{part} is not in {lines}");
    }
    let undone = revocations(&pair.second, &["undo", &id[..12], "--reason", "found it"]);
    assert_eq!(
        printed(&undone),
        format!("undone on every replica: session {session}\n")
    );
    for gateway in [&pair.first, &pair.second] {
        becomes_good(gateway, &token).await;
        is_refused(gateway, &other, Reason::SessionRevoked).await;
    }
    let line = pair
        .second
        .log()
        .wait_for(|line| says(line, "revocation undone"))
        .unwrap();
    assert_eq!(
        (&line["operator"], &line["reason"]),
        (&json!("alice"), &json!("found it"))
    );

    // A store that lost everything gets it back as undone, whoever writes first.
    pair.redis.kill();
    pair.redis.start_again();
    for gateway in [&pair.first, &pair.second] {
        let by_epoch = [("cause", "epoch")];
        gateway
            .metric_becomes("foregate_revocation_reloads_total", &by_epoch, 1.0)
            .await;
        becomes_ready(gateway).await;
    }
    let url = pair.redis.url();
    let newcomer = pair
        .first
        .replica(|config| {
            config.store(&url);
        })
        .await;
    becomes_ready(&newcomer).await;
    eventually("the newcomer has all", || {
        listed(&newcomer, &[])["count"] == 2
    })
    .await;
    for gateway in [&pair.first, &pair.second, &newcomer] {
        becomes_good(gateway, &token).await;
        is_refused(gateway, &other, Reason::SessionRevoked).await;
        let entry = &listed(gateway, &["--of", &session])["entries"][0];
        assert_eq!(
            (&entry["by"], &entry["reason"]),
            (&json!("alice"), &json!("laptop stolen"))
        );
        assert_eq!(entry["undone"]["by"], "alice");
        assert_eq!(entry["undone"]["reason"], "found it");
    }

    // It can be revoked again.
    pair.second.revoke(&what);
    for gateway in [&pair.second, &newcomer] {
        eventually("it is listed as revoked", || {
            listed(gateway, &["--of", &session])["entries"][0]["undone"].is_null()
        })
        .await;
        is_refused(gateway, &token, Reason::SessionRevoked).await;
    }
}

#[tokio::test]
async fn undoing_says_what_is_true_of_an_entry_that_cannot_be_undone() {
    let gateway = Gateway::with(|config| {
        config.set("revocations", "{ capacity: 100 }");
    })
    .await;
    let people = People::new(&gateway);
    let somebody = uuid();
    // It expires.
    let what = json!({ "kind": "session", "session": uuid(), "expires_in": 1 });
    let expired = id_of(&gateway.revoke(&what));
    eventually("it is expired", || {
        listed(&gateway, &["--all"])["count"] == 0
    })
    .await;
    // It is undone twice.
    let what = json!({ "kind": "subject", "subject": people.subject });
    let twice = id_of(&gateway.revoke(&what));
    is_refused(&gateway, &people.first, Reason::SubjectRevoked).await;
    assert_eq!(undo(&gateway, &json!({ "id": twice })).0, 200);
    is_good(&gateway, &people.first).await;
    // It is merged.
    let mut ids = Vec::new();
    for _ in 0..101 {
        let what = json!({ "kind": "session", "session": uuid(), "subject": somebody });
        ids.push(id_of(&gateway.revoke(&what)));
    }
    let merged = ids.swap_remove(0);
    let wide = &listed(&gateway, &["--all", "--kind", "subject", "--of", &somebody])["entries"];
    assert_eq!(wide[0]["merged"], true, "{wide}");
    let wide = id_of(&wide[0]);
    for (id, status, part) in [
        (expired.as_str(), 404, "it has expired, or never existed"),
        (&twice, 409, "undone already by alice"),
        (&merged, 409, "merged into a wider one"),
        (&wide, 409, "stands for several revocations"),
    ] {
        let (code, answer) = undo(&gateway, &json!({ "id": id }));
        assert_eq!(code, status, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(part), "{answer}");
        let said = refused(&revocations(&gateway, &["undo", id]));
        assert!(said.contains(part), "{said}");
    }
    let claims = gateway.issuer.claims().with("sub", somebody.as_str());
    let amr = json!([{ "method": "password", "timestamp": now() - 3600 }]);
    let token = gateway.issuer.sign(&claims.with("amr", amr));
    is_refused(&gateway, &token, Reason::SubjectRevoked).await;
}

#[tokio::test]
async fn only_an_operator_lists_and_undoes() {
    let gateway = Gateway::start().await;
    let people = People::new(&gateway);
    let what = json!({ "kind": "session", "session": people.first_session });
    let id = id_of(&gateway.revoke(&what));
    let (status, text) = crate::support::metrics::get(gateway.admin(), "/revocations/entries");
    assert_eq!(status, 421, "a name that is not this listener's: {text}");
    assert!(!text.contains(&people.first_session));
    let bearer = format!("Bearer {OPERATOR}");
    let call = Post::new(gateway.admin(), "/revocations/undo").json(&json!({ "id": id }));
    for (call, expected) in [
        (call.clone(), 401),
        (call.clone().header("Authorization", "Bearer bob"), 401),
        (
            call.clone()
                .header("Authorization", &bearer)
                .header("Origin", "null"),
            403,
        ),
        (
            call.clone()
                .header("Authorization", &bearer)
                .without("Content-Type"),
            415,
        ),
    ] {
        let (status, answer) = call.send();
        assert_eq!(status, expected, "{answer}");
    }
    for body in [
        json!({}),
        json!({ "id": "" }),
        json!({ "id": &id[..7] }),
        json!({ "id": "not hexadecimal" }),
        json!({ "id": format!("{id}0") }),
        json!({ "id": id, "reason": "a\nb" }),
        json!({ "id": id, "also": 1 }),
    ] {
        let (status, answer) = undo(&gateway, &body);
        assert_eq!(status, 400, "{body}: {answer}");
    }
    is_refused(&gateway, &people.first, Reason::SessionRevoked).await;
    for arguments in [&["list", "--limit", "0"], &["list", "--limit", "1001"]] {
        refused(&revocations(&gateway, arguments));
    }
}
