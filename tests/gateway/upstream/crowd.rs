//! Clients that hold many requests, or hold them without sending anything: the others go on.

use std::time::Duration;

use foregate::denial::Reason;
use tokio::task::JoinSet;

use crate::support::client::{BodySender, Client, Door};
use crate::support::tokens::subject;
use crate::support::{Answer, Config, Gate, Gateway, Http, Reply, in_time};

/// Sixteen connections to the origin, of which one client may hold eight, and then its share of
/// four.
fn small(config: &mut Config, patience: &str) {
    let url = config
        .get("upstreams")
        .split('"')
        .nth(1)
        .unwrap()
        .to_owned();
    let more = format!(", max_connections: 16, connect_timeout: {patience}");
    config
        .set("workers", "1")
        // Only one of these tests is about slow bodies.
        .set("connections", "{ body_idle: 2m, body_grace: 2m }")
        .set("trusted_proxies", "{ from: [127.0.0.1] }")
        .upstream("origin", &url, &more);
    super::one_pool(config);
}

/// So many clients: connections, or streams of one connection.
async fn clients(gateway: &Gateway, http: Http, count: usize) -> Vec<Client> {
    let connector = gateway.connector(http, Door::Plain);
    let mut clients = vec![connector.connect().await];
    while clients.len() < count {
        clients.push(match http {
            Http::One => connector.connect().await,
            Http::Two => clients[0].another(),
        });
    }
    clients
}

/// Begins so many uploads, each with this first piece of its body.
async fn uploads(
    gateway: &Gateway,
    http: Http,
    (count, kind, piece): (usize, &'static str, &'static str),
) -> (JoinSet<Answer>, Vec<BodySender>) {
    let (mut answers, mut bodies) = (JoinSet::new(), Vec::new());
    for mut client in clients(gateway, http, count).await {
        let (sender, body) = tokio::sync::oneshot::channel();
        answers.spawn(async move {
            let call = client.post("/up").header("content-type", kind);
            let (call, body) = call.streaming();
            sender.send(body).unwrap();
            call.send().await
        });
        let body = body.await.unwrap();
        if !piece.is_empty() {
            assert!(body.chunk(piece).await);
        }
        bodies.push(body);
    }
    (answers, bodies)
}

/// Requests of an honest client at the same address, all of which must be answered.
async fn honest(gateway: &Gateway, http: Http) {
    for number in 0..20 {
        let body = format!("honest {number}");
        gateway.get(http, "/get").send().await.is_ok();
        gateway.post(http, "/post").body(body).send().await.is_ok();
    }
}

#[tokio::test]
async fn requests_whose_body_has_not_begun_take_no_connections_from_others() {
    for http in Http::BOTH {
        for kind in ["application/grpc", "text/plain"] {
            let gateway = Gateway::with(|config| small(config, "500ms")).await;
            let (answers, bodies) = uploads(&gateway, http, (60, kind, "")).await;
            // One of them is sent without its body, after the others have waited as long.
            gateway.origin.has_seen(1).await;
            honest(&gateway, http).await;
            let seen = gateway.origin.take();
            let sent = seen.iter().filter(|seen| seen.target == "/up").count();
            assert_eq!(sent, 1, "the others wait");
            drop(bodies);
            let answers = answers.join_all().await;
            // Those that wait are counted, too.
            let is_refused = |answer: &&Answer| answer.status == 429;
            let refused: Vec<_> = answers.iter().filter(is_refused).collect();
            assert!(refused.len() < answers.len() / 2, "{}", refused.len());
            for answer in refused {
                assert_eq!(answer.log_line()["reason"], Reason::ClientBusy.code());
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_begins_late_is_forwarded_then() {
    let gateway = Gateway::with(|config| small(config, "500ms")).await;
    for http in Http::BOTH {
        // The first is sent without its body, the others wait.
        let (answers, bodies) = uploads(&gateway, http, (5, "text/plain", "")).await;
        gateway.origin.has_seen(1).await;
        for body in bodies {
            assert!(body.chunk("late").await);
        }
        for answer in in_time("answers", answers.join_all()).await {
            answer.is_ok();
        }
        for seen in gateway.origin.take() {
            assert_eq!(seen.body, b"late");
        }
    }
}

#[tokio::test]
async fn bodies_that_trickle_take_no_connections_from_others() {
    for http in Http::BOTH {
        let gateway = Gateway::with(|config| {
            small(config, "500ms");
            config.set("connections", "{ body_rate: 1KiB, body_grace: 4s }");
        })
        .await;
        let (answers, bodies) = uploads(&gateway, http, (60, "text/plain", "x")).await;
        // A quarter of the connections, and one more after it has waited.
        gateway.origin.has_seen(5).await;
        honest(&gateway, http).await;
        let answers = in_time("the end of all", answers.join_all()).await;
        for answer in &answers {
            let reason = answer.log_line()["reason"].clone();
            assert!(
                reason == "body_timeout" || reason == "client_busy",
                "{reason}"
            );
        }
        drop(bodies);
    }
}

/// Holds this many requests of one client at the origin.
async fn hold(
    gateway: &Gateway,
    http: Http,
    (count, address): (usize, &str),
) -> (Gate, JoinSet<Answer>) {
    let gate = Gate::new();
    let closed = gate.clone();
    gateway.origin.on("/held", move |exchange| {
        closed.pass();
        exchange.reply(&Reply::ok());
    });
    let mut answers = JoinSet::new();
    for mut client in clients(gateway, http, count).await {
        let address = address.to_owned();
        answers.spawn(async move {
            let call = client.get("/held").header("x-forwarded-for", address);
            call.send().await
        });
    }
    gateway.origin.has_seen(count).await;
    (gate, answers)
}

#[tokio::test]
async fn a_client_that_holds_its_share_is_refused_and_others_are_answered() {
    for http in Http::BOTH {
        let gateway = Gateway::with(|config| small(config, "300ms")).await;
        let (gate, held) = hold(&gateway, http, (8, "2001:db8:1:2::1")).await;
        gateway.origin.take();
        let get = |address: &str| gateway.get(http, "/get").header("x-forwarded-for", address);
        // Another address of the same /64, and another /64 of the same /48.
        for address in ["2001:db8:1:2::ffff", "2001:db8:1:3::1"] {
            let refused = get(address).send().await;
            let refused = refused.is_denied(Reason::ClientBusy);
            assert_eq!(refused.header("retry-after"), "1", "{address}");
            gateway.origin.saw_nothing();
        }
        for address in ["2001:db8:2:3::1", "192.0.2.1", "192.0.2.2"] {
            get(address).send().await.is_ok();
        }
        gate.open();
        for answer in held.join_all().await {
            answer.is_ok();
        }
        get("2001:db8:1:2::1").send().await.is_ok();
    }
}

#[tokio::test]
async fn a_user_holds_one_share_from_all_addresses() {
    let gateway = Gateway::with(|config| {
        small(config, "300ms");
        config.routes(r#"- { path: "/{*rest}", access: optional }"#);
    })
    .await;
    for http in Http::BOTH {
        let (gate, held) = hold(&gateway, http, (8, "192.0.2.1")).await;
        let token = gateway.issuer.token_of(&subject("somebody"));
        let connector = gateway.connector(http, Door::Plain);
        let mut theirs = JoinSet::new();
        for number in 0..4 {
            let call = connector.call("GET", "/held").bearer(&token);
            let address = format!("198.51.100.{number}");
            theirs.spawn(call.header("x-forwarded-for", address).send());
        }
        gateway.origin.has_seen(12).await;
        gateway.origin.take();
        let get = |token: &str| {
            let call = gateway.get(http, "/get").bearer(token);
            call.header("x-forwarded-for", "203.0.113.1")
        };
        get(&token).send().await.is_denied(Reason::ClientBusy);
        gateway.origin.saw_nothing();
        get(&gateway.issuer.token_of(&subject("another")))
            .send()
            .await
            .is_ok();
        gate.open();
        for answer in held.join_all().await.iter().chain(&theirs.join_all().await) {
            answer.is_ok();
        }
        gateway.origin.take();
    }
}

#[tokio::test]
async fn a_client_beyond_its_share_waits_for_its_turn() {
    let gateway = Gateway::with(|config| small(config, "15s")).await;
    for http in Http::BOTH {
        let (gate, held) = hold(&gateway, http, (8, "192.0.2.1")).await;
        let call = gateway.connector(http, Door::Plain).call("GET", "/get");
        let mut waits = tokio::spawn(call.header("x-forwarded-for", "192.0.2.1").send());
        let early = tokio::time::timeout(Duration::from_millis(300), &mut waits);
        assert!(early.await.is_err(), "it waits");
        gate.open();
        waits.await.unwrap().is_ok();
        for answer in held.join_all().await {
            answer.is_ok();
        }
        gateway.origin.take();
    }
}

#[tokio::test]
async fn a_reload_does_not_forget_who_holds_what() {
    for http in Http::BOTH {
        let mut gateway = Gateway::with(|config| small(config, "300ms")).await;
        let (gate, held) = hold(&gateway, http, (8, "192.0.2.1")).await;
        gateway
            .reload(|config| {
                config.more_routes("- { path: /hidden, access: deny }");
            })
            .await;
        let call = gateway.get(http, "/get");
        let call = call.header("x-forwarded-for", "192.0.2.1");
        call.send().await.is_denied(Reason::ClientBusy);
        gate.open();
        for answer in held.join_all().await {
            answer.is_ok();
        }
    }
}

#[tokio::test]
async fn a_proxy_that_names_no_client_has_no_share_of_its_own() {
    for http in Http::BOTH {
        let gateway = Gateway::with(|config| small(config, "300ms")).await;
        // More than half of all, and three times a share.
        let (gate, held) = hold(&gateway, http, (12, "unknown")).await;
        for address in ["unknown", "127.0.0.1", "192.0.2.1"] {
            let call = gateway.get(http, "/get");
            let call = call.header("x-forwarded-for", address);
            call.send().await.is_ok();
        }
        gate.open();
        for answer in held.join_all().await {
            answer.is_ok();
        }
    }
}
