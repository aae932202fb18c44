//! The facts of some streams delay the end of no other.

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::socket::{End, Socket, Sockets};
use super::{OPEN, ended};
use crate::support::client::Door;
use crate::support::log::says;
use crate::support::tokens::{ISSUER, now};
use crate::support::{Gateway, World, eventually};

/// How many resources a stream names.
const FACTS: usize = 4;

/// 5,000 with `FOREGATE_FULL=1`, else some.
fn how_many() -> usize {
    match std::env::var_os("FOREGATE_FULL") {
        Some(full) if full == "1" => 5_000,
        _ => 40,
    }
}

/// A gateway whose streams look their facts up whenever they are authorized again: facts are never
/// young enough for an action of administrators.
async fn place(world: &World, sockets: &Sockets) -> Gateway {
    let url = sockets.url();
    let gateway = Gateway::with(|config| {
        let tokens = config.get("tokens");
        let tokens = tokens.replace("algorithms:", "leeway: 0s, algorithms:");
        world.configure(config);
        let routes = format!(
            "- {{ path: /follow, methods: [GET], access: user, action: admin, upstream: sockets, upgrade: [websocket], resource: [{}] }}",
            (0..FACTS)
                .map(|index| format!("{{ kind: project, id: query.p{index} }}"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        config
            .set("tokens", &tokens)
            // They all come from one address. No limit is higher than needed, or the process would
            // have to open more files than it may.
            .upstream(
                "sockets",
                &url,
                ", max_connections: 100, max_streams: 6000, client_share: 100, connect_timeout: 10s",
            )
            .set(
                "connections",
                "{ max: 6000, max_per_address: 6000, handshakes_per_address: 10000/s }",
            )
            .more_routes("- { path: /ws, methods: [GET], access: user, resource: none, upstream: sockets, upgrade: [websocket] }")
            .more_routes(&routes);
    })
    .await;
    crate::performance::is_ready(&gateway).await;
    gateway
}

/// The paths of so many streams, each of which names projects of its own.
fn paths(world: &World, owner: &str, streams: usize) -> Vec<String> {
    let ids: Vec<String> = (0..streams * FACTS)
        .map(|_| uuid::Uuid::now_v7().to_string())
        .collect();
    let lines: String = ids
        .iter()
        .map(|id| format!("{id}\t{owner}\tprivate\n"))
        .collect();
    world
        .database
        .copy("projects", "id, user_id, visibility", &lines);
    let path = |ids: &[String]| {
        let keys: Vec<String> = ids
            .iter()
            .enumerate()
            .map(|(index, id)| format!("p{index}={id}"))
            .collect();
        format!("/follow?{}", keys.join("&"))
    };
    ids.chunks(FACTS).map(path).collect()
}

async fn open(gateway: &Gateway, path: &str, token: &str) -> Socket {
    Socket::open_at(gateway, Door::Plain, path, token).await
}

#[tokio::test]
async fn streams_end_while_the_facts_of_others_cannot_be_looked_up() {
    let (world, sockets) = (World::new(), Sockets::start());
    let (owner, revoked) = (world.user(), world.user());
    let gateway = place(&world, &sockets).await;
    let roles = json!({ "roles": ["admin"] });
    let claims = |subject: &str| {
        let claims = gateway.issuer.claims().with("sub", subject);
        claims.with("app_metadata", roles.clone())
    };
    let greedy = gateway.issuer.sign(&claims(&owner));
    let theirs = gateway.issuer.sign(&claims(&revoked).session("theirs"));
    let expires = now() + 15;
    let short = gateway.issuer.sign(&claims(&revoked).expiring(expires));
    let (mut open_ones, mut ending) = (Vec::new(), Vec::new());
    for path in paths(&world, &owner, how_many().min(40)) {
        open_ones.push(open(&gateway, &path, &greedy).await);
    }
    for path in paths(&world, &revoked, 5) {
        ending.push(open(&gateway, &path, &theirs).await);
    }
    let mut expiring = open(&gateway, "/ws", &short).await;
    let lock = world.lock("users");
    gateway.revoke(&json!({ "kind": "session", "issuer": ISSUER, "session": "theirs" }));
    let told = |code: u16, word: &str| End::Told(code, word.to_owned());
    for end in join_all(ending.iter_mut().map(Socket::end)).await {
        assert_eq!(end, told(4401, "session_not_found"));
    }
    assert_eq!(expiring.end().await, told(4401, "token_expired"));
    drop(lock);
    // An outage is no refusal.
    for socket in &mut open_ones {
        socket.echo("still here").await;
    }
    assert_eq!(gateway.metrics().sum(OPEN, &[]), open_ones.len() as f64);
}

#[tokio::test]
async fn many_revoked_streams_end_at_once_whatever_facts_the_others_need() {
    let count = how_many();
    let (world, sockets) = (World::new(), Sockets::start());
    let (owner, revoked) = (world.user(), world.user());
    let gateway = place(&world, &sockets).await;
    let roles = json!({ "roles": ["admin"] });
    let claims = |subject: &str| {
        let claims = gateway.issuer.claims().with("sub", subject);
        claims.with("app_metadata", roles.clone())
    };
    let greedy = gateway.issuer.sign(&claims(&owner));
    let theirs = gateway.issuer.sign(&claims(&revoked).session("theirs"));
    let open_all = async |user: &str, token: &str| -> Vec<Socket> {
        let paths = paths(&world, user, count / 2);
        let opening = stream::iter(&paths).map(|path| open(&gateway, path, token));
        opening.buffered(16).collect().await
    };
    let mut others = open_all(&owner, &greedy).await;
    let mut ending = open_all(&revoked, &theirs).await;
    gateway.revoke(&json!({ "kind": "session", "issuer": ISSUER, "session": "theirs" }));
    let ends = join_all(ending.iter_mut().map(Socket::end)).await;
    let told = End::Told(4401, "session_not_found".to_owned());
    assert!(ends.iter().all(|end| *end == told));
    ended(&gateway, "websocket", "revoked", ends.len() as f64).await;
    others[0].echo("still here").await;
    assert_eq!(gateway.metrics().sum(OPEN, &[]), others.len() as f64);
    let at = |line: &Value| -> Timestamp { line["timestamp"].as_str().unwrap().parse().unwrap() };
    let revoked = at(&gateway.log().all(|line| says(line, "revoked"))[0]);
    let ended = || gateway.log().all(|line| line["cause"] == "revoked");
    // A line is written after the stream is counted.
    eventually("every end is logged", || ended().len() == ends.len()).await;
    let lines = ended();
    let took = lines.iter().map(at).max().unwrap().duration_since(revoked);
    let facts = count * FACTS;
    println!(
        "{} of {count} streams with {facts} facts ended within {took:#}",
        lines.len()
    );
    // The promise is for the program as it is shipped, not for this build beside other tests.
    assert!(count < 5_000 || took.as_secs_f64() < 1.0, "{took:#}");
}
