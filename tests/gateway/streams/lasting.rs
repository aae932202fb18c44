//! Requests that last are authorized again, whatever their answer is.

use std::time::Duration;

use foregate::denial::Reason;
use serde_json::json;

use super::calls::Calls;
use super::events::{EVENTS, last};
use super::socket::Sockets;
use super::{OPEN, ended, gateway};
use crate::support::client::{Door, Streaming};
use crate::support::tokens::{ISSUER, now};
use crate::support::{Config, Exchange, Gate, Gateway, Http, Origin, eventually};

const ROUTES: &str = r#"
  - { path: "/data/{*rest}", access: user, resource: none, body: { limit: 1GiB } }
  - { path: "/shared/{*rest}", access: public }
"#;

const LASTING: [(&str, &str); 1] = [("kind", "lasting")];

/// A gateway whose tokens end at their `exp`.
async fn place(change: impl FnOnce(&mut Config)) -> Gateway {
    Gateway::before(Origin::start(), |config| {
        let tokens = config.get("tokens");
        let tokens = tokens.replace("algorithms:", "leeway: 0s, algorithms:");
        config.set("tokens", &tokens).more_routes(ROUTES);
        change(config);
    })
    .await
}

fn token(gateway: &Gateway, session: &str) -> String {
    let claims = gateway.issuer.claims().session(session);
    gateway.issuer.sign(&claims)
}

fn revoke(gateway: &Gateway, session: &str) {
    gateway.revoke(&json!({ "kind": "session", "issuer": ISSUER, "session": session }));
}

/// Sends a piece of an answer of this type, and then nothing until the gateway closes.
fn begins(kind: &'static str) -> impl Fn(&mut Exchange) + Send + Sync + 'static {
    move |exchange| {
        match kind {
            "by length" => {
                exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun");
            }
            kind => {
                exchange.begin(200, &[("content-type", kind)]);
                exchange.chunk("begun");
            }
        };
        exchange.wait_for_close();
    }
}

async fn begun(gateway: &Gateway, http: Http, path: &str, token: &str) -> Streaming {
    let mut answer = gateway.get(http, path).bearer(token).begin().await;
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "begun");
    answer
}

async fn lasting(gateway: &Gateway, count: usize) {
    gateway.metric_becomes(OPEN, &LASTING, count as f64).await;
}

#[tokio::test]
async fn an_answer_of_any_type_ends_with_its_session_and_does_not_look_complete() {
    let gateway = place(|_| {}).await;
    let kinds = [
        ("/data/web", "application/grpc-web+proto"),
        ("/data/lines", "application/x-ndjson"),
        ("/data/file", "application/octet-stream"),
        ("/data/length", "by length"),
    ];
    for (path, kind) in kinds {
        gateway.origin.on(path, begins(kind));
    }
    gateway.origin.on("/shared/file", begins("text/plain"));
    let (theirs, others) = (token(&gateway, "theirs"), token(&gateway, "others"));
    let mut answers = Vec::new();
    let (mut neighbours, mut public) = (Vec::new(), Vec::new());
    for http in Http::BOTH {
        for (path, _) in kinds {
            answers.push(begun(&gateway, http, path, &theirs).await);
        }
        neighbours.push(begun(&gateway, http, "/data/file", &others).await);
        public.push(begun(&gateway, http, "/shared/file", &others).await);
    }
    let count = answers.len() + neighbours.len();
    lasting(&gateway, count).await;
    revoke(&gateway, "theirs");
    for answer in answers {
        let id = answer.id().to_owned();
        assert!(answer.try_finish().await.is_err(), "it looks complete");
        let line = gateway.log_line(&id);
        assert_eq!(
            (&line["end"], &line["stream"], &line["cause"]),
            (&json!("ended"), &json!("lasting"), &json!("revoked"))
        );
    }
    ended(&gateway, "lasting", "revoked", (2 * kinds.len()) as f64).await;
    lasting(&gateway, neighbours.len()).await;
    // What is left at the origin are the answers of the others.
    let left = neighbours.len() + public.len();
    eventually("the origin stops", || {
        gateway.origin.open_connections() <= left
    })
    .await;
    gateway.revoke(&json!({ "kind": "issuer", "issuer": ISSUER }));
    for neighbour in neighbours {
        assert!(neighbour.try_finish().await.is_err());
    }
    lasting(&gateway, 0).await;
    eventually("only public answers are open", || {
        gateway.origin.open_connections() <= public.len()
    })
    .await;
    assert_eq!(gateway.origin.open_connections(), public.len());
}

#[tokio::test]
async fn an_answer_that_lasts_ends_with_its_token_and_one_that_ends_by_itself_is_whole() {
    let gateway = place(|_| {}).await;
    let gate = Gate::new();
    let opened = gate.clone();
    gateway
        .origin
        .on("/data/lines", begins("application/x-ndjson"));
    gateway.origin.on("/data/whole", move |exchange| {
        exchange.begin(200, &[("content-type", "application/x-ndjson")]);
        exchange.chunk("begun");
        opened.pass();
        exchange.chunk(" and whole");
        exchange.end(&[]);
    });
    let expires = now() + 8;
    let claims = gateway.issuer.claims();
    let short = gateway.issuer.sign(&claims.expiring(expires));
    let mut answers = Vec::new();
    let mut whole = Vec::new();
    for http in Http::BOTH {
        answers.push(begun(&gateway, http, "/data/lines", &short).await);
        whole.push(begun(&gateway, http, "/data/whole", &gateway.issuer.token()).await);
    }
    for answer in answers {
        assert!(answer.try_finish().await.is_err());
        assert!(now() >= expires, "not before");
    }
    ended(&gateway, "lasting", "expired", 2.0).await;
    lasting(&gateway, whole.len()).await;
    gate.open();
    for answer in whole {
        assert_eq!(answer.finish().await.text(), " and whole");
    }
    ended(&gateway, "lasting", "finished", 2.0).await;
}

#[tokio::test]
async fn a_request_whose_answer_does_not_begin_is_refused_once_its_session_is_revoked() {
    let calls = Calls::start();
    let url = calls.url();
    let gateway = place(|config| {
        config
            .upstream("calls", &url, ", protocol: http2")
            .more_routes(r#"- { path: "/calls/{*rest}", methods: [POST], access: user, resource: none, upstream: calls }"#);
    })
    .await;
    gateway.origin.on("/data/poll", |exchange| {
        exchange.read_body();
        exchange.wait_for_close();
    });
    let theirs = token(&gateway, "theirs");
    let mut waiting = Vec::new();
    for http in Http::BOTH {
        for (method, path) in [("GET", "/data/poll"), ("POST", "/calls/silent")] {
            let connector = gateway.connector(http, Door::Tls);
            let call = connector.call(method, path).bearer(&theirs);
            waiting.push(tokio::spawn(call.send()));
        }
    }
    lasting(&gateway, waiting.len()).await;
    revoke(&gateway, "theirs");
    for answer in waiting {
        let answer = answer.await.unwrap();
        answer.is_denied(Reason::SessionRevoked);
        let line = answer.log_line();
        assert_eq!(line["decision"], "deny");
    }
    ended(&gateway, "lasting", "revoked", 4.0).await;
    eventually("the servers are told", || {
        gateway.origin.open_connections() == 0 && calls.resets().len() == 2
    })
    .await;
}

#[tokio::test]
async fn an_upload_ends_once_its_session_is_revoked_and_does_not_look_complete() {
    let gateway = place(|_| {}).await;
    let aborted = Gate::new();
    let told = aborted.clone();
    gateway.origin.on("/data/one", |exchange| {
        assert!(!exchange.read_body(), "it looks complete");
    });
    gateway.origin.on("/data/two", move |exchange| {
        assert!(!exchange.read_body(), "it looks complete");
        told.open();
    });
    let mut uploads = Vec::new();
    for (http, path) in Http::BOTH.into_iter().zip(["/data/one", "/data/two"]) {
        let theirs = token(&gateway, path);
        let connector = gateway.connector(http, Door::Tls);
        let call = connector.call("POST", path).bearer(&theirs);
        let (call, sender) = call.streaming();
        tokio::spawn(async move {
            while sender.chunk("more").await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        uploads.push((path, tokio::spawn(call.send())));
    }
    lasting(&gateway, 2).await;
    for (path, answer) in uploads {
        revoke(&gateway, path);
        answer.await.unwrap().is_denied(Reason::SessionRevoked);
    }
    ended(&gateway, "lasting", "revoked", 2.0).await;
    aborted.opened().await;
    eventually("the origin stops", || {
        gateway.origin.open_connections() == 0
    })
    .await;
}

#[tokio::test]
async fn a_lasting_answer_takes_no_place_among_the_streams_of_its_upstream() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |config| {
        let servers = config.get("upstreams").to_owned();
        let origin = servers.split('"').nth(1).unwrap().to_owned();
        config.set("workers", "1").upstream(
            "origin",
            &origin,
            ", max_connections: 8, max_streams: 1",
        );
        config.more_routes(ROUTES);
    })
    .await;
    gateway.origin.on("/data/file", begins("text/plain"));
    gateway.origin.on("/events/a", |exchange| {
        exchange.begin(200, &[EVENTS]);
        exchange.chunk(": hello\n\n");
        exchange.wait_for_close();
    });
    let bearer = gateway.issuer.token();
    let mut downloads = Vec::new();
    for http in [Http::One, Http::Two, Http::One] {
        downloads.push(begun(&gateway, http, "/data/file", &bearer).await);
    }
    lasting(&gateway, downloads.len()).await;
    let mut events = gateway
        .get(Http::Two, "/events/a")
        .bearer(&bearer)
        .begin()
        .await;
    assert_eq!(events.chunk().await.unwrap().unwrap(), ": hello\n\n");
    let another = gateway.get(Http::Two, "/events/a").bearer(&bearer);
    another.send().await.is_denied(Reason::UpstreamBusy);
}

#[tokio::test]
async fn events_that_begin_late_are_a_stream_from_then_on() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    let gate = Gate::new();
    let opened = gate.clone();
    gateway.origin.on("/events/late", move |exchange| {
        opened.pass();
        exchange.begin(200, &[EVENTS]);
        exchange.chunk(": hello\n\n");
        exchange.wait_for_close();
    });
    let theirs = token(&gateway, "theirs");
    let mut waiting = Vec::new();
    for http in Http::BOTH {
        let connector = gateway.connector(http, Door::Tls);
        let call = connector.call("GET", "/events/late").bearer(&theirs);
        waiting.push(tokio::spawn(async move { call.begin().await }));
    }
    lasting(&gateway, 2).await;
    gate.open();
    let mut streams = Vec::new();
    for stream in waiting {
        let mut stream = stream.await.unwrap();
        assert_eq!(stream.chunk().await.unwrap().unwrap(), ": hello\n\n");
        streams.push(stream);
    }
    assert_eq!(gateway.metrics().sum(OPEN, &LASTING), 0.0);
    assert_eq!(gateway.metrics().sum(OPEN, &[("kind", "sse")]), 2.0);
    revoke(&gateway, "theirs");
    for stream in streams {
        let text = stream.finish().await.text().to_owned();
        assert_eq!(text, last("session_not_found", 401));
    }
    ended(&gateway, "sse", "revoked", 2.0).await;
}
