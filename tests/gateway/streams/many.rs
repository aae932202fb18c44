//! Many streams at once.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use super::socket::{End, Socket, Sockets};
use super::{OPEN, ended, gateway};
use crate::support::eventually;
use crate::support::tokens::{ISSUER, now};

/// 5,000 with `FOREGATE_FULL=1`, else some.
fn how_many() -> usize {
    match std::env::var_os("FOREGATE_FULL") {
        Some(full) if full == "1" => 5_000,
        _ => 200,
    }
}

#[tokio::test]
async fn revoking_a_user_ends_all_their_streams_within_a_second_and_memory_returns() {
    let count = how_many();
    let sockets = Sockets::start();
    let url = sockets.url();
    let gateway = gateway(&sockets, |config| {
        config.upstream(
            "sockets",
            &url,
            ", max_connections: 20000, connect_timeout: 10s",
        );
    })
    .await;
    let subject = uuid::Uuid::now_v7().to_string();
    let signed_in = json!([{ "method": "password", "timestamp": now() - 3600 }]);
    let claims = gateway.issuer.claims().with("sub", subject.as_str());
    let one = gateway.issuer.sign(&claims.with("amr", signed_in));
    let other = gateway.issuer.token();
    let open = async |token: &str| {
        let mut sockets = Vec::new();
        for _ in 0..count / 2 {
            sockets.push(Socket::open(&gateway, "/ws/a", token).await);
        }
        sockets
    };
    let mut others = open(&other).await;
    let before = gateway.rss();
    let mut theirs = open(&one).await;
    let with_all = gateway.rss();
    for socket in theirs.iter_mut().chain(&mut others) {
        socket.echo("here").await;
    }
    gateway.revoke(&json!({ "kind": "subject", "issuer": ISSUER, "subject": subject }));
    let revoked = Instant::now();
    let ends = join_all(theirs.iter_mut().map(Socket::end)).await;
    let took = revoked.elapsed();
    let told = End::Told(4401, "session_not_found".to_owned());
    assert!(ends.iter().all(|end| *end == told));
    ended(&gateway, "websocket", "revoked", (count / 2) as f64).await;
    println!("{} streams of {count} ended within {took:?}", count / 2);
    for socket in &mut others {
        socket.echo("still here").await;
    }
    assert_eq!(gateway.metrics().sum(OPEN, &[]), (count / 2) as f64);
    // Of what they took, most is given back; the rest is for the next that come.
    drop(theirs);
    let given_back = || gateway.rss() <= before + (with_all - before) / 2 + (8 << 20);
    eventually("memory returns", given_back).await;
    println!(
        "{} KiB with half, {} with all, {} then",
        before >> 10,
        with_all >> 10,
        gateway.rss() >> 10
    );
    // The promise is for the program as it is shipped, not for this build of it beside other tests.
    assert!(count < 5_000 || took < Duration::from_secs(1), "{took:?}");
}
