//! gRPC: calls pass with their trailers, and refusals and ends are gRPC statuses.

use foregate::denial::Reason;
use hyper::HeaderMap;
use serde_json::json;

use super::calls::Calls;
use super::{OPEN, ended};
use crate::support::client::{BodySender, Call, Streaming};
use crate::support::tokens::{ISSUER, now};
use crate::support::{Answer, Config, Gateway, Http, Origin, eventually};

const ROUTES: &str = r#"
  - { path: "/rpc/{*rest}", methods: [POST], access: user, resource: none, upstream: calls }
  - { path: "/admin-rpc/{*rest}", methods: [POST], access: user, resource: none, action: admin, upstream: calls }
  - { path: "/forced/{*rest}", access: user, resource: none, upstream: calls, errors: grpc }
  - { path: "/limited/{*rest}", access: public, upstream: calls, timeouts: { first_byte: 300ms }, body: { limit: 1KiB } }
  - { path: "/total/{*rest}", access: public, upstream: calls, timeouts: { total: 500ms } }
"#;

async fn gateway(calls: &Calls, change: impl FnOnce(&mut Config)) -> Gateway {
    let url = calls.url();
    Gateway::before(Origin::start(), |config| {
        let tokens = config
            .get("tokens")
            .replace("algorithms:", "leeway: 0s, algorithms:");
        config
            .set("tokens", &tokens)
            .upstream("calls", &url, ", protocol: http2")
            .more_routes(ROUTES);
        change(config);
    })
    .await
}

fn call<'a>(gateway: &Gateway, path: &str, token: Option<&str>) -> Call<'a> {
    let call = gateway.connector(Http::Two, crate::support::Door::Tls);
    let call = call
        .call("POST", path)
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers");
    match token {
        None => call,
        Some(token) => call.bearer(token),
    }
}

/// An open call: its first message came back.
pub async fn talk(gateway: &Gateway, path: &str, token: &str) -> (Streaming, BodySender) {
    let (call, sender) = call(gateway, path, Some(token)).streaming();
    let (answer, sent) = tokio::join!(call.begin(), sender.chunk("hello"));
    assert!(sent);
    let mut answer = answer;
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "hello");
    (answer, sender)
}

#[track_caller]
pub fn has_status(answer: &Answer, status: &str) {
    let trailers = answer.trailers.as_ref().expect("trailers");
    assert_eq!(trailers["grpc-status"], status, "{trailers:?}");
}

#[tokio::test]
async fn calls_pass_both_ways_with_their_trailers_on_one_connection() {
    let calls = Calls::start();
    let gateway = gateway(&calls, |config| {
        config.set("workers", "1");
    })
    .await;
    let token = gateway.issuer.token();
    let (mut one, sender) = talk(&gateway, "/rpc/echo?a=b", &token).await;
    let (two, other) = talk(&gateway, "/rpc/echo", &token).await;
    assert_eq!(gateway.metrics().sum(OPEN, &[("kind", "grpc")]), 2.0);
    let seen = calls.take();
    let head = &seen[0];
    assert_eq!(head.uri().path_and_query().unwrap(), "/rpc/echo?a=b");
    assert_eq!(head.uri().authority().unwrap(), "api.test");
    assert_eq!(head.headers()["te"], "trailers");
    assert_eq!(head.headers()["content-type"], "application/grpc+proto");
    assert_eq!(head.headers()["x-request-id"], one.id());
    assert_eq!(head.headers()["x-forwarded-proto"], "https");
    assert!(head.headers().contains_key("x-foregate-subject"));
    assert!(!head.headers().contains_key("host"));
    assert!(sender.chunk("again").await);
    assert_eq!(one.chunk().await.unwrap().unwrap(), "again");
    let mut sum = HeaderMap::new();
    sum.insert("x-sum", "1".parse().unwrap());
    sum.insert("x-foregate-subject", "me".parse().unwrap());
    sender.trailers(sum).await;
    let id = one.id().to_owned();
    let answer = one.finish().await;
    has_status(&answer, "0");
    let trailers = calls.trailers();
    assert_eq!(trailers[0]["x-sum"], "1");
    assert!(!trailers[0].contains_key("x-foregate-subject"));
    assert_eq!(gateway.log_line(&id)["cause"], "finished");
    drop(other);
    has_status(&two.finish().await, "0");
    // Much more than any window.
    let (large, sender) = call(&gateway, "/forced/echo", Some(&token)).streaming();
    let answer = large.begin().await;
    let sending = tokio::spawn(async move {
        for _ in 0..15 {
            assert!(sender.chunk(vec![b'x'; 64 << 10]).await);
        }
    });
    let answer = answer.finish().await;
    sending.await.unwrap();
    assert_eq!(answer.body.len(), 15 * (64 << 10));
    has_status(&answer, "0");
    let absent = call(&gateway, "/rpc/absent", Some(&token)).send().await;
    assert_eq!(absent.header("grpc-status"), "5");
    assert_eq!(calls.connections(), 1);
    gateway.metric_becomes(OPEN, &[], 0.0).await;
    ended(&gateway, "grpc", "finished", 3.0).await;
    let busy = [("upstream", "calls"), ("state", "busy")];
    gateway
        .metric_becomes("foregate_upstream_connections", &busy, 0.0)
        .await;
    let idle = [("upstream", "calls"), ("state", "idle")];
    gateway
        .metric_becomes("foregate_upstream_connections", &idle, 1.0)
        .await;
}

#[tokio::test]
async fn refusals_are_statuses_of_grpc_and_reach_no_server() {
    let calls = Calls::start();
    let gateway = gateway(&calls, |_| {}).await;
    let (good, expired) = (gateway.issuer.token(), gateway.issuer.expired());
    for (path, token, reason, status) in [
        ("/rpc/echo", None, Reason::TokenMissing, "16"),
        ("/rpc/echo", Some(&expired), Reason::TokenExpired, "16"),
        (
            "/admin-rpc/echo",
            Some(&good),
            Reason::RoleInsufficient,
            "7",
        ),
        ("/nowhere", Some(&good), Reason::RouteUnknown, "12"),
        ("/hidden", Some(&good), Reason::RouteDenied, "12"),
        ("/rpc/../echo", Some(&good), Reason::PathDotSegment, "3"),
    ] {
        let answer = call(&gateway, path, token.map(String::as_str)).send().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("grpc-status"), status, "{path}");
        assert!(!answer.header("grpc-message").is_empty());
        assert_eq!(answer.header("content-type"), "application/grpc");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(answer.body.is_empty());
        assert_eq!(answer.log_line()["reason"], reason.code());
    }
    // An existing resource that the caller may not see looks like a missing one.
    let message = async |path: &str| {
        let answer = call(&gateway, path, Some(&good)).send().await;
        answer.header("grpc-message").to_owned()
    };
    assert_eq!(message("/nowhere").await, message("/hidden").await);
    // A route may select this error format for every client; other routes do not answer in gRPC.
    for http in Http::BOTH {
        let answer = gateway.post(http, "/forced/echo").send().await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("grpc-status")),
            (200, "16")
        );
        gateway
            .post(http, "/rpc/echo")
            .send()
            .await
            .is_denied(Reason::TokenMissing);
        let web = gateway
            .post(http, "/rpc/echo")
            .header("content-type", "application/grpc-web");
        web.send().await.is_denied(Reason::TokenMissing);
    }
    assert_eq!(calls.connections(), 0);
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn failures_of_the_server_are_statuses_of_grpc_too() {
    let calls = Calls::start();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = nobody.local_addr().unwrap();
    drop(nobody);
    let gateway = gateway(&calls, |config| {
        let url = format!("http://{gone}");
        config
            .set("workers", "1")
            .upstream("gone", &url, ", protocol: http2")
            .more_routes("- { path: /gone, access: public, upstream: gone }");
    })
    .await;
    let answer = call(&gateway, "/gone", None).send().await;
    assert_eq!(answer.header("grpc-status"), "14");
    assert_eq!(answer.log_line()["reason"], "upstream_connect");
    let answer = call(&gateway, "/limited/silent", None).send().await;
    assert_eq!(answer.header("grpc-status"), "4");
    assert_eq!(answer.log_line()["reason"], "upstream_first_byte_timeout");
    eventually("it is reset", || calls.resets() == ["/limited/silent"]).await;
    let answer = call(&gateway, "/total/silent", None).send().await;
    assert_eq!(answer.header("grpc-status"), "4");
    assert_eq!(answer.log_line()["reason"], "upstream_total_timeout");
    let answer = call(&gateway, "/limited/silent", None)
        .body(vec![0; 4096])
        .send()
        .await;
    assert_eq!(answer.header("grpc-status"), "8");
    assert_eq!(answer.log_line()["reason"], "body_too_large");
    // The head has arrived by the time of a reset, so the client's stream is reset, too.
    let token = gateway.issuer.token();
    let mut answer = call(&gateway, "/rpc/reset", Some(&token)).begin().await;
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "begun");
    assert!(answer.try_finish().await.is_err());
    ended(&gateway, "grpc", "upstream_gone", 1.0).await;
    assert_eq!(
        calls.connections(),
        1,
        "none of this was the connection's fault"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_resets_its_call_and_no_other() {
    let calls = Calls::start();
    let gateway = gateway(&calls, |_| {}).await;
    let token = gateway.issuer.token();
    let (mut stays, sender) = talk(&gateway, "/rpc/stays", &token).await;
    let (leaves, other) = talk(&gateway, "/rpc/leaves", &token).await;
    drop((leaves, other));
    eventually("it is reset", || calls.resets() == ["/rpc/leaves"]).await;
    ended(&gateway, "grpc", "client_gone", 1.0).await;
    assert!(sender.chunk("still here").await);
    assert_eq!(stays.chunk().await.unwrap().unwrap(), "still here");
}

#[tokio::test]
async fn calls_continue_after_a_goaway_of_the_server() {
    let calls = Calls::start();
    let gateway = gateway(&calls, |config| {
        config.set("workers", "1");
    })
    .await;
    let token = gateway.issuer.token();
    for _ in 0..5 {
        let answer = call(&gateway, "/rpc/goodbye", Some(&token))
            .body("x")
            .send()
            .await;
        has_status(&answer, "0");
        assert_eq!(answer.text(), "x");
    }
    assert_eq!(calls.connections(), 5);
}

#[tokio::test]
async fn a_call_ends_with_its_token_and_trailers_report_it() {
    let calls = Calls::start();
    let mut gateway = gateway(&calls, |_| {}).await;
    let expires = now() + 4;
    let short = gateway
        .issuer
        .sign(&gateway.issuer.claims().expiring(expires));
    let revoked = gateway.issuer.sign(&gateway.issuer.claims().session("one"));
    let good = gateway.issuer.token();
    let (expiring, a) = talk(&gateway, "/rpc/expiring", &short).await;
    let (revoking, b) = talk(&gateway, "/rpc/revoked", &revoked).await;
    let (mut denied, c) = talk(&gateway, "/rpc/denied", &good).await;
    gateway.revoke(&json!({ "kind": "session", "issuer": ISSUER, "session": "one" }));
    let answer = revoking.finish().await;
    has_status(&answer, "16");
    assert_eq!(
        answer.trailers.unwrap()["grpc-message"],
        "session_not_found"
    );
    eventually("it is reset", || {
        calls.resets().contains(&"/rpc/revoked".to_owned())
    })
    .await;
    let answer = expiring.finish().await;
    has_status(&answer, "16");
    assert!(now() >= expires, "not before");
    assert!(c.chunk("still here").await);
    assert_eq!(denied.chunk().await.unwrap().unwrap(), "still here");
    gateway
        .reload(|config| {
            let routes = config.get("routes").replace(
                "access: user, resource: none, upstream: calls }",
                "access: user, resource: none, action: admin, upstream: calls }",
            );
            config.set("routes", &routes);
        })
        .await;
    has_status(&denied.finish().await, "7");
    for cause in ["expired", "revoked", "denied"] {
        ended(&gateway, "grpc", cause, 1.0).await;
    }
    drop((a, b));
}

#[tokio::test]
async fn a_call_still_open_at_the_end_of_a_drain_gets_trailers() {
    let calls = Calls::start();
    let mut gateway = gateway(&calls, |config| {
        config.set("drain", "3s");
    })
    .await;
    let token = gateway.issuer.token();
    let (mut finishes, sender) = talk(&gateway, "/rpc/finishes", &token).await;
    let (hangs, other) = talk(&gateway, "/rpc/hangs", &token).await;
    gateway.signal("TERM");
    eventually("it drains", || gateway.admin_status("/readyz") == 503).await;
    assert!(sender.chunk("more").await);
    assert_eq!(finishes.chunk().await.unwrap().unwrap(), "more");
    drop(sender);
    has_status(&finishes.finish().await, "0");
    has_status(&hangs.finish().await, "14");
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
    drop(other);
}

#[tokio::test]
async fn a_client_may_pause_once_the_call_has_begun_and_not_because_it_says_that_it_is_one() {
    let calls = Calls::start();
    let gateway = gateway(&calls, |config| {
        config.set(
            "connections",
            "{ body_idle: 3s, body_rate: 1GiB, body_grace: 3s }",
        );
    })
    .await;
    let token = gateway.issuer.token();
    let (mut pauses, sender) = talk(&gateway, "/rpc/echo", &token).await;
    for path in ["/rpc/silent", "/public/up"] {
        let (silent, body) = call(&gateway, path, Some(&token)).streaming();
        assert!(body.chunk("hello").await);
        let answer = silent.send().await;
        assert_eq!(answer.log_line()["reason"], "body_timeout");
        drop(body);
    }
    // Each of the two took as long as a client may pause.
    assert!(sender.chunk("still here").await);
    assert_eq!(pauses.chunk().await.unwrap().unwrap(), "still here");
}

#[tokio::test]
async fn a_route_may_let_its_clients_pause_before_the_call_has_begun() {
    let calls = Calls::start();
    let gateway = gateway(&calls, |config| {
        config
            .set("connections", "{ body_idle: 500ms, body_grace: 500ms }")
            .more_routes("- { path: /patient/late, access: public, upstream: calls, body: { idle: 1m, rate: 0 } }");
    })
    .await;
    let (pauses, sender) = call(&gateway, "/patient/late", None).streaming();
    let answer = tokio::spawn(pauses.send());
    assert!(sender.chunk("hello").await);
    // Longer than other routes allow.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(sender.chunk("again").await);
    drop(sender);
    let answer = answer.await.unwrap();
    has_status(&answer, "0");
    assert_eq!(answer.text(), "helloagain");
}
