//! A replica that receives no published message and so depends on polling.

use std::time::{Duration, Instant};

use super::replicas::{Pair, becomes_ready, by_session, refused_since, told};
use crate::support::redis::Resp;
use crate::support::{Http, eventually};

/// The guaranteed upper bound for every revocation, pushed or polled.
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_replica_that_misses_every_push_catches_up_by_polling() {
    let pair = Pair::start().await;
    // It may do everything but subscribe, so only this replica misses the messages.
    pair.redis
        .say("ACL SETUSER deaf on >secret ~* &* +@all -subscribe");
    let url = format!("redis://deaf:secret@127.0.0.1:{}", pair.redis.port());
    let deaf = pair
        .first
        .replica(|config| {
            config.store(&url);
        })
        .await;
    becomes_ready(&deaf).await;
    let text = |text: &str| Resp::Text(text.into());
    eventually("Redis refuses the subscription", || {
        let log = pair.redis.say("ACL LOG");
        let refused = |entry: &Resp| {
            let told = entry.list();
            told.contains(&text("subscribe")) && told.contains(&text("deaf"))
        };
        log.list().iter().any(refused)
    })
    .await;

    let times = match std::env::var_os("FOREGATE_FULL") {
        Some(_) => 200,
        None => 10,
    };
    let mut client = deaf.connect(Http::Two).await;
    let mut took = Vec::new();
    for _ in 0..times {
        let (session, token) = pair.session();
        client.get("/me").bearer(&token).send().await.is_ok();
        pair.first.revoke(&by_session(&session));
        // Each is made just after a poll, so this is close to the longest delay.
        took.push(refused_since(&mut client, &token, Instant::now()).await);
    }
    let longest = told("from the answer to the refusal by asking alone", took);
    assert!(longest < SECOND, "{longest:?}");
    let metrics = deaf.metrics();
    assert_eq!(
        metrics.sum("foregate_revocation_lag_seconds_count", &[]),
        f64::from(times)
    );
    // The log was never reset meanwhile.
    let reloads = metrics.sum("foregate_revocation_reloads_total", &[("cause", "epoch")]);
    assert_eq!(reloads, 0.0);
    client
        .get("/me")
        .bearer(&pair.first.issuer.token())
        .send()
        .await
        .is_ok();
}
