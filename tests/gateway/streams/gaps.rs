//! What happens between the authorization of a request and the beginning of its stream is not
//! missed. (Sessions in cookies are in `sessions::streams`.)

use serde_json::json;

use super::events::{EVENTS, last};
use crate::support::client::{Door, Streaming};
use crate::support::tokens::{ISSUER, now};
use crate::support::{Config, Gate, Gateway, Http, Origin, World};

/// A gateway whose tokens end at their `exp`.
async fn place(change: impl FnOnce(&mut Config)) -> Gateway {
    Gateway::before(Origin::start(), |config| {
        let tokens = config.get("tokens");
        let tokens = tokens.replace("algorithms:", "leeway: 0s, algorithms:");
        config
            .set("tokens", &tokens)
            .more_routes("- { path: /events, methods: [GET], access: user, resource: none }");
        change(config);
    })
    .await
}

/// Streams whose head comes once the gate is open, one over each version.
async fn opening(gateway: &Gateway, path: &str, token: &str) -> (Gate, Vec<Opening>) {
    let gate = Gate::new();
    let opened = gate.clone();
    gateway.origin.take();
    gateway.origin.on(path, move |exchange| {
        opened.pass();
        exchange.begin(200, &[EVENTS]);
        exchange.wait_for_close();
    });
    let streams: Vec<Opening> = Http::BOTH
        .into_iter()
        .map(|http| {
            let call = gateway.connector(http, Door::Tls).call("GET", path);
            let call = call.bearer(token);
            tokio::spawn(async move { call.begin().await })
        })
        .collect();
    gateway.origin.has_seen(streams.len()).await;
    gateway.origin.take();
    (gate, streams)
}

type Opening = tokio::task::JoinHandle<Streaming>;

async fn end_with(streams: Vec<Opening>, code: &str, status: u16) {
    for stream in streams {
        let text = stream.await.unwrap().finish().await.text().to_owned();
        assert_eq!(text, last(code, status));
    }
}

#[tokio::test]
async fn a_revocation_and_an_expiry_before_a_stream_begins_end_it() {
    let gateway = place(|_| {}).await;
    let revoked = gateway.issuer.sign(&gateway.issuer.claims().session("one"));
    let (gate, streams) = opening(&gateway, "/events", &revoked).await;
    gateway.revoke(&json!({ "kind": "session", "issuer": ISSUER, "session": "one" }));
    gate.open();
    end_with(streams, "session_not_found", 401).await;

    let expires = now() + 3;
    let short = gateway
        .issuer
        .sign(&gateway.issuer.claims().expiring(expires));
    let (gate, streams) = opening(&gateway, "/events", &short).await;
    while now() < expires {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    gate.open();
    end_with(streams, "token_expired", 401).await;
}

#[tokio::test]
async fn a_reload_before_a_stream_begins_ends_it_if_its_request_is_denied_now() {
    let mut gateway = place(|_| {}).await;
    let token = gateway.issuer.token();
    let (gate, streams) = opening(&gateway, "/events", &token).await;
    gateway
        .reload(|config| {
            let route = "path: /events, methods: [GET], access: user, resource: none";
            let denied = config
                .get("routes")
                .replace(route, &format!("{route}, action: admin"));
            config.set("routes", &denied);
        })
        .await;
    gate.open();
    end_with(streams, "role_insufficient", 403).await;
}

#[tokio::test]
async fn a_fact_that_changes_before_a_stream_begins_ends_it_if_its_request_is_denied_now() {
    let world = World::new();
    let (owner, reader) = (world.user(), world.user());
    let project = world.project(&owner, "public_read");
    let gateway = Gateway::with(|config| {
        world.configure(config);
        config.more_routes(
            "- { path: \"/projects/{project_id:uuid}/follow\", methods: [GET], access: user, resource: project }",
        );
    })
    .await;
    crate::performance::is_ready(&gateway).await;
    let path = format!("/projects/{project}/follow");
    let reader = gateway.issuer.token_of(&reader);
    let (gate, streams) = opening(&gateway, &path, &reader).await;
    world.sql(&format!(
        "update projects set visibility = 'private' where id = '{project}'"
    ));
    // A write through the gateway makes it look the project up again.
    let writing = gateway.call(Http::Two, "PUT", &format!("/projects/{project}"));
    let owner = gateway.issuer.token_of(&owner);
    writing.bearer(&owner).send().await.is_ok();
    gate.open();
    end_with(streams, "not_found", 404).await;
}
