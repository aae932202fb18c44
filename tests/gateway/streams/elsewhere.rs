//! Streams of a session that is revoked on another replica.

use std::time::{Duration, Instant};

use serde_json::json;

use super::calls::Calls;
use super::events::{EVENTS, last};
use super::rpc::{has_status, talk};
use super::socket::{End, Parting, Socket, Sockets};
use super::{OPEN, ROUTES, ended};
use crate::support::client::{BodySender, Streaming};
use crate::support::tokens::ISSUER;
use crate::support::{Config, Gate, Gateway, Http, Origin, RedisServer, eventually};

/// A stream of every kind, all of one session.
struct Streams {
    socket: Socket,
    /// On each version.
    events: Vec<Streaming>,
    call: Streaming,
    sender: BodySender,
}

impl Streams {
    async fn open(gateway: &Gateway, name: &str, token: &str) -> Self {
        let mut events = Vec::new();
        for http in Http::BOTH {
            let mut stream = gateway.get(http, "/events/a").bearer(token).begin().await;
            assert_eq!(stream.chunk().await.unwrap().unwrap(), "data: first\n\n");
            events.push(stream);
        }
        let (call, sender) = talk(gateway, &format!("/rpc/{name}"), token).await;
        Self {
            socket: Socket::open(gateway, "/ws/a", token).await,
            events,
            call,
            sender,
        }
    }
}

/// The same for every replica.
fn sharing(redis: &RedisServer, sockets: &Sockets, calls: &Calls) -> impl Fn(&mut Config) + use<> {
    let (redis, sockets, calls) = (redis.url(), sockets.url(), calls.url());
    move |config| {
        config
            .store(&redis)
            .upstream("sockets", &sockets, "")
            .upstream("calls", &calls, ", protocol: http2")
            .more_routes(ROUTES)
            .more_routes(
                r#"- { path: "/rpc/{*rest}", methods: [POST], access: user, resource: none, upstream: calls }"#,
            );
    }
}

#[tokio::test]
async fn a_revocation_on_one_replica_ends_the_streams_of_that_session_on_another() {
    let (redis, sockets, calls) = (RedisServer::start(), Sockets::start(), Calls::start());
    let sharing = sharing(&redis, &sockets, &calls);
    let first = Gateway::before(Origin::start(), &sharing).await;
    let second = first.replica(&sharing).await;
    for gateway in [&first, &second] {
        eventually("it is ready", || gateway.admin_status("/readyz") == 200).await;
    }
    let revoked = Gate::new();
    let gate = revoked.clone();
    second.origin.on("/events/a", move |exchange| {
        exchange.begin(200, &[EVENTS]);
        exchange.chunk("data: first\n\n");
        gate.pass();
        exchange.chunk("data: second\n\n");
        exchange.wait_for_close();
    });
    // The other session is of the same user, signed in a second time.
    let subject = uuid::Uuid::now_v7().to_string();
    let token = |session: &str| {
        let claims = first.issuer.claims().with("sub", subject.as_str());
        first.issuer.sign(&claims.session(session))
    };
    let mut theirs = Streams::open(&second, "theirs", &token("one")).await;
    let mut others = Streams::open(&second, "others", &token("two")).await;
    theirs.socket.echo("so far").await;
    assert_eq!(second.metrics().sum(OPEN, &[]), 8.0);

    first.revoke(&json!({ "kind": "session", "issuer": ISSUER, "session": "one" }));
    let told = Instant::now();
    assert_eq!(
        theirs.socket.end().await,
        End::Told(4401, "session_not_found".to_owned())
    );
    for stream in theirs.events {
        let answer = stream.finish().await;
        assert_eq!(answer.text(), last("session_not_found", 401));
    }
    let answer = theirs.call.finish().await;
    let took = told.elapsed();
    has_status(&answer, "16");
    assert_eq!(
        answer.trailers.unwrap()["grpc-message"],
        "session_not_found"
    );
    println!("streams of every kind ended elsewhere within {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");

    // Nothing continues behind the gateway either.
    eventually("the servers are told", || {
        sockets.partings() == [Parting::Closed(Some(4401))] && calls.resets() == ["/rpc/theirs"]
    })
    .await;
    for (kind, count) in [("websocket", 1.0), ("sse", 2.0), ("grpc", 1.0)] {
        ended(&second, kind, "revoked", count).await;
    }
    others.socket.echo("still here").await;
    assert!(others.sender.chunk("still here").await);
    assert_eq!(others.call.chunk().await.unwrap().unwrap(), "still here");
    revoked.open();
    for stream in &mut others.events {
        assert_eq!(stream.chunk().await.unwrap().unwrap(), "data: second\n\n");
    }
    assert_eq!(second.metrics().sum(OPEN, &[]), 4.0);
    drop(others.sender);
    has_status(&others.call.finish().await, "0");
}
