//! Server-sent events.

use serde_json::{Value, json};

use super::socket::Sockets;
use super::{OPEN, ended, gateway};
use crate::support::tokens::now;
use crate::support::{Exchange, Gateway, Http, World, eventually};

pub const EVENTS: (&str, &str) = ("content-type", "text/event-stream; charset=utf-8");

pub fn last(code: &str, status: u16) -> String {
    format!("event: foregate\ndata: {{\"code\":\"{code}\",\"status\":{status}}}\n\n")
}

fn on(gateway: &Gateway, path: &str, script: fn(&mut Exchange)) {
    gateway.origin.on(path, script);
}

/// A token with a session of its own.
fn token(gateway: &Gateway, session: &str) -> String {
    gateway
        .issuer
        .sign(&gateway.issuer.claims().session(session))
}

fn session(name: &str) -> Value {
    json!({ "kind": "session", "issuer": crate::support::tokens::ISSUER, "session": name })
}

#[tokio::test]
async fn events_pass_at_once_and_the_last_one_reports_the_end() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    on(&gateway, "/events/a", |exchange| {
        exchange.begin(200, &[EVENTS]);
        exchange.chunk("data: first\n\n");
        exchange.wait_for_close();
    });
    for (count, http) in (1_u8..).zip(Http::BOTH) {
        let (one, two) = (format!("one {count}"), format!("two {count}"));
        let call = |name: &str| {
            gateway
                .get(http, "/events/a")
                .bearer(&token(&gateway, name))
        };
        let mut stream = call(&one).begin().await;
        let mut neighbour = call(&two).begin().await;
        for stream in [&mut stream, &mut neighbour] {
            assert_eq!(stream.chunk().await.unwrap().unwrap(), "data: first\n\n");
        }
        assert_eq!(gateway.metrics().sum(OPEN, &[("kind", "sse")]), 2.0);
        gateway.revoke(&session(&one));
        let id = stream.id().to_owned();
        let answer = stream.finish().await;
        assert_eq!(answer.text(), last("session_not_found", 401));
        let line = gateway.log_line(&id);
        assert_eq!(line["end"], "ended");
        assert_eq!(
            (&line["stream"], &line["cause"]),
            (&json!("sse"), &json!("revoked"))
        );
        eventually("the origin stops", || {
            gateway.origin.open_connections() == 1
        })
        .await;
        assert_eq!(gateway.metrics().sum(OPEN, &[("kind", "sse")]), 1.0);
        ended(&gateway, "sse", "revoked", f64::from(count)).await;
        drop(neighbour);
        ended(&gateway, "sse", "client_gone", f64::from(count)).await;
    }
}

#[tokio::test]
async fn a_stream_of_events_ends_with_its_token() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    on(&gateway, "/events/a", |exchange| {
        exchange.begin(200, &[EVENTS]);
        exchange.chunk(": hello\n\n");
        exchange.wait_for_close();
    });
    let expires = now() + 3;
    let claims = gateway.issuer.claims().expiring(expires);
    let short = gateway.issuer.sign(&claims);
    let call = |http| gateway.get(http, "/events/a").bearer(&short).begin();
    let (one, two) = (call(Http::One).await, call(Http::Two).await);
    for stream in [one, two] {
        let text = stream.finish().await.text().to_owned();
        assert_eq!(text, format!(": hello\n\n{}", last("token_expired", 401)));
        assert!(now() >= expires, "not before");
    }
    ended(&gateway, "sse", "expired", 2.0).await;
}

#[tokio::test]
async fn the_current_event_ends_before_the_last_one_or_the_stream_is_aborted() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    on(&gateway, "/events/finishes", |exchange| {
        exchange.begin(200, &[EVENTS]);
        exchange.chunk("data: be");
        // The event ends before the gateway gives it up, and later bytes may be forwarded only if
        // the revocation came later.
        std::thread::sleep(std::time::Duration::from_millis(300));
        exchange.chunk("gun\n\ndata: never\n\n");
        exchange.wait_for_close();
    });
    on(&gateway, "/events/hangs", |exchange| {
        exchange.begin(200, &[EVENTS]);
        exchange.chunk("data: be");
        exchange.wait_for_close();
    });
    on(&gateway, "/events/compressed", |exchange| {
        exchange.begin(200, &[EVENTS, ("content-encoding", "gzip")]);
        exchange.chunk("\x1f");
        exchange.wait_for_close();
    });
    for http in Http::BOTH {
        let name = format!("{http:?}");
        let call = |path: &str| {
            gateway
                .get(http, path)
                .bearer(&token(&gateway, &name))
                .begin()
        };
        let mut hangs = call("/events/hangs").await;
        assert_eq!(hangs.chunk().await.unwrap().unwrap(), "data: be");
        let mut compressed = call("/events/compressed").await;
        assert_eq!(compressed.chunk().await.unwrap().unwrap(), "\x1f");
        gateway.revoke(&session(&name));
        assert!(hangs.try_finish().await.is_err());
        assert!(compressed.try_finish().await.is_err());

        let name = format!("{http:?} again");
        let stream = gateway
            .get(http, "/events/finishes")
            .bearer(&token(&gateway, &name));
        let mut stream = stream.begin().await;
        assert_eq!(stream.chunk().await.unwrap().unwrap(), "data: be");
        gateway.revoke(&session(&name));
        let rest = stream.finish().await.text().to_owned();
        assert!(
            rest.starts_with("gun\n\n") && rest.ends_with(&last("session_not_found", 401)),
            "{rest:?}"
        );
    }
    ended(&gateway, "sse", "revoked", 6.0).await;
}

#[tokio::test]
async fn an_origin_ends_its_events_without_a_last_event() {
    let sockets = Sockets::start();
    let mut gateway = gateway(&sockets, |_| {}).await;
    on(&gateway, "/events/all", |exchange| {
        exchange.begin(200, &[EVENTS]);
        exchange.chunk("data: all\n\n");
        exchange.end(&[]);
    });
    on(&gateway, "/events/half", |exchange| {
        exchange.begin(200, &[EVENTS]);
        exchange.chunk("data: half");
        exchange.close();
    });
    on(&gateway, "/events/endless", |exchange| {
        exchange.begin(200, &[EVENTS]);
        exchange.chunk(": hello\n\n");
        exchange.wait_for_close();
    });
    let bearer = gateway.issuer.token();
    let call = |http, path: &str| gateway.get(http, path).bearer(&bearer).begin();
    let mut endless = Vec::new();
    for http in Http::BOTH {
        assert_eq!(
            call(http, "/events/all").await.finish().await.text(),
            "data: all\n\n"
        );
        // The end may arrive together with the head, and then the client may report nothing else.
        let half = gateway.get(http, "/events/half").bearer(&bearer).try_send();
        if let Ok(half) = half.await {
            assert!(half.try_finish().await.is_err());
        }
        endless.push(call(http, "/events/endless").await);
    }
    ended(&gateway, "sse", "finished", 2.0).await;
    ended(&gateway, "sse", "upstream_gone", 2.0).await;
    gateway.signal("TERM");
    for stream in endless {
        let text = stream.finish().await.text().to_owned();
        assert_eq!(text, format!(": hello\n\n{}", last("drained", 503)));
    }
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

#[tokio::test]
async fn reauthorizing_a_stream_does_not_count_as_a_write() {
    let world = World::new();
    let owner = world.user();
    let project = world.project(&owner, "private");
    let mut gateway = Gateway::with(|config| {
        world.configure(config);
        config.more_routes(
            "- { path: \"/projects/{project_id:uuid}/follow\", methods: [POST], access: user, resource: project }",
        );
    })
    .await;
    let path = format!("/projects/{project}/follow");
    gateway.origin.on(&path, |exchange| {
        exchange.begin(200, &[EVENTS]);
        exchange.chunk("data: first\n\n");
        exchange.wait_for_close();
    });
    let token = gateway.issuer.token_of(&owner);
    for http in Http::BOTH {
        let mut stream = gateway.post(http, &path).bearer(&token).begin().await;
        assert_eq!(stream.chunk().await.unwrap().unwrap(), "data: first\n\n");
        let raises = |gateway: &Gateway| gateway.metrics().sum("foregate_facts_raises_total", &[]);
        let before = raises(&gateway);
        assert!(before > 0.0, "it is a write");
        let routes = gateway.config_value("routes");
        let open = format!("- {{ path: /{http:?}, access: public }}");
        gateway
            .reload(|config| {
                config.more_routes(&open);
            })
            .await;
        // A stream that was reauthorized after that change was also reauthorized after the first
        // one.
        gateway
            .reload(|config| {
                let denied = config.get("routes").replace(
                    "methods: [POST], access: user, resource: project",
                    "methods: [POST], access: user, resource: project, action: \"share:any\"",
                );
                config.set("routes", &denied);
            })
            .await;
        let id = stream.id().to_owned();
        stream.finish().await;
        assert_eq!(gateway.log_line(&id)["cause"], "denied");
        assert_eq!(raises(&gateway), before);
        gateway
            .reload(|config| {
                config.set("routes", &routes);
            })
            .await;
    }
}
